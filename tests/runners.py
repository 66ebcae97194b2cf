"""Processes that run a projection or write, to be killed and stopped. They are forked from a server, in milliseconds.

What a child notes is a line in a file that is whole at once, so that it is there whatever becomes of the child.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from factfold import (
    AsyncStore,
    FactfoldError,
    Projection,
    ProjectionContext,
    ReadModel,
    RecordedEvent,
    Store,
    StoreUnavailableError,
)
from factfold.storage.base import Storage
from tests.faults import PATIENCE
from tests.forking import in_child, wait_for
from tests.ledger import Deposited, InsufficientFundsError, deposit, transfer
from tests.read_models import Money, balances, recording

_context = get_context("forkserver")
_context.set_forkserver_preload(
    ["tests.runners", "factfold.aio", "factfold.storage._postgres_engine", "factfold.storage._postgres_async"]
)


class Children:
    """The processes of a test. Those that are left at its end are killed."""

    def __init__(self) -> None:
        self.all: list[BaseProcess] = []

    def start(self, target: Callable[..., object], *arguments: object) -> BaseProcess:
        """Starts a process that calls a function of a module."""
        child = _context.Process(target=target, args=arguments, daemon=True)
        child.start()
        self.all.append(child)
        return child

    def kill(self, child: BaseProcess) -> None:
        """Ends it where it stands, as a crash would."""
        child.kill()
        child.join(PATIENCE)
        assert child.exitcode == -signal.SIGKILL, "it had ended by itself"
        self.all.remove(child)

    @staticmethod
    def signal(child: BaseProcess, number: signal.Signals) -> None:
        """Sends it a signal."""
        assert child.pid is not None
        os.kill(child.pid, number)


@contextmanager
def children() -> Iterator[Children]:
    started = Children()
    try:
        yield started
    finally:
        for child in started.all:
            child.kill()
            child.join(PATIENCE)


def note(file: Path, line: object) -> None:
    """Adds a line to a file, at once."""
    with open(file, "ab", buffering=0) as opened:
        opened.write(f"{line}\n".encode())


def notes(file: Path) -> list[str]:
    """The lines of such a file."""
    return file.read_text().splitlines() if file.exists() else []


# -- Programs ----------------------------------------------------------------------------------------------------------


def write(storage: Storage, until: Path, seed: int) -> None:
    """Writes on, at a moderate pace, until a file is there; an append that fails was not to be."""
    chance = random.Random(seed)
    with opened(storage) as store:
        while not until.exists():
            with contextlib.suppress(FactfoldError, InsufficientFundsError):
                store.execute(deposit, f"a{chance.randrange(5)}", chance.randrange(1, 100))
                store.execute(transfer, f"a{chance.randrange(5)}", f"b{chance.randrange(5)}", 1)
            time.sleep(0.002)


def write_inline(storage: Storage, until: Path, seed: int) -> None:
    """The same, with the balances written inline."""
    chance = random.Random(seed)
    with Store(storage, inline=[balances()]) as store:
        while not until.exists():
            store.execute(deposit, f"a{chance.randrange(5)}", chance.randrange(1, 100))


def run_balances(storage: Storage, flavour: str, lease: float, seen: Path, gate: Path | None = None) -> None:
    """Runs the projection of balances for ever, and notes what it handles.

    With `gate` it stands still at the third event, once it has noted that, until the file is there.
    """

    def hook(event: Money, recorded: RecordedEvent[Any]) -> None:
        note(seen, recorded.position)
        if gate is not None and recorded.position == 3:
            while not gate.exists():
                time.sleep(0.001)

    projection = balances(flavour=flavour, hook=hook, lease=lease)
    if flavour == "threads":
        with opened(storage) as store:
            store.run(projection)
    else:
        asyncio.run(_run_async(storage, projection))


def run_noting(storage: Storage, lease: float, seen: Path) -> None:
    """Runs a projection for ever that notes what it handles, and keeps nothing else."""
    projection = recording([], "noting", hook=lambda event, recorded: note(seen, recorded.position), lease=lease)
    with opened(storage) as store:
        store.run(projection)


async def _run_async(storage: Storage, projection: Projection) -> None:
    store = AsyncStore(storage)
    while True:
        with contextlib.suppress(StoreUnavailableError):  # at the first use, while connections are cut
            await store.run(projection)


def opened(storage: Storage) -> Store:
    """A store; while connections are cut it may take more than one attempt."""
    while True:
        with contextlib.suppress(StoreUnavailableError):
            return Store(storage).__enter__()


def race(storage: Storage, stores: int, lease: float) -> None:
    """Runs one projection in several stores of one process, for ever."""
    for number, store in enumerate([opened(storage) for _ in range(stores)]):
        store.start(who_handles(f"{os.getpid()}/{number}", lease))
    signal.pause()


def who_handles(runner: str, lease: float) -> Projection:
    """A projection that writes down, for each event, who has handled it."""
    projection = Projection("handled", lease=lease)

    @projection.setup
    def _(model: ReadModel[Any]) -> None:
        model.connection.execute(f"CREATE TABLE {model.table('handled')} (position int, runner text)")

    @projection.on
    def _(event: Deposited, context: ProjectionContext[Any]) -> None:
        values = f"({context.recorded.position}, '{runner}')"
        context.connection.execute(f"INSERT INTO {context.table('handled')} VALUES {values}")

    return projection


def fork_while_running(storage: Storage, seen: Path) -> None:
    """Forks while a projection runs in the background: it goes on here, and the child can do the same as others."""
    projection = balances(hook=lambda event, recorded: note(seen, os.getpid()), lease=0.3)
    with Store(storage) as store:
        store.start(projection)
        store.wait_for(projection, store.execute(deposit, "ann"))

        def in_the_child() -> None:
            store.start(projection)
            store.wait_for(projection, store.execute(deposit, "ann"))
            assert store.projections()[0].state == "waiting", "its parent runs it"

        wait_for(in_child(in_the_child))
        store.wait_for(projection, store.execute(deposit, "ann"))
    assert set(notes(seen)) == {str(os.getpid())}
