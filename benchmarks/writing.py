"""One-event commands on SQLite in one process: one thread, many threads, many tasks, one hot stream."""

from __future__ import annotations

from pathlib import Path

from benchmarks import bare
from benchmarks.bank import names
from benchmarks.callers import hot, in_one_thread, in_tasks, in_threads, in_turns, warm
from benchmarks.harness import Budget, Row, alternate, at_least, at_most, latencies, ratios
from factfold.storage.sqlite import SQLite

CALLERS = 64
ACCOUNTS = 100
BEFORE = 2500
"""Commits of one thread before it is measured: while the write-ahead log still grows, each of them is dearer."""

AS_FAST = 0.95
"""What counts as no slower: two runs of the very same differ by so much."""


def rows(budget: Budget, directory: Path | None) -> list[Row]:
    """All of it in the same rounds, so that each can be compared with each."""
    seconds, before = budget.seconds, min(BEFORE, budget.commands)
    runs = alternate(
        {
            "bare": lambda empty: bare.write(empty, names(ACCOUNTS), seconds, before=before),
            "thread": lambda empty: in_one_thread(_in(empty), in_turns(ACCOUNTS), seconds, before=before),
            "threads": lambda empty: in_threads(_in(empty), warm(CALLERS), CALLERS, seconds),
            "tasks": lambda empty: in_tasks(_in(empty), warm(CALLERS), CALLERS, seconds),
            "hot": lambda empty: in_tasks(_in(empty), hot(), CALLERS, seconds),
        },
        budget.rounds,
        directory,
    )
    one, threads, tasks, heated, loop = (runs[name] for name in ("thread", "threads", "tasks", "hot", "bare"))
    bare_loop = "of the bare loop's rate"
    slowest = latencies(threads)[-1] * 1e3
    return [
        Row("SQLite, bare loop", loop),
        Row("SQLite, one thread", one, loop, (at_least(0.6, ratios(one, loop), bare_loop),)),
        Row("SQLite, 64 tasks", tasks, loop, (at_least(2.5, ratios(tasks, loop), bare_loop),)),
        Row(
            "SQLite, 64 tasks, one hot stream",
            heated,
            loop,
            (at_least(AS_FAST, ratios(heated, tasks), "of the rate on 64 streams"),),
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


def _in(directory: Path) -> SQLite:
    return SQLite(directory / "ours.db")
