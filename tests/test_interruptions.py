"""An interruption reaches its own caller only: all others are answered, no lock is held, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import threading

import pytest

from factfold import (
    OutcomeUnknownError,
    Receipt,
    Store,
    Transaction,
)
from tests.engines import EVERY_ENGINE
from tests.faults import PATIENCE, Faulty, Gate, once, raising
from tests.interrupting import Crew, check_all_is_well, interrupt, interrupted_when, warm
from tests.ledger import accounts, balance, deposit
from tests.racing import Started, eventually, start
from tests.together import Together, heart_of, queued, results

ENGINES = EVERY_ENGINE

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
            eventually(lambda: len(next(iter(heart_of(store).missing.loadings.values())).jobs) == 3)
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
            jobs = next(iter(heart_of(store).missing.loadings.values())).jobs
            return len(jobs) == 2 and jobs[1].wake is not None

        with interrupted_when(main_waits):
            store.execute(deposit, "cold", 1)
        gate.open()

        assert other.result().result == 5
        check_all_is_well(store, rival, cold=5)


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
