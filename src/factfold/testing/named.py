"""Streams and events as a test names them: their types for the type checker, and the same checks at run time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, cast

from factfold.cache import AnyStream
from factfold.streams import Stream, no_stream

S = TypeVar("S")
E = TypeVar("E")


class Exactly(Protocol[S, E]):
    """A `Stream` whose state is S and whose events are E, and not only some of them.

    A `Stream` passes for one of a wider state and of fewer events, as it should where it is read or appended to. Where
    a test names a state or several events, that would let any value through (as an `object`), or refuse two events of
    different classes (as mypy takes both for one `object`).
    """

    @property
    def id(self) -> str: ...
    @property
    def _exactly(self) -> Callable[[S, E], tuple[S, E]]: ...


def checked_stream(where: str, stream: object) -> AnyStream:
    """The stream. Raises TypeError for what is none, saying how to give one."""
    if not isinstance(stream, Stream):
        raise no_stream(f".{where}()", stream)
    return cast("AnyStream", stream)  # of whatever state and events


def check_events(where: str, stream: AnyStream, events: Sequence[object]) -> None:
    """Refuses what the fold of the stream does not list. Raises TypeError saying what it lists."""
    by_class = stream.fold.by_class
    for event in events:
        if type(event) not in by_class:
            raise TypeError(
                f".{where}({stream.id}, ...): the fold {stream.fold.name} looks at "
                f"{', '.join(cls.__name__ for cls in by_class)}, and not at {event!r}.{_hint(where, event)}"
            )


def _hint(where: str, event: object) -> str:
    if isinstance(event, type):
        return f" It is a class: make an event of it, {event.__name__}(...)."
    if isinstance(event, list | tuple):
        return f" Give the events one by one: .{where}(stream, *events)."
    return " Give events of exactly these classes, or look at the stream through the fold that lists the others."
