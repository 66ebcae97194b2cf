"""Hypothesis strategies for events, and for histories of a stream: whatever could be stored, and be folded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast, overload

try:
    from hypothesis import reject
    from hypothesis import strategies as st
    from hypothesis.strategies import DrawFn, SearchStrategy
except ModuleNotFoundError as error:
    if error.name != "hypothesis":
        raise
    raise ModuleNotFoundError(
        "factfold.testing.strategies needs hypothesis, which is not installed: pip install 'factfold[test]'",
        name=error.name,
    ) from error

from factfold.annotations import describe, event_classes, show
from factfold.cache import AnyStream
from factfold.codec import EventType, event_type
from factfold.errors import EncodingError
from factfold.streams import Stream, StreamType, no_stream
from factfold.testing.drawing import Drawing
from factfold.testing.named import Exactly

__all__ = ["events", "histories"]

S = TypeVar("S")
E = TypeVar("E")

# Any, as a mapping whose keys are of one type is, to type checkers, none whose keys are objects.
Using = Mapping[Any, SearchStrategy[object]]
"""Strategies by the class (or the `NewType`, or the alias) of what they make."""

TRIES = 20
"""How many events are drawn for a place in a history before it ends there."""


@overload
def events(of: StreamType[S, E], *, using: Using = ...) -> SearchStrategy[E]: ...
@overload
def events(of: type[E], *, using: Using = ...) -> SearchStrategy[E]: ...
@overload
def events(of: object, *, using: Using = ...) -> SearchStrategy[object]: ...
def events(of: object, *, using: Using = {}) -> SearchStrategy[object]:  # noqa: B006 (nobody changes it)
    """Events of a class, of any class of a union, or of those that a stream type lists.

    They can be stored by every engine and come back equal. Times are in UTC. Of what a class refuses with a ValueError,
    none is made. `using` gives strategies for classes (of events, or of what is in them), `NewType`s and aliases.

    Raises:
        DefinitionError: it is no event class.
        TypeError: an event holds something that hypothesis does not know how to make.
    """
    if isinstance(of, StreamType):
        return _any_of(of.fold.by_class, using)
    if isinstance(of, Stream):
        raise TypeError(f"events({of!r}): give the stream type, events({of.fold.name.rpartition('.')[2]})")
    return _any_of({cls: event_type(cls) for cls in event_classes(of, f"events({show(of)})")}, using)


@overload
def histories(
    of: StreamType[S, E], *, min_size: int = 0, max_size: int = 10, using: Using = ...
) -> SearchStrategy[tuple[E, ...]]: ...
@overload
def histories(
    of: Exactly[S, E], *, min_size: int = 0, max_size: int = 10, using: Using = ...
) -> SearchStrategy[tuple[E, ...]]: ...
def histories(
    of: object,
    *,
    min_size: int = 0,
    max_size: int = 10,
    using: Using = {},  # noqa: B006 (nobody changes it)
) -> SearchStrategy[tuple[object, ...]]:
    """Events that may have happened in a stream, in order: each one is such that the fold takes it without raising.

    For a fold that is also told which stream it is, give the stream: `histories(accounts("alice"))`.

    Raises:
        TypeError: it is neither a stream type nor a stream; and as `events`.
        ValueError: the sizes are no range.
    """
    if not isinstance(of, Stream | StreamType):
        raise no_stream("histories()", of)
    _check_sizes(min_size, max_size)
    stream = cast("AnyStream", of if isinstance(of, Stream) else of())  # of whatever state and events
    fold = stream.fold
    event = _any_of(fold.by_class, using)

    @st.composite
    def history(draw: DrawFn) -> tuple[object, ...]:
        state, drawn = fold.initial, list[object]()
        for _ in range(draw(st.integers(min_size, max_size))):
            for _ in range(TRIES):
                candidate = draw(event)
                _, twin = fold.by_class[type(candidate)].encode(candidate)
                try:
                    state = fold.evolve(state, twin, stream.suffix)
                except Exception:  # noqa: BLE001 (whatever it raises, this could not have happened)
                    continue
                drawn.append(candidate)
                break
            else:
                break
        return tuple(drawn) if len(drawn) >= min_size else reject()

    return history()


def _any_of(types: Mapping[type, EventType], using: Using) -> SearchStrategy[Any]:
    drawing = Drawing(_checked(using))
    return st.one_of([drawing.of(cls, describe(cls)).filter(_storable(each)) for cls, each in types.items()])


def _storable(of: EventType) -> Callable[[object], bool]:
    def can_be_stored(event: object) -> bool:
        try:
            of.encode(event)
        except EncodingError:
            return False
        return True

    return can_be_stored


def _checked(using: Using) -> Using:
    if not _is_mapping(using):
        raise TypeError(f"using={using!r}: a mapping is needed, from a class to a strategy: {{Money: st.builds(...)}}")
    for name, strategy in using.items():
        if not _is_strategy(strategy):
            raise TypeError(f"using={{{show(name)}: {strategy!r}}}: a strategy is needed, such as st.builds(...)")
    return using


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_strategy(value: object) -> bool:
    return isinstance(value, SearchStrategy)


def _check_sizes(low: object, high: object) -> None:
    if not isinstance(low, int) or not isinstance(high, int) or not 0 <= low <= high:
        raise ValueError(f"histories(min_size={low!r}, max_size={high!r}): whole numbers, 0 <= min_size <= max_size")
