"""Many processes on one Valkey: none starves, whatever they contend for."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from statistics import median

import pytest

from factfold import AsyncStore, Store, Transaction
from factfold.storage.valkey import Valkey
from factfold.testing.contract.running import PATIENCE, SPAWN, Barrier, Processes
from tests.ledger import Deposited, accounts, deposit, transfer
from tests.servers.valkey import ValkeyServer

PROCESSES = 8
TASKS = 8
SECONDS = 1.5
ACCOUNTS = 1_000
MONEY = 1_000_000


def hot(tx: Transaction, own: str) -> object:
    """All want the same stream."""
    return deposit(tx, "hot", 1)


def transfers(tx: Transaction, own: str) -> object:
    """Each wants two of a thousand streams. Which ones is drawn from the id that is the same in every run."""
    source, target = random.Random(str(tx.new_id())).sample(range(ACCOUNTS), 2)
    return transfer(tx, str(source), str(target), 1)


def private(tx: Transaction, own: str) -> object:
    """Each wants a stream of its own, and sometimes the same as all others."""
    return deposit(tx, "hot" if random.Random(str(tx.new_id())).random() < 0.05 else own, 1)


LOADS: tuple[Callable[[Transaction, str], object], ...] = (hot, transfers, private)


def work(storage: Valkey, process: int, barrier: Barrier) -> list[list[int]]:
    """One process under each load in turn: how many attempts each of its commands took."""

    async def under(load: Callable[[Transaction, str], object]) -> list[int]:
        attempts: list[int] = []

        async def serve(task: int) -> None:
            while time.monotonic() < end:
                attempts.append((await store.execute(load, f"{process}-{task}")).attempts)

        async with AsyncStore(storage, namespace=load.__name__) as store:
            await store.head()
            await asyncio.to_thread(barrier.wait, PATIENCE)
            end = time.monotonic() + SECONDS
            await asyncio.gather(*map(serve, range(TASKS)))
        return attempts

    async def under_all() -> list[list[int]]:
        return [await under(load) for load in LOADS]

    return asyncio.run(under_all())


def fund(tx: Transaction) -> None:
    for account in tx.read(accounts(str(number)) for number in range(ACCOUNTS)):
        account.append(Deposited(MONEY))


@pytest.fixture(scope="module")
def crowded(valkey_server: ValkeyServer) -> tuple[Valkey, dict[str, list[list[int]]]]:
    """A storage on which the processes have worked; under each load, the attempts of each process."""
    storage = valkey_server.storage(timeout=20.0)
    with Store(storage, namespace=transfers.__name__) as store:
        store.execute(fund)
    barrier = SPAWN.Barrier(PROCESSES)
    with Processes(work, [(storage, process, barrier) for process in range(PROCESSES)]) as working:
        by_process = working.results()
    return storage, {load.__name__: [each[number] for each in by_process] for number, load in enumerate(LOADS)}


@pytest.mark.parametrize("load", [load.__name__ for load in LOADS])
def test_8_processes_with_8_tasks_each_get_fair_shares(
    load: str, crowded: tuple[Valkey, dict[str, list[list[int]]]]
) -> None:
    """Every command succeeds, half of them within two attempts; every process gets at least half of its share."""
    storage, by_load = crowded
    shares = [len(attempts) for attempts in by_load[load]]
    assert min(shares) >= sum(shares) / PROCESSES / 2, shares
    assert median(each for attempts in by_load[load] for each in attempts) <= 2
    with Store(storage, namespace=load) as store:
        funded = ACCOUNTS if load == transfers.__name__ else 0
        assert store.head() == funded + sum(shares), "every acknowledged command is in the log, once"
        assert store.verify(accounts).ok
