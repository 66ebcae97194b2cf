"""The first read of a long stream that keeps snapshots, beside that of a short one without."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.bank import Deposited
from benchmarks.harness import Budget, Measured, Row, WrongDataError, alternate, at_most, ratios
from factfold import Store, Stream, Transaction, stream

EVERY = 500
FACTOR = 200
"""How many times as long the long stream is."""
READS = 10
"""Of which one round consists."""


@stream("account", initial=0, snapshot_every=EVERY)
def kept(state: int, event: Deposited) -> int:
    return state + event.amount


def fill(tx: Transaction, id: str, events: int) -> None:
    """Deposits of 1."""
    tx.read(kept(id)).append(*[Deposited(1)] * events)


def read(url: str, stream: Stream[int, Deposited], events: int) -> Measured:
    """The state, by stores that have just been opened."""
    took = worked = 0.0
    for _ in range(READS):
        with Store(url) as store:
            store.head()
            began, working = time.perf_counter(), time.process_time()
            state = store.state(stream)
            took += time.perf_counter() - began
            worked += time.process_time() - working
        if state != events:
            raise WrongDataError(f"{stream.id} has {events:,} deposits of 1, and its state is {state:,}")
    return Measured(READS, took, processor=worked)


def rows(budget: Budget, directory: Path | None) -> list[Row]:
    """One file, read again and again."""
    every = min(EVERY, budget.events // FACTOR)
    long = every * FACTOR
    with tempfile.TemporaryDirectory(prefix="factfold-", dir=directory) as made:
        url = f"sqlite:///{Path(made) / 'ours.db'}"
        with Store(url) as store:
            store.execute(fill, "short", every)
            for _ in range(FACTOR - 1):
                store.execute(fill, "long", every)
            store.snapshot(kept("long"))
            store.execute(fill, "long", every)
        sides = {
            "short": lambda _: read(url, kept("short"), every),
            "long": lambda _: read(url, kept("long"), long),
        }
        runs = alternate(sides, budget.rounds, directory)
    slower = sorted(1 / ratio for ratio in ratios(runs["long"], runs["short"]))
    promise = at_most(3, slower[len(slower) // 2], f"times as long as {every} events")
    return [Row(f"SQLite, {long:,} events, a snapshot", runs["long"], runs["short"], (promise,))]
