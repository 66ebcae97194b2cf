"""Several processes on one SQLite file: transfers among 1,000 accounts, and one command in twenty on one hot stream."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from threading import Barrier
from typing import TypeAlias

from benchmarks import bare
from benchmarks.bank import audit, count, fund, names, total, transfer
from benchmarks.harness import Budget, Measured, Promise, Row, Runs, alternate, at_least, at_most, latencies, percentile
from factfold import AsyncStore, Receipt, Store, Transaction
from factfold.storage.base import Storage
from factfold.storage.sqlite import SQLite

IDS = names(1000)
MONEY = 1_000_000
HOT = 0.05
TASKS = 64


@dataclass
class Work:
    """What one process has done."""

    number: int
    transfers: int = 0
    counts: int = 0
    latencies: list[float] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.number)

    def next(self) -> Callable[[Transaction], int]:
        """The next command."""
        if self._random.random() < HOT:
            self.counts += 1
            return count
        self.transfers += 1
        source, target = self._random.sample(IDS, 2)
        return partial(transfer, source=source, target=target, amount=self._random.randint(1, 10))

    def done(self, receipt: Receipt[int], seconds: float) -> None:
        """Counts a command that succeeded."""
        self.latencies.append(seconds)
        self.attempts.append(receipt.attempts)


# -- In a worker -------------------------------------------------------------------------------------------------------

_start: Barrier | None = None


def _begin(start: Barrier) -> None:
    global _start  # noqa: PLW0603 - a barrier can only be given to a worker when it is started
    _start = start


def _all_ready() -> None:
    assert _start is not None
    _start.wait(60)


def work_in_a_thread(storage: Storage, number: int, seconds: float) -> Work:
    """One command after another."""
    work = Work(number)
    with Store(storage) as store:
        store.execute(total, IDS)
        _all_ready()
        began = before = time.perf_counter()
        while before < began + seconds:
            receipt = store.execute(work.next())
            now = time.perf_counter()
            work.done(receipt, now - before)
            before = now
    return work


def work_in_tasks(storage: Storage, number: int, seconds: float) -> Work:
    """64 commands at a time."""
    return asyncio.run(_work_in_tasks(storage, number, seconds))


async def _work_in_tasks(storage: Storage, number: int, seconds: float) -> Work:
    work = Work(number)
    async with AsyncStore(storage) as store:
        await store.execute(total, IDS)
        _all_ready()
        began = time.perf_counter()

        async def call() -> None:
            before = time.perf_counter()
            while before < began + seconds:
                receipt = await store.execute(work.next())
                now = time.perf_counter()
                work.done(receipt, now - before)
                before = now

        await asyncio.gather(*(call() for _ in range(TASKS)))
    return work


Worker: TypeAlias = Callable[[Storage, int, float], Work]

# -- Around the workers ------------------------------------------------------------------------------------------------


def in_processes(worker: Worker, processes: int, storage: Storage, seconds: float) -> Measured:
    """Lets so many workers loose on one database at once, and audits what they leave."""
    with Store(storage) as store:
        store.execute(fund, IDS, MONEY)
    context = get_context("spawn")
    start = context.Barrier(processes)
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(start,)) as pool:
        done = [
            work.result() for work in [pool.submit(worker, storage, number, seconds) for number in range(processes)]
        ]
    counts = sum(work.counts for work in done)
    transfers = sum(work.transfers for work in done)
    with Store(storage) as store:
        events = len(IDS) + 2 * transfers + counts
        audit(store, ids=IDS, money=len(IDS) * MONEY, events=events, counted=counts)
    return Measured(
        counts + transfers,
        seconds,
        [latency for work in done for latency in work.latencies],
        shares=tuple(len(work.latencies) for work in done),
        attempts=[attempts for work in done for attempts in work.attempts],
    )


def promises(runs: Runs) -> tuple[Promise, ...]:
    smallest = [min(run.shares) * len(run.shares) / run.commands for run in runs]
    return (
        at_least(0.5, [min(smallest)], "of its fair share for each process, in each round"),
        at_most(2, median(attempts for run in runs for attempts in run.attempts), "attempts a command in the median"),
        at_most(100, percentile(latencies(runs), 99) * 1e3, "ms for 99 % of the commands"),
    )


def _on_sqlite(worker: Worker, processes: int, seconds: float, directory: Path) -> Measured:
    return in_processes(worker, processes, SQLite(directory / "ours.db"), seconds)


def rows(budget: Budget, directory: Path | None) -> list[Row]:
    """Two and four processes; each executes one command after another, or 64 at a time."""
    seconds = budget.seconds
    sides = {
        f"{processes} processes, {each} each": partial(_on_sqlite, worker, processes, seconds)
        for each, worker in {"one thread": work_in_a_thread, f"{TASKS} tasks": work_in_tasks}.items()
        for processes in budget.processes
    }
    runs = alternate(
        {"bare": lambda empty: bare.write(empty, IDS, seconds), **sides},
        budget.rounds,
        directory,
    )
    return [Row(f"SQLite, {title}", runs[title], runs["bare"], promises(runs[title])) for title in sides]
