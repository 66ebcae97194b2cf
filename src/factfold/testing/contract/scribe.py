"""A scribe writes to a log and knows what it must hold since: the model that engines are compared with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar
from uuid import uuid4

from factfold.storage.base import (
    EMPTY,
    Append,
    Appended,
    Check,
    Conflict,
    Head,
    Load,
    Log,
    LogPage,
    NewEvent,
    News,
    Selection,
    StoredEvent,
    Wanted,
)

T = TypeVar("T")

FAR_TOO_MANY = 50_000
"""More events than any test writes: who has read so many goes round in circles."""


def new(
    *streams: str,
    type: str = "Noted",
    data: bytes | None = None,
    metadata: bytes = b"{}",
    type_version: int = 1,
) -> NewEvent:
    """An event for these streams; its data is different from that of any other, unless it is given."""
    id = uuid4().bytes
    return NewEvent(id, type, type_version, data or f'{{"note":"{id.hex()}"}}'.encode(), metadata, streams)


def several(count: int, *streams: str, type: str = "Noted") -> list[NewEvent]:
    """So many events for these streams."""
    return [new(*streams, type=type) for _ in range(count)]


def selection(stream: str, *types: str) -> Selection:
    """The events of a stream that have one of these types; all, when none is given."""
    return Selection(stream, frozenset(types) if types else None)


def asking(after: Head, *selections: Selection, versions: Mapping[str, int] | None = None) -> Check:
    """The question whether one of the selections has an event above `after`."""
    return Check(selections, after, versions or {})


def appending(
    events: Iterable[NewEvent],
    after: Head,
    *selections: Selection,
    versions: Mapping[str, int] | None = None,
    empty: Sequence[str] = (),
) -> Append:
    """The request to append these events if nothing in the selections is above `after`, and nothing in `empty`."""
    return Append(tuple(events), asking(after, *selections, versions=versions), tuple(empty))


def loading(*wanted: Selection | Wanted, after: Head | None = None, limit: int = 10_000) -> Load:
    """The request to load these selections, from their beginnings where no version is given."""
    return Load(tuple(w if isinstance(w, Wanted) else Wanted(w, 0) for w in wanted), after, limit)


def facts(events: Iterable[StoredEvent]) -> list[dict[str, object]]:
    """The events as plain values that can be compared: engines may store JSON in another spelling, so it is parsed."""
    return [
        {
            "position": stored.position,
            "id": stored.id.hex(),
            "type": stored.type,
            "type_version": stored.type_version,
            "data": _value(stored.data),
            "metadata": _value(stored.metadata),
            "streams": dict(stored.streams),
            "recorded_at": stored.recorded_at,
        }
        for stored in events
    ]


def _value(data: bytes) -> object:
    """The JSON value, with every digit of its numbers, which Python would take for booleans."""

    def number(text: str) -> tuple[str, Decimal]:
        return "number", Decimal(text)

    value: object = json.loads(data, parse_int=number, parse_float=number)
    return value


class Scribe:
    """Writes to a log that nobody else writes to, checks each answer, and keeps what the log must hold."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.events: list[StoredEvent] = []
        self.versions: dict[str, int] = {}

    @property
    def head(self) -> Head:
        """Where the log must end."""
        return self.events[-1].head if self.events else EMPTY

    def write(self, *events: NewEvent) -> Appended:
        """Appends in one go, unconditionally."""
        return self.must_append(appending(events, self.head))

    def must_append(self, append: Append) -> Appended:
        """Sends an append that nothing stands against."""
        return self.wrote(append, self.log.append(append))

    def wrote(self, append: Append, answer: Appended | Conflict | None) -> Appended:
        """Takes down what an append has written, after checking the answer to it."""
        assert isinstance(answer, Appended), f"nothing stood against this append, and yet the answer was {answer}"
        assert answer.first == len(self.events) + 1, "positions are 1, 2, 3, ... in order, without gaps"
        before = {stream: self.versions.get(stream, 0) for event in append.events for stream in event.streams}
        assert dict(answer.versions) == before, "`versions` are those of its streams before the append"
        for position, event in enumerate(append.events, answer.first):
            for stream in event.streams:
                self.versions[stream] = self.versions.get(stream, 0) + 1
            self.events.append(
                StoredEvent(
                    position,
                    event.id,
                    event.type,
                    event.type_version,
                    event.data,
                    event.metadata,
                    {stream: self.versions[stream] for stream in event.streams},
                    answer.recorded_at,
                )
            )
        return answer

    def since(self, head: Head) -> list[StoredEvent]:
        """What was written after `head`."""
        return self.events[head.position :]

    def of(self, selection: Selection, after_version: int = 0) -> list[StoredEvent]:
        """What was written to a selection above a version of its stream."""
        return [
            stored
            for stored in self.events
            if stored.streams.get(selection.stream, 0) > after_version
            and (selection.types is None or stored.type in selection.types)
        ]

    def assert_unchanged(self) -> None:
        """The log holds what this scribe wrote to it, all of it and nothing else."""
        assert self.log.head() == self.head, "the log's head is its last event"
        assert facts(read_log(self.log)) == facts(self.events), "the log holds what was written, and nothing else"
        for stream, version in self.versions.items():
            found = self.log.load(loading(selection(stream), limit=len(self.events) + 1)).slices[0]
            assert found.version == version, f"{stream} has {version} events"
            assert facts(found.events) == facts(self.of(selection(stream)))

    def assert_told(self, news: News, after: Head, touched: set[int]) -> None:
        """The news since `after` are complete and exact."""
        assert news.after == after, "`after` is the head that was asked with"
        assert news.head == self.head, "`head` is the last event that was taken into account"
        assert not news.too_far, f"{self.head.position - after.position} events are not too far"
        assert facts(news.events) == facts(self.since(after)), "the news are all that was appended since, in order"
        assert news.touched == touched, "`touched` are the selections with an event above `after`, all of them"

    def assert_too_far(self, news: News, after: Head, touched: set[int]) -> None:
        """The news since `after` are past the bound, and still say exactly which selections are touched."""
        assert news.after == after, "`after` is the head that was asked with"
        assert news.head == self.head, "`head` is the last event that was taken into account"
        assert news.too_far, f"{self.head.position - after.position} events are too far to be told"
        assert not news.events, "news that are too far hold no events, rather than some of them"
        assert news.touched == touched, "`touched` is exact, also when it is too far"


def all_pages(next_page: Callable[[T | None], Sequence[T]]) -> list[T]:
    """Everything, page after page, each asked for with the last item of the one before."""
    found: list[T] = []
    while page := next_page(found[-1] if found else None):
        found += page
        assert len(found) < FAR_TOO_MANY, "the pages do not end: they do not go on where the one before ended"
    return found


def read_log(log: Log) -> list[StoredEvent]:
    """The whole log, the library's own events too."""
    return all_pages(lambda last: log.read(LogPage(last.position if last else 0, 1000, system=True)))


def load_in_steps(log: Log, selections: Sequence[Selection], limit: int) -> list[list[StoredEvent]]:
    """The events of the selections, loaded again from where they were cut until all are complete."""
    found: list[list[StoredEvent]] = [[] for _ in selections]
    versions = [0] * len(selections)
    missing = list(range(len(selections)))
    while missing:
        wanted = [Wanted(selections[index], versions[index]) for index in missing]
        loaded = log.load(loading(*wanted, limit=limit))
        assert len(loaded.slices) == len(wanted), "a load answers with one slice for each selection"
        brought = sum(len(slice.events) for slice in loaded.slices)
        assert brought <= 2 * limit + len(wanted), f"a load of {limit} brought {brought} events"
        assert brought or all(slice.complete for slice in loaded.slices), "an incomplete load brings at least one event"
        for index, slice in zip(missing, loaded.slices, strict=True):
            found[index] += slice.events
            assert len(found[index]) < FAR_TOO_MANY, "the slices do not end: they do not go on where they were cut"
            if slice.events:
                versions[index] = slice.events[-1].streams[selections[index].stream]
        missing = [index for index, slice in zip(missing, loaded.slices, strict=True) if not slice.complete]
    return found
