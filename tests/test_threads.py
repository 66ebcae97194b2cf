"""An engine in threads: what its callers, the event loop and the threads may rely on."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from factfold.errors import StoreClosedError
from factfold.storage.base import EMPTY, Appended, AsyncEngine, AsyncLog, Engine, LogPage
from factfold.storage.memory import Memory
from factfold.storage.sqlite import SQLite
from factfold.storage.threads import READERS, ThreadedEngine, open_in_thread
from factfold.testing.contract.scribe import appending, asking, new, read_log
from tests.faults import Faulty, Gate, raising
from tests.racing import eventually, soon, within


def threads() -> list[threading.Thread]:
    """Those that engines have started."""
    return [thread for thread in threading.enumerate() if thread.name == "factfold"]


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def faulty(memory: Memory) -> Faulty:
    return Faulty(memory)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


async def opened(faulty: Faulty) -> tuple[AsyncEngine, AsyncLog]:
    engine = await faulty.open_async()
    return engine, await engine.log("default")


async def test_nobody_who_reads_waits_for_who_writes(faulty: Faulty, gate: Gate) -> None:
    engine, log = await opened(faulty)
    faulty.before["append"] = gate
    writing = asyncio.ensure_future(log.append(appending([new("a:1")], EMPTY)))
    await soon(gate.reached.is_set)
    assert await within(log.read(LogPage(0, 10))) == []
    gate.open()
    await within(writing)
    await engine.close()


async def test_readers_do_not_wait_for_each_other(faulty: Faulty) -> None:
    engine, log = await opened(faulty)
    together = threading.Barrier(READERS)
    faulty.before["read"] = lambda asked: together.wait(20)
    await within(asyncio.gather(*(log.read(LogPage(0, 10)) for _ in range(READERS))))
    await engine.close()


async def test_waiting_occupies_no_thread(faulty: Faulty) -> None:
    engine, log = await opened(faulty)
    waiting = [asyncio.ensure_future(log.wait(0, 20)) for _ in range(4 * READERS)]
    await soon(lambda: faulty.calls["wait"] >= 4 * READERS)
    assert await within(log.read(LogPage(0, 10))) == []
    await log.append(appending([new("a:1")], EMPTY))
    assert await within(asyncio.gather(*waiting)) == [1] * (4 * READERS)
    await engine.close()


async def test_a_lock_that_comes_after_its_caller_has_gone_is_given_back(faulty: Faulty, gate: Gate) -> None:
    engine, log = await opened(faulty)
    faulty.before["lock"] = gate
    locking = asyncio.ensure_future(log.lock(asking(EMPTY)))
    await soon(gate.reached.is_set)
    locking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await locking
    gate.open()
    assert isinstance(await within(log.append(appending([new("a:1")], EMPTY))), Appended)
    assert faulty.calls["unlock"] == 1
    await engine.close()


async def test_a_lock_that_comes_at_the_moment_its_caller_is_cancelled_is_given_back(faulty: Faulty) -> None:
    engine, log = await opened(faulty)
    locking = asyncio.ensure_future(log.lock(asking(EMPTY)))
    # The answer is set by a callback of the loop; the task that waits for it runs only in the loop's next round.
    while log._held is None:  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        if not locking.done() and log._held is not None:  # type: ignore[attr-defined]
            locking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await locking
    other = await within(engine.log("other"))
    assert isinstance(await within(other.append(appending([new("a:1")], EMPTY))), Appended)
    await engine.close()


async def test_an_append_goes_on_without_its_caller_and_the_next_one_waits_for_it(
    memory: Memory, faulty: Faulty, gate: Gate
) -> None:
    engine, log = await opened(faulty)
    faulty.before["append"] = gate
    first, second = new("a:1"), new("a:2")
    appending_first = asyncio.ensure_future(log.append(appending([first], EMPTY)))
    await soon(gate.reached.is_set)
    appending_first.cancel()
    appending_second = asyncio.ensure_future(log.append(appending([second], EMPTY)))
    gate.open()
    await appending_second
    assert [stored.id for stored in read_log(memory.open().log("default"))] == [first.id, second.id]
    await engine.close()


@pytest.mark.parametrize("failing", ["lock", "append"])
async def test_an_error_lets_the_next_task_write(faulty: Faulty, failing: str) -> None:
    engine, log = await opened(faulty)
    faulty.before[failing] = raising(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await (log.lock(asking(EMPTY)) if failing == "lock" else log.append(appending([new("a:1")], EMPTY)))
    faulty.before.clear()
    assert isinstance(await within(log.append(appending([new("a:1")], EMPTY))), Appended)
    await engine.close()


async def test_a_task_that_locks_keeps_out_the_other_namespaces(faulty: Faulty) -> None:
    engine, log = await opened(faulty)
    other = await engine.log("other")
    await log.lock(asking(EMPTY))
    waiting = asyncio.ensure_future(other.append(appending([new("a:1")], EMPTY)))
    assert await within(log.read(LogPage(0, 10))) == []
    assert not waiting.done()
    await log.append(appending([new("a:1")], EMPTY))
    assert isinstance(await waiting, Appended)
    await engine.close()


async def test_closing_ends_the_threads(faulty: Faulty) -> None:
    before = len(threads())
    engine, log = await opened(faulty)
    await asyncio.gather(*(log.head() for _ in range(10)))
    assert len(threads()) > before
    await engine.close()
    await soon(lambda: len(threads()) <= before)


async def test_a_dropped_engine_leaves_no_threads(memory: Memory) -> None:
    before = len(threads())
    engine = ThreadedEngine(memory.open())
    await engine.log("default")
    del engine
    gc.collect()
    await soon(lambda: len(threads()) <= before)


async def test_what_was_asked_before_closing_is_answered(faulty: Faulty, gate: Gate) -> None:
    engine, log = await opened(faulty)
    faulty.before["append"] = gate
    writing = asyncio.ensure_future(log.append(appending([new("a:1")], EMPTY)))
    await soon(gate.reached.is_set)
    closing = asyncio.ensure_future(engine.close())
    await soon(lambda: faulty.calls["close"])
    gate.open()
    await within(closing)
    with pytest.raises(StoreClosedError):
        await within(writing)


async def test_opening_for_a_caller_who_has_gone_is_undone(faulty: Faulty, gate: Gate) -> None:
    def open_slowly() -> Engine:
        gate()
        return faulty.open()

    opening = asyncio.ensure_future(open_in_thread(open_slowly))
    await soon(gate.reached.is_set)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    gate.open()
    await soon(lambda: faulty.calls["close"] == 1)


def test_a_lock_that_comes_after_the_loop_is_closed_is_given_back(memory: Memory, faulty: Faulty, gate: Gate) -> None:
    async def lock_and_leave() -> None:
        _, log = await opened(faulty)
        faulty.before["lock"] = gate
        task = asyncio.ensure_future(log.lock(asking(EMPTY)))
        await soon(gate.reached.is_set)
        task.cancel()

    asyncio.run(lock_and_leave())
    gate.open()
    eventually(lambda: faulty.calls["unlock"] == 1)
    assert isinstance(memory.open().log("default").append(appending([new("a:1")], EMPTY)), Appended)


async def test_opening_blocks_no_loop_and_raises_what_opening_raises(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no directory"):
        await SQLite(tmp_path / "nowhere" / "log.db").open_async()
