"""One namespace's tables: the storage contract, as statements on a connection that the caller chose.

A position is a row id, and the head is the last row: what is written under SQLite's own write lock is gapless and in
commit order. What is read together is read in one transaction, which the methods begin and their caller ends.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import starmap
from typing import Any
from uuid import UUID

import msgspec

from factfold.errors import AppendRefusedError, LogDivergedError, StorageError, StorageFormatError
from factfold.storage._sqlite_database import Database
from factfold.storage._sqlite_format import Statements
from factfold.storage._sqlite_guard import Guard
from factfold.storage.base import (
    EMPTY,
    NEWS_BYTES,
    NEWS_LIMIT,
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
    NewEvent,
    News,
    Put,
    Selection,
    Slice,
    StoredEvent,
    StreamInfo,
    StreamPage,
    Swap,
    Wanted,
    events_of,
    inline_mismatch,
    touched_by,
)

VERIFY_PAGE = 1000
"""How many events or memberships `problems` looks at in one transaction."""


class Tables:
    """The tables of one namespace, found again whenever the file is opened anew."""

    def __init__(self, database: Database, namespace: str, name: str) -> None:
        self.name = name
        self.inline: Inline | None = None
        self._database = database
        self._namespace = namespace
        self._generation = 0
        self._statements = Statements.of(0)

    # -- Writing ---------------------------------------------------------------------------------------------------

    def append(self, connection: sqlite3.Connection, append: Append) -> Appended | Conflict:
        sql = self._sql()
        check = append.check
        after = check.after
        last = connection.execute(sql.head_for_append, (append.id,)).fetchone()
        if last is None:
            last = (0, b"", 0, *connection.execute(sql.before_all, (append.id,)).fetchone())
        position, id, last_recorded_at, void, asked_inline = last
        if void:
            raise AppendRefusedError(
                f"{self.name}: the append {UUID(bytes=append.id)} came after it was declared void. Nothing was written."
            )
        if position == after.position and id == after.id:
            news = News(after, after, (), _NONE_TOUCHED)
            known = check.versions
        else:
            news = self._news(connection, check.selections, check.versions, after, Head(position, id))
            known = _NOTHING_KNOWN
        not_empty = frozenset(stream for stream in append.empty if self._version(connection, stream))
        if news.touched or not_empty:
            return Conflict(news, not_empty)
        if append.empty:
            known = {**known, **dict.fromkeys(append.empty, 0)}
        inline = self.inline
        if asked_inline != (None if inline is None else inline.names):
            raise inline_mismatch(self.name, inline, asked_inline)
        first = position + 1
        recorded_at = max(time.time_ns() // 1000, last_recorded_at)
        try:
            versions = self._insert(connection, sql, append.events, first, recorded_at, known)
        except (UnicodeError, OverflowError) as error:
            raise AppendRefusedError(
                f"{self.name}: SQLite cannot store a value of this append, nothing was written ({error})."
            ) from error
        appended = Appended(first, versions, recorded_at, news)
        if inline is not None:
            self._lend(connection, partial(inline.handle, connection, events_of(append, appended)))
        self._database.commit(connection)
        return appended

    def _insert(
        self,
        connection: sqlite3.Connection,
        sql: Statements,
        events: Sequence[NewEvent],
        first: int,
        recorded_at: int,
        known: Mapping[str, int],
    ) -> dict[str, int]:
        """Inserts the events; gives the versions that their streams had before, looking up those that are not known."""
        before: dict[str, int] = {}
        current: dict[str, int] = {}
        rows: list[tuple[object, ...]] = []
        memberships: list[tuple[object, ...]] = []
        for position, event in enumerate(events, first):
            versions: dict[str, int] = {}
            for stream in event.streams:
                version = current.get(stream)
                if version is None:
                    version = known.get(stream)
                    if version is None:
                        version = self._version(connection, stream)
                    before[stream] = version
                versions[stream] = current[stream] = version = version + 1
                memberships.append((stream, version, position, event.type))
            rows.append(
                (
                    position,
                    event.id,
                    event.type,
                    event.type_version,
                    event.data.decode(),
                    event.metadata.decode(),
                    recorded_at,
                    _encode(versions).decode(),
                )
            )
        connection.executemany(sql.insert_event, rows)
        connection.executemany(sql.insert_membership, memberships)
        return before

    def check_under_lock(self, connection: sqlite3.Connection, check: Check) -> News:
        head = self.head(connection)
        return self._news(connection, check.selections, check.versions, check.after, head)

    def resolve(self, connection: sqlite3.Connection, append: Append) -> Appended | None:
        sql = self._sql()
        check = append.check
        found = connection.execute(sql.find_event, (check.after.position, append.id)).fetchone()
        if found is None:
            connection.execute(sql.insert_void, (append.id,))
            self._database.commit(connection)
            return None
        first = found[0]
        events = self._events_between(connection, first - 1, first - 1 + len(append.events))
        before: dict[str, int] = {}
        for stored in events:
            for stream, version in stored.streams.items():
                before.setdefault(stream, version - 1)
        head = self._head_at(connection, first - 1)
        news = self._news(connection, (), {}, check.after, head)
        return Appended(first, before, events[0].recorded_at, news)

    def put(self, connection: sqlite3.Connection, put: Put) -> None:
        self._put(connection, put)
        self._database.commit(connection)

    def swap(self, connection: sqlite3.Connection, swap: Swap) -> bool:
        swapped = self._swap(connection, swap)
        self._database.commit(connection)
        return swapped

    def transact(self, connection: sqlite3.Connection, asked: tuple[Swap, Callable[[object], object]]) -> bool:
        swap, body = asked
        swapped = self._swap(connection, swap)
        if swapped:
            given = self._lend(connection, partial(body, connection))
            if isinstance(given, Put):
                self._put(connection, given)
        self._database.commit(connection)
        return swapped

    def _lend(self, connection: sqlite3.Connection, work: Callable[[], object]) -> object:
        """Has somebody else work in the transaction. Gives what they give."""
        with Guard(connection):
            given = work()
        # What they set for themselves is not for us, nor for others: rows are tuples here, and text is str.
        connection.row_factory, connection.text_factory = None, str
        if not connection.in_transaction:
            raise StorageError(
                f"{self.name}: a handler has ended the transaction, by OR ROLLBACK or RAISE(ROLLBACK), and went on. "
                "What it wrote after that is there, and nothing else. Let the error through, and use OR ABORT: "
                "factfold rolls back, for a whole batch and its checkpoint."
            )
        return given

    def _swap(self, connection: sqlite3.Connection, swap: Swap) -> bool:
        found = connection.execute(self._sql().get, (swap.put.place, swap.put.key)).fetchone()
        if (None if found is None else found[0]) != swap.expected:
            return False
        for put in (swap.put, *swap.others):
            self._put(connection, put)
        return True

    def _put(self, connection: sqlite3.Connection, put: Put) -> None:
        if put.value is None:
            connection.execute(self._sql().remove, (put.place, put.key))
        else:
            connection.execute(self._sql().put, (put.place, put.key, put.value, time.time()))

    # -- Heads, and what came since --------------------------------------------------------------------------------

    def _sql(self) -> Statements:
        """The statements for this namespace in the file that is open now."""
        if self._generation != self._database.generation:
            self._statements = Statements.of(self._database.number_of(self._namespace))
            self._generation = self._database.generation
        return self._statements

    def head(self, connection: sqlite3.Connection, _: None = None) -> Head:
        last = connection.execute(self._sql().head).fetchone()
        return EMPTY if last is None else Head(*last)

    def _head_at(self, connection: sqlite3.Connection, position: int) -> Head:
        """The head as it was when the log ended at this position."""
        if position == 0:
            return EMPTY
        found = connection.execute(self._sql().id_at, (position,)).fetchone()
        return Head(position, b"") if found is None else Head(position, found[0])

    def _version(self, connection: sqlite3.Connection, stream: str) -> int:
        found = connection.execute(self._sql().version, (stream,)).fetchone()
        return 0 if found is None else int(found[0])

    def check(self, connection: sqlite3.Connection, check: Check) -> News:
        if self.head(connection) == check.after:
            return News(check.after, check.after, (), _NONE_TOUCHED)
        connection.execute("BEGIN")
        head = self.head(connection)
        return self._news(connection, check.selections, check.versions, check.after, head)

    def _news(
        self,
        connection: sqlite3.Connection,
        selections: Sequence[Selection],
        versions: Mapping[str, int],
        after: Head,
        head: Head,
    ) -> News:
        """What was appended above `after` and up to `head`; `versions` are those at `after`, where they are known."""
        there = self._head_at(connection, after.position) if after.position <= head.position else None
        if there != after:
            found = UUID(bytes=there.id) if there is not None and there.id else None
            raise LogDivergedError(self.name, after.position, UUID(bytes=after.id), found)
        count = head.position - after.position
        events = self._fresh(connection, after.position, head.position) if count <= NEWS_LIMIT else None
        if events is not None:
            return News(after, head, tuple(events), touched_by(events, selections))
        touched = frozenset(
            index
            for index, selection in enumerate(selections)
            if connection.execute(
                self._sql().is_touched,
                (
                    selection.stream,
                    versions.get(selection.stream, 0),
                    count,
                    after.position,
                    _json_of_types(selection.types),
                ),
            ).fetchone()[0]
        )
        return News(after, head, (), touched, too_far=True)

    def _fresh(self, connection: sqlite3.Connection, after: int, last: int) -> list[StoredEvent] | None:
        """The events between two positions; None when they are too many bytes."""
        size = 0
        events: list[StoredEvent] = []
        rows = connection.execute(self._sql().events_between, (after, last))
        while some := _stored(rows.fetchmany(100)):
            size += sum(len(event.data) for event in some)
            if size > NEWS_BYTES:
                rows.close()
                return None
            events += some
        return events

    def _events_between(self, connection: sqlite3.Connection, after: int, last: int) -> list[StoredEvent]:
        return _stored(connection.execute(self._sql().events_between, (after, last)))

    # -- Reading ---------------------------------------------------------------------------------------------------

    def load(self, connection: sqlite3.Connection, load: Load) -> Loaded:
        connection.execute("BEGIN")
        head = self.head(connection)
        news = None
        if load.after is not None:
            news = self._news(connection, tuple(wanted.selection for wanted in load.wanted), {}, load.after, head)
        room = load.limit
        slices: list[Slice] = []
        for wanted in load.wanted:
            slices.append(self._slice(connection, wanted, room))
            room -= len(slices[-1].events)
        return Loaded(tuple(slices), head, news)

    def _slice(self, connection: sqlite3.Connection, wanted: Wanted, room: int) -> Slice:
        """What of a selection fits in. When nothing does, one event is looked for all the same: is there any?"""
        stream = wanted.selection.stream
        version = self._version(connection, stream)
        if version <= wanted.after_version:
            return Slice((), version, True)
        types = _json_of_types(wanted.selection.types)
        rows = connection.execute(self._sql().selected, (stream, wanted.after_version, types, room + 1))
        events = tuple(_stored(rows))
        return Slice(events[:room], version, len(events) <= room)

    def read(self, connection: sqlite3.Connection, page: LogPage) -> Sequence[StoredEvent]:
        sql = self._sql()
        first = later = None
        if page.category is not None:
            start = _encode(f"{page.category}:").decode()[:-1]
            first, later = "{" + start, "," + start
        above_all = page.backwards and page.after is None
        after = _ABOVE_ALL if above_all else page.after or 0
        rows = connection.execute(
            sql.page_backwards if page.backwards else sql.page,
            (after, _json_of_types(page.types), page.system, first, later, page.limit),
        )
        return list(starmap(_Row, rows))

    def read_stream(self, connection: sqlite3.Connection, page: StreamPage) -> Sequence[StoredEvent]:
        sql = self._sql()
        above_all = page.backwards and page.after_version is None
        after = _ABOVE_ALL if above_all else page.after_version or 0
        rows = connection.execute(
            sql.selected_backwards if page.backwards else sql.selected,
            (page.selection.stream, after, _json_of_types(page.selection.types), page.limit),
        )
        return list(starmap(_Row, rows))

    def streams(self, connection: sqlite3.Connection, asked: tuple[str | None, str, int]) -> Sequence[StreamInfo]:
        category, after, limit = asked
        found: list[StreamInfo] = []
        for start, end in _ALL_BUT_SYSTEM if category is None else ((f"{category}:", f"{category};"),):
            # Nothing stands between `after` and `after` followed by the least of all characters.
            rows = connection.execute(self._sql().streams, (max(start, after + "\0"), end, limit - len(found)))
            found += (StreamInfo(*row) for row in rows.fetchall())
            if len(found) >= limit:
                break
        return found

    def get(self, connection: sqlite3.Connection, asked: tuple[str, Sequence[str]]) -> dict[str, bytes]:
        place, keys = asked
        get = self._sql().get
        found = {key: connection.execute(get, (place, key)).fetchone() for key in keys}
        return {key: bytes(row[0]) for key, row in found.items() if row is not None}

    def entries(self, connection: sqlite3.Connection, asked: tuple[str, str, int]) -> Sequence[Entry]:
        now = time.time()
        rows = connection.execute(self._sql().entries, asked).fetchall()
        return [Entry(key, bytes(value), now - written_at) for key, value, written_at in rows]

    def unlisted_streams(self, connection: sqlite3.Connection, after: int) -> list[str]:
        try:
            rows = connection.execute(self._sql().events_without_membership, (after, after + VERIFY_PAGE)).fetchall()
        except sqlite3.OperationalError:
            self._events_between(connection, after, after + VERIFY_PAGE)  # Tells whose streams are no JSON.
            raise
        return [
            f"{self.name}: the event at position {position} is version {version} of {stream}, and the index of streams "
            "says otherwise"
            for position, stream, version in rows
        ]

    def wrong_memberships(
        self, connection: sqlite3.Connection, after: tuple[str, int]
    ) -> tuple[list[str], tuple[str, int] | None]:
        """What is wrong in a page of the index of streams, and where the next one begins."""
        rows = connection.execute(self._sql().memberships_page, (*after, VERIFY_PAGE)).fetchall()
        wrong: list[str] = []
        for stream, version, position, event, streams in rows:
            if event is None:
                wrong.append(
                    f"{self.name}: version {version} of {stream} is to be at position {position}: nothing is there"
                )
            elif _versions_in(position, streams).get(stream) != version:
                wrong.append(
                    f"{self.name}: version {version} of {stream} is to be at position {position}, and the event there "
                    "says otherwise"
                )
        return wrong, (rows[-1][0], rows[-1][1]) if len(rows) == VERIFY_PAGE else None


_NOTHING_KNOWN: Mapping[str, int] = {}
_NONE_TOUCHED: frozenset[int] = frozenset()
_ABOVE_ALL = 2**63 - 1
_ALL_BUT_SYSTEM: tuple[tuple[str, str | bytes], ...] = (("", "$"), ("%", b""))
"""The ids below `$` and those above all that begin with it. To SQLite any text is less than the empty blob."""

_encode = msgspec.json.Encoder().encode
_decode_streams = msgspec.json.Decoder(dict[str, int]).decode


@lru_cache(maxsize=4096)
def _json_of_types(types: frozenset[str] | None) -> str | None:
    return None if types is None else _encode(sorted(types)).decode()


def _streams_of(row: StoredEvent) -> Mapping[str, int]:
    """The streams of a row. Raises StorageFormatError when they are damaged."""
    return _versions_in(row.position, _json_of_streams(row))


_json_of_streams: Callable[[StoredEvent], bytes] = StoredEvent.__dict__["streams"].__get__
"""What a row has in the place of its streams."""


class _Row(StoredEvent, frozen=True, gc=False):  # noqa: PLW1641 - a StoredEvent has no hash: it holds a mapping
    """An event of a page, made of nothing but its row: its streams are decoded whenever somebody asks for them."""

    streams = property(_streams_of)  # pyright: ignore[reportAssignmentType]  # nobody assigns to it

    def __eq__(self, other: object) -> bool:
        """It equals what has the same fields, decoded earlier or not."""
        return isinstance(other, StoredEvent) and all(
            getattr(self, name) == getattr(other, name) for name in StoredEvent.__struct_fields__
        )


def _stored(rows: Iterable[tuple[Any, ...]]) -> list[StoredEvent]:
    rows = list(rows)
    try:
        return [
            StoredEvent(position, id, type, type_version, data, metadata, _decode_streams(streams), recorded_at)
            for position, id, type, type_version, data, metadata, streams, recorded_at in rows
        ]
    except msgspec.DecodeError:
        for position, *_, streams, _ in rows:
            _versions_in(position, streams)
        raise


def _versions_in(position: int, streams: bytes) -> dict[str, int]:
    try:
        return _decode_streams(streams)
    except msgspec.DecodeError as error:
        raise StorageFormatError(
            f"The streams of the event at position {position} cannot be read ({error}): the file is damaged. Restore a "
            "backup; store.verify() tells what else is wrong."
        ) from error


def quick_check(connection: sqlite3.Connection, _: None) -> list[str]:
    """What SQLite finds broken in its pages, up to a hundred sentences."""
    lines = [str(row[0]) for row in connection.execute("PRAGMA quick_check").fetchall()]
    return [] if lines == ["ok"] else lines
