"""Streams: a fold makes a stream type, a stream type called with the parts of an id makes a stream."""

from __future__ import annotations

import itertools
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar, overload
from uuid import UUID
from weakref import WeakValueDictionary

from msgspec import Struct

from factfold.annotations import describe, event_classes, names_around, show
from factfold.codec import EventType
from factfold.errors import DefinitionError, InvalidStreamIdError
from factfold.events import UNPRINTABLE, RecordedEvent, check_category
from factfold.folds import Fold, define, introduce

S = TypeVar("S")
E = TypeVar("E")
I = TypeVar("I")  # noqa: E741  # the type of the initial state
S_co = TypeVar("S_co", covariant=True)
E_contra = TypeVar("E_contra", contravariant=True)
I_contra = TypeVar("I_contra", contravariant=True)

IdPart: TypeAlias = "str | int | UUID"
"""What a part of a stream id may be."""

ID_LIMIT = 255
"""How many characters a whole stream id may have."""

# -- Streams and their types -------------------------------------------------------------------------------------------


class Stream(Struct, Generic[S_co, E_contra], frozen=True, eq=False):
    """One stream: its id, and the fold it is looked at through. Made by calling a stream type."""

    id: str
    """The whole id: `category:part/part`."""
    parts: tuple[str, ...]
    """The parts of the id as texts, not escaped."""
    fold: Fold
    key: tuple[str, Fold]
    suffix: str
    """What a fold's third parameter gets: the only part as it is; several escaped and joined by `/`, as in the id."""

    if TYPE_CHECKING:

        @property
        def _exactly(self) -> Callable[[S_co, E_contra], tuple[S_co, E_contra]]:
            """For type checkers alone: tells `factfold.testing` the very types of a stream, no wider ones."""
            ...

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"<Stream {self.id} as {self.fold.name}>"


class StreamType(Struct, Generic[S, E], frozen=True, eq=False, weakref=True):
    """A kind of stream: a category, an initial state and a fold. Made by `@stream`."""

    category: str
    """What the ids of its streams begin with."""
    initial: S
    """The state before the first event."""
    event_types: tuple[type[E], ...]
    """The event classes that the fold looks at."""
    fold: Fold
    _prefix: str
    _room: int

    def __call__(self, *parts: IdPart) -> Stream[S, E]:
        """The stream with this id: `accounts("alice")`. No part: the only one of its kind.

        Raises InvalidStreamIdError naming the part that breaks a rule.
        """
        if len(parts) == 1:
            part = parts[0]
            # the common case, by the fastest tests there are; what does not pass them gets a closer look below
            if (
                type(part) is str
                and part.isprintable()
                and "/" not in part
                and "%" not in part
                and 0 < len(part) <= self._room
            ):
                stream_id = self._prefix + part
                fold = self.fold
                return Stream(stream_id, (part,), fold, (stream_id, fold), part)
        return self._named(tuple([_text(part, self.category) for part in parts]))

    def of(self, recorded: RecordedEvent[object]) -> tuple[Stream[S, E], ...]:
        """The streams of this category that an event belongs to."""
        ids = [stream_id for stream_id in recorded.stored.streams if category_of(stream_id) == self.category]
        return tuple([self._named(parts_of(stream_id)) for stream_id in ids])

    def _named(self, parts: tuple[str, ...]) -> Stream[S, E]:
        escaped = "/".join([part.replace("%", "%25").replace("/", "%2F") for part in parts])
        if len(escaped) > self._room:
            longest = max(parts, key=len)
            raise InvalidStreamIdError(
                f"A stream id has at most {ID_LIMIT} characters, and {self._prefix}{escaped[:20]}... would have "
                f"{len(self._prefix) + len(escaped)}. Its longest part is {longest[:40]!r}: shorten it or hash it.",
                longest,
            )
        stream_id = self._prefix + escaped
        return Stream(stream_id, parts, self.fold, (stream_id, self.fold), suffix_of(stream_id))

    def __repr__(self) -> str:
        return f"<StreamType {self.fold.name}, category {self.category}>"


def no_stream(reader: str, given: object) -> TypeError:
    """The error for something else that was given to what reads streams."""
    if isinstance(given, StreamType):
        hint = " It is a stream type: call it with an id, as in accounts('alice')."
    elif isinstance(given, Mapping):
        hint = " Give its values."
    elif isinstance(given, Iterable) and not isinstance(given, str | bytes):
        hint = " Give the streams one by one, or a single iterable of them."
    else:
        hint = ""
    return TypeError(f"{reader} reads streams, such as accounts('alice'), and was given {given!r}.{hint}")


# -- Stream ids --------------------------------------------------------------------------------------------------------

_TOO_LONG = 10**ID_LIMIT
_NO_ESCAPE = re.compile("%(?!25|2F)")


def category_of(stream_id: str) -> str:
    """The category of a stream id."""
    return stream_id.partition(":")[0]


def suffix_of(stream_id: str) -> str:
    """What a fold's third parameter gets in the stream with this id."""
    escaped = stream_id.partition(":")[2]
    if "%" not in escaped or "/" in escaped:
        return escaped
    return _unescaped(escaped)  # one part, which an event holds as it is: `id == event.target`


def _unescaped(part: str) -> str:
    return part.replace("%2F", "/").replace("%25", "%")


def parts_of(stream_id: str) -> tuple[str, ...]:
    """The parts of a stream id as texts. Raises InvalidStreamIdError for what no stream type would have made."""
    category, colon, suffix = stream_id.partition(":")
    check_category(category, system=True)
    escaped = suffix.split("/") if suffix else []
    if not colon or not all(escaped) or _NO_ESCAPE.search(suffix) or UNPRINTABLE.search(suffix):
        raise InvalidStreamIdError(
            f"{stream_id!r} is no stream id: that is `category:part/part`, with `%2F` for `/` and `%25` for `%` inside "
            "of parts, without empty parts or control characters.",
            stream_id,
        )
    return tuple([_unescaped(part) for part in escaped])


def _text(part: object, category: str) -> str:
    """A part of an id as text. Raises InvalidStreamIdError."""
    if type(part) is str and part and part.isprintable():
        return part
    if isinstance(part, str):
        text = str.__str__(part)  # the text itself, also where a subclass shows something else
    elif isinstance(part, UUID):
        text = str(part)
    elif isinstance(part, int) and not isinstance(part, bool):
        if not -_TOO_LONG < part < _TOO_LONG:
            raise _bad_part(category, part, "is a number of at most 255 digits")
        text = int.__repr__(part)
    else:
        raise _bad_part(category, part, f"is a str, an int or a UUID, not a {type(part).__name__}")
    if not text:
        raise _bad_part(category, part, "is not empty")
    if found := UNPRINTABLE.search(text):
        rule = "holds no control character and no half of a surrogate pair"
        raise _bad_part(category, part, f"{rule}, and there is {found[0]!r} at index {found.start()}")
    return text


def _bad_part(category: str, part: object, rule: str) -> InvalidStreamIdError:
    try:
        shown = repr(part)
    except ValueError:  # Python refuses to write out numbers of thousands of digits
        shown = "..."
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return InvalidStreamIdError(f"{category}({shown}): a part of a stream id {rule}.", part)


# -- The decorator -----------------------------------------------------------------------------------------------------


class FoldFunction(Protocol[I_contra, S, E_contra]):
    """A fold: the state and an event give the next state. It takes the initial state too."""

    @overload
    def __call__(self, state: S, event: E_contra, /) -> S: ...
    @overload
    def __call__(self, state: I_contra, event: E_contra, /) -> S: ...


class FoldFunctionWithId(Protocol[I_contra, S, E_contra]):
    """A fold that is also told which stream it is: the `suffix` of it."""

    @overload
    def __call__(self, state: S, event: E_contra, id: str, /) -> S: ...
    @overload
    def __call__(self, state: I_contra, event: E_contra, id: str, /) -> S: ...


class StreamDecorator(Generic[I]):
    """What `stream(...)` gives: above a fold, it makes a stream type."""

    __slots__ = ("_category", "_initial", "_snapshot_every", "_snapshot_version")

    def __init__(
        self, category: str, initial: I, snapshot_every: int | None, snapshot_version: int, *, system: bool = False
    ) -> None:
        self._category = check_category(category, system=system)
        self._initial = initial
        where = f"@stream({category!r})"
        self._snapshot_every = None if snapshot_every is None else _counted(snapshot_every, f"{where}: snapshot_every")
        self._snapshot_version = _counted(snapshot_version, f"{where}: snapshot_version")

    @overload
    def __call__(self, fold: FoldFunction[I, S, E], /) -> StreamType[S, E]: ...
    @overload
    def __call__(self, fold: FoldFunctionWithId[I, S, E], /) -> StreamType[S, E]: ...
    def __call__(self, fold: Callable[..., object], /) -> StreamType[Any, Any]:
        """Makes the stream type. Raises DefinitionError saying what is wrong with the fold, its state or its events."""
        names = names_around(fold)
        made = define(
            self._category,
            self._initial,
            fold,
            names,
            snapshot_every=self._snapshot_every,
            snapshot_version=self._snapshot_version,
        )
        prefix = f"{self._category}:"
        with _lock:
            _folds[next(_numbers)] = made
            introduce(fold for fold in _living() if fold.category == made.category and fold.place == made.place)
        return StreamType(self._category, self._initial, tuple(made.by_class), made, prefix, ID_LIMIT - len(prefix))


def stream(
    category: str, *, initial: I, snapshot_every: int | None = None, snapshot_version: int = 1
) -> StreamDecorator[I]:
    """Makes a stream type of the fold below it, a pure function `(state, event) -> state`.

    Its event types come from the annotation of the second parameter. A third parameter `id: str` gets the stream's id
    without its category: the one part that the stream type was called with, as text, or several parts, each escaped
    and joined by `/`, as `accounts(tenant, number).suffix` gives them.

    `initial` is the state before the first event. `snapshot_every`: the state is saved after a load that folded more
    than so many events; `snapshot_version`: raise it when the fold changes its mind about the past.
    Raises DefinitionError, InvalidStreamIdError.
    """
    return StreamDecorator(category, initial, snapshot_every, snapshot_version)


def system_stream_type(category: str, *, initial: I) -> StreamDecorator[I]:
    """`stream` for the library's own streams, whose category begins with `$`."""
    return StreamDecorator(category, initial, None, 1, system=True)


def _counted(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise DefinitionError(f"{what} is a whole number from 1 on, not {value!r}.")
    return value


# -- What is defined in this process -----------------------------------------------------------------------------------

_folds: WeakValueDictionary[int, Fold] = WeakValueDictionary()
_numbers = itertools.count()
_lock = threading.Lock()


def _renew_lock() -> None:
    """In a forked child: the thread that may hold the old lock is not in this process."""
    global _lock  # noqa: PLW0603 (it is the module's)
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def _living() -> list[Fold]:
    """The folds that somebody still has, the newest last. The lock is held."""
    return [fold for _, fold in sorted(_folds.items())]


def event_type_of(category: str, type_name: str, class_name: str | None) -> EventType | None:
    """The event type with a stored name, as the living stream types of a category know it.

    Where they know several, it is the one whose class has this name (`module.name`), the newest if there are several
    still. None if there is none, or if that does not tell which one.
    """
    with _lock:
        newest_first = _living()[::-1]
    found = [
        fold.by_name[type_name] for fold in newest_first if fold.category == category and type_name in fold.by_name
    ]
    named = [one for one in found if describe(one.cls) == class_name]
    if named:
        return named[0]
    return found[0] if len(set(found)) == 1 else None


def foreign_categories(name: str, mine: EventType) -> frozenset[str]:
    """The categories whose living folds take this stored name for other classes only, while those of others take mine.

    Empty where no living fold takes mine: then it is a class for reading what others have written.
    """
    with _lock:
        folds = [fold for fold in _living() if name in fold.by_name]
    own = {fold.category for fold in folds if fold.by_name[name] is mine}
    return frozenset([fold.category for fold in folds]) - own if own else frozenset()


def types_of(annotation: object) -> tuple[type, ...]:
    """The event classes that a class, a union, an alias or a stream type lists. Raises DefinitionError."""
    if isinstance(annotation, Stream):
        raise DefinitionError(
            f"types={annotation!r}: this is one stream, which events(stream) reads. types= lists event classes, or is "
            "a stream type."
        )
    if isinstance(annotation, StreamType):
        return tuple(annotation.fold.by_class)
    return event_classes(annotation, f"types={show(annotation)}")
