"""What commands miss is loaded: once for all who wait for it, together, and never from before the call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from factfold import (
    AsyncStore,
    Store,
    Transaction,
)
from factfold.storage.base import Load, Storage
from tests.engines import EVERY_ENGINE
from tests.faults import PATIENCE, Faulty, Gate
from tests.ledger import (
    Account,
    Deposited,
    accounts,
    balance,
    balances,
    deposit,
    owners,
    rename,
)
from tests.racing import eventually, soon, start, within
from tests.together import MakeTogether, Together, heart_of, results

ENGINES = EVERY_ENGINE


def loads_of(asked: object, id: str) -> bool:
    assert isinstance(asked, Load)
    return any(wanted.selection.stream == id for wanted in asked.wanted)


def holding(gate: Gate, id: str) -> Callable[[object], None]:
    """A hook before a load that holds those of one stream."""

    def hook(asked: object) -> None:
        if loads_of(asked, id):
            gate()

    return hook


def test_a_cold_stream_delays_nobody_else(storage: Storage, rival: Store) -> None:
    rival.execute(deposit, "slow", 1)
    faulty = Faulty(storage)
    gate = Gate()
    faulty.before["load"] = holding(gate, "ledger:slow")
    with Store(faulty) as store:
        slow = start(store.execute, balance, "slow")
        assert gate.reached.wait(PATIENCE)

        for number in range(3):
            assert store.execute(deposit, "hot", 1).result == number + 1
            assert store.execute(balance, f"cold-{number}").result == 0
        assert not slow.ended
        gate.open()
        assert slow.result().result == 1


async def test_a_cold_stream_delays_no_other_task(storage: Storage, rival: Store) -> None:
    rival.execute(deposit, "slow", 1)
    faulty = Faulty(storage)
    gate = Gate()
    faulty.before["load"] = holding(gate, "ledger:slow")
    async with AsyncStore(faulty) as store:
        slow = asyncio.create_task(store.execute(balance, "slow"))
        await soon(gate.reached.is_set)

        for number in range(3):
            assert (await within(store.execute(deposit, "hot", 1))).result == number + 1
            assert (await within(store.execute(balance, f"cold-{number}"))).result == 0
        assert not slow.done()
        gate.open()
        assert (await within(slow)).result == 1


def test_a_cold_command_does_not_wait_for_the_append_of_the_batch_that_it_left(
    together: Together, rival: Store
) -> None:
    rival.execute(deposit, "cold", 5)
    together.store.state(accounts("hot"))
    loading = Gate()
    together.faulty.before["load"] = lambda _: loading.open()
    together.faulty.before["append"] = lambda _: loading()  # goes on when the load has begun

    assert results(together.execute((deposit, "hot", 1), (balance, "cold"))) == [1, 5]


async def test_a_long_stream_does_not_delay_a_short_one_that_is_loaded_with_it(storage: Storage, rival: Store) -> None:
    def fill(tx: Transaction) -> None:
        tx.read(accounts("long")).append(*[Deposited(1)] * 9000)

    rival.execute(fill)
    rival.execute(deposit, "short", 7)
    faulty = Faulty(storage)
    gate = Gate()
    faulty.before["load"] = lambda _: gate() if faulty.calls["load"] > 3 else None
    async with AsyncStore(faulty) as store:
        long = asyncio.create_task(store.execute(balance, "long"))
        short = asyncio.create_task(store.execute(balance, "short"))
        await soon(gate.reached.is_set)

        assert (await within(short)).result == 7
        assert not long.done()
        gate.open()
        assert (await within(long)).result == 9000


def test_a_stream_is_loaded_once_however_many_threads_wait_for_it(storage: Storage, rival: Store) -> None:
    rival.execute(deposit, "cold", 5)
    faulty = Faulty(storage)
    gate = Gate()
    faulty.before["load"] = holding(gate, "ledger:cold")
    with Store(faulty) as store:
        started = [start(store.execute, balance, "cold")]
        assert gate.reached.wait(PATIENCE)
        started += [start(store.execute, balance, "cold") for _ in range(7)]
        eventually(lambda: len(next(iter(heart_of(store).missing.loadings.values())).jobs) == 8)
        gate.open()

        assert [each.result().result for each in started] == [5] * 8
        assert faulty.calls["load"] == 1


async def test_a_stream_is_loaded_once_however_many_tasks_wait_for_it(storage: Storage, rival: Store) -> None:
    rival.execute(deposit, "cold", 5)
    faulty = Faulty(storage)
    gate = Gate()
    faulty.before["load"] = holding(gate, "ledger:cold")
    async with AsyncStore(faulty) as store:
        tasks = [asyncio.create_task(store.execute(balance, "cold"))]
        await soon(gate.reached.is_set)
        tasks += [asyncio.create_task(store.execute(balance, "cold")) for _ in range(7)]
        await soon(lambda: len(next(iter(heart_of(store).missing.loadings.values())).jobs) == 8)
        gate.open()

        assert [(await within(each)).result for each in tasks] == [5] * 8
        assert faulty.calls["load"] == 1


async def test_a_shared_load_survives_the_cancellation_of_its_first_caller(storage: Storage, rival: Store) -> None:
    rival.execute(deposit, "cold", 5)
    faulty = Faulty(storage)
    gate = Gate()
    faulty.before["load"] = gate
    async with AsyncStore(faulty) as store:
        first = asyncio.create_task(store.execute(balance, "cold"))
        await soon(gate.reached.is_set)
        second = asyncio.create_task(store.execute(balance, "cold"))
        await soon(lambda: len(next(iter(heart_of(store).missing.loadings.values())).jobs) == 2)
        first.cancel()
        gate.open()

        assert (await within(second)).result == 5
        assert first.cancelled()
        assert faulty.calls["load"] == 1


def test_all_streams_of_one_read_come_with_one_load(together: Together) -> None:
    def command(tx: Transaction) -> int:
        return sum(view.state for view in tx.read(balances(str(number)) for number in range(50)))

    together.faulty.calls.clear()
    together.store.execute(command)

    assert together.faulty.calls["load"] == 1


def test_a_stream_of_thousands_of_events_is_folded_whole(together: Together, rival: Store) -> None:
    def fill(tx: Transaction) -> None:
        tx.read(accounts("long")).append(*[Deposited(1)] * 4567)

    rival.execute(fill)
    rival.execute(rename, "long", "Long")

    assert together.store.state(accounts("long")) == Account("Long", 4567)
    assert together.store.version(accounts("long")) == 4568
    assert together.store.state(owners("long")) == "Long"


def test_more_streams_than_one_load_takes_are_loaded_all_the_same(together: Together, rival: Store) -> None:
    def fill(tx: Transaction) -> None:
        for view in tx.read(accounts(str(number)) for number in range(600)):
            view.append(Deposited(1))

    def total(tx: Transaction) -> int:
        return sum(view.state for view in tx.read(balances(str(number)) for number in range(600)))

    rival.execute(fill)

    assert together.store.execute(total).result == 600


@pytest.mark.parametrize("size", [0, 1, 2])
def test_what_was_loaded_for_a_command_is_kept_for_it_however_small_the_cache(
    make_together: MakeTogether, rival: Store, size: int
) -> None:
    together = make_together(cache_size=size)
    rival.execute(deposit, "0", 1)

    def one_by_one(tx: Transaction) -> int:
        return sum(tx.read(balances(str(number))).state for number in range(10))

    together.faulty.calls.clear()
    assert together.store.execute(one_by_one).result == 1
    assert together.faulty.calls["load"] == 10
    assert len(together.heart.cache) <= size


@pytest.mark.parametrize("size", [0, 1])
def test_commands_that_crowd_a_tiny_cache_all_come_to_an_end(make_together: MakeTogether, size: int) -> None:
    together = make_together(cache_size=size)

    def command(tx: Transaction, first: int) -> int:
        for number in range(5):
            deposit(tx, str((first + number) % 7), 1)
        return first

    assert results(together.execute(*[(command, number) for number in range(14)])) == list(range(14))
    assert sum(together.store.state(balances(str(number))) for number in range(7)) == 70
    assert len(together.heart.cache) <= size
