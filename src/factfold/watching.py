"""Between a store and its observer: measures what the observer is told, and keeps what it raises from everyone else."""

from __future__ import annotations

import time
import weakref
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from typing import ParamSpec, Protocol, TypeAlias, TypeVar

from msgspec import structs

from factfold.batch import Heart
from factfold.commands import name_of
from factfold.job import Job
from factfold.loads import LoadTask
from factfold.notices import warn
from factfold.observing import Execution, Observer, Operation, StorageCall, StorageOperation
from factfold.once import Once
from factfold.requests import Answer, Lock, Request, Resolve, perform
from factfold.settings import Settings, read_state, read_to_save, read_version, stats_of
from factfold.stats import Stats
from factfold.storage.base import Append, AsyncLog, Check, Conflict, Load, Loaded, Log
from factfold.streams import Stream, category_of
from factfold.transaction import inside_command

P = ParamSpec("P")
R = TypeVar("R")


class Run(Protocol):
    """Calls a function, in the context in which the observer is told about it."""

    def __call__(self, callable: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...


Asked: TypeAlias = tuple[StorageOperation, int, int]
"""What the storage is asked, of how many streams, and how many events are sent."""

READS: Sequence[tuple[Callable[..., object], Operation]] = (
    (read_state, "state"),
    (read_version, "version"),
    (read_to_save, "snapshot"),
)
"""The commands of the library's own, and the methods that run them. (No mapping: some commands cannot be hashed.)"""


class Watch:
    """Tells the observer of one store, which there is."""

    def __init__(self, observer: Observer, namespace: str) -> None:
        self.observer = observer
        self._namespace = namespace
        self._figures: _Figures | None = None
        self._complained = False

    @staticmethod
    def of(settings: Settings) -> Watch | None:
        """None when nobody observes."""
        return None if settings.observer is None else Watch(settings.observer, settings.namespace)

    def tell(self, method: Callable[P, None], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Calls a method of the observer. What it raises is logged once; it cannot use a store, nor wait for itself.

        To be called in a context that nobody else needs, a copy or that of a task of the store's own: an interruption
        may leave it marked as inside of a command, where no store can be used.
        """
        token = inside_command.set(True)
        try:
            method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - no command is to fail because somebody looked at it
            if not self._complained:
                self._complained = True
                name = getattr(method, "__qualname__", repr(method))
                warn("%s failed. No command is disturbed, and this is not said again.", name, error=error)
        finally:
            inside_command.reset(token)

    # -- the store -------------------------------------------------------------------------------------------------

    def opened(self, heart: Heart) -> None:
        """The store has a heart now."""
        self._figures = _Figures(heart)
        copy_context().run(self.tell, self.observer.opened, self._namespace, self._figures)

    def closed(self) -> None:
        """The store is closed, perhaps once more, or was never opened."""
        figures, self._figures = self._figures, None
        if figures is not None:
            copy_context().run(self.tell, self.observer.closed, self._namespace, figures)

    # -- consumers -------------------------------------------------------------------------------------------------

    def consumed(self, name: str, events: int, seconds: float) -> None:
        """A consumer has handled events."""
        copy_context().run(self.tell, self.observer.consumed, self._namespace, name, events, seconds)

    def lag(self, name: str, events: int, seconds: float) -> None:
        """A consumer is so far behind."""
        copy_context().run(self.tell, self.observer.lag, self._namespace, name, events, seconds)

    # -- commands --------------------------------------------------------------------------------------------------

    @contextmanager
    def execution(self, job: Job) -> Generator[None]:
        """Around all that is done for a job, from before it is queued."""
        job.execution = execution = Execution(*_called(job), self._namespace)
        job.context.run(self.tell, self.observer.executing, execution)
        began = time.perf_counter()
        try:
            yield
        except BaseException as error:
            self._executed(job, execution, began, error)
            raise
        self._executed(job, execution, began, None)

    def _executed(self, job: Job, execution: Execution, began: float, error: BaseException | None) -> None:
        execution.seconds = time.perf_counter() - began
        execution.attempts = job.attempts
        stored = job.stored
        if isinstance(job.command, Once) and error is None:
            execution.repeated = not stored
            stored = stored[:-1]  # the last one is that of the key
        if stored and error is None:
            execution.events, execution.position = len(stored), stored[-1].position
        job.context.run(self.tell, self.observer.executed, execution, error)

    # -- the storage -----------------------------------------------------------------------------------------------

    def performing(self, heart: Heart) -> Callable[[Request, Log, Callable[[float], None]], Answer]:
        """`perform`, for the one who leads, with the observer told."""

        def ask(request: Request, log: Log, sleep: Callable[[float], None]) -> Answer:
            with self._call(_asked(request), heart.served, copy_context().run) as (call, run):
                return _noted(call, run(perform, request, log, sleep))

        return ask

    def performing_async(
        self, heart: Heart
    ) -> Callable[[Request, AsyncLog, Callable[[float], Awaitable[None]]], Awaitable[Answer]]:
        """The same for a task of the store's own."""

        async def ask(request: Request, log: AsyncLog, sleep: Callable[[float], Awaitable[None]]) -> Answer:
            with self._call(_asked(request), heart.served, directly) as (call, _):
                return _noted(call, await perform(request, log, sleep))

        return ask

    @contextmanager
    def load(self, task: LoadTask, run: Run) -> Generator[Run]:
        """Around a load that callers wait for. `run` calls things in the context for it."""
        waiting = dict.fromkeys(job for loading in task.loadings for job in list(loading.jobs))
        with self._call(("load", len(task.loadings), 0), list(waiting), run) as (call, _):
            yield run
            _noted(call, task.loaded)

    @contextmanager
    def _call(self, asked: Asked | None, jobs: Sequence[Job], run: Run) -> Generator[tuple[StorageCall | None, Run]]:
        executions = [job.execution for job in jobs if job.execution is not None]
        if asked is None or not executions:
            yield None, directly
            return
        operation, streams, events = asked
        call = StorageCall(operation, self._namespace, executions, streams, events)
        if operation != "load":
            for execution in executions:
                execution.batch_size = len(executions)
        run(self.tell, self.observer.asking, call)
        began = time.perf_counter()
        try:
            yield call, run
        except BaseException as error:
            call.seconds = time.perf_counter() - began
            run(self.tell, self.observer.answered, call, error)
            raise
        call.seconds = time.perf_counter() - began
        run(self.tell, self.observer.answered, call, None)


def loading(watch: Watch | None, task: LoadTask) -> AbstractContextManager[Run]:
    """Around a load in a caller's thread, whether somebody observes it or not. Gives what is to call the storage."""
    return _directly if watch is None else watch.load(task, copy_context().run)


def loading_async(watch: Watch | None, task: LoadTask) -> AbstractContextManager[Run]:
    """The same in a task of the store's own, where the storage is called directly."""
    return _directly if watch is None else watch.load(task, directly)


def directly(callable: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls a function in the present context."""
    return callable(*args, **kwargs)


_directly = nullcontext[Run](directly)


class _Figures:
    """What a store has done: also when it is gone, as it was when somebody asked last."""

    def __init__(self, heart: Heart) -> None:
        self._heart = weakref.ref(heart)
        self._last = stats_of(heart)

    def __call__(self) -> Stats:
        heart = self._heart()
        self._last = structs.replace(self._last, cached=0) if heart is None else stats_of(heart)
        return self._last


def _called(job: Job) -> tuple[Operation, str]:
    """Which method of a store was called, and what with."""
    for command, operation in READS:
        if job.command is command:
            read = job.args[0]
            return operation, category_of(read.id) if isinstance(read, Stream) else repr(type(read))
    return "execute_once" if isinstance(job.command, Once) else "execute", name_of(job.command)


def _asked(request: Request) -> Asked | None:
    """What there is to tell of a request; None: nothing."""
    match request:
        case Append(events=events, check=check):
            return "append", len(check.selections), len(events)
        case Check(selections=selections):
            return "check", len(selections), 0
        case Lock(check):
            return "lock", len(check.selections), 0
        case Resolve(append):
            return "resolve", len(append.check.selections), len(append.events)
        case Load(wanted=wanted):
            return "load", len(wanted), 0
        case _:
            return None


def _noted(call: StorageCall | None, answer: Answer) -> Answer:
    """Adds to a call what its answer tells, and gives the answer."""
    if call is not None and isinstance(answer, Conflict):
        call.conflict = True
    elif call is not None and isinstance(answer, Loaded):
        call.events = sum(len(part.events) for part in answer.slices)
    return answer
