"""Stores while others use them: closing, siblings, and what a store leaves to the event loop and to its callers."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Self

import pytest

from factfold import (
    AsyncStore,
    InvalidCommandError,
    Metadata,
    NestedExecutionError,
    Retry,
    Store,
    StoreClosedError,
    Transaction,
    batch,
    metadata,
    stream,
)
from factfold.events import new_event_ids
from factfold.loads import MAX_EVENTS
from factfold.storage.base import EMPTY, Append, AsyncEngine, Check, Engine, LogPage, NewEvent, Storage
from factfold.storage.memory import Memory
from tests.conftest import MakeStore
from tests.faults import PATIENCE, Faulty, Gate
from tests.ledger import Deposited, accounts, deposit
from tests.racing import eventually, race, soon, start, within
from tests.together import nothing

FORK_HOOKS = {"before_fork", "after_fork_in_parent", "after_fork_in_child"}

CALLS: dict[str, Callable[[Store | AsyncStore], object]] = {
    "execute": lambda store: store.execute(deposit, "ann"),
    "execute_once": lambda store: store.execute_once("key", deposit, "ann"),
    "state": lambda store: store.state(accounts("ann")),
    "version": lambda store: store.version(accounts("ann")),
    "events": lambda store: store.events(accounts("ann")),
    "log": lambda store: store.log(),
    "streams": lambda store: store.streams(),
    "snapshot": lambda store: store.snapshot(accounts("ann")),
    "head": lambda store: store.head(),
    "verify": lambda store: store.verify(accounts),
    "stats": lambda store: store.stats(),
    "namespace": lambda store: store.namespace("other"),
    "close": lambda store: store.close(),
}
"""Every public method."""


def begin(made: object) -> None:
    """Runs what a method of an AsyncStore has given, as far as it goes without waiting."""
    assert inspect.iscoroutine(made)
    made.send(None)


@pytest.mark.parametrize("cls", [Store, AsyncStore])
def test_every_public_method_is_refused_inside_a_command(store: Store, cls: type[Store | AsyncStore]) -> None:
    assert {name for name in dir(cls) if not name.startswith("_")} - FORK_HOOKS == set(CALLS), "a new one stands here"
    inner = cls("memory:")

    def command(tx: Transaction) -> None:
        tx.read(accounts("ann")).append(Deposited(1))
        for call in CALLS.values():
            with pytest.raises(NestedExecutionError, match="called inside a command"):
                begin(call(inner))

    store.execute(command)

    assert store.head() == 1
    assert inner.stats().commands == 0


class Opening:
    """A storage that counts how often it is opened and closed."""

    def __init__(self, storage: Storage) -> None:
        self.name = storage.name
        self.opened = 0
        self._faulty = Faulty(storage)

    @property
    def closed(self) -> int:
        return self._faulty.calls["close"]

    def open(self) -> Engine:
        self.opened += 1
        return self._faulty.open()

    async def open_async(self) -> AsyncEngine:
        self.opened += 1
        return await self._faulty.open_async()


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
    monkeypatch.setattr(batch, "MAX_COMMANDS", 1)
    faulty = Faulty(storage)
    store = Store(faulty)
    store.execute(nothing)
    faulty.after["check"] = leading = Gate()
    first = start(store.execute, nothing)
    assert leading.reached.wait(PATIENCE)
    heart, log = store._ready()
    gates = Gate(), Gate()
    waiting = iter(gates)

    def ready() -> tuple[object, object]:
        next(waiting)()
        return heart, log

    monkeypatch.setattr(store, "_ready", ready)
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


# -- The event loop ----------------------------------------------------------------------------------------------------


class Turns:
    """Counts the turns of the event loop in which other tasks can run."""

    def __init__(self) -> None:
        self._count = 0
        self.seen: list[int] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._turn())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _turn(self) -> None:
        while True:
            self._count += 1
            await asyncio.sleep(0)

    def mark(self) -> None:
        """Something is done on the loop."""
        self.seen.append(self._count)

    @property
    def most_at_once(self) -> int:
        """How often something was done, at most, before another task could run."""
        return max(self.seen.count(turn) for turn in set(self.seen))


@pytest.mark.parametrize("appending", [True, False])
async def test_a_hundred_slow_commands_leave_room_for_other_tasks(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, appending: bool
) -> None:
    monkeypatch.setattr(batch, "MAX_SECONDS", 0.01)
    turns = Turns()

    def slow(tx: Transaction) -> None:
        turns.mark()
        end = time.monotonic() + 0.0025
        while time.monotonic() < end:
            pass
        account = tx.read(accounts("ann"))
        if appending:
            account.append(Deposited(1))

    async with AsyncStore(storage) as store:
        await store.state(accounts("ann"))
        async with turns:
            await within(asyncio.gather(*[store.execute(slow) for _ in range(100)]))

    assert len(turns.seen) == 100
    assert turns.most_at_once <= 4, "a batch ends after a hundredth of a second"


async def test_loading_a_long_stream_leaves_room_for_other_tasks(storage: Storage) -> None:
    turns = Turns()

    @stream("ledger", initial=0)
    def watched(state: int, event: Deposited) -> int:
        turns.mark()
        return state + event.amount

    with Store(storage) as rival:
        for _ in range(5):
            rival.execute(lambda tx: tx.read(accounts("ann")).append(*[Deposited(1)] * 2_000))
    async with AsyncStore(storage) as store, turns:
        assert await within(store.state(watched("ann"))) == 10_000

    assert len(turns.seen) == 10_000
    assert turns.most_at_once <= MAX_EVENTS


def test_a_store_for_each_event_loop_works_and_one_whose_loop_has_ended_can_be_closed(storage: Storage) -> None:
    opening = Opening(storage)
    stores = [AsyncStore(opening) for _ in range(3)]
    assert [asyncio.run(store.execute(deposit, "ann")).result for store in stores] == [1, 2, 3]
    for store in stores:
        asyncio.run(within(store.close()))
    assert opening.closed == 3


# -- Time and metadata -------------------------------------------------------------------------------------------------


def test_the_clock_is_asked_once_for_each_command_that_wants_to_know(make_store: MakeStore) -> None:
    asked: list[datetime] = []

    def clock() -> datetime:
        asked.append(datetime(2020, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))) + timedelta(days=len(asked)))
        return asked[-1]

    def command(tx: Transaction) -> set[datetime]:
        moments = {tx.now}
        tx.read(accounts("ann"))  # suspends the first run
        return moments | {tx.now}

    store = make_store(clock=clock)
    store.execute(nothing)
    assert asked == []
    assert store.execute(command).result == {datetime(2020, 1, 1, 10, tzinfo=UTC)}
    assert store.execute(command).result == {datetime(2020, 1, 2, 10, tzinfo=UTC)}
    assert len(asked) == 2


def test_nested_metadata_is_in_receipts_and_in_the_log(storage: Storage) -> None:
    with Store(storage) as store:
        with metadata(actor="ann", correlation_id="order-1", extra={"ip": "::1", "tags": ["a", 1]}):
            receipts = [store.execute(deposit, "ann")]
            with metadata(causation_id="click", extra={"ip": "::2"}):
                receipts.append(store.execute(deposit, "ann"))
        receipts.append(store.execute(deposit, "ann"))

        outer = Metadata(actor="ann", correlation_id="order-1", extra={"ip": "::1", "tags": ["a", 1]})
        inner = Metadata("order-1", "click", "ann", {"ip": "::2", "tags": ["a", 1]})
        expected = [outer, inner, Metadata()]
        assert [receipt.events[0].metadata for receipt in receipts] == expected
        assert [recorded.metadata for recorded in store.log()] == expected
        assert [recorded.metadata for recorded in store.events(accounts("ann"))] == expected


def test_what_is_executed_once_keeps_its_first_metadata(storage: Storage) -> None:
    with Store(storage) as store:
        for actor in ("ann", "ben"):
            with metadata(actor=actor):
                receipt = store.execute_once("key", deposit, "ann")
            assert [recorded.metadata.actor for recorded in receipt.events] == ["ann"]


def test_threads_have_metadata_of_their_own(storage: Storage) -> None:
    with Store(storage) as store:

        def one(number: int) -> None:
            with metadata(actor=f"actor-{number}"):
                for _ in range(10):
                    store.execute(deposit, f"a{number}", number)

        assert race([partial(one, number) for number in range(1, 9)]) == [None] * 8
        found = {(recorded.event.amount, recorded.metadata) for recorded in store.log(types=Deposited)}
        assert found == {(number, Metadata(actor=f"actor-{number}")) for number in range(1, 9)}


async def test_tasks_have_metadata_of_their_own_and_that_of_the_block_that_started_them(storage: Storage) -> None:
    async with AsyncStore(storage) as store:

        async def one(number: int) -> None:
            with metadata(actor=f"actor-{number}"):
                await asyncio.sleep(0)
                await store.execute(deposit, f"a{number}", number)

        with metadata(correlation_id="all"):
            await within(asyncio.gather(*[one(number) for number in range(1, 9)]))
        found = {recorded.event.amount: recorded.metadata async for recorded in store.log(types=Deposited)}
        assert found == {number: Metadata(actor=f"actor-{number}", correlation_id="all") for number in range(1, 9)}


# -- Arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", [1, 2, 10, 100, 100_000])
def test_the_wait_doubles_up_to_the_cap(attempt: int) -> None:
    delays = [Retry(max_attempts=1_000_000, base=0.01, cap=0.5).delay(attempt) for _ in range(200)]
    limit = min(0.5, 0.01 * 2 ** min(attempt, 10))
    assert all(0 <= delay <= limit for delay in delays)
    assert max(delays) > limit / 2, "full jitter uses the whole range"


async def waiting(tx: Transaction) -> None:
    tx.read(accounts("ann")).append(Deposited(1))


def yielding(tx: Transaction) -> Generator[int, None, None]:
    tx.read(accounts("ann")).append(Deposited(1))
    yield 1


async def waiting_and_yielding(tx: Transaction) -> AsyncGenerator[int, None]:
    tx.read(accounts("ann")).append(Deposited(1))
    yield 1


WAITING = pytest.mark.parametrize("waits", [waiting, yielding, waiting_and_yielding])


@WAITING
@pytest.mark.parametrize("once", [True, False])
def test_a_command_that_returns_something_to_wait_for_is_refused_and_writes_nothing(
    store: Store, waits: Callable[[Transaction], object], once: bool
) -> None:
    def command(tx: Transaction) -> object:
        tx.read(accounts("ann")).append(Deposited(1))
        return waits(tx)

    def execute() -> object:
        return store.execute_once("key", command) if once else store.execute(command)

    with pytest.raises(InvalidCommandError, match="returned a coroutine or a generator"):
        execute()
    assert store.head() == 0


@WAITING
def test_what_is_no_command_cannot_be_called_inside_one(store: Store, waits: Callable[[Transaction], object]) -> None:
    def command(tx: Transaction) -> None:
        tx.call(waits)

    with pytest.raises(InvalidCommandError):
        store.execute(command)


class Static:
    @staticmethod
    def __call__(tx: Transaction) -> int:
        return deposit(tx, "ann", 3)


@dataclass(frozen=True)
class Deposit:
    amount: int

    def __call__(self, tx: Transaction) -> int:
        return deposit(tx, "ann", self.amount)

    def and_more(self, tx: Transaction, more: int) -> int:
        return deposit(tx, "ann", self.amount + more)


@pytest.mark.parametrize(
    "command",
    [
        Static(),
        Deposit(3),
        partial(Deposit(3)),
        partial(Deposit(1).and_more, more=2),
        partial(partial(deposit, id="ann"), amount=3),
        lambda *args: deposit(args[0], "ann", 3),
    ],
)
def test_a_command_may_be_any_callable_that_takes_a_transaction(
    store: Store, command: Callable[[Transaction], int]
) -> None:
    assert store.execute(command).result == 3


IMPORTING = """
import sys
before = set(sys.modules)
import factfold
{use}
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(sorted(new & {{"sqlite3", "asyncio", "concurrent", "typer", "rich", "attr", "attrs", "pydantic", "pytest"}}))
"""


@pytest.mark.parametrize("use", ["", "factfold.Store('memory:').head()"])
def test_importing_factfold_imports_no_driver_and_nothing_optional(use: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    said = subprocess.run(
        [sys.executable, "-c", IMPORTING.format(use=use)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=60,
    )
    assert said.stdout.strip() == "[]"
