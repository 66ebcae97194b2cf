"""A log in the memory of this process: the storage contract at its smallest, for tests and for learning it.

It keeps every rule that the durable engines keep. What a `Memory` object holds lives as long as the object: several
stores may be opened on one, at once or one after another.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID
from weakref import WeakSet

from factfold.errors import AppendRefusedError, LogDivergedError, StoreClosedError, StoreUnavailableError
from factfold.storage import _fork
from factfold.storage.base import (
    EMPTY,
    NEWS_BYTES,
    NEWS_LIMIT,
    Append,
    Appended,
    AsyncEngine,
    Capabilities,
    Check,
    Conflict,
    Entry,
    Head,
    Load,
    Loaded,
    LogPage,
    News,
    Put,
    Selection,
    Slice,
    StoredEvent,
    StreamInfo,
    StreamPage,
    Swap,
    Wanted,
    touched_by,
)

_NONE_TOUCHED: frozenset[int] = frozenset()

LOCK_TIMEOUT = 5.0
"""Seconds that a writer waits for another one before it gives up."""


class Memory:
    """A storage in memory. `Store("memory:")` makes one of its own; share an object to open several stores on it."""

    name = "memory:"

    def __init__(self) -> None:
        self._namespaces: dict[str, _Namespace] = {}
        self.lock = threading.Lock()
        self._resting: list[_Namespace] = []
        _fork.register(self)

    def open(self) -> MemoryEngine:
        return MemoryEngine(self)

    async def open_async(self) -> AsyncEngine:
        from factfold.storage.threads import ThreadedEngine

        return ThreadedEngine(self.open())

    def namespace(self, name: str) -> _Namespace:
        with self.lock:
            return self._namespaces.setdefault(name, _Namespace())

    def before_fork(self) -> None:
        """Waits for the writers, so that the child's copy is whole."""
        self.lock.acquire()
        self._resting = [
            namespace for namespace in self._namespaces.values() if namespace.writers.acquire(timeout=LOCK_TIMEOUT)
        ]

    def after_fork_in_parent(self) -> None:
        for namespace in self._resting:
            namespace.writers.release()
        self.lock.release()

    def after_fork_in_child(self) -> None:
        for namespace in self._namespaces.values():
            namespace.writers = threading.Lock()
            namespace.swapping = threading.Lock()
            namespace.grown = threading.Condition()
        self.lock = threading.Lock()


class _Namespace:
    """The events, and for each stream the positions of its events: version v stands at index v - 1."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self.streams: dict[str, list[int]] = {}
        self.voids: set[bytes] = set()
        self.places: dict[tuple[str, str], tuple[bytes, float]] = {}  # values, and when they were written
        self.writers = threading.Lock()
        self.swapping = threading.Lock()
        self.grown = threading.Condition()
        self.waiting = 0


class MemoryEngine:
    """Opens namespaces of one `Memory` until it is closed."""

    capabilities = Capabilities(locks=True, durable=False, shared=False)

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._logs: WeakSet[MemoryLog] = WeakSet()
        self.closed = False

    def log(self, namespace: str) -> MemoryLog:
        if self.closed:
            raise StoreClosedError("memory: the store is closed")
        log = MemoryLog(self, self._memory.namespace(namespace), f"memory: [{namespace}]")
        with self._memory.lock:
            self._logs.add(log)
        return log

    def close(self) -> None:
        self.closed = True
        with self._memory.lock:
            logs = list(self._logs)
        for log in logs:
            log.end()


class MemoryLog:
    """One namespace, seen through one engine.

    Readers take no lock: a writer enters its events in the streams first and then makes them visible at once, by
    extending the list of events; whoever has taken its length sees nothing above it.
    """

    def __init__(self, engine: MemoryEngine, namespace: _Namespace, name: str) -> None:
        self.name = name
        self._engine = engine
        self._namespace = namespace
        self._held: list[bool] = []  # [True] while the writers' lock is held by `lock`

    def head(self) -> Head:
        self._open()
        return self._head_at(len(self._namespace.events))

    def append(self, append: Append) -> Appended | Conflict:
        held, self._held = self._held, []  # of this call from now on: closing must not give it back meanwhile
        try:
            if not held:
                self._acquire(held)
            return self._append(append)
        finally:
            if held:  # no call comes before the lock is given back: an interrupt could come with it
                self._namespace.writers.release()

    def check(self, check: Check) -> News:
        self._open()
        return self._news(check.selections, check.after)

    def lock(self, check: Check) -> News:
        try:
            self._acquire(self._held)
            return self._news(check.selections, check.after)
        except BaseException:
            self.unlock()
            raise

    def unlock(self) -> None:
        if self._held:
            del self._held[:]
            self._namespace.writers.release()

    def resolve(self, append: Append) -> Appended | None:
        held: list[bool] = []  # of this call: another thread may append meanwhile
        try:
            self._acquire(held)
            above = self._namespace.events[append.check.after.position :]
            for stored in above:
                if stored.id == append.id:
                    return self._resolved(append, stored.position)
            self._namespace.voids.add(append.id)
            return None
        finally:
            if held:  # as in `append`
                self._namespace.writers.release()

    def load(self, load: Load) -> Loaded:
        self._open()
        head = len(self._namespace.events)
        news = None if load.after is None else self._news(tuple(w.selection for w in load.wanted), load.after, head)
        room = load.limit
        slices: list[Slice] = []
        for wanted in load.wanted:
            slices.append(self._slice(wanted, head, room))
            room -= len(slices[-1].events)
        return Loaded(tuple(slices), self._head_at(head), news)

    def read(self, page: LogPage) -> Sequence[StoredEvent]:
        self._open()
        events = self._namespace.events
        if page.backwards:
            top = len(events) if page.after is None else min(page.after - 1, len(events))
            candidates = (events[index] for index in range(top - 1, -1, -1))
        else:
            candidates = (events[index] for index in range(page.after or 0, len(events)))
        return _first(page.limit, (stored for stored in candidates if _is_on_page(stored, page)))

    def read_stream(self, page: StreamPage) -> Sequence[StoredEvent]:
        self._open()
        head = len(self._namespace.events)
        positions = self._positions(page.selection.stream, head)
        if page.backwards:
            top = len(positions) if page.after_version is None else min(page.after_version - 1, len(positions))
            positions = positions[:top][::-1] if top > 0 else []
        else:
            positions = positions[page.after_version or 0 :]
        return _first(page.limit, self._selected(page.selection, positions))

    def streams(self, category: str | None, after: str, limit: int) -> Sequence[StreamInfo]:
        self._open()
        head = len(self._namespace.events)
        found: list[StreamInfo] = []
        known = list(self._namespace.streams)  # at once: writers add to it meanwhile
        for stream in sorted(known, key=str.encode):
            wanted = stream.startswith(f"{category}:") if category else not stream.startswith("$")
            if wanted and stream.encode() > after.encode() and (positions := self._positions(stream, head)):
                found.append(StreamInfo(stream, len(positions), positions[-1]))
            if len(found) == limit:
                break
        return found

    def wait(self, after: int, timeout: float) -> int:
        namespace = self._namespace
        with namespace.grown:
            namespace.waiting += 1
            try:
                namespace.grown.wait_for(lambda: self._engine.closed or len(namespace.events) > after, timeout)
            finally:
                namespace.waiting -= 1
        self._open()
        return len(namespace.events)

    def get(self, place: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        self._open()
        places = self._namespace.places
        found = {key: places.get((place, key)) for key in keys}
        return {key: value[0] for key, value in found.items() if value is not None}

    def put(self, place: str, key: str, value: bytes | None) -> None:
        self._open()
        self._put(Put(place, key, value))

    def swap(self, swap: Swap) -> bool:
        self._open()
        with self._namespace.swapping:
            found = self._namespace.places.get((swap.put.place, swap.put.key))
            if (None if found is None else found[0]) != swap.expected:
                return False
            for put in (*swap.others, swap.put):
                self._put(put)
            return True

    def entries(self, place: str, after: str, limit: int) -> Sequence[Entry]:
        self._open()
        now = time.monotonic()
        places = dict(self._namespace.places)  # at once: others write meanwhile
        found = sorted(
            [key for there, key in places if there == place and key.encode() > after.encode()], key=str.encode
        )
        return [Entry(key, value, now - at) for key in found[:limit] for value, at in (places[place, key],)]

    def problems(self) -> Iterator[str]:
        self._open()
        for stream, positions in list(self._namespace.streams.items()):
            for version, position in enumerate(positions, 1):
                if position > len(self._namespace.events):
                    yield f"{stream} has version {version} at position {position}, where there is no event"
                elif self._namespace.events[position - 1].streams.get(stream) != version:
                    yield f"{stream} has version {version} at position {position}, and the event there says otherwise"

    def end(self) -> None:
        """The engine is closed: gives the lock back, and wakes those who wait."""
        self.unlock()
        with self._namespace.grown:
            self._namespace.grown.notify_all()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _put(self, put: Put) -> None:
        if put.value is None:
            self._namespace.places.pop((put.place, put.key), None)
        else:
            self._namespace.places[put.place, put.key] = put.value, time.monotonic()

    def _open(self) -> None:
        if self._engine.closed:
            raise StoreClosedError(f"{self.name}: the store is closed")

    def _acquire(self, held: list[bool]) -> None:
        self._open()
        # One step, so that no interrupt comes between having the lock and knowing it.
        held += map(self._namespace.writers.acquire, (False,))
        if held[0]:
            return
        held.clear()
        held += map(self._namespace.writers.acquire, (True,), (LOCK_TIMEOUT,))
        if not held[0]:
            held.clear()
            raise StoreUnavailableError(f"{self.name}: another writer has held the lock for {LOCK_TIMEOUT} seconds")

    def _append(self, append: Append) -> Appended | Conflict:
        namespace = self._namespace
        news = self._news(append.check.selections, append.check.after)
        if append.id in namespace.voids:
            raise AppendRefusedError(f"{self.name}: the append {UUID(bytes=append.id)} came after it was declared void")
        not_empty = [stream for stream in append.empty if namespace.streams.get(stream)] if append.empty else ()
        if news.touched or not_empty:
            return Conflict(news, frozenset(not_empty))
        first = len(namespace.events) + 1
        recorded_at = time.time_ns() // 1000
        if first > 1:
            recorded_at = max(recorded_at, namespace.events[-1].recorded_at)
        streams = namespace.streams
        before: dict[str, int] = {}
        stored: list[StoredEvent] = []
        try:
            for position, new in enumerate(append.events, first):
                versions: dict[str, int] = {}
                for stream in new.streams:
                    positions = streams.get(stream)
                    if positions is None:
                        positions = streams[stream] = []
                    if stream not in before:
                        before[stream] = len(positions)
                    positions.append(position)
                    versions[stream] = len(positions)
                stored.append(
                    StoredEvent(
                        position, new.id, new.type, new.type_version, new.data, new.metadata, versions, recorded_at
                    )
                )
            namespace.events.extend(stored)
        except BaseException:
            for stream in before if len(namespace.events) < first else ():
                del streams[stream][before[stream] :]
            raise
        if namespace.waiting:
            with namespace.grown:
                namespace.grown.notify_all()
        return Appended(first, before, recorded_at, news)

    def _resolved(self, append: Append, first: int) -> Appended:
        events = self._namespace.events[first - 1 : first - 1 + len(append.events)]
        before: dict[str, int] = {}
        for stored in events:
            for stream, version in stored.streams.items():
                before.setdefault(stream, version - 1)
        news = self._news(append.check.selections, append.check.after, first - 1)
        return Appended(first, before, events[0].recorded_at, news)

    def _head_at(self, position: int) -> Head:
        return self._namespace.events[position - 1].head if position else EMPTY

    def _news(self, selections: Sequence[Selection], after: Head, top: int | None = None) -> News:
        events = self._namespace.events
        top = len(events) if top is None else top
        position = after.position
        there = b"" if position == 0 else events[position - 1].id if position <= top else None
        if there != after.id:
            raise LogDivergedError(self.name, position, UUID(bytes=after.id), UUID(bytes=there) if there else None)
        if top == position:
            return News(after, after, (), _NONE_TOUCHED)
        fresh = events[position:top]
        too_far = len(fresh) > NEWS_LIMIT or sum(len(stored.data) for stored in fresh) > NEWS_BYTES
        shown = () if too_far else tuple(fresh)
        return News(after, self._head_at(top), shown, touched_by(fresh, selections), too_far)

    def _positions(self, stream: str, head: int) -> list[int]:
        positions = self._namespace.streams.get(stream, [])
        return positions[: bisect_right(positions, head)]

    def _selected(self, selection: Selection, positions: Sequence[int]) -> Iterator[StoredEvent]:
        for position in positions:
            stored = self._namespace.events[position - 1]
            if selection.types is None or stored.type in selection.types:
                yield stored

    def _slice(self, wanted: Wanted, head: int, room: int) -> Slice:
        positions = self._positions(wanted.selection.stream, head)
        found = _first(room + 1, self._selected(wanted.selection, positions[wanted.after_version :]))
        return Slice(tuple(found[:room]), len(positions), len(found) <= room)


def _first(limit: int, events: Iterator[StoredEvent]) -> list[StoredEvent]:
    return [stored for stored, _ in zip(events, range(limit), strict=False)]


def _is_on_page(stored: StoredEvent, page: LogPage) -> bool:
    if stored.type.startswith("$") and not page.system:
        return False
    if page.types is not None and stored.type not in page.types:
        return False
    return page.category is None or any(stream.startswith(f"{page.category}:") for stream in stored.streams)
