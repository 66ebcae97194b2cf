"""A heart of which somebody else decides when each single thing happens, as threads, tasks and networks would."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass

from factfold import Retry
from factfold.batch import Heart
from factfold.errors import AppendRefusedError, FactfoldError, OutcomeUnknownError, StoreUnavailableError
from factfold.job import Job, Turn
from factfold.loads import LoadTask
from factfold.requests import Answer, Lock, Request, Resolve, Steps, perform
from factfold.settings import Settings, utc_now
from factfold.storage.base import Append, Capabilities, Loaded
from factfold.storage.memory import Memory, MemoryLog


@dataclass(eq=False)
class Flight:
    """A load on its way: what came of it, once it has been asked for."""

    task: LoadTask
    loaded: Loaded | None = None
    error: Exception | None = None

    @property
    def landed(self) -> bool:
        """Whether it has been answered."""
        return self.loaded is not None or self.error is not None


ENOUGH = 1000


class DrivenHeart:
    """One process's heart and log, and what is going on between the two.

    Args:
        memory: where the log is; several hearts may share it.
        cache_size: as of a store.
        locks: whether the heart may decide under the writers' lock.
        overlaps: whether it may decide a batch while the append of the one before it is on its way.
        decoding: called before each event that is decoded.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        cache_size: int = 10,
        locks: bool = True,
        overlaps: bool = True,
        decoding: Callable[[], None] | None = None,
    ) -> None:
        log = memory.open().log("default")
        assert isinstance(log, MemoryLog)
        self.log = log
        self._writers = memory.namespace("default").writers
        self._settings = Settings.checked(memory, "default", cache_size, Retry(3, base=0, cap=0), utc_now, None)
        self.heart: Heart = self._settings.heart(
            Capabilities(locks=locks, durable=False, shared=False),
            contextlib.nullcontext(),
            notify=lambda job: self.notified(job),
            interrupts=lambda job: True,
            overlaps=overlaps,
        )
        if decoding is not None:
            decode = self.heart.decode

            def decode_then(*given: object) -> object:
                decoding()
                return decode(*given)  # type: ignore[arg-type]  # whatever a Decode takes

            self.heart.decode = decode_then
        self.notified: Callable[[Job], None] = lambda job: None
        """Called when a job's turn has changed."""
        self.moved: Callable[[], None] = lambda: None
        """Called when the leader has gone on, and asks for something or has come to an end."""
        self.refuses: Callable[[Append], bool] = lambda append: False
        """Whether the storage refuses to write this."""
        self.request: Request | None = None
        self.answer: Answer = None
        self.error: Exception | None = None
        self.answered = False
        self.busy = False
        self.flights: list[Flight] = []
        self.folding: list[Job | None] = []
        """Whose callers fold what they have loaded, and have no time for anything else."""
        self.jobs: list[Job] = []
        self._steps: Steps | None = None
        self._dropped: list[Steps] = []

    # -- callers ---------------------------------------------------------------------------------------------------

    def submit(self, command: Callable[..., object]) -> Job:
        """Somebody calls `execute`: not from inside of a command, although one may be running right now."""
        job = Context().run(self._settings.job, command, (), {})
        self.jobs.append(job)
        self.heart.submit(job)
        return job

    def execute(self, command: Callable[..., object]) -> object:
        """Calls `execute` and drives the heart until the answer is there. Gives the result, or raises."""
        job = self.submit(command)
        for _ in range(ENOUGH):
            if job.turn is Turn.DONE:
                return job.receipt().result
            self.step()
        raise AssertionError("the heart comes to no end")

    def step_until(self, reached: Callable[[], bool]) -> None:
        """Goes on until this is so."""
        while not reached():
            assert self.step(), "it never comes to that"

    def step(self) -> bool:
        """Does the next thing that is to be done, whatever it is. False: there is nothing, or somebody else has to."""
        if self.can_lead:
            self.lead()
        elif self.can_prepare and self.prepare():
            pass
        elif self.answered:
            self.deliver()
        elif self.can_perform:
            self.perform()
        elif self.ask():
            pass
        elif self.flights:
            flight = self.flights[0]
            self.deliver_load(flight) if flight.landed else self.perform_load(flight)
        else:
            return False
        return True

    def leave(self, job: Job) -> None:
        """A caller goes away, and with it whatever it was loading."""
        self.flights = [flight for flight in self.flights if flight.task.loader is not job]
        self.heart.leave(job)

    @property
    def can_prepare(self) -> bool:
        """Whether more can be decided now, on top of what is on its way."""
        return self.heart.can_prepare and not self.busy

    def prepare(self) -> bool:
        """More is decided, on top of what is on its way. False: nothing can be, for now."""
        queued = len(self.heart._queue)
        self.busy = True
        try:
            self.heart.prepare()
        except KeyboardInterrupt:
            pass  # while it ran a command
        finally:
            self.busy = False
        return len(self.heart._queue) < queued

    # -- the leader ------------------------------------------------------------------------------------------------

    @property
    def can_lead(self) -> bool:
        """Whether nobody leads, and there is work."""
        return self._steps is None and not self.busy and self.heart.has_work

    @property
    def can_perform(self) -> bool:
        """Whether what the leader asks for can be done now: another writer may hold the lock."""
        if self.request is None or self.answered:
            return False
        return bool(self.log._held) or not (
            isinstance(self.request, Append | Lock | Resolve) and self._writers.locked()
        )

    def lead(self) -> None:
        """A leader begins, and works until it has to ask for something."""
        self._steps = self.heart.lead()
        self._go_on(lambda steps: next(steps))

    def perform(self) -> None:
        """What the leader asks for is done. It does not know yet."""
        assert self.request is not None
        self.answered = True
        if isinstance(self.request, Append) and self.refuses(self.request):
            self.log.unlock()
            self.error = AppendRefusedError("the storage does not like one of these")
            return
        try:
            self.answer = perform(self.request, self.log, lambda seconds: None)
        except Exception as error:
            self.error = error

    def fail(self, error: Exception) -> None:
        """What the leader asks for cannot be done."""
        self.log.unlock()
        self.answered, self.error = True, error

    def lose(self) -> None:
        """The connection breaks: whether it was done, nobody can tell."""
        if self.answered:
            self.answer = None
        self.fail(OutcomeUnknownError("the connection broke"))

    def deliver(self) -> None:
        """The leader hears what came of it, and goes on."""
        answer, error = self.answer, self.error
        self.answer, self.error, self.answered = None, None, False
        self._go_on(lambda steps: steps.send(answer) if error is None else steps.throw(error))

    def interrupt(self) -> None:
        """The leader is interrupted where it waits for an answer."""
        assert self._steps is not None
        self._dropped.append(self._steps)  # its frames live on for a while, as they do in a traceback
        self._forget()

    def _forget(self) -> None:
        self._steps = self.request = self.answer = self.error = None
        self.answered = False
        self.heart.abandon()
        self.log.unlock()

    def _go_on(self, resume: Callable[[Steps], Request]) -> None:
        assert self._steps is not None
        self.busy, self.request = True, None
        try:
            self.request = resume(self._steps)
        except StopIteration:
            self._steps = self.request = None
            assert not self.log._held, "the leader has gone, and holds the lock"
        except KeyboardInterrupt:  # while it ran a command
            self._forget()
        finally:
            self.busy = False
        self.moved()

    # -- loaders ---------------------------------------------------------------------------------------------------

    def ask(self, job: Job | None = None) -> bool:
        """Somebody begins to load what is missing. False: there is nothing to load."""
        task = self.heart.next_load(job)
        if task is not None:
            self.flights.append(Flight(task))
        return task is not None

    def perform_load(self, flight: Flight) -> None:
        """The storage answers. Nobody knows yet."""
        try:
            flight.loaded = self.log.load(flight.task.load)
        except FactfoldError as error:
            flight.error = error

    def deliver_load(self, flight: Flight) -> None:
        """The loader hears the answer, folds it, and hands it over."""
        if flight.loaded is None:
            self.fail_load(flight, flight.error)
            return
        self.flights.remove(flight)
        self.folding.append(flight.task.loader)
        try:
            flight.task.fold(flight.loaded, self.heart.decode)
        except KeyboardInterrupt:
            self.heart.load_abandoned(flight.task)
        else:
            self.heart.loaded(flight.task)
        finally:
            self.folding.remove(flight.task.loader)

    def abandon_load(self, flight: Flight) -> None:
        """The loader is interrupted."""
        self.flights.remove(flight)
        self.heart.load_abandoned(flight.task)

    def fail_load(self, flight: Flight, error: Exception | None = None) -> None:
        """The storage cannot be reached, or reports something else."""
        self.flights.remove(flight)
        self.heart.load_failed(flight.task, error or StoreUnavailableError("the connection broke"))
