"""What is read from a log in Valkey, as generators that ask scripts: pages, slices, news, and what is damaged."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from uuid import UUID

from factfold.errors import LogDivergedError, StorageFormatError
from factfold.storage._valkey_steps import Route, Rules, Steps
from factfold.storage._valkey_wire import (
    ASK,
    ENDS,
    FILTER,
    LOAD,
    STREAM,
    Indices,
    Keys,
    Reply,
    binary,
    decode_news,
    decode_rows,
    encode_question,
    items,
    number,
)
from factfold.storage.base import (
    EMPTY,
    NEWS_BYTES,
    NEWS_LIMIT,
    Check,
    Head,
    Load,
    Loaded,
    LogPage,
    News,
    Selection,
    Slice,
    StoredEvent,
    StreamInfo,
    StreamPage,
    version_in,
)

LOOKED_AT = 5000
"""How many events one call of a script looks at when it filters the log: the server does nothing else meanwhile."""

PAGE = 500
"""How many events are asked for at once where no script filters them."""

LOAD_BYTES = 32 * 1024 * 1024
"""After how many bytes a load is cut, however few events they are."""

WAIT_SLICE = 0.25
"""Seconds that waiting for events blocks until it asks again: a lost wake-up, or a closed engine, is noticed then."""


class Reading:
    """The operations of one namespace that write nothing."""

    def __init__(self, name: str, keys: Keys, route: Route, rules: Rules) -> None:
        self.name = name
        self._keys = keys
        self._route = route
        self._rules = rules

    def head(self) -> Steps[Head]:
        """The last event."""
        entries = items((yield from self._route.command("XREVRANGE", self._keys.tail, "+", "-", "COUNT", 1)))
        if not entries:
            return EMPTY
        entry, fields = items(entries[0])
        return Head(int(binary(entry).partition(b"-")[0]), binary(items(fields)[1]))

    def check(self, check: Check) -> Steps[News]:
        """The news about selections, without the lock."""
        indices = Indices(self._keys)
        question = self.question(check.after, indices.selections(check.selections), indices)
        answer = yield from self._route.run(
            ASK, indices.keys, (encode_question(question), check.after.id), reading=False
        )
        if answer[0] == b"diverged":
            raise self.diverged(check.after, answer)
        return decode_news(check.after, answer, self.name)

    def load(self, load: Load) -> Steps[Loaded]:
        """All slices by one script: one snapshot."""
        indices = Indices(self._keys)
        selections = [
            (*selection, wanted.after_version)
            for wanted, selection in zip(
                load.wanted, indices.selections(wanted.selection for wanted in load.wanted), strict=True
            )
        ]
        question = self.question(load.after, selections, indices) | {"limit": load.limit, "bytes": LOAD_BYTES}
        arguments = (encode_question(question), b"" if load.after is None else load.after.id)
        answer = yield from self._route.run(LOAD, indices.keys, arguments)
        news: News | None = None
        if load.after is not None:
            if answer[0] == b"diverged":
                raise self.diverged(load.after, answer)
            news = decode_news(load.after, answer, self.name)
        slices: list[Slice] = []
        for each in items(answer[6]):
            version, complete, positions, rows = items(each)
            events = decode_rows(items(positions), items(rows), self.name)
            slices.append(Slice(tuple(events), number(version), bool(complete)))
        return Loaded(tuple(slices), Head(number(answer[1]), binary(answer[2])), news)

    def read(self, page: LogPage) -> Steps[Sequence[StoredEvent]]:
        """A page of the log: by positions, filtered by the server where types or a category narrow it."""
        head = (yield from self.head()).position
        if page.backwards:
            at, last, step = min(head, head if page.after is None else page.after - 1), 1, -1
        else:
            at, last, step = (page.after or 0) + 1, head, 1
        found: list[StoredEvent] = []
        while (last - at) * step >= 0 and len(found) < page.limit:
            if page.types is None and page.category is None:
                stop = at + step * (min(PAGE, page.limit - len(found), abs(last - at) + 1) - 1)
                positions = range(at, stop + step, step)
                rows = items((yield from self._route.command("HMGET", self._keys.log, *positions)))
                events: Iterable[StoredEvent] = decode_rows(positions, rows, self.name)
                found += events if page.system else (each for each in events if not each.type.startswith("$"))
                at = stop + step
            else:
                stop = at + step * min(LOOKED_AT - 1, abs(last - at))
                question = {
                    "first": at,
                    "last": stop,
                    "limit": page.limit - len(found),
                    "types": None if page.types is None else list(page.types),
                    "category": None if page.category is None else f"{page.category}:",
                    "system": page.system,
                }
                answer = yield from self._route.run(FILTER, self._keys.fixed, (encode_question(question),))
                found += decode_rows(items(answer[1]), items(answer[2]), self.name)
                at = number(answer[0]) + step
        return found

    def read_stream(self, page: StreamPage) -> Steps[Sequence[StoredEvent]]:
        """A page of one stream, by its index."""
        indices = Indices(self._keys)
        question = {
            "selections": indices.selections([page.selection]),
            "types": indices.types,
            "after": page.after_version,
            "backwards": page.backwards,
            "limit": page.limit,
        }
        positions, rows = yield from self._route.run(STREAM, indices.keys, (encode_question(question),))
        return decode_rows(items(positions), items(rows), self.name)

    def streams(self, category: str | None, after: str, limit: int) -> Steps[Sequence[StreamInfo]]:
        """Names from the sorted set, then their ends: streams only ever grow."""
        names: list[str] = []
        for low, high in _name_ranges(category, after):
            if len(names) < limit:
                names += yield from self._names(low, high, limit - len(names))
        if not names:
            return []
        indices = Indices(self._keys)
        for name in names:
            indices.of(name)
        ends = yield from self._route.run(ENDS, indices.keys, (encode_question({}),))
        return [
            StreamInfo(name, number(items(end)[0]), number(items(end)[1]))
            for name, end in zip(names, ends, strict=True)
        ]

    def wait(self, after: int, timeout: float) -> Steps[int]:
        """Blocks on the head, in slices."""
        deadline = time.monotonic() + timeout
        while True:
            position = (yield from self.head()).position
            remaining = deadline - time.monotonic()
            if position > after or remaining <= 0:
                return position
            milliseconds = max(1, round(1000 * min(WAIT_SLICE, remaining)))
            yield from self._route.command(
                "XREAD", "BLOCK", milliseconds, "STREAMS", self._keys.tail, f"{after}-{_LAST}", reading=False
            )

    def problems(self) -> Steps[list[str]]:
        """Events that their streams do not list, and records of streams whose events say otherwise."""
        found: list[str] = []
        try:
            head = (yield from self.head()).position  # others may write faster than this can look
            position = 0
            while position < head:
                position = yield from self._find_unlisted(position, head, found)
            low = "-"
            while names := (yield from self._names(low, "+", PAGE)):
                for stream in names:
                    version: int | None = 0
                    while version is not None:
                        version = yield from self._find_misplaced(stream, version, found)
                low = f"({names[-1]}"
        except StorageFormatError as error:
            found.append(str(error))  # it can be read no further
        return found

    # -- Inside --------------------------------------------------------------------------------------------------------

    def _find_unlisted(self, after: int, head: int, found: list[str]) -> Steps[int]:
        """Looks at one page of the log; where the next one begins."""
        events = yield from self.read(LogPage(after, min(PAGE, head - after), system=True))
        if not events:
            return head
        for stream in dict.fromkeys(name for stored in events for name in stored.streams):
            own = {version_in(stored, stream): stored.position for stored in events if stream in stored.streams}
            page = StreamPage(Selection(stream, None), min(own) - 1, max(own) - min(own) + 1)
            listed = {stored.position for stored in (yield from self.read_stream(page))}
            found += [
                f"{stream} has version {version} at position {position}, and its index does not list it"
                for version, position in own.items()
                if position not in listed
            ]
        return events[-1].position

    def _find_misplaced(self, stream: str, after: int, found: list[str]) -> Steps[int | None]:
        """Looks at one page of a stream; where the next one begins."""
        events = yield from self.read_stream(StreamPage(Selection(stream, None), after, PAGE))
        found += [
            f"{stream} has version {version} at position {stored.position}, and the event there says otherwise"
            for version, stored in enumerate(events, after + 1)
            if stored.streams.get(stream) != version
        ]
        return after + len(events) if len(events) == PAGE else None

    def _names(self, low: str, high: str, limit: int) -> Steps[list[str]]:
        found = yield from self._route.command("ZRANGEBYLEX", self._keys.names, low, high, "LIMIT", 0, limit)
        return [binary(name).decode() for name in items(found)]

    def question(self, after: Head | None, selections: Sequence[object], indices: Indices) -> dict[str, object]:
        """What all scripts want to know. Written after the selections: they have made the indices."""
        return {
            "after": None if after is None else after.position,
            "selections": selections,
            "types": indices.types,
            "news_limit": NEWS_LIMIT,
            "news_bytes": NEWS_BYTES,
            "lease": round(self._rules.lease * 1000),
        }

    def diverged(self, after: Head, answer: Sequence[Reply]) -> LogDivergedError:
        found = binary(answer[1])
        return LogDivergedError(self.name, after.position, UUID(bytes=after.id), UUID(bytes=found) if found else None)


_LAST = 2**64 - 1
"""The second part of an entry's id in `tail` when it is the last one of its position."""


def _name_ranges(category: str | None, after: str) -> list[tuple[str, str]]:
    """The ranges of stream ids that a page of streams looks through, as ZRANGEBYLEX takes them."""
    if category is not None:
        return [_above(f"{category}:", after, f"({category};")]  # the character after the colon
    ranges = [_above("", after, "($")] if after < "$" else []
    return [*ranges, _above("%", after, "+")]  # the character after the dollar


def _above(first: str, after: str, end: str) -> tuple[str, str]:
    low = f"({after}" if after.encode() >= first.encode() and after else f"[{first}" if first else "-"
    return low, end
