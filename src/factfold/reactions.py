"""Reactions: handlers that execute commands, or touch the world outside, because something has happened."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from hashlib import blake2b
from typing import TYPE_CHECKING, Concatenate, Literal, Never, ParamSpec, TypeAlias, TypeVar, cast, overload

from msgspec import Struct

from factfold.annotations import describe, names_around
from factfold.commands import name_of
from factfold.consumers import LEASE, PATIENCE, RETRY, Consumer, OnError, Place
from factfold.errors import DefinitionError
from factfold.events import RecordedEvent, metadata
from factfold.handlers import Async, Sync, as_it_is
from factfold.receipt import Receipt
from factfold.retry import Retry
from factfold.streams import Stream
from factfold.subscriptions import Subscribable
from factfold.transaction import Transaction

if TYPE_CHECKING:
    from factfold.aio import AsyncStore
    from factfold.store import Store

E = TypeVar("E")
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


_SHORT_NAME = re.compile(r"[^/%\x00-\x1f\x7f]{1,120}")
"""A command's name that fits into a key as it is; of another one it is a hash."""


class _Calls:
    """How often each command was executed in one run of a handler: a repeated run counts the same."""

    def __init__(self, reaction: str, recorded: RecordedEvent[object]) -> None:
        self._prefix = f"{reaction}/{recorded.id}"
        self._counts: dict[str, int] = {}

    def key(self, name: str, own: str | None) -> str:
        """The key of this call: the given one, or one of its own."""
        if own is not None:
            return own
        if not _SHORT_NAME.fullmatch(name):
            name = blake2b(name.encode(), digest_size=16).hexdigest()
        number = self._counts[name] = self._counts.get(name, 0) + 1
        return f"{self._prefix}/{name}/{number}"


class ReactionContext(Struct, frozen=True):
    """The second parameter of a reaction's handler under Store: the event as recorded, and how to act on it."""

    recorded: RecordedEvent[object]
    store: Store
    _calls: _Calls

    def execute(
        self, command: Callable[Concatenate[Transaction, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Receipt[R]:
        """Executes a command exactly once for this event and this call, however often the handler is run.

        A call is told by the command's name, and the how-manieth call of it this is in the handler: it may be called
        with other arguments in another run, and gives the first run's receipt. The events that it appends carry this
        event's correlation id on, and its id as their causation id. Does I/O.

        Raises as `Store.execute_once`.
        """
        return self.execute_as(self._calls.key(name_of(command), None), command, *args, **kwargs)

    def execute_as(
        self, key: str, command: Callable[Concatenate[Transaction, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Receipt[R]:
        """The same under a key of your own: exactly once for the key, whichever event led to it. Does I/O."""
        with _caused_by(self.recorded):
            return self.store.execute_once(key, command, *args, **kwargs)

    def state(self, stream: Stream[S, Never], /) -> S:
        """The state of a stream as it is now. Does I/O."""
        return self.store.state(stream)


class AsyncReactionContext(Struct, frozen=True):
    """The second parameter of a reaction's handler under AsyncStore: as `ReactionContext`, with `async def`."""

    recorded: RecordedEvent[object]
    store: AsyncStore
    _calls: _Calls

    async def execute(
        self, command: Callable[Concatenate[Transaction, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Receipt[R]:
        """Executes a command exactly once for this event and this call, as `ReactionContext.execute`. Does I/O."""
        return await self.execute_as(self._calls.key(name_of(command), None), command, *args, **kwargs)

    async def execute_as(
        self, key: str, command: Callable[Concatenate[Transaction, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Receipt[R]:
        """The same under a key of your own: exactly once for the key, whichever event led to it. Does I/O."""
        with _caused_by(self.recorded):
            return await self.store.execute_once(key, command, *args, **kwargs)

    async def state(self, stream: Stream[S, Never], /) -> S:
        """The state of a stream as it is now. Does I/O."""
        return await self.store.state(stream)


AnyContext: TypeAlias = ReactionContext | AsyncReactionContext


class Reaction(Consumer[AnyContext]):
    """Handlers that execute commands, or touch the world outside. Each event is handled at least once, in order.

    What is executed with `context.execute` happens exactly once. What else a handler does (a mail, a payment) may
    happen again when the process dies between that and the next checkpoint: give it a key that makes it harmless.

    Args:
        name: of the reaction.
        start: with the log's first event ("beginning"), or with what comes after it is run for the first time ("head").
        category, on_error, retry, lease, patience, on_trouble: as for a Projection.

    Raises DefinitionError when something of this cannot be.
    """

    kind = "reaction"

    def __init__(
        self,
        name: str,
        *,
        start: Literal["beginning", "head"],
        category: str | None = None,
        on_error: OnError = "stop",
        retry: Retry = RETRY,
        lease: float = LEASE,
        patience: float = PATIENCE,
        on_trouble: Callable[[str], object] | None = None,
    ) -> None:
        super().__init__(
            name,
            ReactionContext,
            AsyncReactionContext,
            category=category,
            on_error=on_error,
            retry=retry,
            lease=lease,
            patience=patience,
            on_trouble=on_trouble,
        )
        if start not in ("beginning", "head"):
            raise DefinitionError(f"{self.label}: start is 'beginning' or 'head', not {start!r}.")
        self.start = start

    @property
    def key(self) -> str:
        """Its name in the storage."""
        return f"reaction/{self.name}"

    @overload
    def on(self, handler: Sync[E, ReactionContext], /) -> Sync[E, ReactionContext]: ...
    @overload
    def on(self, handler: Async[E, AsyncReactionContext], /) -> Async[E, AsyncReactionContext]: ...

    def on(
        self, handler: Sync[E, ReactionContext] | Async[E, AsyncReactionContext], /
    ) -> Sync[E, ReactionContext] | Async[E, AsyncReactionContext]:
        """Decorator: the function below handles the events that annotate its first parameter, a class or a union.

        A function with a ReactionContext is for a Store; an `async def` one with an AsyncReactionContext for an
        AsyncStore. Raises DefinitionError saying what is wrong with it.
        """
        self._register(handler, names_around(handler), as_it_is)
        return handler

    def check_store(self, *, asynchronous: bool) -> None:
        """Raises DefinitionError when it is not for a store of this kind."""
        super().check_store(asynchronous=asynchronous)
        other = ReactionContext if asynchronous else AsyncReactionContext
        mine = AsyncReactionContext if asynchronous else ReactionContext
        for handler, given in self._given.items():
            if given is mine and asynchronous and not inspect.iscoroutinefunction(handler):
                raise DefinitionError(
                    f"{describe(handler)} takes a {mine.__name__}, whose methods are to be awaited, and nothing awaits "
                    "them in a plain `def`. Make it `async def`."
                )
            if given is other:
                raise DefinitionError(
                    f"{describe(handler)} takes a {other.__name__}, and this store gives {self.label} a "
                    f"{mine.__name__}: annotate it so{', and make it async def' if asynchronous else ''}."
                )

    def _context_for(self, recorded: RecordedEvent[object], place: Place) -> AnyContext:
        calls = _Calls(self.name, recorded)
        if isinstance(place.store, Subscribable):
            return ReactionContext(recorded, cast("Store", place.store), calls)  # it is none else
        return AsyncReactionContext(recorded, cast("AsyncStore", place.store), calls)


def _caused_by(recorded: RecordedEvent[object]) -> AbstractContextManager[None]:
    """The metadata of what is executed because of an event."""
    known = recorded.metadata
    return metadata(actor=known.actor, correlation_id=known.correlation_id or recorded.id, causation_id=recorded.id)
