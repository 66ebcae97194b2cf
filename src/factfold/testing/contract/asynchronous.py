"""The contract of `open_async`: the same promises, kept in an event loop that is never blocked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial

import pytest

from factfold.errors import AppendRefusedError, FactfoldError, LogDivergedError, StoreClosedError
from factfold.storage.base import (
    EMPTY,
    Appended,
    AsyncLog,
    Conflict,
    Head,
    LogPage,
    Put,
    Storage,
    StreamInfo,
    StreamPage,
    Swap,
)
from factfold.testing.contract.running import (
    PATIENCE,
    async_logs,
    capabilities,
    fresh_namespace,
    one_log,
    run,
    skip_without_locks,
)
from factfold.testing.contract.scribe import Scribe, appending, asking, facts, loading, new, selection, several


class AsyncContract:
    """The essential operations through `AsyncLog`; each test runs an event loop of its own."""

    def test_async_and_sync_are_one_log(self, storage: Storage) -> None:
        """What is appended through either is read through both, with the same answers."""
        namespace = fresh_namespace()

        async def scenario(scribe: Scribe) -> None:
            async with async_logs(storage, 1, namespace) as (log,):
                assert await log.head() == EMPTY
                for number in range(3):
                    append = appending(
                        [new("a:1"), new("a:1", f"b:{number}", type="Moved")], scribe.head, selection("a:1")
                    )
                    scribe.wrote(append, await log.append(append))
                    scribe.write(new("a:1"))
                assert await log.head() == scribe.head
                loaded = await log.load(loading(selection("a:1"), selection("b:1"), after=scribe.events[2].head))
                assert [slice.version for slice in loaded.slices] == [9, 1]
                assert facts(loaded.slices[0].events) == facts(scribe.events)
                assert loaded.news is not None
                scribe.assert_told(loaded.news, scribe.events[2].head, {0, 1})
                assert facts(await log.read(LogPage(2, 3))) == facts(scribe.events[2:5])
                page = StreamPage(selection("b:1"), None, 5, backwards=True)
                assert facts(await log.read_stream(page)) == facts(scribe.of(selection("b:1")))
                assert list(await log.streams("b", "b:0", 1)) == [StreamInfo("b:1", 1, 5)]
                assert list(await log.problems()) == []
                assert namespace in log.name

        with one_log(storage, namespace) as sync:
            scribe = Scribe(sync)
            run(scenario(scribe))
            scribe.assert_unchanged()

    def test_async_appends_are_checked(self, storage: Storage) -> None:
        """Conflicts, checks and the news are those of `Log`; a conflict writes nothing."""
        namespace = fresh_namespace()

        async def scenario(scribe: Scribe) -> None:
            async with async_logs(storage, 1, namespace) as (log,):
                scribe.write(new("a:1"), new("b:1"))
                before = scribe.head
                scribe.write(new("b:1", type="Moved"), new("c:1"))
                checked = (selection("a:1"), selection("b:1"), selection("b:1", "Noted"), selection("c:1"))
                scribe.assert_told(await log.check(asking(before, *checked)), before, {1, 3})
                answer = await log.append(appending([new("a:1")], before, *checked, empty=["d:1", "a:1"]))
                assert isinstance(answer, Conflict)
                assert answer.not_empty == {"a:1"}
                scribe.assert_told(answer.news, before, {1, 3})
                with pytest.raises(LogDivergedError):
                    await log.append(appending([new("a:1")], Head(2, new().id)))

        with one_log(storage, namespace) as sync:
            scribe = Scribe(sync)
            run(scenario(scribe))
            scribe.assert_unchanged()

    def test_async_outcomes_are_resolved(self, storage: Storage) -> None:
        """An append that happened is found; one that did not is void from then on."""

        async def scenario() -> None:
            async with async_logs(storage, 2) as (log, other):
                happened = appending(several(2, "a:1"), EMPTY, selection("a:1"))
                answer = await log.append(happened)
                assert isinstance(answer, Appended)
                resolved = await other.resolve(happened)
                assert resolved is not None
                assert (resolved.first, dict(resolved.versions)) == (1, {"a:1": 0})
                lost = appending([new("b:1")], EMPTY, selection("b:1"))
                assert await other.resolve(lost) is None
                with pytest.raises(AppendRefusedError):
                    await log.append(lost)

        run(scenario())

    def test_async_values_are_kept_in_places(self, storage: Storage) -> None:
        """`get` and `put` through an event loop."""

        async def scenario() -> None:
            async with async_logs(storage, 2) as (log, other):
                await log.put("snapshots", "a", b"\x00\xff")
                assert await other.get("snapshots", ["a", "b"]) == {"a": b"\x00\xff"}
                await other.put("snapshots", "a", None)
                assert await log.get("snapshots", ["a"]) == {}

        run(scenario())

    def test_async_racers_for_a_place_have_one_winner(self, storage: Storage) -> None:
        """Of eight tasks with engines of their own exactly one takes the place; five times."""

        async def scenario() -> None:
            async with async_logs(storage, 8) as logs:
                for round in range(5):
                    after, place = await logs[0].head(), f"place:{round}"
                    answers = await asyncio.gather(
                        *(log.append(appending([new(place)], after, selection(place))) for log in logs)
                    )
                    assert [isinstance(answer, Appended) for answer in answers].count(True) == 1

        run(scenario())

    def test_async_reads_run_beside_each_other(self, storage: Storage) -> None:
        """Many tasks read through one log, while it appends and while it waits for events."""

        async def scenario() -> None:
            async with async_logs(storage, 1) as (log,):
                waiting = asyncio.create_task(log.wait(0, PATIENCE))
                await asyncio.sleep(0.05)
                async with asyncio.timeout(PATIENCE / 2):
                    await _append(log, "a:1")
                    assert await waiting == 1, "it waits for the event that the same log appends"
                    appended = asyncio.create_task(_append(log, "b:1"))
                    loaded = await asyncio.gather(*(log.load(loading(selection("a:1"))) for _ in range(20)))
                    assert [one.slices[0].version for one in loaded] == [1] * 20
                    assert (await appended).first == 2
                    pages = [log.read(LogPage(0, 10)) for _ in range(20)]
                    assert {len(page) for page in await asyncio.gather(*pages)} == {2}
                assert await log.wait(2, 0.05) == 2, "and times out when there is none"

        run(scenario())

    def test_async_lock_is_exclusive_and_blocks_no_loop(self, storage: Storage) -> None:
        """Who waits for the lock leaves the event loop to its holder."""
        skip_without_locks(storage)

        async def scenario() -> None:
            async with async_logs(storage, 2) as (log, other):
                for round in range(5):
                    head = (await log.lock(asking(await log.head(), selection("a:1")))).head
                    waiting = asyncio.create_task(_append(other, "a:1"))
                    done, _ = await asyncio.wait([waiting], timeout=0.05)
                    assert not done, "the append of another engine did not wait for the lock"
                    if round % 2:
                        await log.unlock()
                        assert (await waiting).first == head.position + 1
                    else:
                        answer = await log.append(appending([new("a:1")], head, selection("a:1")))
                        assert isinstance(answer, Appended)
                        assert answer.first == head.position + 1
                        assert (await waiting).first == answer.first + 1

        run(scenario())

    def test_a_cancelled_waiter_does_not_get_the_lock(self, storage: Storage) -> None:
        """A task that is cancelled while it waits for the lock does not hold it afterwards, nor does its engine."""
        skip_without_locks(storage)

        async def scenario() -> None:
            async with async_logs(storage, 3) as (holder, cancelled, other):
                for _ in range(3):
                    await holder.lock(asking(await holder.head()))
                    await _cancel(cancelled.lock(asking(await holder.head())), after=0.05)
                    await holder.unlock()
                    await _append(other, "a:1")
                    await _append(cancelled, "a:1")

        run(scenario())

    def test_a_caller_cancelled_at_any_moment_does_not_keep_the_lock(self, storage: Storage) -> None:
        """However far a `lock` has come when its caller is cancelled: the others can append."""
        skip_without_locks(storage)

        async def scenario() -> None:
            async with async_logs(storage, 2) as (cancelled, other):
                for steps in range(20):
                    if not await _cancel(cancelled.lock(asking(await other.head())), steps=steps):
                        await cancelled.unlock()
                    await _append(other, "a:1")
                await _append(cancelled, "a:1")

        run(scenario())

    def test_a_cancelled_append_happens_wholly_or_never(self, storage: Storage) -> None:
        """After the cancellation the outcome can be asked for, it stays what it is, and the lock is free."""

        async def scenario() -> None:
            async with async_logs(storage, 2) as (cancelled, other):
                for steps in range(20):
                    stream = f"a:{steps}"
                    append = appending(several(3, stream), await other.head(), selection(stream))
                    await _cancel(cancelled.append(append), steps=steps)
                    resolved = await other.resolve(append)
                    await _append(cancelled, "b:1")
                    await _append(other, "b:1")
                    version = (await other.load(loading(selection(stream)))).slices[0].version
                    assert version == (0 if resolved is None else 3), "what was resolved has changed since"

        run(scenario())

    def test_async_closing_gives_the_lock_back(self, storage: Storage) -> None:
        """An engine that is closed while it holds the lock does not lock out the others."""
        skip_without_locks(storage)
        namespace = fresh_namespace()

        async def scenario() -> None:
            async with async_logs(storage, 1, namespace) as (other,):
                async with async_logs(storage, 1, namespace) as (log,):
                    await log.lock(asking(await log.head()))
                await _append(other, "a:1")

        run(scenario())

    def test_async_use_after_close_is_refused(self, storage: Storage) -> None:
        """`StoreClosedError`, as for `Log`; closing twice is allowed."""
        namespace = fresh_namespace()

        async def scenario() -> None:
            engine = await storage.open_async()
            assert engine.capabilities == capabilities(storage)
            log = await engine.log(namespace)
            await _append(log, "a:1")
            await engine.close()
            await engine.close()
            append = appending([new("a:1")], EMPTY)
            uses: list[Callable[[], Awaitable[object]]] = [
                partial(engine.log, "default"),
                log.head,
                partial(log.append, append),
                partial(log.check, append.check),
                partial(log.resolve, append),
                partial(log.load, loading(selection("a:1"))),
                partial(log.read, LogPage(0, 10)),
                partial(log.read_stream, StreamPage(selection("a:1"), 0, 10)),
                partial(log.streams, None, "", 10),
                partial(log.wait, 0, 0.01),
                partial(log.get, "snapshots", "a"),
                partial(log.put, "snapshots", "a", b""),
                partial(log.swap, Swap(Put("snapshots", "a", b""), None)),
                partial(log.entries, "snapshots", "", 10),
                log.problems,
            ]
            for use in uses:
                with pytest.raises(StoreClosedError):
                    pytest.fail(f"after close, {use} answered {await use()!r}")
            async with async_logs(storage, 1, namespace) as (reopened,):
                assert (await reopened.head()).position == 1
                await _append(reopened, "a:1")

        run(scenario())


async def _append(log: AsyncLog, stream: str) -> Appended:
    """An append happens: nobody holds the lock, or it is given back in time."""
    answer = await log.append(appending([new(stream)], await log.head()))
    assert isinstance(answer, Appended)
    return answer


async def _cancel(work: Coroutine[object, object, object], *, after: float = 0.0, steps: int = 0) -> bool:
    """Cancels the work after so many seconds or turns of the event loop; False when it had already ended well."""
    task = asyncio.ensure_future(work)
    if after:
        await asyncio.wait([task], timeout=after)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except (asyncio.CancelledError, FactfoldError):
        return True
    return False
