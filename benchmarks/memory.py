"""What `execute` costs besides the storage: one-event commands on `memory:`, in one thread."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks import bare
from benchmarks.bank import audit, deposit, fund, names
from benchmarks.harness import Budget, Measured, Row, alternate, at_most, processor
from factfold import Store

IDS = names(100)


def execute(commands: int) -> Measured:
    """So many deposits, into a hundred accounts in turns."""
    latencies: list[float] = []
    with Store("memory:") as store:
        store.execute(fund, IDS, 1)
        worked = time.process_time()
        began = before = time.perf_counter()
        for number in range(commands):
            store.execute(deposit, IDS[number % len(IDS)], 1)
            now = time.perf_counter()
            latencies.append(now - before)
            before = now
        worked = time.process_time() - worked
        written = len(IDS) + commands
        audit(store, ids=IDS, money=written, events=written)
    return Measured(commands, before - began, latencies, worked)


def rows(budget: Budget, directory: Path | None) -> list[Row]:
    """The overhead of one command, as the mean of all."""
    sides = {
        "bare": lambda _: bare.write_in_memory(IDS, budget.commands),
        "ours": lambda _: execute(budget.commands),
    }
    runs = alternate(sides, budget.rounds, directory)
    promise = at_most(20, 1e6 * processor(runs["ours"]), "microseconds of the processor a command (the goal is 12)")
    return [Row("memory, one thread", runs["ours"], runs["bare"], (promise,))]
