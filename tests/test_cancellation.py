"""A cancelled caller, or a cancelled task of the store, takes nothing away from the other callers."""

from __future__ import annotations

import asyncio

import pytest

from factfold import (
    AsyncStore,
    OutcomeUnknownError,
    Receipt,
    Store,
    Transaction,
)
from tests.engines import EVERY_ENGINE
from tests.faults import Faulty, Gate, once, raising
from tests.ledger import accounts, balance, deposit, rename
from tests.racing import soon, start, within
from tests.together import heart_of

ENGINES = EVERY_ENGINE


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
        await soon(lambda: len(next(iter(heart_of(store).missing.loadings.values())).jobs) == 2)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(first)
        gate.open()

        assert (await within(second)).result == 10
        assert not heart_of(store).missing.loadings
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
