"""Where the time of one thread goes: the functions that take the most of it, in memory and on SQLite."""

from __future__ import annotations

import cProfile
import pstats
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.callers import in_one_thread, in_turns
from benchmarks.harness import Budget
from benchmarks.memory import execute
from benchmarks.reading import fill, read
from factfold.storage.sqlite import SQLite

LINES = 30


def show(budget: Budget, directory: Path | None) -> None:
    """Prints the profiles. A profiler makes calls look dearer than they are: compare, and measure without it."""
    with tempfile.TemporaryDirectory(prefix="factfold-", dir=directory) as made:
        url = f"sqlite:///{Path(made) / 'log.db'}"
        fill(url, budget.events)
        for title, profile in {
            "memory, one thread": _profiled(lambda: execute(budget.commands)),
            "SQLite, one thread": _profiled(
                lambda: in_one_thread(SQLite(Path(made) / "ours.db"), in_turns(100), budget.seconds * 3)
            ),
            "SQLite, reading the log": _profiled(lambda: read(url, budget.events)),
        }.items():
            print(f"\n{title}")
            pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(LINES)


def _profiled(work: Callable[[], object]) -> cProfile.Profile:
    profile = cProfile.Profile()
    profile.runcall(work)
    return profile
