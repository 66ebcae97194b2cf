"""Handlers: functions for events, chosen by the class that annotates their first parameter."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, Never, TypeAlias, TypeVar, cast, overload

from msgspec import Struct

from factfold.annotations import describe, event_classes, function_hints, names_around, show
from factfold.codec import event_type
from factfold.errors import DefinitionError
from factfold.events import RecordedEvent

C = TypeVar("C")
E = TypeVar("E")


class Context(Struct, frozen=True):
    """The second parameter of a handler: what is known besides the event itself."""

    recorded: RecordedEvent[object]
    """The event as it stands in the log: its position, id, streams, metadata and time."""


Sync: TypeAlias = Callable[[E, C], None]
Async: TypeAlias = Callable[[E, C], Coroutine[object, object, None]]


class HandlerSet(Generic[C]):
    """Handlers whose second parameter is a `C`. Each event class has at most one.

    Attributes:
        label: of the set, in messages.
    """

    def __init__(self, label: str, *contexts: type[C]) -> None:
        self.label = label
        self._contexts = contexts
        self._given: dict[Callable[..., object], object] = {}
        self._handlers: dict[type, Callable[[Never, C], object]] = {}
        self._stored_names: dict[str, type] = {}

    @property
    def types(self) -> tuple[type, ...]:
        """The event classes that there are handlers for."""
        return tuple(self._handlers)

    def _register(
        self, handler: Callable[..., object], names: dict[str, object], events_in: Callable[[object, str], object]
    ) -> None:
        """Notes a handler with `names` around it; `events_in` finds the events in its first annotation."""
        where = describe(handler)
        classes = self._classes_of(handler, names, where, events_in)
        stored_names: dict[str, type] = {}
        for cls in classes:
            for name in event_type(cls, names).names:
                if stored_names.setdefault(name, cls) is not cls:
                    raise DefinitionError(
                        f"{where}: two of the classes that it handles both stand for {name!r} in the log."
                    )
        for name, cls in stored_names.items():
            other = self._stored_names.get(name)
            if other is cls:
                raise DefinitionError(
                    f"{where}: for {cls.__qualname__} {self.label} has {describe(self._handlers[cls])} already. Let "
                    "one of them do both, or put this one into handlers of their own."
                )
            if other is not None:
                raise DefinitionError(
                    f"{where}: {describe(cls)} and {describe(other)} both stand for {name!r} in the log, and could "
                    "not be told apart. Give one of them another name: `@event(name=...)`."
                )
        self._stored_names.update(stored_names)
        self._handlers.update(dict.fromkeys(classes, handler))

    @property
    def is_async(self) -> bool:
        """Whether one of them is `async def`."""
        return any(map(_is_async, self._handlers.values()))

    def refuse_async(self, where: str) -> None:
        """Raises DefinitionError when a handler is `async def`."""
        for handler in self._handlers.values():
            if _is_async(handler):
                raise DefinitionError(
                    f"{where}: the handler {describe(handler)} is `async def`, and nothing here awaits it. Use an "
                    "AsyncStore, or make it a plain `def`."
                )

    def handle(self, recorded: RecordedEvent[object], context: C) -> object:
        """Calls the handler for an event, and gives what it returned: to be awaited, if it is `async def`.

        Without a handler for its class nothing happens. Raises what the handler raises; TypeError for plain JSON.
        """
        handler = self._handlers.get(type(recorded.event))
        if handler is not None:
            return handler(cast("Never", recorded.event), context)  # it was chosen by the event's class
        if isinstance(recorded.event, _PLAIN):
            raise TypeError(
                f"{self.label}: the event at position {recorded.position} ({recorded.type}) was not decoded, so it has "
                "no class to choose a handler by. Read with types=, for example store.subscribe(types=handlers)."
            )
        return None

    def _classes_of(
        self,
        handler: Callable[..., object],
        names: dict[str, object],
        where: str,
        events_in: Callable[[object, str], object],
    ) -> tuple[type, ...]:
        if not callable(handler):
            raise DefinitionError(f"{self.label}.on stands above a function `(event, context)`, not above {handler!r}.")
        parameters = inspect.signature(handler).parameters.values()
        positional = [one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
        if len(positional) != 2 or len(parameters) != 2:
            raise DefinitionError(
                f"{where}: a handler takes the event and its context, `(event: Deposited, context: "
                f"{self._contexts[0].__name__})`. This one takes `{inspect.signature(handler)}`."
            )
        if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
            raise DefinitionError(f"{where}: a handler does its work and returns nothing, and this one yields.")
        event, context = positional
        hints = function_hints(handler, names)
        if event not in hints:
            raise DefinitionError(
                f"{where}: its parameter `{event}` has no annotation. A handler says what it handles: "
                f"`def _({event}: Deposited | Withdrawn, {context}: {self._contexts[0].__name__}) -> None`."
            )
        given = self._given[handler] = hints.get(context, Any)
        if given is not Any and isinstance(given, type) and not any(issubclass(one, given) for one in self._contexts):
            raise DefinitionError(
                f"{where}: its parameter `{context}` is a {show(given)}, and {self.label} gives it a "
                f"{self._contexts[0].__name__}."
            )
        where = f"{where}: the parameter `{event}`"
        return event_classes(events_in(hints[event], where), where)


class Handlers(HandlerSet[Context]):
    """Handlers for whoever reads the log: `@handlers.on` registers one, `dispatch` calls the one for an event."""

    def __init__(self) -> None:
        super().__init__("handlers", Context)

    @overload
    def on(self, handler: Sync[E, Context], /) -> Sync[E, Context]: ...
    @overload
    def on(self, handler: Async[E, Context], /) -> Async[E, Context]: ...

    def on(self, handler: Callable[[E, Context], object], /) -> Callable[[E, Context], object]:
        """Decorator: the function below handles the events that annotate its first parameter, a class or a union.

        It may be `async def`, for an AsyncStore. Raises DefinitionError saying what is wrong with it.
        """
        self._register(handler, names_around(handler), as_it_is)
        return handler

    def dispatch(self, recorded: RecordedEvent[object]) -> None:
        """Calls the handler for an event; without one for its class nothing happens.

        Raises what the handler raises; DefinitionError when it is `async def`; TypeError for an event in plain JSON.
        """
        done = self.handle(recorded, Context(recorded))
        if done is not None and isinstance(done, Awaitable):
            if isinstance(done, Coroutine):
                done.close()  # it was not begun
            self.refuse_async("handlers.dispatch")
            raise DefinitionError("handlers.dispatch: a handler returned something to await. Use dispatch_async.")

    async def dispatch_async(self, recorded: RecordedEvent[object]) -> None:
        """The same for handlers of which some are `async def`: awaits them."""
        done = self.handle(recorded, Context(recorded))
        if isinstance(done, Awaitable):
            await done


_PLAIN = (dict, list, str, int, float, type(None))
"""What plain JSON decodes to."""


def as_it_is(annotation: object, where: str) -> object:
    """The annotation of a parameter that takes one event says which."""
    return annotation


def _is_async(handler: Callable[..., object]) -> bool:
    called: object = type(handler).__call__  # of an object that is no function
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(called)
