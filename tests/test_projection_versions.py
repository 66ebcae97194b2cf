"""Versions of a projection: a higher one is built beside the one that serves, and takes over in one step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from factfold import (
    ConsumerStoppedError,
    Projection,
    ProjectionContext,
    ReadModel,
    RecordedEvent,
    Retry,
    Store,
    event,
)
from factfold.storage.base import Storage
from factfold.storage.postgres import Postgres
from factfold.storage.sqlite import SQLite
from tests.ledger import Deposited, deposit
from tests.looping import store_of
from tests.racing import eventually, start
from tests.read_models import (
    SQL_ENGINES,
    Money,
    balances,
    balances_in,
    placed,
    raise_at,
    reading,
    result_of,
    status_of,
)

ENGINES = SQL_ENGINES

QUICK = Retry(max_attempts=3, base=1e-3, cap=2e-3)


@pytest.fixture
def storage(storage: Storage) -> Storage:
    """The test's storage, with read models of its own."""
    return placed(storage)


@pytest.fixture
def store(storage: Storage, flavour: str) -> Iterator[Store]:
    """A store, of threads or of a loop that runs in the background."""
    with store_of(flavour, storage) as store:
        yield store


def test_a_higher_version_is_built_beside_and_takes_over(
    storage: Storage, store: Store, flavour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factfold.consuming.LOOK", 0.05)
    first, second = balances(flavour=flavour), balances(2, factor=10, flavour=flavour)
    for _ in range(5):
        store.execute(deposit, "ann", 1)
    with Store(storage) as other:
        store.start(first)
        store.wait_for(first, 5)
        with pytest.raises(ConsumerStoppedError):
            other.run(balances(2, factor=10, hook=raise_at(3), retry=QUICK))
        assert balances_in(storage, "balances_v2") == {"ann": 20}
        assert balances_in(storage) == {"ann": 5}, "the old one serves on"
        built = balances(2, factor=10)
        other.start(built)
        other.wait_for(built, other.execute(deposit, "ann", 1))
        eventually(lambda: status_of(other, second).serving)
        assert balances_in(storage) == {"ann": 60}
        eventually(lambda: status_of(store, first).state == "superseded")
        store.execute(deposit, "ann", 1)
        with pytest.raises(ConsumerStoppedError, match="version 2 serves"):
            store.wait_for(first, 7)
        store.run(first)  # it ends at once
        assert status_of(store, first).state == "superseded"
        other.wait_for(built, 7)
        assert balances_in(storage) == {"ann": 70}


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_of_versions_that_are_built_at_once_the_highest_serves(
    storage: Storage, store: Store, flavour: str, order: tuple[int, int]
) -> None:
    """Whichever has caught up first."""
    store.execute(deposit, "ann", 1)
    store.catch_up(balances(1, flavour=flavour))
    building = {2: balances(2, factor=10, flavour=flavour), 3: balances(3, factor=100, flavour=flavour)}
    for number in order:
        store.catch_up(building[number + 1])
    assert balances_in(storage) == {"ann": 100}
    assert [status.serving for status in store.projections()] == [False, False, True]


def test_a_lower_version_that_catches_up_later_does_not_take_over(storage: Storage, flavour: str) -> None:
    """It was being built when the higher one took over."""
    reached, gate = threading.Event(), threading.Event()

    def wait(event: Money, recorded: RecordedEvent[Any]) -> None:
        if recorded.position == 2:
            reached.set()
            if not isinstance(storage, SQLite):  # there nobody else could write meanwhile
                gate.wait(30)

    slow, quick = balances(2, factor=10, hook=wait), balances(3, factor=100, flavour=flavour)
    with Store(storage) as other, store_of(flavour, storage) as store:
        store.execute(deposit, "ann", 1)
        store.catch_up(balances(1, flavour=flavour))
        store.execute(deposit, "ann", 1)
        running = start(lambda: other.catch_up(slow))
        assert reached.wait(30)
        store.catch_up(quick)
        gate.set()
        running.result()
        assert balances_in(storage) == {"ann": 200}


def test_readers_never_miss_a_view_nor_see_one_half_built(storage: Storage, flavour: str) -> None:
    """They poll by plain SQL, while version after version takes over and a writer goes on."""
    stop = threading.Event()
    seen: list[int] = []

    def poll() -> None:
        with reading(storage) as ask:
            while not stop.is_set():
                ((balance,),) = ask("SELECT balance FROM balances WHERE id = 'ann'")
                seen.append(balance)

    with store_of(flavour, storage) as store:
        for _ in range(200):
            store.execute(deposit, "ann", 1)
        store.catch_up(balances(1, flavour=flavour))
        poller = start(poll)
        for version in range(2, 6):
            store.execute(deposit, "ann", 1)
            store.catch_up(balances(version, factor=1000**version, flavour=flavour))
        eventually(lambda: poller.ended or (seen and seen[-1] == 1000**5 * 204))
        stop.set()
        poller.result()
    assert sorted(seen) == seen
    assert min(seen) == 200
    for balance in set(seen):
        assert balance == 200 or any(balance == 1000**version * (199 + version) for version in range(2, 6))


def test_a_takeover_waits_for_who_reads_the_old_version_and_keeps_nobody_waiting(storage: Storage) -> None:
    """A report that takes long has the view locked, and other readers come."""
    if not isinstance(storage, Postgres):
        pytest.skip("who reads from SQLite has no view locked")
    with Store(storage) as store, psycopg.connect(storage.url) as report, reading(storage) as other:
        store.execute(deposit, "ann", 1)
        store.catch_up(balances(1))
        assert report.execute("SELECT balance FROM balances").fetchall() == [(1,)]
        second = balances(2, factor=10)
        store.start(second)
        eventually(lambda: status_of(store, second).state == "retrying")
        assert other("SELECT balance FROM balances") == [(1,)]
        report.rollback()
        eventually(lambda: status_of(store, second).serving)
        assert other("SELECT balance FROM balances") == [(10,)]


def test_views_that_cannot_be_switched_stop_it(storage: Storage, flavour: str) -> None:
    """Somebody has made a table where the view is to be."""
    with store_of(flavour, storage) as store:
        store.execute(deposit, "ann", 1)
        occupied = Projection("owners", tables=["occupied"])

        if flavour == "threads":

            @occupied.setup
            def make(model: ReadModel[Any]) -> None:
                model.connection.execute("CREATE TABLE occupied (id int)")
                model.connection.execute(f"CREATE TABLE {model.table('occupied')} (id int)")
        else:

            @occupied.setup
            async def make_async(model: ReadModel[Any]) -> None:
                await result_of(model.connection.execute("CREATE TABLE occupied (id int)"))
                await result_of(model.connection.execute(f"CREATE TABLE {model.table('occupied')} (id int)"))

        @occupied.on
        def handle(event: Deposited, context: ProjectionContext[Any]) -> None: ...

        with pytest.raises(ConsumerStoppedError, match="its views could not be switched .*occupied"):
            store.run(occupied)
        assert status_of(store, occupied).state == "failed"


@event(name="ledger.paid-in", was=["Deposited"])
@dataclass(frozen=True)
class PaidIn:
    """The event that was called Deposited once."""

    amount: int


def test_a_renamed_event_class_goes_on_with_what_was_built() -> None:
    """What it stands for in the log is the same, so no higher version is needed."""
    seen: list[int] = []
    before, after = Projection("sums"), Projection("sums")

    @before.on
    def _(event: Deposited, context: ProjectionContext[object]) -> None:
        seen.append(event.amount)

    @after.on
    def _(event: PaidIn, context: ProjectionContext[object]) -> None:
        seen.append(event.amount)

    with Store("memory:") as store:
        store.execute(deposit, "ann", 1)
        store.catch_up(before)
        store.execute(deposit, "ann", 2)
        store.catch_up(after)
    assert seen == [1, 2]
