"""The contract of swaps, on which leases and checkpoints rest, and of transactions, in which read models change."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial

import pytest

from factfold.errors import AppendRefusedError, InlineProjectionsError
from factfold.storage.base import (
    EMPTY,
    INLINE,
    Append,
    Appended,
    Conflict,
    Inline,
    Log,
    LogPage,
    Put,
    Storage,
    StoredEvent,
    Swap,
    TransactionalLog,
)
from factfold.testing.contract.running import PATIENCE, capabilities, fresh_namespace, logs, one_log, together
from factfold.testing.contract.scribe import appending, facts, new, selection

KEY = "balances:1"


def swap(expected: bytes | None, value: bytes | None, *others: Put, key: str = KEY) -> Swap:
    """A swap of the one value that these tests are about."""
    return Swap(Put("consumers", key, value), expected, others)


def value_of(log: Log, key: str = KEY, place: str = "consumers") -> bytes | None:
    return log.get(place, [key]).get(key)


def transactional(log: Log) -> TransactionalLog:
    if not isinstance(log, TransactionalLog):
        pytest.skip("this storage has no transactions")
    return log


class SwapContract:
    """Values that are written when they are what was expected."""

    def test_a_swap_writes_only_what_is_as_expected(self, storage: Storage) -> None:
        """None stands for no value; what did not fit changes nothing, not even the others."""
        with logs(storage, 2) as (one, other):
            assert not one.swap(swap(b"1", b"2", Put("parked", "a", b"x")))
            assert (value_of(one), value_of(one, "a", "parked")) == (None, None)
            assert one.swap(swap(None, b"1", Put("parked", "a", b"x"), Put("parked", "b", b"y")))
            assert not other.swap(swap(None, b"2", Put("parked", "a", None)))
            assert other.swap(swap(b"1", b"", Put("parked", "a", None)))
            assert other.get("parked", ["a", "b"]) == {"b": b"y"}
            assert one.swap(swap(b"", bytes(range(256))))
            assert one.swap(swap(bytes(range(256)), None))
            assert value_of(other) is None
            assert one.head() == EMPTY

    def test_entries_are_listed_in_order_and_with_their_age(self, storage: Storage) -> None:
        """In order of bytes, in pages; the age starts anew whenever a value is written, be it the same."""
        keys = sorted(["a", "B", "é", "日本", "b:1", "b:10", "b:2", "x" * 255], key=str.encode)
        with logs(storage, 2) as (one, other):
            for key in reversed(keys):
                one.put("consumers", key, key.encode())
            one.put("elsewhere", "c", b"")
            found = other.entries("consumers", "", 100)
            assert [(entry.key, entry.value) for entry in found] == [(key, key.encode()) for key in keys]
            assert [entry.key for entry in other.entries("consumers", keys[1], 3)] == keys[2:5]
            assert other.entries("nowhere", "", 10) == []
            waited = threading.Event()
            waited.wait(0.3)
            assert one.swap(swap(b"a", b"a", key="a"))
            ages = {entry.key: entry.age for entry in other.entries("consumers", "", 100)}
            assert ages["b:1"] - ages["a"] > 0.2
            assert -1 < ages["a"] < PATIENCE

    def test_of_16_racers_one_swaps(self, storage: Storage) -> None:
        """All expect the same, and each writes something else; 20 times."""
        with logs(storage, 16, fresh_namespace()) as racers:
            barrier = threading.Barrier(16)

            def race(number: int, log: Log) -> list[bool]:
                won: list[bool] = []
                for round in range(20):
                    barrier.wait(PATIENCE)
                    expected = None if round == 0 else b"%d" % round
                    barrier.wait(PATIENCE)
                    won.append(
                        log.swap(swap(expected, b"%d" % (round + 1), Put("winners", f"{round}", b"%d" % number)))
                    )
                return won

            results = together([partial(race, number, log) for number, log in enumerate(racers)])
            for round in range(20):
                winners = [number for number, won in enumerate(results) if won[round]]
                assert len(winners) == 1
                assert value_of(racers[0], f"{round}", "winners") == b"%d" % winners[0]

    def test_the_engine_tells_whether_logs_have_transactions(self, storage: Storage) -> None:
        """`capabilities.transactions` and what a log is say the same."""
        with one_log(storage) as log:
            assert isinstance(log, TransactionalLog) == capabilities(storage).transactions

    # -- Transactions ----------------------------------------------------------------------------------------------

    def test_a_transaction_that_raises_has_swapped_nothing(self, storage: Storage) -> None:
        """And the error comes through as it is."""
        with one_log(storage) as plain:
            log = transactional(plain)

            def fail(connection: object) -> None:
                raise LookupError("of the body")

            with pytest.raises(LookupError, match="of the body"):
                log.transact(swap(None, b"1"), fail)
            assert value_of(log) is None
            done: list[object] = []
            assert log.transact(swap(None, b"1"), done.append)
            assert not log.transact(swap(None, b"2"), done.append)
            assert len(done) == 1
            assert value_of(log) == b"1"

    def test_what_a_body_gives_is_written_with_the_swap(self, storage: Storage) -> None:
        """A value that could only be known within the transaction."""
        with one_log(storage) as plain:
            log = transactional(plain)
            assert log.transact(swap(None, b"1"), lambda connection: Put("consumers", "b", b"2"))
            assert not log.transact(swap(None, b"3"), lambda connection: Put("consumers", "b", b"3"))
            assert (value_of(log), value_of(log, "b")) == (b"1", b"2")

    def test_an_exclusive_transaction_keeps_writers_waiting(self, storage: Storage) -> None:
        """Nobody appends between its swap and its end; what was committed before can be read in it."""
        with logs(storage, 2) as (one, other):
            log = transactional(one)
            other.append(appending([new("a:1")], EMPTY))
            begun, seen = threading.Event(), list[int]()
            appended: list[object] = []

            def write() -> None:
                begun.wait(PATIENCE)
                appended.append(other.append(appending([new("a:1")], other.head())))

            writer = threading.Thread(target=write)
            writer.start()

            def body(connection: object) -> None:
                begun.set()
                writer.join(0.3)
                assert not appended
                seen.append(len(log.read(LogPage(0, 10))))

            assert log.transact(Swap(Put("consumers", KEY, b"1"), None, exclusive=True), body)
            writer.join(PATIENCE)
            assert seen == [1]
            assert isinstance(appended[0], Appended)

    def test_an_append_is_accompanied_or_refused(self, storage: Storage) -> None:
        """What accompanies it is given the events as they stand in the log; who lacks it cannot append."""
        with logs(storage, 2) as (plain, other):
            log = transactional(plain)
            handled: list[StoredEvent] = []

            def handle(connection: object, events: Sequence[StoredEvent]) -> None:
                handled.extend(events)

            inline = Inline(b"balances:1", handle)
            assert log.swap(Swap(Put(*INLINE, b"balances:1"), None))
            for lacking in (log, other):
                with pytest.raises(InlineProjectionsError, match="balances:1"):
                    lacking.append(appending([new("a:1")], EMPTY))
            assert log.head() == EMPTY
            log.accompany(inline)
            assert isinstance(log.append(appending([new("a:1"), new("a:1", "b:1")], EMPTY)), Appended)
            assert facts(handled) == facts(other.read(LogPage(0, 10)))
            news = log.lock(appending([new("b:1")], log.head(), selection("a:1")).check)
            assert isinstance(log.append(appending([new("b:1")], news.head)), Appended)
            assert len(handled) == 3
            assert log.swap(Swap(Put(*INLINE, None), b"balances:1"))
            with pytest.raises(InlineProjectionsError, match="no projection"):
                log.append(appending([new("a:1")], log.head()))
            log.accompany(None)
            assert isinstance(other.append(appending([new("a:1")], log.head())), Appended)

    def test_what_has_lost_is_accompanied_by_nothing(self, storage: Storage) -> None:
        """Neither a conflict, nor an append that is void; and the writers' lock is free after it."""
        with logs(storage, 2) as (plain, other):
            log = transactional(plain)
            handled: list[object] = []
            assert log.swap(Swap(Put(*INLINE, b"balances:1"), None))
            for each in (log, transactional(other)):
                each.accompany(Inline(b"balances:1", lambda connection, events: handled.append(events)))
            assert isinstance(other.append(appending([new("a:1")], EMPTY)), Appended)
            assert isinstance(log.append(appending([new("a:1")], EMPTY, selection("a:1"))), Conflict)
            void = appending([new("b:1")], log.head())
            assert other.resolve(void) is None
            with pytest.raises(AppendRefusedError):
                log.append(void)
            assert isinstance(other.append(appending([new("a:1")], log.head())), Appended)
            assert len(handled) == 2

    def test_what_an_append_cannot_be_accompanied_by_undoes_it(self, storage: Storage) -> None:
        """The error comes through, and nothing of the append is there; the next one is written."""
        with one_log(storage) as plain:
            log = transactional(plain)
            failing = [LookupError("of the handler")]

            def handle(connection: object, events: object) -> None:
                if failing:
                    raise failing.pop()

            assert log.swap(Swap(Put(*INLINE, b"balances:1"), None))
            log.accompany(Inline(b"balances:1", handle))
            append: Append = appending([new("a:1")], EMPTY)
            with pytest.raises(LookupError, match="of the handler"):
                log.append(append)
            assert log.head() == EMPTY
            assert log.resolve(append) is None
            assert isinstance(log.append(appending([new("a:1")], EMPTY)), Appended)
            assert log.head().position == 1
