"""An interruption reaches its own caller only: all others are answered, no lock is held, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TypeAlias

import pytest

import factfold
from factfold import (
    AppendRefusedError,
    AsyncStore,
    OutcomeUnknownError,
    Receipt,
    Retry,
    StorageFullError,
    Store,
    StoreUnavailableError,
    Transaction,
)
from factfold.storage.base import Append, Log, Storage
from tests.faults import PATIENCE, Faulty, Gate, once, raising
from tests.ledger import InsufficientFundsError, accounts, balance, deposit, owners, rename, withdraw
from tests.racing import Started, eventually, soon, start, within
from tests.together import MakeTogether, Outcome, Together, heart_of, queued


@pytest.fixture
def faulty(storage: Storage) -> Faulty:
    return Faulty(storage)


def results(outcomes: list[Outcome]) -> list[object]:
    return [each.result if isinstance(each, Receipt) else type(each) for each in outcomes]


def interrupt(given: object = None) -> None:
    """What Ctrl-C does in the main thread."""
    signal.raise_signal(signal.SIGINT)


def check_all_is_well(store: Store, rival: Store, **balances: int) -> None:
    """The log holds just these deposits, the store has the same states, and nobody holds the writers' lock."""
    for id, amount in balances.items():
        assert rival.state(accounts(id)).balance == amount, id
        assert store.state(accounts(id)).balance == amount, id
    for each in (rival, store):
        before = rival.state(accounts("probe")).balance
        assert start(each.execute, deposit, "probe", 1).result().result == before + 1
    assert rival.verify(accounts).ok


class Crew:
    """The main thread leads, and the commands of two other threads are in its batch: one for each of three accounts."""

    def __init__(
        self,
        store: Store,
        command: Callable[[Transaction, str], int] = deposit,
        ids: tuple[str, str, str] = ("main", "ann", "ben"),
    ) -> None:
        self._store = store
        self._command = command
        self._ids = ids
        self.others: list[Started[Receipt[int]]] = []

    def lead(self, tx: Transaction) -> int:
        """The main thread's command: the others are queued behind it when it has run for the first time."""
        mine, *others = self._ids
        if not self.others:
            for number, id in enumerate(others, queued(self._store) + 1):
                self.others.append(start(self._store.execute, self._command, id))
                eventually(partial(self._has_queued, number))
        return self._command(tx, mine)

    def _has_queued(self, count: int) -> bool:
        return queued(self._store) >= count

    def answers(self) -> list[int]:
        return [each.result().result for each in self.others]


def warm(store: Store, ids: tuple[str, ...] = ("main", "ann", "ben")) -> None:
    for id in ids:
        store.state(accounts(id))


# -- KeyboardInterrupt, phase by phase ---------------------------------------------------------------------------------


@pytest.mark.parametrize("committed", [False, True])
def test_an_interrupt_inside_the_append(faulty: Faulty, rival: Store, committed: bool) -> None:
    with Store(faulty) as store:
        warm(store)
        crew = Crew(store)
        (faulty.after if committed else faulty.before)["append"] = once(interrupt)

        with pytest.raises(KeyboardInterrupt):
            store.execute(crew.lead)

        assert crew.answers() == [1, 1]
        assert faulty.calls["resolve"] == 1
        check_all_is_well(store, rival, main=int(committed), ann=1, ben=1)


@pytest.mark.parametrize("answered", [False, True])
def test_an_interrupt_while_a_batch_is_validated(faulty: Faulty, rival: Store, answered: bool) -> None:
    with Store(faulty) as store:
        warm(store)
        crew = Crew(store, balance)
        (faulty.after if answered else faulty.before)["check"] = once(interrupt)

        with pytest.raises(KeyboardInterrupt):
            store.execute(crew.lead)

        assert crew.answers() == [0, 0]
        check_all_is_well(store, rival, main=0)


@pytest.mark.parametrize("taken", [False, True])
def test_an_interrupt_while_the_lock_is_taken(faulty: Faulty, rival: Store, taken: bool) -> None:
    with Store(faulty) as store:
        warm(store)
        crew = Crew(store)
        faulty.before["append"] = once(lambda _: rival.execute(deposit, "ann", 10))
        (faulty.after if taken else faulty.before)["lock"] = once(interrupt)

        with pytest.raises(KeyboardInterrupt):
            store.execute(crew.lead)

        assert crew.answers() == [11, 1]
        check_all_is_well(store, rival, main=0, ann=11, ben=1)


def test_an_interrupt_in_the_append_under_the_lock(faulty: Faulty, rival: Store) -> None:
    with Store(faulty) as store:
        warm(store)
        crew = Crew(store)

        def disturb(_: object) -> None:
            rival.execute(deposit, "ann", 10)
            faulty.before["append"] = once(interrupt)

        faulty.before["append"] = disturb

        with pytest.raises(KeyboardInterrupt):
            store.execute(crew.lead)

        assert crew.answers() == [11, 1]
        check_all_is_well(store, rival, main=0, ann=11, ben=1)


def test_an_interrupt_while_the_first_leader_asks_for_the_head(faulty: Faulty, rival: Store) -> None:
    with Store(faulty) as store:
        faulty.before["head"] = once(interrupt)

        with pytest.raises(KeyboardInterrupt):
            store.execute(deposit, "main", 1)

        check_all_is_well(store, rival, main=0)


def test_an_interrupt_while_an_append_is_resolved(faulty: Faulty, rival: Store) -> None:
    with Store(faulty) as store:
        warm(store)
        crew = Crew(store)
        faulty.after["append"] = once(raising(OutcomeUnknownError("the connection broke")))
        faulty.before["resolve"] = once(interrupt)

        with pytest.raises(KeyboardInterrupt):
            store.execute(crew.lead)

        assert crew.answers() == [1, 1]
        check_all_is_well(store, rival, main=1, ann=1, ben=1)


def test_an_interrupt_in_the_leaders_own_command_is_the_outcome_of_that_command(faulty: Faulty, rival: Store) -> None:
    with Store(faulty) as store:
        warm(store)
        crew = Crew(store)

        def command(tx: Transaction) -> None:
            crew.lead(tx)
            interrupt()

        with pytest.raises(KeyboardInterrupt):
            store.execute(command)

        assert crew.answers() == [1, 1]
        assert faulty.calls["append"] == 1
        check_all_is_well(store, rival, main=0, ann=1, ben=1)


def test_an_interrupt_while_the_leader_runs_the_command_of_another_thread_is_not_for_that_one(
    faulty: Faulty, rival: Store
) -> None:
    with Store(faulty) as store:
        warm(store)
        interrupted = threading.Event()

        def deposit_interrupted(tx: Transaction, id: str) -> int:
            if threading.current_thread() is threading.main_thread() and id == "ben":
                interrupted.set()
                interrupt()
            return deposit(tx, id)

        crew = Crew(store, deposit_interrupted)

        with pytest.raises(KeyboardInterrupt):
            store.execute(crew.lead)

        assert interrupted.is_set()
        assert crew.answers() == [1, 1]
        check_all_is_well(store, rival, main=0, ann=1, ben=1)


@contextmanager
def interrupted_when(condition: Callable[[], object]) -> Iterator[None]:
    """Sends the signal to the main thread, which waits somewhere inside of this, as soon as the condition holds.

    It is sent until it has come: one that arrives just before a thread goes to sleep does not wake it.
    """
    came: list[int] = []

    def come(number: int, frame: FrameType | None) -> None:
        if not came:
            came.append(number)
            raise KeyboardInterrupt

    def send_until_it_has_come() -> None:
        eventually(condition)
        deadline = time.monotonic() + PATIENCE
        while not came and time.monotonic() < deadline:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(1e-3)

    before = signal.signal(signal.SIGINT, come)
    try:
        sender = start(send_until_it_has_come)
        with pytest.raises(KeyboardInterrupt):
            yield
        sender.result()
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_while_waiting_for_another_leader_withdraws_the_command(faulty: Faulty, rival: Store) -> None:
    with Store(faulty) as store:
        warm(store)
        gate = Gate()
        faulty.before["append"] = gate
        leader = start(store.execute, deposit, "ann", 1)
        assert gate.reached.wait(PATIENCE)
        third: list[Started[Receipt[int]]] = []

        def third_is_queued() -> bool:
            if queued(store) == 1 and not third:
                third.append(start(store.execute, deposit, "ben", 1))
            return queued(store) == 2 and all(job.wake is not None for job in heart_of(store)._queue)

        with interrupted_when(third_is_queued):
            store.execute(deposit, "main", 1)
        gate.open()

        assert (leader.result().result, third[0].result().result) == (1, 1)
        check_all_is_well(store, rival, main=0, ann=1, ben=1)


def test_an_interrupt_while_others_append_the_command_does_not_undo_it(faulty: Faulty, rival: Store) -> None:
    with Store(faulty) as store:
        warm(store)
        first, second = Gate(), Gate()
        faulty.before["append"] = first
        leader = start(store.execute, deposit, "ann", 1)
        assert first.reached.wait(PATIENCE)
        next_leader = start(store.execute, deposit, "ben", 1)
        eventually(lambda: queued(store) == 1)

        def main_is_in_the_append() -> bool:
            if queued(store) == 2 and not first.is_open:
                faulty.before["append"] = second
                first.open()
            return second.reached.is_set()

        with interrupted_when(main_is_in_the_append):
            store.execute(deposit, "main", 1)
        second.open()

        assert (leader.result().result, next_leader.result().result) == (1, 1)
        check_all_is_well(store, rival, main=1, ann=1, ben=1)


@pytest.mark.parametrize("arrived", [False, True])
def test_an_interrupt_while_loading_leaves_the_load_to_the_others_who_wait_for_it(
    faulty: Faulty, rival: Store, arrived: bool
) -> None:
    rival.execute(deposit, "cold", 5)
    with Store(faulty) as store:
        others: list[Started[Receipt[int]]] = []

        def join_then_interrupt(_: object) -> None:
            others.extend(start(store.execute, balance, "cold") for _ in range(2))
            eventually(lambda: len(next(iter(heart_of(store)._loading.values())).jobs) == 3)
            interrupt()

        (faulty.after if arrived else faulty.before)["load"] = once(join_then_interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.execute(deposit, "cold", 1)

        assert [each.result().result for each in others] == [5, 5]
        assert faulty.calls["load"] == 2
        check_all_is_well(store, rival, cold=5)


def test_an_interrupt_while_waiting_for_a_load_of_another_thread(faulty: Faulty, rival: Store) -> None:
    rival.execute(deposit, "cold", 5)
    with Store(faulty) as store:
        gate = Gate()
        faulty.before["load"] = gate
        other = start(store.execute, balance, "cold")
        assert gate.reached.wait(PATIENCE)

        def main_waits() -> bool:
            jobs = next(iter(heart_of(store)._loading.values())).jobs
            return len(jobs) == 2 and jobs[1].wake is not None

        with interrupted_when(main_waits):
            store.execute(deposit, "cold", 1)
        gate.open()

        assert other.result().result == 5
        check_all_is_well(store, rival, cold=5)


# -- KeyboardInterrupt, everywhere -------------------------------------------------------------------------------------


class InterruptAt:
    """Raises KeyboardInterrupt in this thread at the n-th point at which Python may, inside of factfold.

    Python delivers signals when a function is entered and when a call returns: that is what a profiler is told of.
    """

    source = os.path.dirname(factfold.__file__) + os.sep

    def __init__(self, point: int) -> None:
        self._left = point
        self.where = ""

    def __enter__(self) -> InterruptAt:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, what: object) -> None:
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(self.source):
            self._left -= 1
            if self._left == 0:
                self.where = f"{event} in {frame.f_code.co_qualname}, line {frame.f_lineno}"
                raise KeyboardInterrupt


def answered(other: Started[Receipt[int]], where: str) -> bool:
    try:
        return other.result().result > 0
    except Exception as error:
        raise AssertionError(where) from error


anywhere = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""Also where Python itself swallows it: while a generator is thrown away."""


Ids: TypeAlias = tuple[str, str, str]
Prepare: TypeAlias = Callable[[Store, Faulty, Ids], object]


MOST_POINTS = 20_000


def points(storage: Storage) -> Iterable[tuple[int, Ids]]:
    """Numbers, and ids of accounts for each: histories must not grow with the points."""
    for point in range(
        1, MOST_POINTS, 1 if storage.name == "memory:" else 5
    ):  # SQLite takes longer, and has more points
        yield point, (f"main-{point}", f"ann-{point}", f"ben-{point}")
    pytest.fail(f"after {MOST_POINTS} points there are still more")


def interrupt_everywhere(
    storage: Storage, rival: Store, prepare: Prepare, command: Callable[[Transaction, str], int] = deposit
) -> None:
    """Interrupts the leading main thread at every point of a batch, one point after another."""
    faulty = Faulty(storage)
    with Store(faulty) as store:
        for point, ids in points(storage):
            prepare(store, faulty, ids)
            crew = Crew(store, command, ids)
            acknowledged, where = interrupt_at(point, store, crew.lead)
            faulty.before.clear()
            faulty.after.clear()
            for other in crew.others:
                assert answered(other, where)
            check_balances(rival, ids, (acknowledged, bool(crew.others), bool(crew.others)), where)
            assert answered(start(store.execute, deposit, "probe", 1), where)
            assert answered(start(rival.execute, deposit, "probe", 1), where)
            if where == NOWHERE:
                assert point > 100
                assert rival.verify(accounts).ok
                return


NOWHERE = "not interrupted"


def interrupt_at(point: int, store: Store, command: Callable[..., int], *args: object) -> tuple[bool, str]:
    """Executes a command and interrupts it; tells whether it was acknowledged, and where it was interrupted."""
    interruption = InterruptAt(point)
    try:
        with interruption:
            store.execute(command, *args)
    except KeyboardInterrupt:
        return False, interruption.where
    return True, interruption.where or NOWHERE


def check_balances(rival: Store, ids: Ids, acknowledged: tuple[bool, bool, bool], where: str) -> None:
    """What was acknowledged was deposited once. What was not, by the interrupted caller, was or was not."""
    main, *others = (rival.state(accounts(id)).balance for id in ids)
    assert main in ((1,) if acknowledged[0] else (0, 1)), where
    assert others == [int(each) for each in acknowledged[1:]], where


def prepared(store: Store, faulty: Faulty, ids: Ids) -> None:
    warm(store, ids)


@anywhere
def test_an_interrupt_at_any_point_of_a_batch(storage: Storage, rival: Store) -> None:
    interrupt_everywhere(storage, rival, prepared)


@anywhere
def test_an_interrupt_at_any_point_of_a_batch_that_loses_a_race(storage: Storage, rival: Store) -> None:
    def prepare(store: Store, faulty: Faulty, ids: Ids) -> None:
        warm(store, ids)
        faulty.before["append"] = once(lambda _: start(rival.execute, rename, ids[1], "Ann").result())

    interrupt_everywhere(storage, rival, prepare)


@anywhere
def test_an_interrupt_at_any_point_of_a_batch_that_has_to_load(storage: Storage, rival: Store) -> None:
    interrupt_everywhere(storage, rival, lambda *_: None)


@anywhere
@pytest.mark.parametrize("happened", [False, True])
def test_an_interrupt_at_any_point_of_a_batch_whose_append_has_to_be_resolved(
    storage: Storage, rival: Store, happened: bool
) -> None:
    def prepare(store: Store, faulty: Faulty, ids: Ids) -> None:
        warm(store, ids)
        hooks = faulty.after if happened else faulty.before
        hooks["append"] = once(raising(OutcomeUnknownError("the connection broke")))

    interrupt_everywhere(storage, rival, prepare)


@anywhere
def test_an_interrupt_at_any_point_of_a_load_that_others_wait_for(storage: Storage, rival: Store) -> None:
    def deposit_unless_named(tx: Transaction, id: str) -> int:
        shared = f"shared-{id.partition('-')[2]}"
        return 0 if tx.read(owners(shared)).state else deposit(tx, id)

    interrupt_everywhere(storage, rival, lambda *_: None, deposit_unless_named)


@anywhere
def test_an_interrupt_at_any_point_of_a_thread_that_waits_for_its_turn(storage: Storage, rival: Store) -> None:
    faulty = Faulty(storage)
    with Store(faulty) as store:
        for point, ids in points(storage):
            warm(store, ids)
            mine, first, last = ids
            faulty.before["append"] = gate = Gate()
            leader = start(store.execute, deposit, first, 1)
            assert gate.reached.wait(PATIENCE)
            ended = threading.Event()
            follower = start(follow, store, mine, last, gate, ended)
            acknowledged, where = interrupt_at(point, store, deposit, mine, 1)
            ended.set()

            assert answered(leader, where)
            assert answered(follower, where)
            check_balances(rival, ids, (acknowledged, True, True), where)
            if where == NOWHERE:
                return


def follow(store: Store, main: str, id: str, gate: Gate, main_ended: threading.Event) -> Receipt[int]:
    """Deposits, behind the main thread where that sleeps, and then lets the leader go on."""
    queue = heart_of(store)._queue
    eventually(lambda: main_ended.is_set() or any(job.args[0] == main and job.wake is not None for job in queue))
    last = start(store.execute, deposit, id, 1)
    eventually(lambda: last.ended or any(job.args[0] == id for job in queue))
    gate.open()
    return last.result()


# -- Exceptions that are no Exception ----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, asyncio.CancelledError, KeyboardInterrupt, StopIteration])
def test_whatever_a_command_raises_reaches_its_own_caller_only(together: Together, error: type[BaseException]) -> None:
    warm(together.store)

    def command(tx: Transaction) -> None:
        deposit(tx, "ann", 100)
        raise error("from the command")

    outcomes = together.execute((deposit, "ann", 1), (command,), (deposit, "ann", 2))

    if error is StopIteration and not isinstance(outcomes[1], StopIteration):
        assert isinstance(outcomes[1], RuntimeError)  # what Python makes of it in a coroutine
        assert isinstance(outcomes[1].__cause__, StopIteration)
        outcomes[1] = StopIteration()
    assert results(outcomes) == [1, error, 3]
    assert together.faulty.calls["append"] == 1
    assert together.store.state(accounts("ann")).balance == 3


# -- Cancellation ------------------------------------------------------------------------------------------------------


async def test_a_caller_cancelled_while_its_command_is_queued_never_runs_it(faulty: Faulty, rival: Store) -> None:
    ran: list[str] = []

    def command(tx: Transaction, id: str) -> int:
        ran.append(id)
        return deposit(tx, id, 1)

    async with AsyncStore(faulty) as store:
        gate = Gate()
        faulty.before["append"] = gate
        first = asyncio.create_task(store.execute(command, "ann"))
        await soon(gate.reached.is_set)
        second, third = (asyncio.create_task(store.execute(command, id)) for id in ("main", "ben"))
        await soon(lambda: len(heart_of(store)._queue) == 2)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(second)
        gate.open()

        assert [(await within(each)).result for each in (first, third)] == [1, 1]
        assert "main" not in ran
        await check_async(store, rival, main=0, ann=1, ben=1)


async def check_async(store: AsyncStore, rival: Store, **balances: int) -> None:
    """As `check_all_is_well`."""
    for id, amount in balances.items():
        assert rival.state(accounts(id)).balance == amount, id
        assert (await within(store.state(accounts(id)))).balance == amount, id
    before = rival.state(accounts("probe")).balance
    assert (await within(store.execute(deposit, "probe", 1))).result == before + 1
    assert (await asyncio.to_thread(rival.execute, deposit, "probe", 1)).result == before + 2
    assert rival.verify(accounts).ok


async def test_a_caller_cancelled_while_its_stream_is_loaded_never_writes(faulty: Faulty, rival: Store) -> None:
    async with AsyncStore(faulty) as store:
        gate = Gate()
        faulty.before["load"] = gate
        first = asyncio.create_task(store.execute(deposit, "ann", 1))
        await soon(gate.reached.is_set)
        second = asyncio.create_task(store.execute(deposit, "ann", 10))
        await soon(lambda: len(next(iter(heart_of(store)._loading.values())).jobs) == 2)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(first)
        gate.open()

        assert (await within(second)).result == 10
        assert not heart_of(store)._loading
        await check_async(store, rival, ann=10)


async def test_a_caller_cancelled_while_its_batch_is_appended_is_written_all_the_same(
    faulty: Faulty, rival: Store
) -> None:
    async with AsyncStore(faulty) as store:
        for id in ("main", "ann"):
            await store.state(accounts(id))
        gate = Gate()
        faulty.before["append"] = gate
        first, second = (asyncio.create_task(store.execute(deposit, id, 1)) for id in ("main", "ann"))
        await soon(gate.reached.is_set)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(first)
        gate.open()

        assert (await within(second)).result == 1
        await check_async(store, rival, main=1, ann=1)


@pytest.mark.parametrize("method", ["append", "check", "lock", "resolve", "head"])
async def test_when_the_leading_task_is_cancelled_another_one_takes_over(
    faulty: Faulty, rival: Store, method: str
) -> None:
    async with AsyncStore(faulty) as store:
        for id in ("ann", "ben"):
            await store.state(accounts(id))
        gate = Gate()
        faulty.before[method] = gate
        if method == "lock":
            faulty.before["append"] = once(lambda _: start(rival.execute, rename, "ann", "Ann").result())
        if method == "resolve":
            faulty.after["append"] = once(raising(OutcomeUnknownError("the connection broke")))
        if method == "head":
            heart_of(store).abandon()
        command = balance if method == "check" else deposit
        tasks = [asyncio.create_task(store.execute(command, id)) for id in ("ann", "ben", "ann")]
        await soon(gate.reached.is_set)
        assert store._leader is not None
        store._leader.cancel()
        await asyncio.sleep(0)
        gate.open()

        found = [(await within(each)).result for each in tasks]
        assert found == ([0, 0, 0] if command is balance else [1, 1, 2])
        await check_async(store, rival, ann=found[2], ben=found[1])


async def test_when_a_loading_task_is_cancelled_another_one_takes_over(faulty: Faulty, rival: Store) -> None:
    rival.execute(deposit, "cold", 5)
    async with AsyncStore(faulty) as store:
        gate = Gate()
        faulty.before["load"] = gate
        tasks = [asyncio.create_task(store.execute(balance, "cold")) for _ in range(2)]
        await soon(gate.reached.is_set)
        (loader,) = store._loaders
        loader.cancel()
        await asyncio.sleep(0)
        gate.open()

        assert [(await within(each)).result for each in tasks] == [5, 5]
        await check_async(store, rival, cold=5)


async def test_when_the_leading_task_is_cancelled_before_it_begins_another_one_takes_over(
    faulty: Faulty, rival: Store
) -> None:
    async with AsyncStore(faulty) as store:

        async def cancel() -> None:
            assert store._leader is not None
            store._leader.cancel()

        caller = asyncio.create_task(store.execute(deposit, "ann", 1))
        await asyncio.create_task(
            cancel()
        )  # has its turn before the leading task, which the caller's first step starts

        assert (await within(caller)).result == 1
        await check_async(store, rival, ann=1)


async def test_when_a_loading_task_is_cancelled_before_it_begins_another_one_takes_over(
    faulty: Faulty, rival: Store
) -> None:
    async with AsyncStore(faulty) as store:
        cancelled: list[bool] = []

        def cancel() -> None:
            cancelled.extend(loader.cancel() for loader in store._loaders)

        def command(tx: Transaction) -> int:
            asyncio.get_running_loop().call_soon(cancel)  # has its turn before the loading task, which is started next
            return deposit(tx, "ann", 1)

        assert (await within(store.execute(command))).result == 1
        assert cancelled == [True]
        assert faulty.calls["load"] == 1
        await check_async(store, rival, ann=1)


async def test_cancelling_callers_at_random_moments_loses_and_doubles_nothing(faulty: Faulty, rival: Store) -> None:
    async with AsyncStore(faulty, cache_size=2) as store:
        acknowledged = unknown = 0
        for round in range(30):
            tasks = [asyncio.create_task(store.execute(deposit, f"{number % 5}", 1)) for number in range(20)]
            for _ in range(round):
                await asyncio.sleep(0)
            for task in tasks[round % 3 :: 3]:
                task.cancel()
            for outcome in await within(asyncio.gather(*tasks, return_exceptions=True)):
                acknowledged += isinstance(outcome, Receipt)
                unknown += isinstance(outcome, asyncio.CancelledError)
        assert acknowledged + unknown == 600
        total = sum([(await store.state(accounts(f"{number}"))).balance for number in range(5)])
        assert acknowledged <= total <= 600
        assert rival.head() == total
        await check_async(store, rival)


async def test_a_cancelled_first_caller_does_not_keep_the_store_from_opening(faulty: Faulty) -> None:
    store = AsyncStore(faulty)
    first = asyncio.create_task(store.execute(deposit, "ann", 1))
    await asyncio.sleep(0)
    first.cancel()

    assert (await within(store.execute(deposit, "ann", 1))).result == 1
    await store.close()


# -- Appends whose outcome is not known --------------------------------------------------------------------------------


LOST = OutcomeUnknownError("the connection broke")


def test_an_append_that_happened_is_answered_as_if_nothing_had_been(together: Together, rival: Store) -> None:
    warm(together.store)
    together.faulty.after["append"] = once(raising(LOST))

    outcomes = together.execute((deposit, "ann", 1), (withdraw, "ben", 5), (deposit, "ann", 2), (balance, "ann"))

    assert results(outcomes) == [1, InsufficientFundsError, 3, 3]
    first, _, third, _ = outcomes
    assert isinstance(first, Receipt) and isinstance(third, Receipt)
    assert list(rival.log()) and [each.position for each in (*first.events, *third.events)] == [1, 2]
    assert third.attempts == 1
    check_all_is_well(together.store, rival, ann=3)


def test_an_append_that_happened_while_others_wrote_is_found_where_it_stands(together: Together, rival: Store) -> None:
    warm(together.store)

    def break_then_write(_: object) -> None:
        rival.execute(deposit, "ann", 100)
        raise LOST

    together.faulty.before["append"] = once(lambda _: rival.execute(deposit, "other", 1))
    together.faulty.after["append"] = once(break_then_write)

    (outcome,) = together.execute((deposit, "ann", 1))

    assert isinstance(outcome, Receipt)
    assert (outcome.result, outcome.position) == (1, 2)
    check_all_is_well(together.store, rival, ann=101, other=1)


def test_an_append_that_did_not_happen_is_decided_again(together: Together, rival: Store) -> None:
    warm(together.store)
    together.faulty.before["append"] = once(raising(LOST))

    outcomes = together.execute((deposit, "ann", 1), (deposit, "ann", 2))

    assert results(outcomes) == [1, 3]
    assert all(isinstance(each, Receipt) and each.attempts == 2 for each in outcomes)
    check_all_is_well(together.store, rival, ann=3)


def test_an_append_that_was_resolved_as_not_happened_never_happens(together: Together, rival: Store) -> None:
    warm(together.store)
    sent: list[Append] = []

    def lose(asked: object) -> None:
        assert isinstance(asked, Append)
        sent.append(asked)
        raise LOST

    together.faulty.before["append"] = once(lose)
    together.store.execute(deposit, "ann", 1)

    late: Log = together.faulty.open().log("default")
    with pytest.raises(AppendRefusedError, match="void"):
        late.append(sent[0])
    check_all_is_well(together.store, rival, ann=1)


@pytest.mark.parametrize("happened", [False, True])
def test_a_storage_that_cannot_be_asked_at_first_is_asked_again(
    make_together: MakeTogether, rival: Store, happened: bool
) -> None:
    together = make_together(retry=Retry(max_attempts=4, base=0.0))
    warm(together.store)
    hooks = together.faulty.after if happened else together.faulty.before
    hooks["append"] = once(raising(LOST))
    failures = [StoreUnavailableError("still gone"), StorageFullError("no room for a note"), LOST]

    def fail(_: object) -> None:
        if failures:
            raise failures.pop()

    together.faulty.before["resolve"] = fail

    assert results(together.execute((deposit, "ann", 1), (deposit, "ben", 1))) == [1, 1]
    assert together.faulty.calls["resolve"] == 4
    check_all_is_well(together.store, rival, ann=1, ben=1)


@pytest.mark.parametrize("reason", [StoreUnavailableError("gone"), StorageFullError("no room for a note")])
@pytest.mark.parametrize("happened", [False, True])
def test_where_a_storage_cannot_be_asked_at_all_the_outcome_is_reported_as_unknown(
    make_together: MakeTogether, rival: Store, happened: bool, reason: Exception
) -> None:
    together = make_together(retry=Retry(max_attempts=3, base=0.0))
    warm(together.store)
    hooks = together.faulty.after if happened else together.faulty.before
    hooks["append"] = once(raising(LOST))
    together.faulty.before["resolve"] = raising(reason)

    outcomes = together.execute((deposit, "ann", 1), (deposit, "ben", 1))

    assert results(outcomes) == [OutcomeUnknownError, OutcomeUnknownError]
    assert together.faulty.calls["resolve"] == 3
    assert all(isinstance(each, BaseException) and each.__cause__ is reason for each in outcomes)
    check_all_is_well(together.store, rival, ann=int(happened), ben=int(happened))


@pytest.mark.parametrize("happened", [False, True])
def test_what_a_storage_did_not_foresee_is_resolved_too(together: Together, rival: Store, happened: bool) -> None:
    warm(together.store)
    hooks = together.faulty.after if happened else together.faulty.before
    hooks["append"] = once(raising(ZeroDivisionError("a bug of the driver")))

    outcomes = together.execute((deposit, "ann", 1), (deposit, "ben", 1))

    assert results(outcomes) == ([1, 1] if happened else [ZeroDivisionError] * 2)
    check_all_is_well(together.store, rival, ann=int(happened), ben=int(happened))


def test_the_append_under_the_lock_is_resolved_too(together: Together, rival: Store) -> None:
    warm(together.store)

    def disturb(_: object) -> None:
        rival.execute(deposit, "ann", 10)
        together.faulty.after["append"] = raising(LOST)
        together.faulty.after["resolve"] = lambda _: together.faulty.after.pop("append")

    def conflict_only(answer: object) -> None:
        """The first append is a conflict, and its answer comes."""

    together.faulty.before["append"] = once(disturb)
    together.faulty.after["lock"] = conflict_only

    assert results(together.execute((deposit, "ann", 1), (deposit, "ben", 1))) == [11, 1]
    check_all_is_well(together.store, rival, ann=11, ben=1)
