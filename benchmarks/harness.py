"""Runs ours and the bare loop in turns, so that what else the machine does hits both, and compares round by round."""

from __future__ import annotations

import gc
import math
import tempfile
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TypeAlias


class WrongDataError(Exception):
    """A benchmark did not do what it was timed for."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much is measured.

    Attributes:
        rounds: how often each side runs, in turns.
        seconds: for how long a side runs that runs against the clock.
        commands: how many commands a side executes that counts them.
        events: how long the log is that is read.
        starts: how often a round starts Python.
        processes: how many processes work on one file.
    """

    rounds: int
    seconds: float
    commands: int
    events: int
    starts: int
    processes: tuple[int, ...]


FULL = Budget(rounds=7, seconds=1.0, commands=10_000, events=300_000, starts=10, processes=(2, 4))
QUICK = Budget(rounds=3, seconds=0.4, commands=3_000, events=100_000, starts=5, processes=(2, 4))
TINY = Budget(rounds=1, seconds=0.05, commands=200, events=3_000, starts=1, processes=(2,))
"""Nothing can be learned from it, except that the benchmarks run."""

# -- What one side did in one round ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    """So many commands (or events) in so many seconds; and each command's own seconds, where they were taken.

    `processor` is how many seconds the processor worked for it, which other programs do not add to. `shares` are the
    commands of each process, `attempts` those of each command.
    """

    commands: int
    seconds: float
    latencies: Sequence[float] = ()
    processor: float = 0.0
    shares: tuple[int, ...] = ()
    attempts: Sequence[int] = ()

    @property
    def rate(self) -> float:
        """Commands in a second."""
        return self.commands / self.seconds


Side: TypeAlias = Callable[[Path], Measured]
"""One side: gets an empty directory, for databases that no other round has used."""

Runs: TypeAlias = list[Measured]
"""What a side did, round by round."""


def alternate(sides: Mapping[str, Side], rounds: int, directory: Path | None) -> dict[str, Runs]:
    """Runs each side once a round, in this order and in the opposite one by turns."""
    runs: dict[str, Runs] = {name: [] for name in sides}
    for number in range(rounds):
        names = list(sides)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            with tempfile.TemporaryDirectory(prefix="factfold-", dir=directory) as empty:
                gc.collect()
                runs[name].append(sides[name](Path(empty)))
    return runs


# -- Numbers -----------------------------------------------------------------------------------------------------------


def rate(runs: Runs) -> float:
    """Commands in a second, in the middle round."""
    return median(run.rate for run in runs)


def processor(runs: Runs) -> float:
    """The processor's seconds for one command, in the middle round."""
    return median(run.processor / run.commands for run in runs)


def ratios(ours: Runs, other: Runs) -> list[float]:
    """How many times as fast as the other side, in each round."""
    return [mine.rate / its.rate for mine, its in zip(ours, other, strict=True)]


def latencies(runs: Runs) -> Sequence[float]:
    """The seconds of all commands of all rounds, in ascending order."""
    together = array("d")
    for run in runs:
        together.extend(run.latencies)
    return sorted(together)


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The value that so many percent stay within."""
    return ascending[max(0, math.ceil(len(ascending) * percent / 100) - 1)]


# -- What is said about it ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Promise:
    """What was promised, what was measured, and whether it holds."""

    limit: str
    measured: str
    kept: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: a benchmark, what both sides did, and the promises that it is about."""

    title: str
    ours: Runs = field(default_factory=list)
    other: Runs = field(default_factory=list)
    promises: tuple[Promise, ...] = ()
    note: str = ""


def at_least(limit: float, values: Iterable[float], what: str) -> Promise:
    """The middle of the values is to be at least so much. Shows from where to where they go."""
    found = list(values)
    middle = median(found)
    spread = f" ({min(found):,.2f} to {max(found):,.2f})" if len(found) > 1 else ""
    return Promise(f">= {limit:,.4g} {what}", f"{middle:,.2f}{spread}", middle >= limit)


def at_most(limit: float, value: float, what: str) -> Promise:
    """The value is to be at most so much."""
    return Promise(f"<= {limit:,.4g} {what}", f"{value:,.3g}", value <= limit)
