"""Wherever in a batch KeyboardInterrupt comes, all others are answered, and nothing is lost or doubled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeAlias

import pytest

from factfold import (
    OutcomeUnknownError,
    Receipt,
    Store,
    Transaction,
)
from factfold.storage.base import Storage
from tests.faults import PATIENCE, Faulty, Gate, once, raising
from tests.interrupting import Crew, InterruptAt, warm
from tests.ledger import accounts, deposit, owners, rename
from tests.racing import Started, eventually, start
from tests.together import heart_of


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
    step = 1 if storage.name == "memory:" else 5  # SQLite takes longer, and has more points
    for point in range(1, MOST_POINTS, step):
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
