"""What jobs wait for to be loaded: one load for a stream, however many wait, and a caller who makes it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain

from factfold.cache import AnyStream, Key
from factfold.job import LOADING, Job
from factfold.loads import Loading, LoadTask
from factfold.storage.base import Head


class Missing:
    """The loads that jobs wait for. The guard is held wherever it is used."""

    def __init__(self) -> None:
        self.loadings: dict[Key, Loading] = {}

    def wait(self, job: Job, streams: Iterable[AnyStream]) -> None:
        """A job waits for these."""
        for stream in streams:
            job.miss(stream.key)
            self.loadings.setdefault(stream.key, Loading(stream)).jobs.append(job)

    def leave(self, job: Job) -> Collection[LoadTask]:
        """A job waits no more. Gives the loads that its caller was making: somebody else has to."""
        # An interrupted caller may have noted of some what came, and not of all: so they are all looked at.
        for loading in list(self.loadings.values()):
            if job in loading.jobs:
                loading.jobs = [each for each in loading.jobs if each is not job]
            if not loading.jobs and loading.task is None:
                del self.loadings[loading.key]
        return {loading.task for loading in self.loadings.values() if loading.task and loading.task.loader is job}

    def clear(self) -> list[Job]:
        """Nothing is loaded any more. Gives those who wait."""
        jobs = [job for loading in self.loadings.values() for job in loading.jobs]
        self.loadings.clear()
        return jobs

    # -- who loads what --------------------------------------------------------------------------------------------

    def next(self, job: Job | None, after: Head | None, generation: int) -> LoadTask | None:
        """What to load next: of what this job misses (of what any job misses), that which nobody loads yet."""
        waiting = self._idle(self.loadings if job is None else job.missing or ())
        first = next(waiting, None)
        return None if first is None else LoadTask(chain((first,), waiting), after, generation, job)

    def can_load(self, job: Job) -> bool:
        """Whether `next` would give this job something."""
        return next(self._idle(job.missing or ()), None) is not None

    def next_loader(self) -> Job | None:
        """A job that waits for a load which nobody makes."""
        waiting = (job for loading in self._idle(self.loadings) for job in loading.jobs)
        return next((job for job in waiting if job.turn is LOADING and not job.left), None)

    def landed(self, task: LoadTask) -> None:
        """The load has ended. What it left incomplete is loaded further, after what it left no room for."""
        for loading in reversed(task.loadings):
            if loading.task is not task:
                continue
            loading.task = None
            known = self.loadings.pop(loading.key, None)
            if known is not None and loading.jobs and not loading.complete:
                self.loadings[loading.key] = loading

    def restart(self, task: LoadTask) -> Sequence[Job]:
        """The load was interrupted and begins anew. Gives the jobs that it was for."""
        jobs: list[Job] = []
        for loading in task.loadings:
            if loading.task is not task:
                continue
            loading.restart()
            jobs += loading.jobs
            loading.jobs = [job for job in loading.jobs if job.turn is LOADING]
            for job in loading.jobs:
                job.miss(loading.key)
        self.landed(task)
        return jobs

    def _idle(self, keys: Iterable[Key]) -> Iterator[Loading]:
        return (found for key in keys if (found := self.loadings.get(key)) is not None and found.task is None)
