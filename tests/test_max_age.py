"""States that may be a little old: answered from the cache while it is known how old it can be, and not longer."""

from __future__ import annotations

import asyncio

import pytest

from factfold import AsyncStore, Store, batch
from factfold.storage.base import Storage
from tests.conftest import MakeStore
from tests.faults import PATIENCE, Faulty, Gate
from tests.ledger import Account, accounts, deposit
from tests.racing import soon, start, within


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which the heart judges how old its cache is."""
    clock = Clock()
    monkeypatch.setattr(batch, "time", clock)
    monkeypatch.setattr("factfold.loads.time", clock)
    return clock


def test_a_state_may_be_as_old_as_is_allowed_and_no_older(
    storage: Storage, make_store: MakeStore, clock: Clock
) -> None:
    faulty = Faulty(storage)
    store, other = make_store(faulty), make_store()
    other.execute(deposit, "ann")
    assert store.state(accounts("ann")).balance == 1
    other.execute(deposit, "ann")
    clock.now += 10
    faulty.calls.clear()

    assert store.state(accounts("ann"), max_age=10).balance == 1
    assert not faulty.calls, "nobody was asked"
    assert store.state(accounts("ann"), max_age=9.9).balance == 2
    assert store.state(accounts("ann"), max_age=0.1).balance == 2
    assert faulty.calls["check"] == 1


def test_a_load_makes_the_cache_as_young_as_itself(storage: Storage, make_store: MakeStore, clock: Clock) -> None:
    faulty = Faulty(storage)
    store, other = make_store(faulty), make_store()
    store.execute(deposit, "ann")
    other.execute(deposit, "bob")
    clock.now += 100
    faulty.calls.clear()

    assert store.state(accounts("bob"), max_age=1).balance == 1
    assert (faulty.calls["load"], faulty.calls["check"]) == (1, 0)
    assert store.state(accounts("ann"), max_age=1).balance == 1
    assert (faulty.calls["load"], faulty.calls["check"]) == (1, 0)


def test_an_own_commit_makes_the_cache_young(storage: Storage, make_store: MakeStore, clock: Clock) -> None:
    faulty = Faulty(storage)
    store = make_store(faulty)
    store.state(accounts("ann"))
    clock.now += 100
    store.execute(deposit, "bob")
    faulty.calls.clear()
    assert store.state(accounts("ann"), max_age=1) == Account()
    assert not faulty.calls


def test_without_a_cache_it_is_loaded_each_time(storage: Storage, make_store: MakeStore, clock: Clock) -> None:
    faulty = Faulty(storage)
    store, other = make_store(faulty, cache_size=0), make_store()
    for number in (1, 2, 3):
        other.execute(deposit, "ann")
        assert store.state(accounts("ann"), max_age=60).balance == number
        assert store.state(accounts("ann")).balance == number
        assert faulty.calls["load"] == 2 * number


def test_a_strict_reader_in_the_same_batch_makes_it_fresh_for_all(make_store: MakeStore, clock: Clock) -> None:
    store, other = make_store(), make_store()
    assert store.state(accounts("ann"), max_age=60).balance == 0
    other.execute(deposit, "ann")
    assert store.state(accounts("ann")).balance == 1
    assert store.state(accounts("ann"), max_age=60).balance == 1


def test_16_threads_share_one_load(storage: Storage) -> None:
    faulty = Faulty(storage)
    with Store(storage) as writer:
        writer.execute(deposit, "ann")
    with Store(faulty) as store:
        store.head()
        gate = faulty.before["load"] = Gate()
        started = [start(store.state, accounts("ann"), max_age=60) for _ in range(16)]
        assert gate.reached.wait(PATIENCE)
        gate.open()
        assert [each.result().balance for each in started] == [1] * 16
        assert faulty.calls["load"] == 1
        assert faulty.calls["check"] == 0


async def test_16_tasks_share_one_load(storage: Storage) -> None:
    faulty = Faulty(storage)
    async with AsyncStore(storage) as writer:
        await writer.execute(deposit, "ann")
    async with AsyncStore(faulty) as store:
        gate = faulty.before["load"] = Gate()
        first = asyncio.create_task(store.state(accounts("ann"), max_age=60))
        await soon(gate.reached.is_set)
        others = [asyncio.create_task(store.state(accounts("ann"), max_age=60)) for _ in range(15)]
        await asyncio.sleep(0)
        gate.open()
        assert [state.balance for state in await within(asyncio.gather(first, *others))] == [1] * 16
        assert faulty.calls["load"] == 1
        assert faulty.calls["check"] == 0


@pytest.mark.parametrize("age", [-1, float("nan"), "1", True], ids=repr)
def test_what_is_no_age_is_refused(store: Store, age: float) -> None:
    with pytest.raises(ValueError, match="max_age"):
        store.state(accounts("ann"), max_age=age)
