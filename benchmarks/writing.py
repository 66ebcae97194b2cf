"""One-event commands on SQLite in one process: one thread, many threads, many tasks, one hot stream."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import bare
from benchmarks.bank import audit, deposit, fund, names
from benchmarks.harness import Budget, Measured, Row, alternate, at_least, at_most, latencies, ratios
from factfold import AsyncStore, Store

CALLERS = 64
IDS = names(100)
AS_FAST = 0.95
"""What counts as no slower: two runs of the very same differ by so much."""


def in_one_thread(directory: Path, seconds: float) -> Measured:
    """Deposits into a hundred accounts in turns."""
    taken: list[float] = []
    with Store(_url(directory)) as store:
        store.execute(fund, IDS, 1)
        began = before = time.perf_counter()
        while before < began + seconds:
            store.execute(deposit, IDS[len(taken) % len(IDS)], 1)
            now = time.perf_counter()
            taken.append(now - before)
            before = now
    return _audited(directory, IDS, Measured(len(taken), before - began, taken))


def in_threads(directory: Path, seconds: float) -> Measured:
    """Deposits from 64 threads, each into an account of its own."""
    ids = names(CALLERS)
    start = threading.Barrier(CALLERS + 1)
    with Store(_url(directory)) as store, ThreadPoolExecutor(CALLERS) as threads:
        store.execute(fund, ids, 1)

        def call(id: str) -> list[float]:
            start.wait(60)
            return _deposits(store, id, seconds)

        running = [threads.submit(call, id) for id in ids]
        start.wait(60)
        began = time.perf_counter()
        taken = [latency for caller in running for latency in caller.result()]
        took = time.perf_counter() - began
    return _audited(directory, ids, Measured(len(taken), took, taken))


def _deposits(store: Store, id: str, seconds: float) -> list[float]:
    taken: list[float] = []
    began = before = time.perf_counter()
    while before < began + seconds:
        store.execute(deposit, id, 1)
        now = time.perf_counter()
        taken.append(now - before)
        before = now
    return taken


def in_tasks(directory: Path, ids: Sequence[str], seconds: float) -> Measured:
    """Deposits from 64 tasks, into these accounts."""
    return _audited(directory, sorted(set(ids)), asyncio.run(_in_tasks(directory, ids, seconds)))


async def _in_tasks(directory: Path, ids: Sequence[str], seconds: float) -> Measured:
    taken: list[float] = []
    async with AsyncStore(_url(directory)) as store:
        await store.execute(fund, sorted(set(ids)), 1)
        began = time.perf_counter()

        async def call(id: str) -> None:
            before = time.perf_counter()
            while before < began + seconds:
                await store.execute(deposit, id, 1)
                now = time.perf_counter()
                taken.append(now - before)
                before = now

        await asyncio.gather(*(call(ids[number % len(ids)]) for number in range(CALLERS)))
        took = time.perf_counter() - began
    return Measured(len(taken), took, taken)


def _url(directory: Path) -> str:
    return f"sqlite:///{directory / 'ours.db'}"


def _audited(directory: Path, ids: Sequence[str], measured: Measured) -> Measured:
    """Opens the file again: what counts is what is in there."""
    written = len(ids) + measured.commands
    with Store(_url(directory)) as store:
        audit(store, ids=ids, money=written, events=written)
    return measured


def rows(budget: Budget, directory: Path | None) -> list[Row]:
    """All of it in the same rounds, so that each can be compared with each."""
    seconds = budget.seconds
    runs = alternate(
        {
            "bare": lambda empty: bare.write(empty, IDS, seconds),
            "thread": lambda empty: in_one_thread(empty, seconds),
            "threads": lambda empty: in_threads(empty, seconds),
            "tasks": lambda empty: in_tasks(empty, names(CALLERS), seconds),
            "hot": lambda empty: in_tasks(empty, names(1), seconds),
        },
        budget.rounds,
        directory,
    )
    one, threads, tasks, hot, loop = (runs[name] for name in ("thread", "threads", "tasks", "hot", "bare"))
    bare_loop = "of the bare loop's rate"
    slowest = latencies(threads)[-1] * 1e3
    return [
        Row("SQLite, bare loop", loop),
        Row("SQLite, one thread", one, loop, (at_least(0.6, ratios(one, loop), bare_loop),)),
        Row("SQLite, 64 tasks", tasks, loop, (at_least(2.5, ratios(tasks, loop), bare_loop),)),
        Row(
            "SQLite, 64 tasks, one hot stream",
            hot,
            loop,
            (at_least(AS_FAST, ratios(hot, tasks), "of the rate on 64 streams"),),
        ),
        Row(
            "SQLite, 64 threads",
            threads,
            loop,
            (
                at_least(AS_FAST, ratios(threads, one), "of the rate of one thread"),
                at_most(100, slowest, "ms for the slowest wait"),
            ),
        ),
    ]
