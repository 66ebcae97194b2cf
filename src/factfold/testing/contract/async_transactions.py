"""The contract of swaps and transactions in an event loop, where a body may be awaited, and cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import cast

import pytest

from factfold.storage.base import (
    EMPTY,
    INLINE,
    Append,
    Appended,
    AsyncLog,
    AsyncTransactionalLog,
    Inline,
    LogPage,
    Put,
    Storage,
    StoredEvent,
    Swap,
)
from factfold.testing.contract.running import PATIENCE, async_logs, run, skip_without_transactions
from factfold.testing.contract.scribe import appending, facts, new, selection

NAMES = b"balances:1"


def swap(expected: bytes | None, value: bytes | None, *others: Put, key: str = "a") -> Swap:
    """A swap of the one value that these tests are about."""
    return Swap(Put("consumers", key, value), expected, others)


def transactional(log: AsyncLog) -> AsyncTransactionalLog:
    return cast("AsyncTransactionalLog", log)  # The engine promises it; otherwise the test was skipped.


class AsyncTransactionContract:
    """`swap`, `entries`, `transact` and `accompany` through `AsyncLog`; each test runs an event loop of its own."""

    def test_async_values_are_swapped_and_listed(self, storage: Storage) -> None:
        """As through `Log`: all or none, in order, and of 8 tasks one wins."""

        async def scenario() -> None:
            async with async_logs(storage, 8) as logs:
                log, other, *_ = logs
                assert await log.swap(swap(None, b"1", Put("consumers", "b", b"2")))
                assert not await other.swap(swap(None, b"2", Put("consumers", "b", None)))
                entries = await other.entries("consumers", "", 10)
                assert [(entry.key, entry.value) for entry in entries] == [("a", b"1"), ("b", b"2")]
                assert all(-1 < entry.age < PATIENCE for entry in entries)
                assert [entry.key for entry in await other.entries("consumers", "a", 10)] == ["b"]
                for expected, value in ((b"1", b"2"), (b"2", None), (None, b"3")):
                    won = await asyncio.gather(*(each.swap(swap(expected, value)) for each in logs))
                    assert won.count(True) == 1

        run(scenario())

    def test_async_transactions_call_or_await(self, storage: Storage) -> None:
        """A body may be a plain function, or give something to be awaited on the loop; what it raises undoes all."""
        skip_without_transactions(storage)

        async def scenario() -> None:
            called: list[object] = []
            loops = threading.get_ident()

            async def wait(connection: object) -> Put:
                await asyncio.sleep(0)
                called.append(connection)
                assert threading.get_ident() == loops
                return Put("consumers", "b", b"4")

            async def fail(connection: object) -> None:
                await wait(connection)
                raise LookupError("of the body")

            async with async_logs(storage, 2) as (plain, other):
                log = transactional(plain)
                assert await log.transact(swap(None, b"1"), called.append)
                assert await log.transact(swap(b"1", b"2"), wait)
                assert not await log.transact(swap(b"1", b"3"), wait)
                with pytest.raises(LookupError, match="of the body"):
                    await log.transact(swap(b"2", b"3"), fail)
                assert await other.get("consumers", ["a", "b"]) == {"a": b"2", "b": b"4"}
                assert len(called) == 3
                assert None not in called, "it is given a connection"

        run(scenario())

    def test_a_cancelled_transaction_is_rolled_back(self, storage: Storage) -> None:
        """Whoever waited for it goes on, and what it was about to write is not there."""
        skip_without_transactions(storage)

        async def scenario() -> None:
            async with async_logs(storage, 2) as (plain, other):
                log = transactional(plain)
                for expected in (None, b"0"):
                    begun = asyncio.Event()

                    async def hang(connection: object, begun: asyncio.Event = begun) -> None:
                        begun.set()
                        await asyncio.Event().wait()

                    transacting = asyncio.create_task(log.transact(swap(expected, b"never"), hang))
                    await begun.wait()
                    waiting = asyncio.create_task(other.swap(swap(expected, b"0")))
                    transacting.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await transacting
                    assert await waiting
                assert await log.transact(swap(b"0", b"1"), lambda connection: None)

        run(scenario())

    def test_async_appends_are_accompanied(self, storage: Storage) -> None:
        """By what is awaited on the loop. When that fails, or is cancelled, nothing was appended, nor will be."""
        skip_without_transactions(storage)

        async def scenario() -> None:
            handled: list[StoredEvent] = []
            begun, failing = asyncio.Event(), list[LookupError]()
            hanging: list[None] = []

            async def handle(connection: object, events: Sequence[StoredEvent]) -> None:
                await asyncio.sleep(0)
                if hanging:
                    begun.set()
                    await asyncio.Event().wait()
                if failing:
                    raise failing.pop()
                handled.extend(events)

            async with async_logs(storage, 2) as (plain, other):
                log = transactional(plain)
                assert await log.swap(Swap(Put(*INLINE, NAMES), None))
                await log.accompany(Inline(NAMES, handle))
                append: Append = appending([new("a:1"), new("a:1", "b:1")], EMPTY, selection("a:1"))
                failing.append(LookupError("of the handler"))
                with pytest.raises(LookupError, match="of the handler"):
                    await log.append(append)
                assert await other.resolve(append) is None
                cancelled = appending([new("a:1")], EMPTY, selection("a:1"))
                hanging.append(None)
                task = asyncio.create_task(log.append(cancelled))
                await begun.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                hanging.clear()
                assert await other.resolve(cancelled) is None
                assert handled == []
                last = appending([new("a:1"), new("a:1", "b:1")], EMPTY, selection("a:1"))
                assert isinstance(await log.append(last), Appended)
                assert facts(handled) == facts(await other.read(LogPage(0, 10)))

        run(scenario())
