"""Callers of one process: a thread, many threads, many tasks; each does one command after another, for so long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count, cycle, islice
from typing import TypeAlias

from benchmarks.bank import audit, deposit, fund, names, transfer
from benchmarks.harness import Measured
from factfold import AsyncStore, Store, Transaction
from factfold.storage.base import Storage

Command: TypeAlias = Callable[[Transaction, str, str], int]
Arguments: TypeAlias = Iterator[tuple[str, str]]
MONEY = 1_000_000


def put(tx: Transaction, id: str, other: str) -> int:
    """One event in one stream."""
    return deposit(tx, id, 1)


def move(tx: Transaction, source: str, target: str) -> int:
    """Two events, each in a stream of its own."""
    return transfer(tx, source, target, 1)


# -- What the callers work on ------------------------------------------------------------------------------------------


class Work:
    """A command, and what each of the callers gives it: always the next one of its arguments.

    `ids` are the accounts that exist before the callers begin, each of them funded.
    """

    def __init__(self, command: Command, ids: Sequence[str], arguments: Callable[[int], Arguments]) -> None:
        self.command = command
        self.ids = ids
        self.arguments = arguments

    def audit(self, storage: Storage, commands: int) -> None:
        """What counts is what is in the log: every command's money and events, and nothing else."""
        moves = self.command is move
        with Store(storage) as store:
            new = [info.id.partition(":")[2] for info in store.streams("account")]
            money = len(self.ids) * MONEY + (0 if moves else commands)
            audit(store, ids=new, money=money, events=len(self.ids) + commands * (2 if moves else 1))


def warm(callers: int) -> Work:
    """Each caller deposits into an account of its own."""
    ids = names(callers)
    return Work(put, ids, lambda caller: cycle([(ids[caller], "")]))


def in_turns(accounts: int) -> Work:
    """Deposits into so many accounts in turns."""
    ids = names(accounts)
    return Work(put, ids, lambda caller: cycle([(id, "") for id in ids]))


def hot() -> Work:
    """All callers deposit into the same account."""
    return Work(put, names(1), lambda caller: cycle([("0000", "")]))


def fresh() -> Work:
    """Each deposit is the first one into its account."""
    return Work(put, [], lambda caller: ((f"{caller}-{number}", "") for number in count()))


def transfers(accounts: int = 1000) -> Work:
    """Transfers among so many accounts, no two callers alike."""
    ids = names(accounts)

    def arguments(caller: int) -> Arguments:
        for number in count(caller * 7919):
            source = number * 31 % accounts
            yield ids[source], ids[(source + 1 + number % (accounts - 1)) % accounts]

    return Work(move, ids, arguments)


# -- Who calls ---------------------------------------------------------------------------------------------------------


def in_one_thread(storage: Storage, work: Work, seconds: float, *, before: int = 0) -> Measured:
    """One command after another; so many of them before it is measured."""
    with Store(storage) as store:
        store.execute(fund, work.ids, MONEY)
        for id, other in islice(work.arguments(0), before):
            store.execute(work.command, id, other)
        began = time.perf_counter()
        taken = _call(store, work, 0, seconds)
        took = time.perf_counter() - began
    work.audit(storage, before + len(taken))
    return Measured(len(taken), took, taken)


def in_threads(storage: Storage, work: Work, callers: int, seconds: float) -> Measured:
    """So many threads at once."""
    start = threading.Barrier(callers + 1)
    with Store(storage) as store, ThreadPoolExecutor(callers) as threads:
        store.execute(fund, work.ids, MONEY)

        def call(caller: int) -> list[float]:
            start.wait(60)
            return _call(store, work, caller, seconds)

        running = [threads.submit(call, caller) for caller in range(callers)]
        start.wait(60)
        began = time.perf_counter()
        taken = [latency for caller in running for latency in caller.result()]
        took = time.perf_counter() - began
    work.audit(storage, len(taken))
    return Measured(len(taken), took, taken)


def _call(store: Store, work: Work, caller: int, seconds: float) -> list[float]:
    taken: list[float] = []
    began = before = time.perf_counter()
    for id, other in work.arguments(caller):
        store.execute(work.command, id, other)
        now = time.perf_counter()
        taken.append(now - before)
        if now >= began + seconds:
            break
        before = now
    return taken


def in_tasks(storage: Storage, work: Work, callers: int, seconds: float) -> Measured:
    """So many tasks at once."""
    measured = asyncio.run(_in_tasks(storage, work, callers, seconds))
    work.audit(storage, measured.commands)
    return measured


async def _in_tasks(storage: Storage, work: Work, callers: int, seconds: float) -> Measured:
    async with AsyncStore(storage) as store:
        await store.execute(fund, work.ids, MONEY)
        return await at_once(lambda *given: store.execute(work.command, *given), work, callers, seconds)


async def at_once(
    execute: Callable[[str, str], Awaitable[object]], work: Work, callers: int, seconds: float
) -> Measured:
    """So many tasks execute a command, each with its own arguments, for so long."""
    taken: list[float] = []
    began = time.perf_counter()

    async def call(caller: int) -> None:
        before = time.perf_counter()
        for id, other in work.arguments(caller):
            await execute(id, other)
            now = time.perf_counter()
            taken.append(now - before)
            if now >= began + seconds:
                break
            before = now

    await asyncio.gather(*(call(caller) for caller in range(callers)))
    took = time.perf_counter() - began
    return Measured(len(taken), took, taken)
