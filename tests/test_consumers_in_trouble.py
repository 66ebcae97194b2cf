"""What becomes of consumers when handlers raise, hang or are cancelled, and when the log is not what it was."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from traceback import walk_stack
from typing import Any

import pytest

from factfold import (
    AsyncStore,
    ConsumerStoppedError,
    DefinitionError,
    LogDivergedError,
    OutcomeUnknownError,
    Projection,
    ProjectionContext,
    RecordedEvent,
    Retry,
    StorageFullError,
    Store,
    StoreUnavailableError,
)
from factfold.storage.base import Append, Check, NewEvent, Storage
from factfold.storage.memory import Memory
from tests.faults import PATIENCE, Faulty, Gate, once, raising
from tests.ledger import Deposited, Opened, Withdrawn, deposit, open_account, withdraw
from tests.looping import store_of
from tests.racing import eventually, soon, start, within
from tests.read_models import Money, recording, status_of

QUICK = Retry(max_attempts=3, base=1e-3, cap=2e-3)


@pytest.fixture
def store(storage: Storage, flavour: str) -> Iterator[Store]:
    """A store, of threads or of a loop that runs in the background."""
    with store_of(flavour, storage) as store:
        yield store


class Poison:
    """A hook that raises at the events of these positions, and counts how often it was called for each."""

    def __init__(self, *positions: int, error: Callable[[], BaseException] = lambda: LookupError("bad luck")) -> None:
        self.positions = set(positions)
        self.calls: dict[int, int] = {}
        self._error = error

    def __call__(self, event: Money, recorded: RecordedEvent[Any]) -> None:
        self.calls[recorded.position] = self.calls.get(recorded.position, 0) + 1
        if recorded.position in self.positions:
            raise self._error()


# -- Handlers that raise -----------------------------------------------------------------------------------------------


def test_an_event_that_fails_stops_its_projection_after_some_tries(store: Store, flavour: str) -> None:
    poison, seen, told = Poison(3), list[int](), list[str]()
    projection = recording(seen, hook=poison, retry=QUICK, on_trouble=told.append, flavour=flavour)
    for _ in range(5):
        store.execute(deposit, "ann")
    with pytest.raises(ConsumerStoppedError, match="the event at position 3 .Deposited. failed: LookupError: bad") as e:
        store.catch_up(projection)
    assert (e.value.position, poison.calls[3]) == (2, 3)
    assert isinstance(e.value.__cause__, LookupError)
    assert set(seen) == {1, 2}
    assert [message[:15] for message in told] == ["The projection "]
    status = status_of(store, projection)
    assert (status.state, status.position, status.lag_events) == ("failed", 2, 3)
    assert "bad luck" in status.error

    poison.positions.clear()
    store.catch_up(projection)
    assert sorted(set(seen)) == [1, 2, 3, 4, 5]
    assert status_of(store, projection).state == "stopped"


def test_who_waits_for_a_projection_that_has_stopped_is_told(storage: Storage, store: Store, flavour: str) -> None:
    projection = recording([], hook=Poison(1), retry=QUICK, flavour=flavour)
    store.start(projection)
    receipt = store.execute(deposit, "ann")
    with pytest.raises(ConsumerStoppedError, match="bad luck"):
        store.wait_for(projection, receipt)
    with Store(storage) as other:
        eventually(lambda: status_of(other, projection).state == "failed")
        with pytest.raises(ConsumerStoppedError, match="the event at position 1 .Deposited. failed: LookupError"):
            other.wait_for(projection, receipt)
    assert not store.health().ok


def test_who_waits_hears_of_what_another_process_has_done(storage: Storage, store: Store, flavour: str) -> None:
    """What has stopped here, for a reason of this process, goes on there, and is waited for as if it had never been."""
    projection = recording([], hook=Poison(1), retry=Retry(max_attempts=1), flavour=flavour)
    store.start(projection)
    receipt = store.execute(deposit, "ann")
    eventually(lambda: status_of(store, projection).state == "failed")
    go_on = threading.Event()
    with Store(storage) as other:
        other.start(recording([], hook=lambda event, recorded: go_on.wait(20)))
        eventually(lambda: status_of(other, projection).state == "catching up")
        with pytest.raises(TimeoutError, match="has not come to position 1"):
            store.wait_for(projection, receipt, timeout=0.05)
        go_on.set()
        store.wait_for(projection, receipt)


def test_a_poisoned_event_does_not_block_another_projection(store: Store, flavour: str) -> None:
    seen: list[int] = []
    bad = recording([], "bad", hook=Poison(2), retry=QUICK, flavour=flavour)
    good = recording(seen, "good", flavour=flavour)
    running = start(lambda: store.run(bad, good))
    for _ in range(4):
        store.execute(deposit, "ann")
    store.wait_for(good, 4)
    with pytest.raises(ConsumerStoppedError):
        store.wait_for(bad, 4)
    store.wait_for(good, store.execute(deposit, "ann"))
    assert seen == [1, 2, 3, 4, 5]
    store.stop()
    assert isinstance(running.error(), ConsumerStoppedError)


def test_what_fails_for_a_while_is_tried_again(store: Store, flavour: str) -> None:
    poison, seen = Poison(2), list[int]()

    def until_the_third(event: Money, recorded: RecordedEvent[Any]) -> None:
        if poison.calls.get(2, 0) == 2:
            poison.positions.clear()
        poison(event, recorded)

    for _ in range(3):
        store.execute(deposit, "ann")
    store.catch_up(recording(seen, hook=until_the_third, retry=QUICK, flavour=flavour))
    assert sorted(set(seen)) == [1, 2, 3]
    assert poison.calls[2] == 3


def test_one_try_is_one_try(store: Store, flavour: str) -> None:
    poison = Poison(2)
    for _ in range(3):
        store.execute(deposit, "ann")
    with pytest.raises(ConsumerStoppedError):
        store.catch_up(recording([], hook=poison, retry=Retry(max_attempts=1), flavour=flavour))
    assert poison.calls[2] == 1


class OutError(BaseException):
    """No Exception."""


def test_what_leaves_a_handler_and_is_no_exception_is_reported(flavour: str) -> None:
    poison = Poison(1, error=lambda: OutError("of it"))
    told: list[str] = []
    with store_of(flavour, Memory()) as store:
        store.execute(deposit, "ann")
        with pytest.raises(RuntimeError, match="its handler raised OutError"):
            store.catch_up(recording([], hook=poison, on_trouble=told.append, flavour="threads"))
        assert not store.health().ok
    assert "OutError" in told[0]


def test_on_trouble_may_fail(store: Store, flavour: str, caplog: pytest.LogCaptureFixture) -> None:
    def complain(what: str) -> None:
        raise ZeroDivisionError

    store.execute(deposit, "ann")
    with pytest.raises(ConsumerStoppedError):
        store.catch_up(recording([], hook=Poison(1), retry=QUICK, on_trouble=complain, flavour=flavour))
    assert "on_trouble of projection seen (version 1)" in caplog.text


# -- Parked events -----------------------------------------------------------------------------------------------------


def test_what_fails_is_parked_and_the_others_go_on(store: Store, flavour: str) -> None:
    poison, seen = Poison(2, 4), list[int]()
    projection = recording(seen, hook=poison, retry=QUICK, on_error="park", flavour=flavour)
    for _ in range(5):
        store.execute(deposit, "ann")
    store.catch_up(projection)
    assert sorted(set(seen)) == [1, 3, 5]
    assert (poison.calls[2], poison.calls[4]) == (3, 3)
    parked = store.parked(projection)
    assert [one.position for one in parked] == [2, 4]
    assert (parked[0].consumer, parked[0].failure.type) == ("projection/seen/1", "Deposited")
    assert parked[0].failure.error == "LookupError: bad luck"
    assert "raise self._error()" in parked[0].failure.traceback
    assert status_of(store, projection).parked == 2
    store.wait_for(projection, 5)

    with pytest.raises(LookupError, match="bad luck"):
        store.replay(projection, 2)
    assert len(store.parked(projection)) == 2, "it stays parked"
    poison.positions.clear()
    assert store.replay(projection, 2)
    assert not store.replay(projection, 2)
    assert seen.count(2) == 1
    assert store.discard(projection, 4)
    assert not store.discard(projection, 4)
    assert 4 not in seen
    assert store.parked(projection) == ()
    with pytest.raises(ValueError, match="position"):
        store.replay(projection, -1)


def test_what_is_not_handled_any_more_cannot_be_replayed(store: Store, flavour: str) -> None:
    projection = recording([], hook=Poison(1), retry=QUICK, on_error="park", flavour=flavour)
    store.execute(deposit, "ann")
    store.catch_up(projection)
    lesser = Projection("seen")

    @lesser.on
    def _(event: Opened, context: ProjectionContext[object]) -> None: ...

    with pytest.raises(LookupError, match="handles no event at position 1; discard what it has parked there"):
        store.replay(lesser, 1)
    assert store.discard(lesser, 1)


# -- Events that do not decode -----------------------------------------------------------------------------------------


def append_bad(storage: Storage) -> None:
    engine = storage.open()
    log = engine.log("default")
    bad = NewEvent(bytes(range(16)), "Deposited", 1, b'{"amount":"much"}', b"{}", ("ledger:ann",))
    log.append(Append((bad,), Check((), log.head(), {})))
    engine.close()


def test_what_does_not_decode_stops_a_projection(storage: Storage, store: Store, flavour: str) -> None:
    seen: list[int] = []
    store.execute(deposit, "ann")
    append_bad(storage)
    store.execute(withdraw, "bob", 0)
    projection = recording(seen, flavour=flavour)
    for _ in range(2):
        with pytest.raises(ConsumerStoppedError, match="the event at position 2 .Deposited. failed: DecodingError"):
            store.catch_up(projection)
    assert seen == [1]


def test_what_does_not_decode_is_parked(storage: Storage, store: Store, flavour: str) -> None:
    seen: list[int] = []
    store.execute(deposit, "ann")
    append_bad(storage)
    store.execute(withdraw, "bob", 0)
    projection = recording(seen, on_error="park", flavour=flavour)
    store.catch_up(projection)
    assert seen == [1, 3]
    assert [one.failure.error.split(":")[0] for one in store.parked(projection)] == ["DecodingError"]


# -- Handlers that hang, or are cancelled ------------------------------------------------------------------------------


def leave_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factfold.workers.LEAVING", 0.05)
    monkeypatch.setattr("factfold.aio_workers.LEAVING", 0.05)


def test_closing_does_not_wait_for_ever_for_a_handler_that_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    leave_soon(monkeypatch)
    gate, memory = Gate(), Memory()
    with Store(memory) as store:
        store.start(recording([], hook=lambda event, recorded: gate(), lease=0.5))
        store.execute(deposit, "ann")
        assert gate.reached.wait(PATIENCE)
    assert "does not end: its handler has not returned" in caplog.text
    eventually(lambda: not any(thread.name == "factfold keeper" for thread in threading.enumerate()))
    seen: list[int] = []
    with Store(memory) as store:
        store.start(recording(seen, lease=0.5))
        store.wait_for(recording([]), 1)
    gate.open()
    eventually(lambda: not any(thread.name.startswith("factfold projection") for thread in threading.enumerate()))
    assert seen == [1], "who hung has moved nothing"


async def test_a_handler_that_hangs_is_cancelled(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_soon(monkeypatch)
    begun, cancelled = asyncio.Event(), list[int]()
    projection = Projection("hangs")

    @projection.on
    async def _(event: Deposited, context: ProjectionContext[object]) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(context.recorded.position)
            raise

    async with AsyncStore(storage) as store:
        await store.start(projection)
        await store.execute(deposit, "ann")
        await within(begun.wait())
        await store.stop(projection)
        assert cancelled == [1]
        (status,) = await store.projections()
        assert (status.state, status.position) == ("stopped", 0)


async def test_something_cancelled_in_a_handler_is_a_failure_like_others(storage: Storage) -> None:
    projection = Projection("awaits", retry=QUICK)
    calls: list[int] = []

    @projection.on
    async def _(event: Deposited, context: ProjectionContext[object]) -> None:
        calls.append(context.recorded.position)
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task

    async with AsyncStore(storage) as store:
        await store.execute(deposit, "ann")
        with pytest.raises(ConsumerStoppedError, match="failed: CancelledError"):
            await within(store.catch_up(projection))
    assert calls == [1, 1, 1]


async def test_cancelling_who_runs_it_stops_it(storage: Storage) -> None:
    seen: list[int] = []
    projection = recording(seen, flavour="loop")
    async with AsyncStore(storage) as store:
        running = asyncio.create_task(store.run(projection))
        receipt = await store.execute(deposit, "ann")
        await soon(lambda: running.done() or seen)
        await store.wait_for(projection, receipt)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert [status.state for status in await store.projections()] == ["stopped"]


def interrupt_by_signal() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def is_main_thread_waiting() -> bool:
    """Whether it waits, and not only for another thread to start."""
    stack = [frame.f_code for frame, _ in walk_stack(sys._current_frames()[threading.main_thread().ident or 0])]
    return stack[0] is threading.Condition.wait.__code__ and threading.Thread.start.__code__ not in stack


@pytest.mark.parametrize("interrupt", [interrupt_by_signal, _thread.interrupt_main], ids=["awake", "falling asleep"])
def test_ctrl_c_ends_what_runs_in_the_foreground(storage: Storage, interrupt: Callable[[], None]) -> None:
    """Also if it comes in the moment before the thread falls asleep: then it does not wake it."""
    projection = recording([])
    with Store(storage) as store:
        receipt = store.execute(deposit, "ann")

        def interrupt_when_running() -> None:
            store.wait_for(projection, receipt)
            eventually(is_main_thread_waiting)
            interrupt()

        interrupting = start(interrupt_when_running)
        with pytest.raises(KeyboardInterrupt):
            store.run(projection)
        interrupting.result()
        assert status_of(store, projection).state == "stopped"
        store.catch_up(projection)


# -- A log that is not what it was -------------------------------------------------------------------------------------


def forget(memory: Memory, length: int) -> None:
    """The log ends at this position, as after a restored backup; what else was kept is as it was."""
    namespace = memory.namespace("default")
    del namespace.events[length:]
    for at in namespace.streams.values():
        at[:] = [position for position in at if position <= length]


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_checkpoint_ahead_of_the_head_stops_its_projection(flavour: str, goes_on: bool) -> None:
    """Its read model rests on events that do not exist any more."""
    memory, seen = Memory(), list[int]()
    projection = recording(seen, flavour=flavour)
    with store_of(flavour, memory) as store:
        for _ in range(5):
            store.execute(deposit, "ann")
        store.catch_up(projection)
    forget(memory, 3)
    with store_of(flavour, memory) as store:
        for _ in range(4 if goes_on else 0):
            store.execute(deposit, "ann")
        for _ in range(2):
            with pytest.raises(LogDivergedError, match="position 5"):
                store.run(projection)
        assert status_of(store, projection).state == "failed"
    assert seen == [1, 2, 3, 4, 5]


# -- A storage that is away --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def quick_rests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for module in ("consuming", "subscriptions", "aio_subscriptions"):
            patch.setattr(f"factfold.{module}.AWAY", Retry(base=0.001, cap=0.01))
        yield


@pytest.mark.parametrize("error", [StoreUnavailableError("the server restarts"), StorageFullError("no room")], ids=str)
def test_a_storage_that_is_away_does_not_end_it(
    storage: Storage,
    flavour: str,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    faulty, seen = Faulty(storage), list[int]()
    projection = recording(seen, flavour=flavour)
    with quick_rests(monkeypatch), store_of(flavour, faulty) as store, Store(storage) as other:
        store.start(projection)
        other.execute(deposit, "ann")
        store.wait_for(projection, 1)
        for method in ("swap", "entries"):
            faulty.before[method] = raising(error)
        other.execute(deposit, "ann")
        eventually(lambda: "waits until the storage can be reached again" in caplog.text)
        faulty.before.clear()
        other.execute(deposit, "ann")
        store.wait_for(projection, 3)
    assert sorted(set(seen)) == [1, 2, 3]


def test_what_a_checkpoint_became_is_found_out(storage: Storage, flavour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer is lost, though it was moved: nothing is handled twice."""
    faulty, seen = Faulty(storage), list[int]()
    projection = recording(seen, flavour=flavour)
    with quick_rests(monkeypatch), store_of(flavour, faulty) as store:
        store.start(projection)
        store.wait_for(projection, store.execute(deposit, "ann"))
        lose = once(raising(OutcomeUnknownError("the answer was lost")))
        faulty.after["swap"] = lambda done: lose(done) if seen[-1] == 2 else None
        store.wait_for(projection, store.execute(deposit, "ann"))
        store.wait_for(projection, store.execute(deposit, "ann"))
    assert seen == [1, 2, 3]


# -- Other handlers ----------------------------------------------------------------------------------------------------


def test_other_handlers_of_the_same_version_are_refused(storage: Storage, store: Store, flavour: str) -> None:
    """And those that are there are not disturbed."""
    seen: list[int] = []
    projection = recording(seen, flavour=flavour)
    store.execute(deposit, "ann")
    store.catch_up(projection)
    other = Projection("seen")

    @other.on
    def _(event: Deposited | Withdrawn | Opened, context: ProjectionContext[object]) -> None: ...

    with pytest.raises(DefinitionError, match="was built by handlers of Deposited, Transferred, Withdrawn. Give it a"):
        store.run(other)
    store.execute(deposit, "ann")
    store.catch_up(projection)
    assert seen == [1, 2]


def test_something_to_await_from_what_is_no_async_function_is_refused(storage: Storage, flavour: str) -> None:
    """It would never be awaited, and the event be lost."""

    async def work() -> None:
        raise AssertionError("nobody awaits it")

    projection = Projection("p", on_error="park")

    @projection.on
    def _(event: Deposited, context: ProjectionContext[object]) -> Any:
        return work()

    with store_of(flavour, storage) as store:
        store.execute(deposit, "ann")
        with pytest.raises(DefinitionError, match="returned something to await"):
            store.catch_up(projection)
        assert store.parked(projection) == ()


def test_who_is_given_nothing_is_told_nothing(store: Store, flavour: str) -> None:
    """A log without events of a projection is none that it lags behind."""
    seen: list[int] = []
    projection = recording(seen, flavour=flavour)
    for _ in range(3):
        store.execute(open_account, "ann", "Ann")
    store.catch_up(projection)
    assert seen == []
    assert status_of(store, projection).position == 3
