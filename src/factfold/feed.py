"""One subscription's way along the log: from the ring where it can, from the log where it must. No I/O is done here.

A feed rests on a head of the log, a position and the id of the event there: everything up to it was handed over, or
does not pass the filter. It goes on only with what follows on just that head; where the log does not have it any more,
the storage says `LogDivergedError`. So nothing is missed, nothing comes twice, and no other log is taken for this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from msgspec import Struct

from factfold.cache import AnyStream
from factfold.codec import EventType
from factfold.events import RecordedEvent
from factfold.hub import Decoder, Hub, Published
from factfold.reading import (
    FIRST_PAGE,
    check_category_asked_for,
    event_types_by_name,
    foreign_to,
    is_foreign,
    merged_by_name,
    size_after,
)
from factfold.storage.base import Check, Head, LogPage, News, StoredEvent
from factfold.streams import Stream, StreamType, category_of, no_stream

# -- What is wanted ----------------------------------------------------------------------------------------------------


class Filter(Struct, frozen=True):
    """Which events a subscription wants, and as what it decodes them.

    `by_name` None: any but the library's own, as plain JSON. `streams` maps ids to the types wanted of them, None: all
    of `by_name`. `foreign` are the categories, by type, whose events of this name are of other classes.
    """

    by_name: Mapping[str, EventType] | None
    category: str | None
    streams: Mapping[str, frozenset[str] | None] | None
    foreign: Mapping[str, frozenset[str]]

    @staticmethod
    def of(types: object, category: str | None, streams: object) -> Filter:
        """The filter that the arguments of `subscribe` mean. Raises TypeError and ValueError where they mean none."""
        check_category_asked_for(category)
        chosen = None if streams is None else _streams(streams)
        if isinstance(types, StreamType):
            stream_type = cast("StreamType[object, object]", types)  # of whatever state and events
            by_name: Mapping[str, EventType] | None = stream_type.fold.by_name
            category = category or stream_type.category
        elif types is not None:
            by_name = event_types_by_name(types)
        elif chosen is not None:
            by_name = merged_by_name(each for stream in chosen for each in stream.fold.by_name.values())
        else:
            by_name = None
        if chosen is None:
            return Filter(by_name, category, None, foreign_to(by_name or {}) if category is None else {})
        wanted: dict[str, frozenset[str] | None] = {}
        for stream in chosen:
            known = wanted.get(stream.id) or frozenset()
            wanted[stream.id] = None if types is not None else known | stream.fold.selected
        return Filter(by_name, category, wanted, {})

    def takes(self, stored: StoredEvent) -> bool:
        """Whether this event is wanted."""
        type = stored.type
        if type.startswith("$") if self.by_name is None else type not in self.by_name:
            return False
        if self.category is not None and not any(category_of(stream) == self.category for stream in stored.streams):
            return False
        if self.streams is None:
            return not self.foreign or not is_foreign(stored, self.foreign)
        wanted = [self.streams[stream] for stream in stored.streams if stream in self.streams]
        return any(types is None or type in types for types in wanted)

    def page(self, after: int, limit: int) -> LogPage:
        """A page of the log, with as little else as the storage can tell apart."""
        category = self.category
        if category is None and self.streams is not None:
            categories = {category_of(stream) for stream in self.streams}
            category = categories.pop() if len(categories) == 1 else None
        return LogPage(after, limit, None if self.by_name is None else frozenset(self.by_name), category)


def _streams(given: object) -> list[AnyStream]:
    streams: Iterable[object] = (given,)
    if isinstance(given, Iterable) and not isinstance(given, str | bytes):
        streams = cast("Iterable[object]", given)  # each is checked below
    chosen: list[AnyStream] = []
    for stream in streams:
        if not isinstance(stream, Stream):
            raise no_stream("subscribe(streams=...)", stream)
        chosen.append(cast("AnyStream", stream))  # of whatever state and events
    if not chosen:
        raise ValueError("subscribe(streams=...) was given no stream, and would wait for ever. Leave it out for all.")
    return chosen


# -- The way -----------------------------------------------------------------------------------------------------------


class Feed:
    """What a subscription has had, and what it needs next. For one consumer at a time.

    A driver calls `next` until it gives None, then does what `request` says and hands the answer over to `heard` or
    `read`. When `request` is None too, it waits until the hub moves, or calls `doubt` when it has waited for long.
    """

    def __init__(self, hub: Hub, filter: Filter, head: Head, decode: Decoder) -> None:
        self.head = head
        self._hub = hub
        self._filter = filter
        self._decode = decode
        self._ready: Iterator[Published] = iter(())
        self._target: Head | None = None  # while the log is read by pages: how far
        self._after = head.position
        self._size = FIRST_PAGE
        self._doubts = True
        self._seen = self._moves = 0

    def next(self) -> Published | None:
        """What comes next, if it is at hand."""
        while True:
            for published in self._ready:
                return published
            found = self._hub.since(self.head) if self._target is None else None
            if not found:
                return None
            self._take(found, found[-1].head)

    def recorded(self, published: Published) -> RecordedEvent[object]:
        """An event, decoded. Raises DecodingError."""
        by_name = self._filter.by_name
        return published.recorded(None if by_name is None else by_name[published.stored.type], self._decode)

    def request(self) -> Check | LogPage | None:
        """What to ask the log for; None when there is nothing to be had before the hub moves."""
        if self._target is not None:
            return self._filter.page(self._after, self._size)
        hub = self._hub
        self._moves = hub.moves
        if hub.since(self.head) is not None:
            return None
        if self._doubts or (self._moves != self._seen and not hub.is_behind(self.head)):
            return Check((), self.head, {})
        return None

    def heard(self, news: News) -> None:
        """The answer to a `Check`: what follows on the head, or that it is too much and has to be read by pages."""
        self._doubts, self._seen = False, self._moves
        if news.too_far:
            self._after, self._target = self.head.position, news.head
        else:
            self._take([Published(stored) for stored in news.events], news.head)

    @property
    def position(self) -> int:
        """Up to where all was handed over or does not pass the filter, once `next` has given None."""
        return self.head.position if self._target is None else self._after

    def read(self, stored: Sequence[StoredEvent]) -> None:
        """The answer to a `LogPage`.

        What stands above the target is left for the next check. That one asks for the target too, so it would show if
        another log had taken this one's place while it was read.
        """
        target = self._target
        assert target is not None
        found = [Published(one) for one in stored if one.position <= target.position]
        if len(found) < self._size:
            self._take(found, target)
        else:
            self._take(found, self.head, target)
            self._size = size_after(stored)

    def doubt(self) -> None:
        """Nothing has come for long: the log is to be asked, where the ring cannot say that there is nothing."""
        self._doubts = True

    def _take(self, found: Sequence[Published], head: Head, target: Head | None = None) -> None:
        takes = self._filter.takes
        ready = iter([published for published in found if takes(published.stored)])
        after = head.position if target is None else found[-1].head.position
        # One step, so that an interrupt leaves all of it as it was.
        self._ready, self.head, self._target, self._after = ready, head, target, after
