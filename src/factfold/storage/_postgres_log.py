"""The storage contract in questions: for each operation on one namespace what to send, and how to read the answer.

It does no I/O. The same questions are asked with threads (`_postgres_sync`) and in an event loop (`_postgres_async`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from uuid import UUID

import msgspec

from factfold.errors import AppendRefusedError, LogDivergedError, StorageFormatError
from factfold.storage._postgres_schema import Reads, Statements
from factfold.storage._postgres_wire import (
    BYTEA,
    INT4,
    INT8,
    JSONB,
    NULL,
    TEXT,
    Parameter,
    Question,
    Row,
    array,
    boolean,
    element,
    int4,
    int4_element,
    int8,
    int8_element,
    json_header,
    known_element,
    texts,
)
from factfold.storage._postgres_wire import UUID as UUIDS
from factfold.storage.base import (
    EMPTY,
    Append,
    Appended,
    Check,
    Conflict,
    Entry,
    Head,
    Inline,
    Load,
    Loaded,
    LogPage,
    News,
    Selection,
    Slice,
    StoredEvent,
    StreamInfo,
    StreamPage,
    Swap,
    inline_mismatch,
)

VERIFY_PAGE = 1000
"""How many events or memberships `problems` asks for at once."""

LARGEST_MESSAGE = 1_000_000_000
"""Bytes of an append. A little more, and the server would end the connection without a word about why."""

REACH = 100_000
"""How many positions one question about the log looks at."""

_ABOVE_ALL = 2**63 - 1
_ALL_BUT_SYSTEM: tuple[tuple[bytes, Parameter], ...] = ((b"", b"$"), (b"%", None))
"""The ids below `$`, and those above all that begin with it."""

_EPOCH = 946_684_800_000_000
"""The year 2000 in microseconds since 1970: from then on the server counts."""

_NONE_TOUCHED: frozenset[int] = frozenset()

_encode = msgspec.json.Encoder().encode
_decode_streams = msgspec.json.Decoder(dict[str, int]).decode
_decode_numbers = msgspec.json.Decoder(list[int]).decode
_decode_names = msgspec.json.Decoder(list[str]).decode
_text = lru_cache(maxsize=4096)(bytes.decode)
"""Type names are few: each is decoded once."""


class Questions:
    """What can be asked of one namespace. `patience` is how many seconds a writer waits for the lock."""

    def __init__(self, statements: Statements, namespace: str, name: str, patience: float) -> None:
        self.name = name
        self._sql = statements
        self._namespace = namespace.encode()
        self._patience = int4(max(1, int(patience * 1000)))

    # -- Writing ---------------------------------------------------------------------------------------------------

    def append(self, append: Append, inline: Inline | None, *, held: bool) -> Question[Appended | Conflict]:
        """`held`: the lock is, and the transaction ends with this. With `inline`, one stays open, whoever begins it."""
        check = append.check
        known = {**check.versions, **dict.fromkeys(append.empty, 0)} if append.empty else check.versions
        names: dict[str, bytes] = {}
        before: dict[str, int | None] = {}
        current: dict[str, int] = {}
        types: list[bytes] = []
        type_versions: list[bytes] = []
        data: list[bytes] = []
        metadata: list[bytes] = []
        streams: list[bytes] = []
        member_streams: list[bytes] = []
        member_versions: list[bytes] = []
        try:
            for event in append.events:
                versions: dict[str, int] = {}
                for stream in event.streams:
                    version = current.get(stream)
                    if version is None:
                        names[stream] = known_element(stream)
                        before[stream] = version = known.get(stream)
                    versions[stream] = current[stream] = version = (version or 0) + 1
                    member_streams.append(names[stream])
                    member_versions.append(int8_element(8, version))
                types.append(known_element(event.type))
                type_versions.append(int4_element(4, event.type_version))
                data.append(json_header(len(event.data) + 1, 1) + event.data)
                metadata.append(json_header(len(event.metadata) + 1, 1) + event.metadata)
                streams.append(element(_encode(versions)))
        except (UnicodeError, struct.error) as error:
            raise AppendRefusedError(
                f"{self.name}: PostgreSQL cannot store a value of this append, nothing was written ({error})."
            ) from error
        shared = len(member_streams) > len(types)  # an event is in several streams
        members = [index for index, event in enumerate(append.events) for _ in event.streams] if shared else ()
        parameters = (
            self._namespace,
            self._patience,
            *_head(check.after),
            *_asked(check.selections, known),
            array(UUIDS, [b"\x00\x00\x00\x10" + event.id for event in append.events]),
            array(TEXT, types),
            array(INT4, type_versions),
            array(JSONB, data),
            array(JSONB, metadata),
            array(TEXT, streams),
            array(TEXT, member_streams),
            array(TEXT, [types[index] for index in members]) if shared else None,
            array(INT8, member_versions),
            array(INT4, [int4_element(4, index + 1) for index in members]) if shared else None,
            array(TEXT, list(names.values())),
            array(INT8, [NULL if version is None else int8_element(8, version) for version in before.values()]),
            None if inline is None else inline.names,
            texts(append.empty) if append.empty else None,
        )
        size = sum(map(len, filter(None, parameters)))
        if size > LARGEST_MESSAGE:
            raise AppendRefusedError(
                f"{self.name}: the append is {size:,} bytes, and PostgreSQL takes at most {LARGEST_MESSAGE:,} at once. "
                "Nothing was written. Split the events, or keep large data elsewhere."
            )

        def read(rows: Sequence[Row]) -> Appended | Conflict:
            _, position, id, verdict, _, data, corrected, not_empty, recorded_at = rows[-1]
            if verdict == b"appended":
                found = _decode_numbers(corrected) if corrected else (version or 0 for version in before.values())
                news = self._news(rows, check.after, Head(position, id or b""))
                return Appended(position + 1, dict(zip(before, found, strict=True)), recorded_at + _EPOCH, news)
            if verdict == b"void":
                raise AppendRefusedError(
                    f"{self.name}: the append {UUID(bytes=append.id)} came after it was declared void. Nothing was "
                    "written."
                )
            if verdict == b"inline":
                raise inline_mismatch(self.name, inline, None if data is None else bytes.fromhex(data.decode()))
            return Conflict(self._compared(rows, check.after), frozenset(_decode_names(not_empty) if not_empty else ()))

        stays = inline is not None
        return Question(
            self._sql.append, parameters, read, opens=stays and not held, ends=held and not stays, locks=not held
        )

    def hold(self, check: Check) -> Question[News]:
        """Begins a transaction that holds the writers' lock."""
        parameters = (
            self._namespace,
            self._patience,
            *_head(check.after),
            *_asked(check.selections, check.versions),
        )
        return Question(
            self._sql.hold, parameters, lambda rows: self._compared(rows, check.after), opens=True, locks=True
        )

    def resolve(self, append: Append) -> Question[Appended | None]:
        check = append.check
        parameters = (
            self._namespace,
            self._patience,
            *_head(check.after),
            append.id,
            int4(len(append.events)),
        )

        def read(rows: Sequence[Row]) -> Appended | None:
            _, position, id, verdict, *_ = rows[-1]
            if verdict == b"void":
                return None
            self._same_past(rows, check.after)
            events = [_stored(row) for row in rows if row[0] == 1]
            before: dict[str, int] = {}
            for event in events:
                for stream, version in event.streams.items():
                    before.setdefault(stream, version - 1)
            news = self._news(rows, check.after, Head(position, id or b""))
            return Appended(position + 1, before, events[0].recorded_at, news)

        return Question(self._sql.resolve, parameters, read, locks=True)

    def put(self, place: str, key: str, value: bytes | None) -> Question[None]:
        return Question(self._sql.put, (self._namespace, place.encode(), key.encode(), value), lambda rows: None)

    def swap(self, swap: Swap) -> Question[bool]:
        parameters = (self._namespace, self._patience, *_swapped(swap))
        return Question(self._sql.swap, parameters, _is_true, locks=True, once=True)

    def transact(self, swap: Swap) -> Question[bool]:
        """Begins a transaction with a swap."""
        parameters = (self._namespace, self._patience, boolean(swap.exclusive), *_swapped(swap))
        return Question(self._sql.transact, parameters, _is_true, opens=True, locks=True)

    def finish(self) -> Question[None]:
        """Commits the transaction that was begun by one of these questions. Fails in any other."""
        return Question(self._sql.finish, (), lambda rows: None, ends=True)

    # -- Reading ---------------------------------------------------------------------------------------------------

    def head(self) -> Question[Head]:
        return Question(self._sql.head, (self._namespace,), lambda rows: Head(*rows[0]) if rows else EMPTY)

    def check(self, check: Check) -> Question[News]:
        parameters = (self._namespace, *_head(check.after), *_asked(check.selections, check.versions))
        return Question(self._sql.look, parameters, lambda rows: self._compared(rows, check.after))

    def load(self, load: Load) -> Question[Loaded]:
        after = load.after
        parameters = (
            self._namespace,
            *((None, None) if after is None else _head(after)),
            texts([wanted.selection.stream for wanted in load.wanted]),
            array(TEXT, [_types_element(wanted.selection.types) for wanted in load.wanted]),
            array(INT8, [int8_element(8, wanted.after_version) for wanted in load.wanted]),
            int4(load.limit),
        )

        def read(rows: Sequence[Row]) -> Loaded:
            if after is not None:
                self._same_past(rows, after)
            events: list[list[StoredEvent]] = [[] for _ in load.wanted]
            versions = [0] * len(load.wanted)
            for row in rows:
                slot: int = row[0]
                if slot > 0:
                    if row[3] is None:
                        versions[slot - 1] = row[1]
                    else:
                        events[slot - 1].append(_stored(row))
            room = load.limit
            slices: list[Slice] = []
            for found, version in zip(events, versions, strict=True):
                slices.append(Slice(tuple(found[:room]), version, len(found) <= room))
                room -= len(slices[-1].events)
            _, position, id, *_ = rows[-1]
            news = None if after is None else self._compared(rows, after)
            return Loaded(tuple(slices), Head(position, id or b""), news)

        return Question(self._sql.load, parameters, read)

    def read(self, page: LogPage) -> Reads[Sequence[StoredEvent]]:
        """Asks as often as is needed to fill the page, or to reach the end."""
        first = later = None
        if page.category is not None:
            start = _encode(f"{page.category}:")[:-1]
            first, later = b"{" + start, b"," + start
        filters = (_types(page.types), boolean(page.system), first, later, boolean(page.backwards), int8(REACH))
        above = _ABOVE_ALL if page.backwards and page.after is None else page.after or 0
        found: list[StoredEvent] = []
        while True:
            size = int4(page.limit - len(found))
            rows = yield Question(self._sql.read_log, (self._namespace, int8(above), size, *filters), _rows)
            found += map(_stored, rows[:-1])
            head: int = rows[-1][1]
            above = min(above, head + 1) - REACH if page.backwards else above + REACH
            if len(found) == page.limit or (above <= 1 if page.backwards else above >= head):
                return found

    def read_stream(self, page: StreamPage) -> Question[Sequence[StoredEvent]]:
        above_all = page.backwards and page.after_version is None
        parameters = (
            self._namespace,
            page.selection.stream.encode(),
            int8(_ABOVE_ALL if above_all else page.after_version or 0),
            int4(page.limit),
            _types(page.selection.types),
            boolean(page.backwards),
        )
        return Question(self._sql.read_stream, parameters, _all_stored)

    def streams(self, category: str | None, after: str, limit: int) -> Reads[Sequence[StreamInfo]]:
        """Asks twice, since the streams of the library itself stand in the middle of the others."""
        ranges: tuple[tuple[bytes, Parameter], ...]
        ranges = _ALL_BUT_SYSTEM if category is None else ((f"{category}:".encode(), f"{category};".encode()),)
        found: list[StreamInfo] = []
        for start, end in ranges:
            parameters = (self._namespace, start, after.encode(), end, int4(limit - len(found)))
            rows = yield Question(self._sql.list_streams, parameters, _rows)
            found += (StreamInfo(stream.decode(), version, position) for stream, version, position in rows)
            if len(found) >= limit:
                break
        return found

    def get(self, place: str, keys: Sequence[str]) -> Question[Mapping[str, bytes]]:
        return Question(
            self._sql.get,
            (self._namespace, place.encode(), texts(keys)),
            lambda rows: {key.decode(): value for key, value in rows},
        )

    def entries(self, place: str, after: str, limit: int) -> Question[Sequence[Entry]]:
        return Question(
            self._sql.entries,
            (self._namespace, place.encode(), after.encode(), int4(limit)),
            lambda rows: [Entry(key.decode(), value, age / 1_000_000) for key, value, age in rows],
        )

    def problems(self) -> Reads[list[str]]:
        """What events and memberships say of each other that is not so."""
        said: list[str] = []
        head = yield self.head()
        position = 0
        while position < head.position:
            rows = yield Question(
                self._sql.unlisted, (self._namespace, int8(position), int8(position + VERIFY_PAGE)), _rows
            )
            said += (
                f"{self.name}: the event at position {at} is version {version} of {stream.decode()}, and the index of "
                "streams says otherwise"
                for at, stream, version in rows
            )
            position += VERIFY_PAGE
        after: tuple[bytes, int] = (b"", 0)
        while True:
            rows = yield Question(
                self._sql.list_memberships, (self._namespace, after[0], int8(after[1]), int4(VERIFY_PAGE)), _rows
            )
            for stream, version, at, event, streams in rows:
                if event is None:
                    said.append(
                        f"{self.name}: version {version} of {stream.decode()} is to be at position {at}: nothing is "
                        "there"
                    )
                elif _decode_streams(streams).get(stream.decode()) != version:
                    said.append(
                        f"{self.name}: version {version} of {stream.decode()} is to be at position {at}, and the event "
                        "there says otherwise"
                    )
            if len(rows) < VERIFY_PAGE:
                return said
            after = rows[-1][0], rows[-1][1]

    # -- Reading the answers ---------------------------------------------------------------------------------------

    def _news(self, rows: Sequence[Row], after: Head, head: Head, touched: frozenset[int] = _NONE_TOUCHED) -> News:
        """What the rows tell of the events between two heads. When some are not among them, they are too far."""
        if head.position == after.position:
            return News(after, after, (), touched)
        events = tuple(_stored(row) for row in rows if row[0] == 0)
        too_far = len(events) < head.position - after.position
        return News(after, head, () if too_far else events, touched, too_far)

    def _compared(self, rows: Sequence[Row], after: Head) -> News:
        self._same_past(rows, after)
        _, position, id, _, _, touched, *_ = rows[-1]
        found = frozenset(index - 1 for index in _decode_numbers(touched)) if touched else _NONE_TOUCHED
        return self._news(rows, after, Head(position, id or b""), found)

    def _same_past(self, rows: Sequence[Row], after: Head) -> None:
        _, _, id, verdict, *_ = rows[-1]
        if verdict == b"diverged":
            raise LogDivergedError(self.name, after.position, UUID(bytes=after.id), UUID(bytes=id) if id else None)


def _head(head: Head) -> tuple[bytes, Parameter]:
    return int8(head.position), head.id or None


def _asked(selections: Sequence[Selection], known: Mapping[str, int]) -> tuple[bytes, bytes, bytes]:
    """Three parameters: the streams, the types and the known versions of the selections."""
    version = known.get
    return (
        array(TEXT, [known_element(selection.stream) for selection in selections]),
        array(TEXT, [_types_element(selection.types) for selection in selections]),
        array(INT8, [int8_element(8, version(selection.stream, 0)) for selection in selections]),
    )


@lru_cache(maxsize=4096)
def _types_element(types: frozenset[str] | None) -> bytes:
    """Type names as the text of an array, in an array; NULL for all types."""
    if types is None:
        return NULL
    names = (name.replace("\\", "\\\\").replace('"', '\\"') for name in sorted(types))
    return element(("{" + ",".join(f'"{name}"' for name in names) + "}").encode())


@lru_cache(maxsize=4096)
def _types(types: frozenset[str] | None) -> Parameter:
    return None if types is None else texts(sorted(types))


def _swapped(swap: Swap) -> tuple[Parameter, bytes, bytes, bytes]:
    """Four parameters: what is expected of the first value; places, keys and values."""
    puts = (swap.put, *swap.others)
    values = [NULL if put.value is None else element(put.value) for put in puts]
    places, keys = texts([put.place for put in puts]), texts([put.key for put in puts])
    return swap.expected, places, keys, array(BYTEA, values)


def _is_true(rows: Sequence[Row]) -> bool:
    return bool(rows[0][0])


def _rows(rows: Sequence[Row]) -> Sequence[Row]:
    return rows


def _stored(row: Row) -> StoredEvent:
    _, position, id, type, type_version, data, metadata, streams, recorded_at = row
    try:
        versions = _decode_streams(streams)
    except msgspec.DecodeError as error:
        raise StorageFormatError(
            f"The streams of the event at position {position} cannot be read ({error}): what is stored is damaged. "
            "Restore a backup; store.verify() tells what else is wrong."
        ) from error
    return StoredEvent(position, id, _text(type), type_version, data, metadata, versions, recorded_at + _EPOCH)


def _all_stored(rows: Sequence[Row]) -> Sequence[StoredEvent]:
    return [_stored(row) for row in rows]
