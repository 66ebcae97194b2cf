"""The heart: many waiting commands become what to load, one append, and their outcomes. It does no I/O.

`Heart.lead()` is a generator. It yields what is to be done (a `Request`) and is sent the answer, or thrown the error. A
driver performs the requests, with threads (`store.py`) or tasks (`aio.py`), and calls the other methods while it holds
the `guard`. One leader at a time; whoever calls may load at the same time.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from factfold.batched import Batch
from factfold.cache import Decode, Key
from factfold.deciding import Deciding
from factfold.errors import (
    AppendRefusedError,
    FactfoldError,
    LockLostError,
    LogDivergedError,
    NotReplicatedError,
    OutcomeUnknownError,
    StoreClosedError,
    StoreUnavailableError,
)
from factfold.job import DONE, WAITING, Job
from factfold.loads import Loading, LoadTask
from factfold.losing import gone, losers
from factfold.overlay import Overlay, Seal
from factfold.requests import Answer, AskHead, Lock, Recall, Request, Resolve, Sleep, Steps, Unlock
from factfold.retry import Retry
from factfold.snapshots import Snapshots
from factfold.storage.base import Append, Appended, Check, Conflict, Head, Loaded, News, StoredEvent


class Heart(Deciding):
    """Commands in, outcomes out; loads and appends between them.

    Args:
        cache_size: how many streams' states to keep.
        retry: how often to decide.
        locks: whether the engine lets a batch be decided under the writers' lock.
        decode: turns a stored event into one that a fold takes.
        seal: turns an event's bytes into those that are stored.
        snapshots: reads those that are found, and takes those that are to be saved.
        guard: held around everything that callers and the leader share.
        notify: told, with the guard held, that a job's turn has changed.
        interrupts: whether a KeyboardInterrupt in this job's command is meant for the thread that runs it.
        overlaps: whether the driver calls `prepare` while an append is on its way.
    """

    def __init__(
        self,
        *,
        cache_size: int,
        retry: Retry,
        locks: bool,
        decode: Decode,
        seal: Seal | None,
        snapshots: Snapshots,
        guard: AbstractContextManager[object],
        notify: Callable[[Job], None],
        interrupts: Callable[[Job], bool],
        overlaps: bool,
    ) -> None:
        super().__init__(
            cache_size=cache_size,
            decode=decode,
            seal=seal,
            snapshots=snapshots,
            guard=guard,
            notify=notify,
            interrupts=interrupts,
            overlaps=overlaps,
        )
        self._retry = retry
        self._locks = locks
        self._parts: deque[list[Job]] = deque()

    # -- for callers, with the guard held ------------------------------------------------------------------------------

    def next_leader(self) -> Job | None:
        """The job whose caller has waited longest for a leader, if there is work for one."""
        starved = [job for job, _ in self._starved]
        begun = [batch.jobs for batch in (self._batch, self._ahead) if batch is not None]
        waiting: list[Iterable[Job]] = [*begun, *self._parts, starved, self._queue]
        return next((job for jobs in waiting for job in jobs if job.turn is WAITING and not job.left), None)

    @property
    def has_work(self) -> bool:
        """Whether a leader would find something to do."""
        return bool(self._queue or self._batch or self._parts or self._starved or self._ahead)

    @property
    def served(self) -> Sequence[Job]:
        """Those for whom the leader asks the storage just now."""
        return self._batch.jobs if self._batch is not None else [job for job, _ in self._starved]

    # -- for the leader ------------------------------------------------------------------------------------------------

    def lead(self) -> Steps:
        """Serves one batch, after what an interrupted leader has left."""
        if self._batch is not None or self._parts or self._starved:
            yield from self._recover()
        if self._spoiled:
            with self._guard:
                self._drop_ahead()
            yield from self._start_over()
            if self._spoiled:
                return
        if self._arrived or self._left:
            self._install(math.inf)
            while self._left:
                self._unpin(self._left.popleft())
        self._batch = batch = self._next_batch()
        self._asked = time.monotonic()
        self._fill(batch, math.inf)
        yield from self._decide(batch)
        while self._parts and not self._spoiled:
            self._batch = batch = Batch(Overlay(self.cache, self._seal))
            batch.jobs = self._parts[0]
            self._parts.popleft()
            self._run_again(batch)
            yield from self._decide(batch)
        self._batch = None
        if self._starved and not self._spoiled:
            yield from self._feed()
        self.cache.trim()

    def abandon(self) -> None:
        """The leader was interrupted, anywhere. The next one settles what was sent, and begins again with the rest."""
        self._landing = None
        self._spoil()
        with self._guard:
            for jobs in (self._batch.jobs if self._batch else (), *self._parts):
                for job in jobs:
                    self._notify(job)  # the interruption may have come just before

    def crash(self, error: BaseException) -> None:
        """The leader failed in a way that nobody foresaw: everyone in its batch is told, and the states are dropped."""
        self._spoil()
        batch, self._batch = self._batch, None
        jobs = [*(batch.jobs if batch else ()), *(job for part in self._parts for job in part)]
        self._parts.clear()
        if batch is not None and batch.answer is not None:
            self._deliver(batch, batch.stored(batch.answer))
        with self._guard:
            for job in jobs:
                if job.turn is not DONE:
                    self._end(job, error)

    # -- what an interrupted leader has left ---------------------------------------------------------------------------

    def _recover(self) -> Steps:
        batch = self._batch
        if batch is not None and batch.append is not None:
            try:
                if batch.answer is None:
                    batch.answer = yield from self._resolve(batch.append)
                if batch.answer is not None:
                    self._deliver(batch, batch.stored(batch.answer))
            except FactfoldError as error:
                self._answer(batch.jobs, error)
        with self._guard:
            self._drop_ahead()
            starved = [job for job, _ in self._starved]
            for jobs in (starved, *reversed(self._parts), batch.jobs if batch else ()):
                self._queue_again(jobs)
            self._batch = None
            self._parts.clear()
            self._starved.clear()

    def _start_over(self) -> Steps:
        asked = time.monotonic()
        try:
            head = yield AskHead()
        except Exception as error:
            with self._guard:
                self._parts.append(list(self._queue))
                self._queue.clear()
            self._answer(self._parts[-1], error)
            self._parts.clear()
        else:
            assert isinstance(head, Head)
            self.cache.reset(head)
            self._current = asked
            self._spoiled = False

    def _feed(self) -> Steps:
        """Loads for those whose loads came too late, again and again: now nothing of this process comes in between."""
        loadings: dict[Key, Loading] = {}
        for job, streams in self._starved:
            for stream in streams:
                loadings.setdefault(stream.key, Loading(stream)).jobs.append(job)
        waiting = list(loadings.values())
        try:
            while waiting:
                task = LoadTask(waiting, self.cache.head, self._generation, None)
                self.counters.loads += 1
                if task.asked:
                    found = yield Recall(task.asked)
                    assert isinstance(found, Mapping)
                    task.resume(found, self.snapshots)
                loaded = yield task.load
                assert isinstance(loaded, Loaded)
                task.fold(loaded, self.decode)
                self._install_from(task, loaded)
                waiting = [loading for loading in waiting if not loading.complete]
        except Exception as error:
            if isinstance(error, LogDivergedError):
                self._spoil()
            self._answer([job for job, _ in self._starved], error)
        with self._guard:
            for job, _ in self._starved:
                job.misses = 0
            self._queue_again([job for job, _ in self._starved])
            self._starved.clear()

    # -- deciding ------------------------------------------------------------------------------------------------------

    def _decide(self, batch: Batch) -> Steps:
        """Writes what the batch appended under the boundary of what it read; runs it again until that holds."""
        if batch.jobs:
            self.counters.batches += 1
        try:
            attempt = 1
            locked = fresh = False  # fresh: the cut is one that was the log's head after these commands were called
            lost: StoreUnavailableError | None = None
            if not batch.overlay.events and batch.overlay.empty():
                self._run_again(batch)  # nothing goes to the log that would bear out what was taken for empty
            while batch.jobs:
                self.counters.attempts += 1
                for job in batch.jobs:
                    job.attempts += 1
                if not batch.overlay.events:
                    if locked:
                        yield Unlock()
                    elif not fresh and not self._is_young(batch):
                        news = yield self._check(batch)
                        assert isinstance(news, News)
                        self._hear(batch, news)
                        if news.touched:
                            fresh = True
                            self._run_again(batch)
                            continue
                    self._answer(batch.jobs)
                    return
                assert self.cache.head is not None
                append = batch.append = batch.to_append(batch.overlay.check(self.cache.head))
                locked = False
                if self._overlaps and self._pace.is_alone:
                    self._landing = batch.landing
                took_off = time.monotonic() if self._overlaps else 0.0
                try:
                    try:
                        answer = yield batch.append
                    finally:
                        self._landing = None
                except AppendRefusedError as error:
                    self._split(batch, error)
                    return
                except LockLostError as error:
                    answer, lost = None, error
                except (StoreUnavailableError, LogDivergedError, StoreClosedError, NotReplicatedError):
                    batch.append = None
                    raise
                except Exception as error:  # also what the storage did not foresee: nobody knows what it has written
                    answer = yield from self._resolve(batch.append)
                    if answer is None and not isinstance(error, OutcomeUnknownError):
                        batch.append = None
                        raise
                    lost = gone(error)
                if isinstance(answer, Appended):
                    if self._overlaps:
                        self._pace.landed(time.monotonic() - took_off, alone=answer.news.head == append.check.after)
                    self._commit(batch, answer)
                    return
                assert answer is None or isinstance(answer, Conflict)
                batch.append = None
                if answer is not None:
                    self.counters.conflicts += 1
                    self._pace.lost()
                    self._hear(batch, answer.news)
                    fresh = True
                    self._guessed_wrong(batch, answer.not_empty)
                if attempt == self._retry.max_attempts:
                    if answer is not None:
                        self._fail_losers(batch, losers(batch.jobs, append, answer, attempt))
                    elif lost is not None:
                        self._fail_writers(batch, lost)
                    if self._locks:
                        yield Unlock()  # an engine may have kept the next turn for us
                    return
                if self._locks and not batch.slow:
                    news = yield Lock(self._check(batch))
                    assert isinstance(news, News)
                    self._hear(batch, news)
                    locked = fresh = True
                else:
                    if self._locks:
                        yield Unlock()  # the same
                    yield Sleep(self._retry.delay(attempt))
                attempt += 1
                self._run_again(batch)
            if locked:
                yield Unlock()
        except StoreUnavailableError as error:
            self._fail_writers(batch, error)
        except FactfoldError as error:
            self._answer(batch.jobs, error)
            if isinstance(error, LogDivergedError):
                self._spoil()
                yield from self._start_over()

    def _guessed_wrong(self, batch: Batch, not_empty: frozenset[str]) -> None:
        self.counters.wrong_guesses += len(not_empty)
        for job in batch.jobs if not_empty else ():
            for stream, fold in job.reads:
                if stream in not_empty:
                    self.guesses.wrong(job.command, fold)

    def _is_young(self, batch: Batch) -> bool:
        """Whether nobody in the batch needs to know more than what was current a while ago."""
        age = time.monotonic() - self._current
        return all(job.max_age is not None and age <= job.max_age for job in batch.jobs)

    def _resolve(self, append: Append) -> Generator[Request, Answer, Appended | None]:
        reason: Exception | None = None
        for attempt in range(1, self._retry.max_attempts + 1):
            try:
                answer = yield Resolve(append)
            except NotReplicatedError:  # it happened, and the caller has to know what that is worth
                raise
            except Exception as error:  # whatever it is, the question is still open
                reason = error
                if isinstance(error, StoreClosedError):
                    break
            else:
                assert answer is None or isinstance(answer, Appended)
                return answer
            yield Sleep(self._retry.delay(attempt))
        raise OutcomeUnknownError(
            "The connection broke while events were appended, and the storage could not be asked since whether they "
            "were written. Ask for the state, or use execute_once, whose repetition has no further effect."
        ) from reason

    def _check(self, batch: Batch) -> Check:
        assert self.cache.head is not None
        return batch.overlay.check(self.cache.head)

    def _hear(self, batch: Batch, news: News) -> None:
        if news.head != self.cache.head:
            self.cache.hear(news, batch.overlay.keys() if news.too_far else ())
        self._current = self._asked

    def _split(self, batch: Batch, error: AppendRefusedError) -> None:
        """The storage refuses something of this batch: its parts are run again, until only that is left."""
        if sum(1 for job in batch.jobs if job.events) == 1:
            self._fail_writers(batch, error)
            return
        for job in batch.jobs:
            job.attempts -= 1  # this one was decided against nobody
        half = len(batch.jobs) // 2
        self._parts.extendleft((batch.jobs[half:], batch.jobs[:half]))
        batch.append, batch.jobs = None, []

    def _fail_writers(self, batch: Batch, error: FactfoldError) -> None:
        """Those who wanted to write are told why they cannot; the others are decided without them."""
        self._fail_losers(batch, [(job, error) for job in batch.jobs if job.events or not batch.overlay.events])

    def _fail_losers(self, batch: Batch, failed: Sequence[tuple[Job, FactfoldError]]) -> None:
        """Each of these is told its error; the others are decided without them, those who write and who do not apart.

        What only readers have lost must not fail a writer, nor keep it waiting.
        """
        jobs = [job for job, _ in failed]
        others = [job for job in batch.jobs if job not in jobs]
        for part in ([job for job in others if not job.events], [job for job in others if job.events]):
            if part:
                self._parts.appendleft(part)
        batch.append, batch.jobs = None, jobs
        for job, error in failed:
            self._answer((job,), error)

    # -- answering -----------------------------------------------------------------------------------------------------

    def _commit(self, batch: Batch, answer: Appended) -> None:
        batch.answer = answer
        stored = batch.stored(answer)
        self._hear(batch, answer.news)
        assert batch.append is not None  # it is what was answered
        batch.overlay.commit(stored, answer, batch.append.empty)
        if self._ahead is not None and self._ahead.overlay.below is batch.overlay:
            self._ahead.overlay.settle()
        batch.deliver(stored)
        self._answer(batch.jobs)

    def _deliver(self, batch: Batch, stored: Sequence[StoredEvent]) -> None:
        batch.deliver(stored)
        self._answer(batch.jobs)
