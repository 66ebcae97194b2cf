"""What each stream of a command costs that has ten thousand of them, beside ten commands of a thousand each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeAlias

from benchmarks.bank import audit, deposit, fund, total
from benchmarks.harness import Budget, Measured, Row, alternate, at_most, processor
from factfold import Store, Transaction
from factfold.storage.memory import Memory

PARTS = 10

Command: TypeAlias = Callable[[Transaction, Sequence[str]], object]


def load(tx: Transaction, ids: Sequence[str]) -> int:
    return total(tx, ids)


def append(tx: Transaction, ids: Sequence[str]) -> None:
    fund(tx, ids, 1)


def call(tx: Transaction, ids: Sequence[str]) -> None:
    for id in ids:
        tx.call(deposit, id, 1)


def work(command: Command, streams: int, parts: int, _: Path) -> Measured:
    """Executes a command on so many streams: on all of them at once, or in parts. `call` finds them in the cache."""
    ids = [f"{index:06}" for index in range(streams)]
    shares = [ids[part::parts] for part in range(parts)]
    memory = Memory()
    rounds = 1
    if command is not append:
        with Store(memory) as store:
            store.execute(append, ids)
    with Store(memory, cache_size=2 * streams) as store:
        if command is call:
            store.execute(load, ids)
        worked, began = time.process_time(), time.perf_counter()
        for share in shares:
            store.execute(command, share)
        took, worked = time.perf_counter() - began, time.process_time() - worked
        rounds += command is call
        audit(store, ids=ids, money=rounds * streams, events=rounds * streams)
    return Measured(streams, took, processor=worked)


def rows(budget: Budget, directory: Path | None) -> list[Row]:
    """The time for a stream must not grow with their number."""
    return [
        _row("loaded", load, budget, directory),
        _row("appended to", append, budget, directory),
        _row("each in a called command", call, budget, directory),
    ]


def _row(title: str, command: Command, budget: Budget, directory: Path | None) -> Row:
    streams = budget.commands
    sides = {"parts": partial(work, command, streams, PARTS), "whole": partial(work, command, streams, 1)}
    runs = alternate(sides, budget.rounds, directory)
    slower = median(
        whole.processor / parts.processor for whole, parts in zip(runs["whole"], runs["parts"], strict=True)
    )
    promise = at_most(3, slower, f"times the time for a stream of {streams // PARTS:,}")
    each = f"{1e6 * processor(runs['whole']):,.1f} microseconds each"
    return Row(f"memory, {streams:,} streams in one command, {title}", runs["whole"], runs["parts"], (promise,), each)
