"""The workers of the demo seen from the parent: started together, listened to, and never left behind."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from threading import Thread
from time import perf_counter
from types import TracebackType
from typing import Self

from factfold.cli.worker import Failed, Finished, Job, Message, Ready, Sample, work

SPAWN = multiprocessing.get_context("spawn")

PATIENCE = 20.0
"""Seconds that workers have to get ready, and to finish when their time is over; then they count as hanging."""


class Worker:
    """One worker, its end of the pipe, and what it has done so far."""

    def __init__(self, number: int, job: Job, *, in_process: bool) -> None:
        self.number = number
        self.total = Sample()
        self.ready = False
        self.finished = False
        self.failure: str | None = None
        self.connection, theirs = SPAWN.Pipe()
        self._runner: BaseProcess | Thread
        if in_process:
            self._runner = Thread(target=work, args=(job, theirs), daemon=True)
            self._runner.start()
        else:
            self._runner = SPAWN.Process(target=work, args=(job, theirs), daemon=True)
            self._runner.start()
            theirs.close()  # the process has its own copy: when it ends, so does the pipe

    @property
    def running(self) -> bool:
        """Whether there is more to come."""
        return not self.finished and self.failure is None

    def listen(self) -> None:
        """Takes one message, or the news that the worker is gone."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.failed("it ended without a word")
            return
        match message:
            case Ready():
                self.ready = True
            case Sample():
                self.total.add(message)
            case Finished():
                self.finished = True
            case Failed(reason):
                self.failed(reason)

    def failed(self, reason: str) -> None:
        """Notes that nothing more will come of this worker."""
        self.failure = f"worker {self.number}: {reason}"

    def begin(self) -> None:
        """Gives the word to start."""
        try:
            self.connection.send("begin")
        except OSError:
            self.failed("it ended before the start")

    def end(self) -> None:
        """Makes sure that it is gone; one that has finished is given the time to close its store."""
        self.connection.close()
        if isinstance(self._runner, BaseProcess) and not self.finished:
            self._runner.terminate()
        self._runner.join(PATIENCE if self.finished else 1.0)
        if isinstance(self._runner, BaseProcess) and self._runner.is_alive():
            self._runner.kill()
            self._runner.join()


class Crew:
    """Several workers at one job; a context manager that ends with all of them gone."""

    def __init__(self, job: Job, workers: int, *, in_process: bool) -> None:
        self.workers: Sequence[Worker] = [Worker(n, job, in_process=in_process) for n in range(1, workers + 1)]
        self._seconds = job.seconds
        self._deadline = perf_counter() + PATIENCE

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.end()

    def begin(self) -> bool:
        """Waits until all workers are ready, and starts them together. False when one could not."""
        while not all(worker.ready for worker in self.workers):
            self.listen(1.0)
            if self.failures:
                return False
        for worker in self.workers:
            worker.begin()
        self._deadline = perf_counter() + self._seconds + PATIENCE
        return True

    def listen(self, timeout: float) -> None:
        """Waits for messages, at most so many seconds, and takes those that came."""
        speaking: dict[object, Worker] = {worker.connection: worker for worker in self.workers if worker.running}
        for connection in wait([worker.connection for worker in speaking.values()], timeout):
            speaking[connection].listen()
        if perf_counter() > self._deadline:
            for worker in [one for one in self.workers if one.running]:
                worker.failed(f"it hangs: it is {PATIENCE:.0f} seconds late")

    @property
    def running(self) -> bool:
        """Whether a worker is still at it. When one has failed, the others are not waited for."""
        return not self.failures and any(worker.running for worker in self.workers)

    @property
    def failures(self) -> tuple[str, ...]:
        """What went wrong, one sentence for each worker that failed."""
        return tuple(worker.failure for worker in self.workers if worker.failure is not None)

    def total(self) -> Sample:
        """What all workers have done so far."""
        total = Sample()
        for worker in self.workers:
            total.add(worker.total)
        return total
