"""What projections and reactions have in common: handlers under a name, which are given every event, in order."""

from __future__ import annotations

import inspect
import re
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Literal, TypeAlias, TypeVar

from msgspec import Struct

from factfold.codec import event_type
from factfold.errors import (
    DefinitionError,
    OutcomeUnknownError,
    StorageFullError,
    StorageReadOnlyError,
    StoreClosedError,
    StoreUnavailableError,
)
from factfold.events import RecordedEvent
from factfold.feed import Filter
from factfold.handlers import HandlerSet
from factfold.retry import Retry

C = TypeVar("C")

OnError: TypeAlias = Literal["stop", "park"]
"""What becomes of a consumer when an event cannot be handled: it stops there, or leaves it aside and goes on."""

LEASE = 10.0
"""Seconds after which a consumer is taken over when its process does not show any sign of life."""

PATIENCE = 30.0
"""Seconds without progress after which a consumer is said not to get on."""

RETRY = Retry(max_attempts=5, base=0.05, cap=2.0)
"""How often an event is tried."""


AWAY = (StoreUnavailableError, OutcomeUnknownError, StorageFullError, StorageReadOnlyError, StoreClosedError)
"""What a handler may raise without being to blame: it will be called again."""


class Place(Struct, frozen=True):
    """Where events are handled: a connection in a transaction, None outside of one; the store, and its namespace."""

    connection: object
    store: object
    namespace: str

    def on(self, connection: object) -> Place:
        """The same, in a transaction."""
        return Place(connection, self.store, self.namespace)


class HandlerFailedError(Exception):
    """A handler raised; its error is the cause. `index`: which of the events; None when they were handled as one."""

    def __init__(self, index: int | None) -> None:
        super().__init__(index)
        self.index = index


class Consumer(HandlerSet[C]):
    """Handlers that a store gives every event to, once or at least once, from where they were up to now.

    Attributes:
        kind: what it is.
        name: what it is called.
        key: its name in the storage.
        start: where it begins when nothing is known of it.
    """

    kind: str = "consumer"
    start: Literal["beginning", "head"] = "beginning"
    version = 1

    def __init__(
        self,
        name: str,
        *contexts: type[C],
        category: str | None,
        on_error: OnError,
        retry: Retry,
        lease: float,
        patience: float,
        on_trouble: Callable[[str], object] | None,
    ) -> None:
        super().__init__(f"{self.kind} {name}", *contexts)
        if not _NAME.fullmatch(str(name)):
            raise DefinitionError(
                f"{name!r} cannot be the name of a {self.kind}: letters, digits, '_', '-' and '.', at most 64, "
                "beginning with a letter."
            )
        if on_error not in ("stop", "park"):
            raise DefinitionError(f"{self.label}: on_error is 'stop' or 'park', not {on_error!r}.")
        for what, seconds in (("lease", lease), ("patience", patience)):
            if not 0 < seconds < 1_000_000:
                raise DefinitionError(f"{self.label}: {what} is a number of seconds above 0, not {seconds!r}.")
        if inspect.iscoroutinefunction(on_trouble):
            raise DefinitionError(f"{self.label}: on_trouble is called from a thread, too, and cannot be `async def`.")
        self.name = name
        self.category = category
        self.on_error = on_error
        self.retry = retry
        self.lease = lease
        self.patience = patience
        self.on_trouble = on_trouble

    @property
    @abstractmethod
    def key(self) -> str: ...

    @property
    def at_once(self) -> bool:
        """Whether a handler is given many events at once."""
        return False

    def set_up(self, place: Place) -> object:
        """What has to be done before the first event. What it returns is to be awaited, if it can be.

        Raises HandlerFailedError.
        """

    def switch(self, place: Place) -> object:
        """Has this version serve, in the read model's database."""

    @property
    def stored_types(self) -> tuple[str, ...]:
        """The stored names of the events that it handles, sorted."""
        return tuple(sorted(event_type(cls).name for cls in self.types))

    def handles_just(self, stored_types: Sequence[str]) -> bool:
        """Whether these stored names, present or former ones, are of the events that it handles, and of all of them."""
        names = [event_type(cls).names for cls in self.types]
        known = {name for each in names for name in each}
        return known.issuperset(stored_types) and all(not set(each).isdisjoint(stored_types) for each in names)

    def check_store(self, *, asynchronous: bool) -> None:
        """Raises DefinitionError when it is not for a store of this kind."""
        if not asynchronous:
            self.refuse_async(self.label)

    def filter(self) -> Filter:
        """Which events it is given. Raises DefinitionError when it handles none."""
        if not self.types:
            raise DefinitionError(f"{self.label} has no handler: put @{self.kind}.on above a function.")
        return Filter.of(self, self.category, None)

    def work(self, events: Sequence[RecordedEvent[object]], place: Place) -> object:
        """Has events handled, in order. What it returns is to be awaited, if there are `async def` handlers.

        Raises HandlerFailedError.
        """
        if self.is_async:
            return self._work_async(events, place)
        for index, recorded in enumerate(events):
            try:
                returned = self.handle(recorded, self._context_for(recorded, place))
            except AWAY:
                raise
            except Exception as error:
                raise HandlerFailedError(index) from error
            self.refuse_awaitable(returned)
        return None

    async def _work_async(self, events: Sequence[RecordedEvent[object]], place: Place) -> None:
        for index, recorded in enumerate(events):
            try:
                done = self.handle(recorded, self._context_for(recorded, place))
                if isinstance(done, Awaitable):
                    await done
            except AWAY:
                raise
            except BaseException as error:
                if not is_failure(error):
                    raise
                raise HandlerFailedError(index) from error

    def refuse_awaitable(self, returned: object) -> None:
        """Raises DefinitionError for what would have to be awaited, and is not of an `async def` function."""
        if isinstance(returned, Awaitable):
            if isinstance(returned, Coroutine):
                returned.close()  # it was not begun
            raise DefinitionError(
                f"{self.label}: a function that is no `async def` returned something to await, and nothing here awaits "
                "it. Make the handler an `async def` one."
            )

    @abstractmethod
    def _context_for(self, recorded: RecordedEvent[object], place: Place) -> C: ...


def is_failure(error: BaseException) -> bool:
    """Whether a handler in a task has failed: also when what it awaited was cancelled, but not its task itself."""
    if isinstance(error, Exception):
        return True
    import asyncio  # here, so that `import factfold` need not wait for it

    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()


def is_in_use(error: BaseException) -> bool:
    """Whether others keep what was to be changed locked, so that it is worth another try."""
    return getattr(error, "sqlstate", None) in IN_USE


IN_USE = ("55P03", "40P01")
"""The SQLSTATEs of a lock that was not to be had in time, and of a deadlock."""

_NAME = re.compile(r"[A-Za-z][\w.-]{0,63}", re.ASCII)
