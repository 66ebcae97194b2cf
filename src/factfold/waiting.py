"""Who waits for the heart: in the queue, for what is loaded, or for an answer; and who has gone."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from msgspec import Struct

from factfold.batched import Batch
from factfold.cache import Cache, Decode
from factfold.errors import FactfoldError, LogDivergedError
from factfold.guessing import Guesses
from factfold.job import DONE, LEADING, LOADING, WAITING, Job
from factfold.loads import LoadTask
from factfold.missing import Missing
from factfold.snapshots import Snapshots
from factfold.storage.base import Loaded


class Counters(Struct):
    """What the heart has done since it was made."""

    commands: int = 0
    batches: int = 0
    attempts: int = 0
    conflicts: int = 0
    loads: int = 0
    guesses: int = 0
    wrong_guesses: int = 0


class Waiting:
    """The queue, the loads on their way into the cut, and those whom that makes ready."""

    def __init__(
        self,
        *,
        cache_size: int,
        decode: Decode,
        snapshots: Snapshots,
        guard: AbstractContextManager[object],
        notify: Callable[[Job], None],
    ) -> None:
        self.cache = Cache(cache_size, decode)
        self.missing = Missing()
        self.guesses = Guesses()
        self.counters = Counters()
        self.decode = decode
        self.snapshots = snapshots
        self._guard = guard
        self._notify = notify
        self._queue: deque[Job] = deque()
        self._arrived: deque[LoadTask] = deque()
        self._left: deque[Job] = deque()
        self._ahead: Batch | None = None  # what was decided ahead, and not sent
        self._spoiled = True
        self._generation = 0
        self._current = -math.inf  # when the cut was last known to be the log's head

    # -- for callers, with the guard held ------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Queues a job."""
        job.turn = WAITING
        self._queue.append(job)

    def leave(self, job: Job) -> None:
        """The caller goes away. What was not begun is not done; what was begun goes on, and nobody hears of it."""
        job.left = True
        if self._ahead is not None and job in self._ahead.jobs:
            self._drop_ahead()  # it was decided, but nothing of it was sent
        if job in self._queue:
            self._queue.remove(job)
        for task in self.missing.leave(job):
            self.load_abandoned(task)
        self._left.append(job)

    def next_load(self, job: Job | None = None) -> LoadTask | None:
        """What to load next: of what this job misses (of what any job misses), that which nobody loads yet."""
        task = self.missing.next(job, None if self._spoiled else self.cache.head, self._generation)
        self.counters.loads += task is not None
        return task

    def loaded(self, task: LoadTask) -> None:
        """What the task brought is folded (`LoadTask.fold`): queues the jobs that have all they missed."""
        self._arrived.append(task)
        for loading in task.loadings:
            if loading.complete:
                self.snapshots.used += loading.used
                self.snapshots.refused += loading.refused
                for job in loading.jobs:
                    if job.missing:
                        job.missing.discard(loading.key)
                    if not job.missing and job.turn is LOADING and not job.left:
                        self.submit(job)
                        self._notify(job)
        for snapshot in task.to_save:
            self.snapshots.offer(snapshot)
        self.missing.landed(task)

    def load_failed(self, task: LoadTask, error: BaseException) -> None:
        """The storage could not answer: so all jobs that wait for it are told."""
        if isinstance(error, LogDivergedError):
            self._spoil()
        for loading in task.loadings:
            for job in loading.jobs:
                if job.turn is not DONE and not job.left:
                    self._end(job, error)
                    self._left.append(job)
            loading.complete = True
        self.missing.landed(task)

    def load_abandoned(self, task: LoadTask) -> None:
        """The loader was interrupted, anywhere: somebody else has to load instead."""
        for job in self.missing.restart(task):
            self._notify(job)  # the interruption may have come just before

    def close(self, error: FactfoldError) -> None:
        """Answers everyone who still waits with the error."""
        leading = [job for job in self._queue if job.turn is LEADING]  # it will find out on its own
        waiting = [job for job in self._queue if job.turn is not LEADING]
        self._queue.clear()
        self._queue.extend(leading)
        for job in (*waiting, *self.missing.clear()):
            if job.turn is not DONE:
                self._end(job, error)

    # -- for the leader ------------------------------------------------------------------------------------------------

    def _queue_again(self, jobs: Sequence[Job]) -> None:
        """Puts those who still wait at the head of the queue, in their order. The guard is held."""
        for job in reversed(jobs):
            if job.turn in (WAITING, LEADING) and not job.left and job not in self._queue:
                self._queue.appendleft(job)

    def _drop_ahead(self) -> None:
        """What was decided ahead does not hold: its commands are the first to be decided again. The guard is held."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            self._queue_again(ahead.jobs)

    def _install(self, position: float) -> None:
        """Takes what was loaded into the cut, in its order, up to what is of a later position than this."""
        while self._arrived:
            task = self._arrived[0]
            if task.generation == self._generation and task.loaded is not None:
                if task.loaded.head.position > position:
                    return
                self._arrived.popleft()
                self._install_from(task, task.loaded)
            else:
                self._arrived.popleft()

    def _install_from(self, task: LoadTask, loaded: Loaded) -> None:
        if loaded.news is not None:
            self.cache.hear(loaded.news, task.keys)
            self._current = max(self._current, task.asked_at)
        for loading, fetched in task.complete:
            jobs = [job for job in loading.jobs if job.turn is not DONE and not job.left]
            if fetched.folded.error is not None and not jobs:
                continue  # only who reads it is to hear of it
            installed = self.cache.install(fetched)
            for job in jobs:
                self.guesses.loaded(job.command, fetched.fold, empty=fetched.version == 0)
                if installed:
                    self.cache.pin(loading.stream.id, job)
                    if job.pins is None:
                        job.pins = []
                    job.pins.append(loading.stream.id)
                else:
                    job.misses += 1

    def _spoil(self) -> None:
        self._spoiled = True
        self._generation += 1

    # -- answering -----------------------------------------------------------------------------------------------------

    def _answer(self, jobs: Sequence[Job], error: BaseException | None = None) -> None:
        answered, notify = 0, self._notify
        with self._guard:
            for job in jobs:
                if job.turn is not DONE:
                    answered += 1
                    if error is not None:
                        job.fail(error)
                    job.turn = DONE
                    notify(job)
                if job.pins:
                    self._unpin(job)
        self.counters.commands += answered

    def _end(self, job: Job, error: BaseException) -> None:
        job.fail(error)
        job.turn = DONE
        self._notify(job)

    def _unpin(self, job: Job) -> None:
        for stream in job.pins or ():
            self.cache.unpin(stream, job)
        job.pins = None
