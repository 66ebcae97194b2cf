"""One runner at a time: who stood still, or lost its lease in another way, handles and moves nothing any more."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from factfold import RecordedEvent, Store, StoreUnavailableError
from factfold.checkpoints import LEASES
from factfold.errands import run
from factfold.leases import Lease
from factfold.storage.base import Storage
from factfold.storage.memory import Memory
from factfold.storage.postgres import Postgres
from factfold.storage.sqlite import SQLite
from tests.engines import EVERY_ENGINE
from tests.faults import PATIENCE, Faulty, Gate, raising
from tests.ledger import deposit
from tests.racing import eventually
from tests.read_models import SQL_ENGINES, Money, balances, balances_in, folded, placed, reading, recording
from tests.runners import Children, children, fork_while_running, notes, race, run_balances, who_handles

ENGINES = EVERY_ENGINE


# -- The lease itself --------------------------------------------------------------------------------------------------


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def no_rest(rest: object) -> bool:
    raise AssertionError("a lease does not rest")


def test_a_lease_is_claimed_renewed_and_given_back(storage: Storage) -> None:
    clock = Clock()
    engine = storage.open()
    log = engine.log("default")
    mine, other = (Lease("projection/p/1", 5.0, clock) for _ in range(2))
    assert run(mine.claim(), log, no_rest) == 0
    assert mine.is_held
    assert 4 < run(other.claim(), log, no_rest) < 5.1
    assert not other.is_held
    clock.now += 4.9
    assert mine.is_held
    run(mine.renew(), log, no_rest)
    clock.now += 4.9
    assert mine.is_held
    clock.now += 0.1
    assert not mine.is_held, "by now others might have taken it"
    assert run(mine.claim(), log, no_rest) == 0
    assert mine.is_held
    run(other.give_back(), log, no_rest)
    assert log.entries(LEASES, "", 10), "it is not the other one's"
    run(mine.give_back(), log, no_rest)
    assert not log.entries(LEASES, "", 10)
    assert run(other.claim(), log, no_rest) == 0
    run(mine.renew(), log, no_rest)
    assert not mine.is_held
    engine.close()


def test_a_lease_lasts_as_long_as_its_owner_said(storage: Storage) -> None:
    """Whoever runs the same projection with a shorter one, as in another version of a program, waits for it."""
    engine = storage.open()
    log = engine.log("default")
    assert run(Lease("projection/p/1", 1000.0, time.monotonic).claim(), log, no_rest) == 0
    assert run(Lease("projection/p/1", 0.001, time.monotonic).claim(), log, no_rest) > 900
    engine.close()


def test_who_has_watched_a_lease_for_long_enough_need_not_believe_the_storages_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was set back, perhaps by hours."""
    clock, memory_clock = Clock(), Clock()
    monkeypatch.setattr("factfold.storage.memory.time", SimpleNamespace(monotonic=memory_clock))
    engine = Memory().open()
    log = engine.log("default")
    lost, renewed, waiting = (Lease("projection/p/1", 5.0, clock) for _ in range(3))
    assert run(lost.claim(), log, no_rest) == 0
    memory_clock.now -= 3600.0
    assert 5 < run(waiting.claim(), log, no_rest) < 5.1
    clock.now += 4.0
    assert 1 < run(waiting.claim(), log, no_rest) < 1.1
    run(lost.renew(), log, no_rest)
    clock.now += 4.0
    assert run(waiting.claim(), log, no_rest) > 4, "it lives"
    clock.now += 5.1
    assert run(renewed.claim(), log, no_rest) > 4, "who comes later has to watch it first"
    assert run(waiting.claim(), log, no_rest) == 0
    engine.close()


def test_a_lease_is_found_among_many() -> None:
    engine = Memory().open()
    log = engine.log("default")
    for number in range(1, 2100):
        log.put(LEASES, f"projection/p/{number}", f"somebody 1 {number}.5".encode())
    log.put(LEASES, "projection/o", b"somebody 1 7.5")
    for number in (1, 2, 10, 999, 2099):
        waits = run(Lease(f"projection/p/{number}", 10.0, time.monotonic).claim(), log, no_rest)
        assert number < waits < number + 0.6
    assert run(Lease("projection/p/2100", 10.0, time.monotonic).claim(), log, no_rest) == 0


def test_a_renewal_that_is_under_way_does_not_keep_a_lease_that_is_given_back() -> None:
    faulty, clock = Faulty(Memory()), Clock()
    engine = faulty.open()
    log = engine.log("default")
    lease = Lease("projection/p/1", 10.0, clock)
    run(lease.claim(), log, no_rest)
    renewing = lease.renew()
    swap = next(renewing)
    assert log.swap(swap)  # type: ignore[arg-type]  # that is what a renewal asks for
    run(lease.give_back(), log, no_rest)
    with pytest.raises(StopIteration):
        renewing.send(True)
    assert not lease.is_held
    assert not log.entries(LEASES, "", 10)
    engine.close()


# -- Who has lost it ---------------------------------------------------------------------------------------------------


def test_who_cannot_renew_its_lease_handles_nothing_more(storage: Storage) -> None:
    """One event was being handled when another store took over; the others of its batch are left to that."""
    faulty, gate = Faulty(storage), Gate()
    late: list[int] = []
    seen: list[int] = []

    def stand_still(event: Money, recorded: RecordedEvent[Any]) -> None:
        late.append(recorded.position)
        if recorded.position == 2:
            gate()

    slow = recording([], hook=stand_still, lease=0.2)
    with Store(faulty) as store, Store(storage) as other:
        for _ in range(5):
            other.execute(deposit, "ann")
        store.start(slow)
        assert gate.reached.wait(PATIENCE)
        faulty.before["swap"] = raising(StoreUnavailableError("the network is split"))
        quick = recording(seen, lease=0.2)
        other.start(quick)
        other.wait_for(quick, 5)
        faulty.before.clear()
        gate.open()
        eventually(lambda: status_here(store) == "waiting")
        other.wait_for(quick, other.execute(deposit, "ann"))
        assert late == [1, 2]
        assert seen[-5:] == [2, 3, 4, 5, 6]


def status_here(store: Store) -> str:
    return store.projections()[0].state


@pytest.fixture(params=SQL_ENGINES)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> SQLite | Postgres:
    """A storage that other processes can use, too, and in whose database read models live."""
    if request.param == "sqlite":
        return SQLite(tmp_path / "log.db", synchronous="normal")
    placed_there = placed(replace(request.getfixturevalue("direct"), timeout=0.7))
    assert isinstance(placed_there, Postgres)
    return placed_there


def test_a_stopped_runner_that_is_continued_moves_nothing(
    shared: SQLite | Postgres, tmp_path: Path, flavour: str
) -> None:
    """Another one has taken over meanwhile."""
    assert_that_it_moves_nothing(shared, tmp_path, flavour, within=False)


@pytest.mark.parametrize("shared", ["postgres"], indirect=True)  # nobody could write to a file of SQLite meanwhile
def test_a_runner_that_is_stopped_in_a_transaction_moves_nothing(
    shared: SQLite | Postgres, tmp_path: Path, flavour: str
) -> None:
    """The server has ended its transaction, so that another one could take over."""
    assert_that_it_moves_nothing(shared, tmp_path, flavour, within=True)


def assert_that_it_moves_nothing(shared: SQLite | Postgres, tmp_path: Path, runner: str, *, within: bool) -> None:
    seen, gate = tmp_path / "seen", tmp_path / "gate"
    with Store(shared) as store, children() as processes:
        for _ in range(3):
            store.execute(deposit, "ann", 1)
        if not within:
            gate.touch()
        child = processes.start(run_balances, shared, runner, 0.5, seen, gate)
        if within:
            eventually(lambda: "3" in notes(seen))
        else:
            store.wait_for(balances(), 3)
        stop(child, shared)
        gate.touch()

        here = balances(lease=0.5)
        store.start(here)
        store.wait_for(here, store.execute(deposit, "ann", 10))
        assert balances_in(shared) == {"ann": 13}
        noted = notes(seen)
        child_continues(child)
        for _ in range(10):
            store.wait_for(here, store.execute(deposit, "ann", 10))
            time.sleep(0.01)  # the child has time for what it must not do
        assert notes(seen) == noted
        assert balances_in(shared) == folded(store) == {"ann": 113}

        store.stop()
        receipt = store.execute(deposit, "ann", 10)
        store.wait_for(here, receipt)
        assert balances_in(shared) == {"ann": 123}, "it goes on when it is its turn again"
        assert notes(seen)[-1] == str(receipt.position)


def stop(child: Any, storage: SQLite | Postgres) -> None:
    """SIGSTOP; in SQLite not while the file is locked, as it is for a moment whenever a lease is renewed."""
    while True:
        child_stops(child)
        with Store(replace(storage, timeout=0.2)) as store:
            try:
                store.execute(deposit, "ann", 0)
            except StoreUnavailableError:
                child_continues(child)
            else:
                return


def child_stops(child: Any) -> None:
    Children.signal(child, signal.SIGSTOP)


def child_continues(child: Any) -> None:
    Children.signal(child, signal.SIGCONT)


# -- Races -------------------------------------------------------------------------------------------------------------


def test_of_16_runners_in_four_processes_one_is_active(shared: SQLite | Postgres) -> None:
    """Whoever it is, is killed, again and again; each event is handled once, by one who had not been killed before."""
    projection = who_handles("me", 10.0)

    def handled() -> list[tuple[int, str]]:
        with reading(shared) as ask:
            return ask("SELECT position, runner FROM handled ORDER BY position")

    with Store(shared) as store, children() as processes:
        racing = {child.pid: child for child in (processes.start(race, shared, 4, 0.3) for _ in range(4))}
        for _ in range(3):
            receipts = [store.execute(deposit, "ann") for _ in range(10)]
            store.wait_for(projection, receipts[-1], timeout=PATIENCE)
            last = handled()[-1][1]
            killed = int(last.partition("/")[0])
            processes.kill(racing.pop(killed))
        receipts = [store.execute(deposit, "ann") for _ in range(10)]
        store.wait_for(projection, receipts[-1], timeout=PATIENCE)
        found = handled()
        assert [position for position, _ in found] == list(range(1, 41))
        assert len({runner.partition("/")[0] for _, runner in found}) >= 4


def test_of_16_stores_in_one_process_one_is_active() -> None:
    memory, active, most = Memory(), list[str](), list[int]()
    handled: list[tuple[int, str]] = []

    def watch(name: str) -> Callable[[Money, RecordedEvent[Any]], None]:
        def hook(event: Money, recorded: RecordedEvent[Any]) -> None:
            active.append(name)
            most.append(len(active))
            threading.Event().wait(0.002)
            active.remove(name)
            handled.append((recorded.position, name))

        return hook

    stores = [Store(memory) for _ in range(16)]
    for number, store in enumerate(stores):
        store.start(recording([], hook=watch(f"s{number}"), lease=30.0))
    writer = Store(memory)
    for turn in range(4):
        receipts = [writer.execute(deposit, "ann") for _ in range(5)]
        writer.wait_for(recording([]), receipts[-1])
        names = {name for position, name in handled if position > 5 * turn}
        assert len(names) == 1
        stores[int(names.pop()[1:])].close()
    for store in (*stores, writer):
        store.close()
    assert max(most) == 1
    assert [position for position, _ in handled] == list(range(1, 21))


def test_a_child_of_a_fork_runs_nothing_of_its_parents(shared: SQLite | Postgres, tmp_path: Path) -> None:
    """It may run the same, and waits like others."""
    with children() as processes:
        forking = processes.start(fork_while_running, shared, tmp_path / "seen")
        forking.join(PATIENCE)
        assert forking.exitcode == 0
    with Store(shared) as store:
        assert balances_in(shared) == folded(store) == {"ann": 3}
