"""Reading a whole log from SQLite, decoded: how fast, and whether the memory stays the same."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

from benchmarks import bare
from benchmarks.bank import accounts, audit, fund, names
from benchmarks.harness import Budget, Measured, Row, WrongDataError, alternate, at_least, at_most
from factfold import AsyncStore, Store

IDS = names(1000)
MEGABYTE = 1024 * 1024
ROOM = 8
"""Megabytes by which the process may grow between the first tenth of the log and its end."""


def fill(url: str, events: int) -> None:
    """A log of so many deposits of 1."""
    with Store(url) as store:
        for first in range(0, events, len(IDS)):
            store.execute(fund, IDS[: events - first], 1)
        audit(store, ids=IDS, money=events, events=events)


def read(url: str, events: int) -> Measured:
    """The log from its beginning to its end."""
    money = 0
    with Store(url) as store:
        began = time.perf_counter()
        for recorded in store.log(types=accounts):
            money += recorded.event.amount
        took = time.perf_counter() - began
    return _counted(money, events, took)


async def read_async(url: str, events: int) -> Measured:
    """The same in a task."""
    money = 0
    async with AsyncStore(url) as store:
        began = time.perf_counter()
        async for recorded in store.log(types=accounts):
            money += recorded.event.amount
        took = time.perf_counter() - began
    return _counted(money, events, took)


def read_bare(connection: sqlite3.Connection, events: int) -> Measured:
    """The same without factfold."""
    money = 0
    began = time.perf_counter()
    for _, event in bare.read(connection):
        money += event.amount
    return _counted(money, events, time.perf_counter() - began)


def _counted(money: int, events: int, seconds: float) -> Measured:
    if money != events:
        raise WrongDataError(f"{money:,} events of 1 were read, and there are {events:,}")
    return Measured(events, seconds)


def growth(url: str, events: int) -> float:
    """By how many megabytes the peak of the memory rises after the first tenth of the log, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_growth, url, events).result()


def _growth(url: str, events: int) -> float:
    with Store(url) as store:
        early = 0
        for recorded in store.log(types=accounts):
            if recorded.position == events // 10:
                early = _peak()
    return max(0, _peak() - early) / MEGABYTE


def _peak() -> int:
    """The most memory (in bytes) that this process has had."""
    if sys.platform == "linux":
        # getrusage would count what the parent had before this process began
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def rows(budget: Budget, directory: Path | None) -> list[Row]:
    """One log, read again and again."""
    events = budget.events
    with tempfile.TemporaryDirectory(prefix="factfold-", dir=directory) as made:
        url = f"sqlite:///{Path(made) / 'ours.db'}"
        fill(url, events)
        with closing(bare.connect(Path(made) / "bare.db")) as connection:
            bare.fill(connection, IDS, events)
            runs = alternate(
                {
                    "bare": lambda _: read_bare(connection, events),
                    "ours": lambda _: read(url, events),
                    "async": lambda _: asyncio.run(read_async(url, events)),
                },
                budget.rounds,
                directory,
            )
        grown = growth(url, events)
    return [
        Row(
            "SQLite, reading the log",
            runs["ours"],
            runs["bare"],
            (
                at_least(400_000, [run.rate for run in runs["ours"]], "events/s (the goal is 1,000,000)"),
                at_most(ROOM, grown, "MB more memory at the end of the log"),
            ),
        ),
        Row("SQLite, reading the log, async", runs["async"], runs["bare"]),
    ]
