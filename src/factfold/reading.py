"""Pages of the log and of streams: what is asked for next, and how stored events become recorded ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar, cast, overload

import msgspec

from factfold.cache import Decode
from factfold.codec import EventType, Transform, decoding_error, event_type
from factfold.errors import DecodingError, EncodingError
from factfold.events import RecordedEvent, check_category
from factfold.folds import Fold
from factfold.handlers import HandlerSet
from factfold.hub import Decoder
from factfold.job import check_count, refuse_inside_command
from factfold.overlay import Seal
from factfold.storage.base import AsyncLog, Log, LogPage, Selection, StoredEvent, StreamPage, version_in
from factfold.streams import Stream, StreamType, category_of, foreign_categories, no_stream, types_of

E = TypeVar("E")
PAGE = 1000
FIRST_PAGE = 100
PAGE_BYTES = 8 * 1024 * 1024
"""How many events a page has at most; how many the first one has, while nobody knows how large they are; and how many
bytes of data a page is to have, by what the page before it had.
"""

plain_json: Callable[[bytes], object] = msgspec.json.Decoder().decode


class Query(Generic[E]):
    """Reads the log, or one stream, page by page. Nothing is kept open between two pages.

    Args:
        template: the page to ask for, but for where it begins and its limit.
        after: where to begin.
        limit: how many events in all.
        by_name: how to decode which type; None for plain JSON.
        transform: what was done to the bytes.
        foreign: by type, the categories whose events of this name are of other classes, and left out.
    """

    def __init__(
        self,
        template: LogPage | StreamPage,
        after: int,
        limit: int | None,
        by_name: Mapping[str, EventType] | None,
        transform: Transform | None,
        foreign: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self._foreign = foreign
        self._template = template
        self._after = after if after or not template.backwards else None
        self._left = limit
        self._by_name = by_name
        self._transform = transform
        self._size = FIRST_PAGE
        self._ended = False

    def page(self) -> LogPage | StreamPage | None:
        """What to ask for next, None at the end. Raises NestedExecutionError: an iterator may end up in a command."""
        refuse_inside_command()
        size = min(PAGE, self._size, PAGE if self._left is None else self._left)
        if self._ended or size == 0:
            return None
        if isinstance(self._template, LogPage):
            return msgspec.structs.replace(self._template, after=self._after, limit=size)
        return msgspec.structs.replace(self._template, after_version=self._after, limit=size)

    def take(self, page: LogPage | StreamPage, stored: Sequence[StoredEvent]) -> Iterator[RecordedEvent[E]]:
        """The events of a page, each decoded when it is asked for. Raises DecodingError."""
        self._ended = len(stored) < page.limit
        stream = page.selection.stream if isinstance(page, StreamPage) else None
        if stored:
            self._after = stored[-1].position if stream is None else version_in(stored[-1], stream)
            self._size = size_after(stored)
        if self._foreign:
            stored = [one for one in stored if not is_foreign(one, self._foreign)]
        if self._left is not None:
            self._left -= len(stored)
        transform = self._transform
        opened = stored if transform is None else (_opened(transform, one, stream) for one in stored)
        events = _plain(opened, stream) if self._by_name is None else _typed(opened, self._by_name, stream)
        return cast("Iterator[RecordedEvent[E]]", events)  # by_name decodes to E


def size_after(stored: Sequence[StoredEvent]) -> int:
    """How many events the page after this one is to have."""
    size = sum([len(one.data) for one in stored])
    return min(PAGE, max(1, PAGE_BYTES * len(stored) // max(1, size)))


def stream_query(
    stream: Stream[object, E], after_version: int, limit: int | None, backwards: bool, transform: Transform | None
) -> Query[E]:
    """The events of a stream that its fold looks at."""
    refuse_inside_command()
    if type(stream) is not Stream:
        raise no_stream("events()", stream)
    _check_bounds("after_version", after_version, limit)
    selection = Selection(stream.id, stream.fold.selected)
    return Query(StreamPage(selection, None, 0, backwards), after_version, limit, stream.fold.by_name, transform)


def log_query(
    types: object,
    category: str | None,
    stream: str | None,
    after: int,
    limit: int | None,
    backwards: bool,
    system: bool,
    transform: Transform | None,
) -> Query[object]:
    """The events of the log, or of the stream with this id."""
    refuse_inside_command()
    _check_bounds("after", after, limit)
    check_category_asked_for(category)
    if stream is not None:
        if types is not None or category is not None or after:
            raise ValueError(
                f"log(stream={stream!r}) takes neither types nor category nor after: "
                "store.events(...) reads a stream decoded, and from a version on"
            )
        return Query(StreamPage(Selection(stream, None), None, 0, backwards), 0, limit, None, transform)
    by_name: Mapping[str, EventType] | None = None
    foreign: Mapping[str, frozenset[str]] = {}
    if isinstance(types, StreamType):
        stream_type = cast("StreamType[object, object]", types)  # of whatever state and events
        by_name, category = stream_type.fold.by_name, category or stream_type.category
    elif types is not None:
        by_name = event_types_by_name(types)
        if category is None:
            foreign = foreign_to(by_name)
    names = None if by_name is None else frozenset(by_name)
    return Query(LogPage(None, 0, names, category, backwards, system), after, limit, by_name, transform, foreign)


@overload
def read_page(log: Log, page: LogPage | StreamPage) -> Sequence[StoredEvent]: ...
@overload
def read_page(log: AsyncLog, page: LogPage | StreamPage) -> Awaitable[Sequence[StoredEvent]]: ...


def read_page(
    log: Log | AsyncLog, page: LogPage | StreamPage
) -> Sequence[StoredEvent] | Awaitable[Sequence[StoredEvent]]:
    """Asks a log for a page; an `AsyncLog` gives what is to be awaited."""
    return log.read(page) if isinstance(page, LogPage) else log.read_stream(page)


def decoder(transform: Transform | None) -> Decode:
    """How stored events become what folds take."""
    if transform is None:
        return Fold.decode

    def decode(fold: Fold, stored: StoredEvent, stream: str) -> object:
        return fold.decode(opened_by(transform, [stored], stream)[0], stream)

    return decode


def event_decoder(transform: Transform | None) -> Decoder:
    """How stored events become recorded ones, one by one."""

    def decode(stored: StoredEvent, event_type: EventType | None) -> RecordedEvent[object]:
        opened = opened_by(transform, [stored])
        return next(_plain(opened, None) if event_type is None else _typed(opened, {stored.type: event_type}, None))

    return decode


def sealer(transform: Transform) -> Seal:
    """How events become what is stored: rewritten, and certain to come back."""

    def seal(data: bytes) -> bytes:
        try:
            stored = transform.outgoing(data)
            plain_json(stored)
            if transform.incoming(stored) == data:
                return stored
        except Exception as error:
            raise EncodingError(f"The transform {transform!r} failed on {_short(data)}: {error!r}") from error
        raise EncodingError(
            f"The transform {transform!r} does not give {_short(data)} back: incoming(outgoing(data)) is something else"
        )

    return seal


def _short(data: bytes) -> str:
    return repr(data if len(data) <= 80 else data[:80] + b"...")


def opened_by(
    transform: Transform | None, stored: Sequence[StoredEvent], stream: str | None = None
) -> Sequence[StoredEvent]:
    """The events as they were before the transform rewrote them. Raises DecodingError."""
    return stored if transform is None else [_opened(transform, one, stream) for one in stored]


def _opened(transform: Transform, one: StoredEvent, stream: str | None) -> StoredEvent:
    try:
        return msgspec.structs.replace(one, data=transform.incoming(one.data))
    except Exception as error:
        raise DecodingError(
            f"The event at position {one.position} ({one.type}) could not be transformed back by {transform!r}: "
            f"{error!r}. Give the store the transform that the event was written with.",
            position=one.position,
            type=one.type,
            stream=stream,
            version=None if stream is None else one.streams.get(stream),
        ) from error


# Events are decoded one by one, as they are asked for, and not page by page: what is made, used and dropped at once
# stays in the processor's cache, and is no work for the garbage collector.


def _typed(
    stored: Iterable[StoredEvent], by_name: Mapping[str, EventType], stream: str | None
) -> Iterator[RecordedEvent[object]]:
    # `EventType.read`, without its call for events of today: this loop is what reading the log takes.
    decoders = {name: (known.version, known.decode) for name, known in by_name.items()}
    for one in stored:
        try:
            version, decode = decoders[one.type]
            if one.type_version == version:
                event = decode(one.data)
            else:
                event = by_name[one.type].read(one.data, one.type_version)
        except Exception as error:
            raise decoding_error(one, by_name.get(one.type), error, stream) from error
        yield RecordedEvent(one, event)


def foreign_to(by_name: Mapping[str, EventType]) -> Mapping[str, frozenset[str]]:
    """By stored name, the categories whose events of this name are of other classes."""
    return {name: found for name, known in by_name.items() if (found := foreign_categories(name, known))}


def is_foreign(one: StoredEvent, foreign: Mapping[str, frozenset[str]]) -> bool:
    """Whether an event is of such categories only."""
    categories = foreign.get(one.type)
    return categories is not None and all(category_of(stream) in categories for stream in one.streams)


def _plain(stored: Iterable[StoredEvent], stream: str | None) -> Iterator[RecordedEvent[object]]:
    for one in stored:
        try:
            event = plain_json(one.data)
        except Exception as error:
            raise _not_json(one, error, stream) from error
        yield RecordedEvent(one, event)


def _not_json(one: StoredEvent, error: Exception, stream: str | None) -> DecodingError:
    return DecodingError(
        f"The event at position {one.position} ({one.type}) is not JSON: {error}",
        position=one.position,
        type=one.type,
        stream=stream,
        version=None if stream is None else one.streams[stream],
    )


def event_types_by_name(types: object) -> Mapping[str, EventType]:
    """How the events of a class, a union, a stream type or of handlers are decoded.

    Raises DefinitionError; ValueError when two of them have the same stored name.
    """
    classes = types.types if isinstance(types, HandlerSet) else types_of(types)
    return merged_by_name(event_type(cls) for cls in classes)


def merged_by_name(event_types: Iterable[EventType]) -> Mapping[str, EventType]:
    """The event types by all of their stored names. Raises ValueError when two of them have the same one."""
    found: dict[str, EventType] = {}
    for known in event_types:
        for name in known.names:
            other = found.setdefault(name, known)
            if other is not known:
                raise ValueError(
                    f"types=...: {known.cls.__qualname__} and {other.cls.__qualname__} both stand for {name!r} in "
                    "the log. Read them one after another."
                )
    return found


def check_category_asked_for(category: object) -> None:
    """Refuses what no stream can be of: there would be nothing, and nobody would know why. None means all."""
    if category is not None:
        check_category(category, system=True)


def _check_bounds(name: str, after: object, limit: object) -> None:
    check_count(name, after)
    if limit is not None:
        check_count("limit", limit)
