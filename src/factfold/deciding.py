"""What is decided together: which commands, in how many groups, and on top of what."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from factfold.batched import Batch
from factfold.cache import AnyStream, Decode
from factfold.commands import name_of
from factfold.job import LOADING, Job
from factfold.notices import warn_of_slow
from factfold.overlay import Overlay, Seal
from factfold.pace import Pace
from factfold.snapshots import Snapshots
from factfold.storage.base import Head
from factfold.transaction import Transaction
from factfold.waiting import Waiting

MAX_COMMANDS = 1000
MAX_BYTES = 4 * 1024 * 1024
MAX_SECONDS = 0.01
MAX_LOCKED_SECONDS = 1.0
"""Commands that took longer than this are not run again under the writers' lock: others wait for it."""

MAX_MOMENT = 0.001
"""How long commands are decided ahead at a time: the answer that the leader waits for may be there."""

MAX_MISSES = 2
"""How often what was loaded for a command may come too late before the leader loads it, between two batches."""


class Deciding(Waiting):
    """Runs commands as a batch; and, while one is on its way, as the next one on top of it."""

    def __init__(
        self,
        *,
        cache_size: int,
        decode: Decode,
        seal: Seal | None,
        snapshots: Snapshots,
        guard: AbstractContextManager[object],
        notify: Callable[[Job], None],
        interrupts: Callable[[Job], bool],
        overlaps: bool,
    ) -> None:
        super().__init__(cache_size=cache_size, decode=decode, snapshots=snapshots, guard=guard, notify=notify)
        self._seal = seal
        self._interrupts = interrupts
        self._overlaps = overlaps
        self._pace = Pace()
        self._batch: Batch | None = None
        self._landing: Head | None = None  # the log's head, once the append is in it that is on its way
        self._starved: list[tuple[Job, tuple[AnyStream, ...]]] = []
        self._asked = 0.0  # when the request was made that is being answered

    # -- a batch -------------------------------------------------------------------------------------------------------

    def _fill(self, batch: Batch, seconds: float, begun: Sequence[Job] = ()) -> bool:
        """Runs what is queued, up to the bounds of a batch, and for so long. True: that was not long enough.

        `begun` are those who wait for an answer already.
        """
        commands = self._share(begun, batch.jobs) if self._overlaps else MAX_COMMANDS
        if batch.jobs and self._is_full(batch, commands):
            return False
        before, ran, took, there_is_more = batch.seconds, 0, 0.0, False
        began = time.monotonic()
        last: Job | None = None
        while self._queue and self._take(batch):
            ran += 1
            last = batch.jobs[-1]
            self._run(batch, last)
            took = time.monotonic() - began
            batch.seconds = before + took
            if self._is_full(batch, commands):
                break
            if took >= seconds:
                there_is_more = bool(self._queue)
                break
        if self._overlaps:
            self._pace.decided(ran, took)
        batch.slow = batch.seconds > MAX_LOCKED_SECONDS
        if took > MAX_LOCKED_SECONDS and last is not None:
            warn_of_slow(name_of(last.command), took)  # those before it took MAX_SECONDS at most
        return there_is_more

    def _is_full(self, batch: Batch, commands: int) -> bool:
        return batch.overlay.bytes >= MAX_BYTES or len(batch.jobs) >= commands or batch.seconds >= MAX_SECONDS

    def _share(self, begun: Sequence[Job], decided: Sequence[Job]) -> int:
        """How many of those who wait are decided together, where these wait for an answer already, or may be sent."""
        commands = len(begun) + len(decided) + len(self._queue) + len(self.missing.loadings)
        return min(MAX_COMMANDS, (commands + 1) // 2) if self._pace.pays(commands) else MAX_COMMANDS

    def _take(self, batch: Batch) -> bool:
        with self._guard:
            if not self._queue:
                return False
            batch.jobs.append(self._queue[0])
            self._queue.popleft()
        return True

    def _run(self, batch: Batch, job: Job) -> None:
        tx = Transaction(batch.overlay, job)
        decided = job.run(tx, self._interrupts)
        for stream in tx.guessed or ():
            if decided and job.events:
                self.guesses.used(job.command, stream.fold)
                self.counters.guesses += 1
            else:
                self.guesses.idle(job.command, stream.fold)
        if not decided:
            missing = tuple([stream for stream in tx.suspended if not self.cache.holds(stream.key)])
            with self._guard:
                job.missing = None  # an interrupted leader may have left something
                if job.misses >= MAX_MISSES or not missing:  # the latter: this batch takes for empty what is loaded
                    self._starved.append((job, missing))
                else:
                    self.missing.wait(job, missing)
                    job.turn = LOADING
                    self._notify(job)
            batch.jobs.remove(job)

    def _run_again(self, batch: Batch) -> None:
        """Runs all commands of a batch once more, on the states as they are now, and guesses no more."""
        batch.append = None
        batch.overlay = Overlay(self.cache, self._seal)
        self._asked = began = time.monotonic()
        for job in list(batch.jobs):
            self._run(batch, job)
        batch.slow = time.monotonic() - began > MAX_LOCKED_SECONDS

    # -- the next one, while an append is on its way -------------------------------------------------------------------

    @property
    def can_prepare(self) -> bool:
        """Whether `prepare` may find something to do."""
        if self._landing is None or self._spoiled or not self._queue:
            return False
        ahead = self._ahead
        return ahead is None or (ahead.base is self._landing and not self._is_full(ahead, MAX_COMMANDS))

    @property
    def hurries(self) -> bool:
        """Whether the next batch had better be sent without those who were just answered."""
        return self._ahead is not None and self._pace.pays(2 * len(self._ahead.jobs))

    def prepare(self) -> bool:
        """Decides what is queued on top of the batch that is on its way, for a moment. True: there is more of it.

        No promise is made on it: the next leader takes it over if the log is then just what it was decided on, and
        has it decided again otherwise.
        """
        below = self._batch
        if not self.can_prepare or below is None:
            return False
        assert self.cache.head is not None
        self._install(self.cache.head.position)
        ahead, self._ahead = self._ahead or Batch(self._overlay(below.overlay), self._landing), None
        early = self._hold_back()
        try:
            there_is_more = self._fill(ahead, MAX_MOMENT, below.jobs)
        except BaseException:
            with self._guard:
                self._queue_again(ahead.jobs)
            raise
        finally:
            with self._guard:
                self._queue_again(early)
        if ahead.jobs:
            self._ahead = ahead
        return there_is_more

    def _hold_back(self) -> Sequence[Job]:
        """Takes those out of the queue whose states are of a later cut than this one. They have to wait for it."""
        if not self._arrived:
            return ()
        with self._guard:
            waiting = {job for task in self._arrived for loading in task.loadings for job in loading.jobs}
            early = [job for job in self._queue if job in waiting]
            ready = [job for job in self._queue if job not in waiting]
            self._queue.clear()
            self._queue.extend(ready)
        return early

    def _next_batch(self) -> Batch:
        """The batch that was decided ahead, if the cut is just what it was decided on; otherwise an empty one."""
        ahead = self._ahead
        if ahead is not None:
            if ahead.base == self.cache.head and ahead.overlay.below is None:
                self._ahead = None
                return ahead
            with self._guard:
                self._drop_ahead()
        return Batch(self._overlay())

    def _overlay(self, below: Overlay | None = None) -> Overlay:
        """An overlay for commands that are run for the first time."""
        return Overlay(self.cache, self._seal, below, self.guesses, below is not None and below.assumes)
