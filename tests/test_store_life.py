"""Stores while others use them: closing, siblings, and what a store leaves to the event loop and to its callers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from factfold import (
    AsyncStore,
    Store,
    StoreClosedError,
    deciding,
)
from factfold.batch import Heart
from factfold.events import new_event_ids
from factfold.job import Job
from factfold.storage.base import EMPTY, Append, Check, LogPage, NewEvent, Storage
from factfold.storage.memory import Memory
from tests.conftest import MakeStore
from tests.engines import EVERY_ENGINE
from tests.faults import PATIENCE, Faulty, Gate
from tests.ledger import Deposited, accounts, deposit
from tests.opening import Opening
from tests.racing import eventually, soon, start, within
from tests.together import heart_of, nothing

ENGINES = EVERY_ENGINE

# -- Closing -----------------------------------------------------------------------------------------------------------


def until_closed(store: Store, number: int) -> int:
    """Deposits until the store is closed; how many deposits were acknowledged."""
    done = 0
    with contextlib.suppress(StoreClosedError):
        while True:
            store.execute(deposit, f"a{number % 4}")
            done += 1
    return done


async def until_closed_async(store: AsyncStore, number: int) -> int:
    done = 0
    with contextlib.suppress(StoreClosedError):
        while True:
            await store.execute(deposit, f"a{number % 4}")
            done += 1
    return done


TIMES = pytest.mark.parametrize(("commands", "cache_size"), [(0, 100), (50, 0), (100, 100), (200, 0)])


@TIMES
def test_closing_while_16_threads_execute_answers_everybody(storage: Storage, commands: int, cache_size: int) -> None:
    store = Store(storage, cache_size=cache_size)
    started = [start(until_closed, store, number) for number in range(16)]
    eventually(lambda: store.stats().commands > commands)
    start(store.close).result()

    acknowledged = sum(each.result() for each in started)

    with Store(storage) as after:
        assert after.head() == acknowledged, "what was acknowledged is in the log, and nothing else"
        assert after.verify(accounts).ok


@TIMES
async def test_closing_while_16_tasks_execute_answers_everybody(
    storage: Storage, commands: int, cache_size: int
) -> None:
    store = AsyncStore(storage, cache_size=cache_size)
    tasks = [asyncio.create_task(until_closed_async(store, number)) for number in range(16)]
    await soon(lambda: store.stats().commands > commands)
    await within(store.close())

    acknowledged = await within(asyncio.gather(*tasks))

    async with AsyncStore(storage) as after:
        assert await after.head() == sum(acknowledged), "what was acknowledged is in the log, and nothing else"
        assert (await after.verify(accounts)).ok


def test_a_command_that_comes_at_the_moment_of_closing_is_answered(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One command stands behind the closing one in the queue; another has seen the store open, and is queued later."""
    monkeypatch.setattr(deciding, "MAX_COMMANDS", 1)
    faulty = Faulty(storage)
    store = Store(faulty)
    store.execute(nothing)
    faulty.after["check"] = leading = Gate()
    first = start(store.execute, nothing)
    assert leading.reached.wait(PATIENCE)
    heart = heart_of(store)
    gates = Gate(), Gate()
    waiting = iter(gates)
    serve_at_once = store._serve

    def serve(heart: Heart, job: Job) -> object:
        if job.command is nothing:
            next(waiting)()
        return serve_at_once(heart, job)

    monkeypatch.setattr(store, "_serve", serve)
    queued = start(store.execute, nothing)
    assert gates[0].reached.wait(PATIENCE)
    late = start(store.execute, nothing)
    assert gates[1].reached.wait(PATIENCE)

    closing = start(store.close)
    eventually(lambda: len(heart._queue) == 1)
    gates[0].open()
    eventually(lambda: len(heart._queue) == 2)
    leading.open()
    closing.result()
    gates[1].open()

    assert first.error() is None
    assert [type(each.error()) in (type(None), StoreClosedError) for each in (queued, late)] == [True, True]


class SlowEvents(tuple[NewEvent, ...]):  # noqa: SLOT001 - it has a gate
    """Events whose append takes until the gate is opened."""

    gate: Gate

    def __iter__(self) -> Iterator[NewEvent]:
        self.gate()
        return super().__iter__()


def test_closing_a_store_in_memory_lets_nobody_into_the_append_that_it_is_making() -> None:
    def new() -> NewEvent:
        return NewEvent(new_event_ids(1)[0], "Deposited", 1, b"{}", b"{}", ("ledger:ann",))

    memory = Memory()
    engine, other = memory.open(), memory.open()
    slow = SlowEvents([new()])
    slow.gate = Gate()
    log, following_log = engine.log("default"), other.log("default")
    appending = start(lambda: log.append(Append(slow, Check((), EMPTY, {}))))
    assert slow.gate.reached.wait(PATIENCE)
    start(engine.close).result()
    following = start(lambda: following_log.append(Append((new(),), Check((), EMPTY, {}))))
    eventually(lambda: following.ended or memory.namespace("default").writers.locked())
    slow.gate.open()
    appending.error()
    assert following.error() is None

    found = following_log.read(LogPage(0, 10))
    assert [stored.position for stored in found] == list(range(1, len(found) + 1))
    assert list(following_log.problems()) == []


async def test_closing_that_was_cancelled_can_be_called_again() -> None:
    faulty = Faulty(Memory())
    store = AsyncStore(faulty)
    faulty.before["append"] = gate = Gate()
    executing = asyncio.create_task(store.execute(deposit, "ann"))
    await soon(gate.reached.is_set)
    closing = asyncio.create_task(store.close())
    await soon(lambda: store._closed)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    gate.open()
    await within(executing)

    await within(store.close())

    assert faulty.calls["close"] == 1, "the second call did what was left"


def test_a_page_that_is_asked_for_after_closing_is_refused(make_store: MakeStore) -> None:
    store = make_store()
    store.execute(lambda tx: tx.read(accounts("ann")).append(*[Deposited(1)] * 1001))
    found = store.log()
    next(found)
    store.close()
    with pytest.raises(StoreClosedError):
        list(found)


# -- Siblings ----------------------------------------------------------------------------------------------------------


def test_siblings_share_the_connections_until_their_owner_is_closed(make_store: MakeStore, storage: Storage) -> None:
    opening = Opening(storage)
    store = make_store(opening)
    siblings = [store.namespace("a"), store.namespace("a"), store.namespace("b").namespace("c")]
    assert opening.opened == 0
    for each in (store, *siblings):
        each.execute(deposit, "ann")
    siblings[0].close()
    assert (opening.opened, opening.closed) == (1, 0)

    store.close()

    assert opening.closed == 1
    for each in siblings:
        with pytest.raises(StoreClosedError):
            each.head()
    with pytest.raises(StoreClosedError):
        store.namespace("d").head()


def test_a_sibling_has_the_clock_and_the_cache_size_of_its_owner(make_store: MakeStore) -> None:
    moment = datetime(2001, 2, 3, tzinfo=UTC)
    sibling = make_store(clock=lambda: moment, cache_size=0).namespace("other")
    assert sibling.execute(lambda tx: tx.now).result == moment
    sibling.execute(deposit, "ann")
    assert sibling.stats().cached == 0


@pytest.mark.parametrize("name", ["x" * 64, "tenant/42", "Ünter nehmen", "'; DROP TABLE event; --", "%", "🏦" * 64])
def test_a_namespace_may_have_any_printable_name(make_store: MakeStore, name: str) -> None:
    make_store().namespace(name).execute(deposit, "ann", 7)
    assert make_store(namespace=name).state(accounts("ann")).balance == 7
