"""One worker of the demo: runs transfers in many tasks, in a process or thread of its own, and tells its parent.

The two speak over a pipe. The worker says `Ready`, waits for a word, sends a `Sample` every tenth of a second, and last
of all either `Finished` or `Failed`. Typer and rich are not imported here: workers should start fast.
"""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from time import perf_counter
from typing import TypeAlias, cast

from factfold import AsyncStore
from factfold.cli.bank import InsufficientFundsError, transfer
from factfold.cli.latency import Latencies
from factfold.storage import Storage

SAMPLE_SECONDS = 0.1
LARGEST_AMOUNT = 500


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker has to do: transfers between the accounts of a run, so many at once, for so long."""

    storage: Storage
    run: str
    accounts: int
    tasks: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Ready:
    """The store is open, the worker waits for the start."""


@dataclass(slots=True)
class Sample:
    """What was done since the last sample (or, added up, in all)."""

    transferred: int = 0
    rejected: int = 0
    conflicts: int = 0
    latencies: Latencies = field(default_factory=Latencies)

    @property
    def commands(self) -> int:
        """All commands that were answered."""
        return self.transferred + self.rejected

    def add(self, other: Sample) -> None:
        """Adds what another sample counted."""
        self.transferred += other.transferred
        self.rejected += other.rejected
        self.conflicts += other.conflicts
        self.latencies.merge(other.latencies)


@dataclass(frozen=True, slots=True)
class Finished:
    """The time is over, and every command was answered."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A command failed that should not have, or the store did."""

    reason: str


Message: TypeAlias = Ready | Sample | Finished | Failed


def work(job: Job, parent: Connection) -> None:
    """Runs one worker; the target of a process or of a thread."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    with parent:
        try:
            asyncio.run(_work(job, parent))
        except (EOFError, BrokenPipeError):
            return  # the parent is gone
        except BaseException as error:  # noqa: BLE001  # whatever it is, the parent has to know
            with suppress(OSError):
                parent.send(Failed(_reason(error)))
        else:
            parent.send(Finished())


async def _work(job: Job, parent: Connection) -> None:
    async with AsyncStore(job.storage) as store:
        await store.head()
        parent.send(Ready())
        await asyncio.to_thread(parent.recv)
        teller = _Teller(job, store)
        async with asyncio.TaskGroup() as group:
            running: set[asyncio.Task[None]] = {group.create_task(teller.serve()) for _ in range(job.tasks)}
            while running:
                _, running = await asyncio.wait(running, timeout=SAMPLE_SECONDS)
                parent.send(teller.take_sample())


class _Teller:
    """Runs transfers until the time is over, and counts them."""

    def __init__(self, job: Job, store: AsyncStore) -> None:
        self._job = job
        self._store = store
        self._sample = Sample()
        self._until = perf_counter() + job.seconds

    async def serve(self) -> None:
        """Runs one transfer after another."""
        job = self._job
        chance = random.Random()
        while (started := perf_counter()) < self._until:
            source, target = chance.sample(range(job.accounts), 2)
            amount = chance.randint(1, LARGEST_AMOUNT)
            try:
                receipt = await self._store.execute(transfer, job.run, source, target, amount)
            except InsufficientFundsError:
                self._sample.rejected += 1
            else:
                self._sample.transferred += 1
                self._sample.conflicts += receipt.attempts > 1
            self._sample.latencies.add(perf_counter() - started)

    def take_sample(self) -> Sample:
        """What was counted since the last time."""
        taken, self._sample = self._sample, Sample()
        return taken


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        # The cast says what isinstance cannot: of what the group is.
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return f"{type(error).__name__}: {error}"
