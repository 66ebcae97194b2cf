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

from msgspec import Struct

from factfold.batched import Batch
from factfold.cache import AnyStream, Cache, Decode, Key
from factfold.commands import name_of
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
from factfold.job import DONE, LEADING, LOADING, WAITING, Job
from factfold.loads import Loading, LoadTask
from factfold.losing import gone, losers
from factfold.missing import Missing
from factfold.notices import warn_of_slow
from factfold.overlay import Overlay, Seal
from factfold.requests import Answer, AskHead, Lock, Recall, Request, Resolve, Sleep, Steps, Unlock
from factfold.retry import Retry
from factfold.snapshots import Snapshots
from factfold.storage.base import Append, Appended, Check, Conflict, Head, Loaded, News, StoredEvent
from factfold.transaction import Transaction

MAX_COMMANDS = 1000
MAX_BYTES = 4 * 1024 * 1024
MAX_SECONDS = 0.01
MAX_LOCKED_SECONDS = 1.0
"""Commands that took longer than this are not run again under the writers' lock: others wait for it."""

MAX_MISSES = 2
"""How often what was loaded for a command may come too late before the leader loads it, between two batches."""


class Counters(Struct):
    """What the heart has done since it was made."""

    commands: int = 0
    batches: int = 0
    attempts: int = 0
    conflicts: int = 0
    loads: int = 0


class Heart:
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
    ) -> None:
        self.cache = Cache(cache_size, decode)
        self.missing = Missing()
        self.counters = Counters()
        self._retry = retry
        self._locks = locks
        self.decode = decode
        self.snapshots = snapshots
        self._seal = seal
        self._guard = guard
        self._notify = notify
        self._interrupts = interrupts
        self._queue: deque[Job] = deque()
        self._arrived: deque[LoadTask] = deque()
        self._left: deque[Job] = deque()
        self._batch: Batch | None = None
        self._parts: deque[list[Job]] = deque()
        self._starved: list[tuple[Job, tuple[AnyStream, ...]]] = []
        self._spoiled = True
        self._generation = 0
        self._asked = 0.0  # when the request was made that is being answered
        self._current = -math.inf  # when the cut was last known to be the log's head

    # -- for callers, with the guard held --------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Queues a job."""
        job.turn = WAITING
        self._queue.append(job)

    def leave(self, job: Job) -> None:
        """The caller goes away. What was not begun is not done; what was begun goes on, and nobody hears of it."""
        job.left = True
        if job in self._queue:
            self._queue.remove(job)
        for task in self.missing.leave(job):
            self.load_abandoned(task)
        self._left.append(job)

    def next_leader(self) -> Job | None:
        """The job whose caller has waited longest for a leader, if there is work for one."""
        starved = [job for job, _ in self._starved]
        waiting: list[Iterable[Job]] = [self._batch.jobs if self._batch else (), *self._parts, starved, self._queue]
        return next((job for jobs in waiting for job in jobs if job.turn is WAITING and not job.left), None)

    @property
    def has_work(self) -> bool:
        """Whether a leader would find something to do."""
        return bool(self._queue or self._batch or self._parts or self._starved)

    @property
    def served(self) -> Sequence[Job]:
        """Those for whom the leader asks the storage just now."""
        return self._batch.jobs if self._batch is not None else [job for job, _ in self._starved]

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

    # -- for the leader --------------------------------------------------------------------------------------------

    def lead(self) -> Steps:
        """Serves one batch, after what an interrupted leader has left."""
        if self._batch is not None or self._parts or self._starved:
            yield from self._recover()
        if self._spoiled:
            yield from self._start_over()
            if self._spoiled:
                return
        if self._arrived or self._left:
            self._install()
        self._batch = batch = Batch(Overlay(self.cache, self._seal))
        self._asked = began = time.monotonic()
        took = 0.0
        last: Job | None = None
        while self._queue and self._take(batch):
            last = batch.jobs[-1]
            self._run(batch, last)
            took = time.monotonic() - began
            if batch.overlay.bytes >= MAX_BYTES or len(batch.jobs) >= MAX_COMMANDS or took >= MAX_SECONDS:
                break
        batch.slow = took > MAX_LOCKED_SECONDS
        if batch.slow and last is not None:
            warn_of_slow(name_of(last.command), took)  # those before it took MAX_SECONDS at most
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

    # -- what an interrupted leader has left -----------------------------------------------------------------------

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
            starved = [job for job, _ in self._starved]
            for jobs in (starved, *reversed(self._parts), batch.jobs if batch else ()):
                self._queue_again(jobs)
            self._batch = None
            self._parts.clear()
            self._starved.clear()

    def _queue_again(self, jobs: Sequence[Job]) -> None:
        """Puts those who still wait at the head of the queue, in their order. The guard is held."""
        for job in reversed(jobs):
            if job.turn in (WAITING, LEADING) and not job.left and job not in self._queue:
                self._queue.appendleft(job)

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

    def _spoil(self) -> None:
        self._spoiled = True
        self._generation += 1

    def _install(self) -> None:
        """Takes what was loaded into the cut, and lets go of what nobody waits for any more."""
        while self._arrived:
            task = self._arrived.popleft()
            if task.generation == self._generation and task.loaded is not None:
                self._install_from(task, task.loaded)
        while self._left:
            self._unpin(self._left.popleft())

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
                if installed:
                    self.cache.pin(loading.stream.id, job)
                    job.pins.add(loading.stream.id)
                else:
                    job.misses += 1

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

    # -- running ---------------------------------------------------------------------------------------------------

    def _take(self, batch: Batch) -> bool:
        with self._guard:
            if not self._queue:
                return False
            batch.jobs.append(self._queue[0])
            self._queue.popleft()
        return True

    def _run(self, batch: Batch, job: Job) -> None:
        tx = Transaction(batch.overlay, job)
        if not job.run(tx, self._interrupts):
            missing = tuple([stream for stream in tx.suspended if not self.cache.holds(stream.key)])
            with self._guard:
                job.missing.clear()  # an interrupted leader may have left something
                if job.misses >= MAX_MISSES:
                    self._starved.append((job, missing))
                else:
                    self.missing.wait(job, missing)
                    job.turn = LOADING
                    self._notify(job)
            batch.jobs.remove(job)

    def _run_again(self, batch: Batch) -> None:
        """Runs all commands of a batch once more, on the states as they are now."""
        batch.append = None
        batch.overlay = Overlay(self.cache, self._seal)
        self._asked = began = time.monotonic()
        for job in list(batch.jobs):
            self._run(batch, job)
        batch.slow = time.monotonic() - began > MAX_LOCKED_SECONDS

    # -- deciding --------------------------------------------------------------------------------------------------

    def _decide(self, batch: Batch) -> Steps:
        """Writes what the batch appended under the boundary of what it read; runs it again until that holds."""
        self.counters.batches += bool(batch.jobs)
        try:
            attempt = 1
            locked = fresh = False
            lost: StoreUnavailableError | None = None
            while batch.jobs:
                self._count_attempt(batch)
                if not batch.overlay.events:
                    if locked:
                        yield Unlock()
                    elif not fresh and not self._is_young(batch):
                        news = yield self._check(batch)
                        assert isinstance(news, News)
                        self._hear(batch, news)
                        if news.touched:
                            fresh = True  # the cut is now one that was the log's head after these commands were called
                            self._run_again(batch)
                            continue
                    self._answer(batch.jobs)
                    return
                assert self.cache.head is not None
                batch.append = batch.to_append(batch.overlay.check(self.cache.head))
                locked = False
                try:
                    answer = yield batch.append
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
                    self._commit(batch, answer)
                    return
                assert answer is None or isinstance(answer, Conflict)
                append, batch.append = batch.append, None
                if answer is not None:
                    self.counters.conflicts += 1
                    self._hear(batch, answer.news)
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
                    locked = True
                else:
                    if self._locks:
                        yield Unlock()  # the same
                    yield Sleep(self._retry.delay(attempt))
                attempt += 1
                fresh = True
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

    def _is_young(self, batch: Batch) -> bool:
        """Whether nobody in the batch needs to know more than what was current a while ago."""
        age = time.monotonic() - self._current
        return all(job.max_age is not None and age <= job.max_age for job in batch.jobs)

    def _count_attempt(self, batch: Batch) -> None:
        self.counters.attempts += 1
        for job in batch.jobs:
            job.attempts += 1

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

    # -- answering -------------------------------------------------------------------------------------------------

    def _commit(self, batch: Batch, answer: Appended) -> None:
        batch.answer = answer
        stored = batch.stored(answer)
        self._hear(batch, answer.news)
        batch.overlay.commit(stored, answer)
        batch.deliver(stored)
        self._answer(batch.jobs)

    def _deliver(self, batch: Batch, stored: Sequence[StoredEvent]) -> None:
        batch.deliver(stored)
        self._answer(batch.jobs)

    def _answer(self, jobs: Sequence[Job], error: BaseException | None = None) -> None:
        with self._guard:
            for job in jobs:
                if job.turn is not DONE:
                    self.counters.commands += 1
                    if error is not None:
                        job.error = error
                    job.turn = DONE
                    self._notify(job)
        for job in jobs:
            if job.pins:
                self._unpin(job)

    def _end(self, job: Job, error: BaseException | None) -> None:
        job.error = error
        job.turn = DONE
        self._notify(job)

    def _unpin(self, job: Job) -> None:
        for stream in job.pins:
            self.cache.unpin(stream, job)
        job.pins.clear()
