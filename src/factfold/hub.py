"""The hub: what a store hears of the log, in order, in the memory of those who have subscribed. No I/O, and no lock.

The heart's leader publishes what moves its cut: what the store commits itself, and what answers tell about others.
The newest events stay in a ring, one for all subscriptions: whoever is next in it takes from there, whoever is not
reads the log. So nobody's slowness grows the memory.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias
from weakref import WeakSet

from factfold.codec import EventType
from factfold.events import RecordedEvent
from factfold.storage.base import Head, StoredEvent

RING_EVENTS = 4096
RING_BYTES = 4 * 1024 * 1024
"""How many events, and bytes of their data, the ring holds at most."""

CHUNK = 256
"""How many events a subscription takes at a time: as many as it may hold on to while the ring goes on."""

POLL = 0.5
"""Seconds after which the log is looked at although nothing was announced: what a lost announcement costs at most."""

Decoder: TypeAlias = Callable[[StoredEvent, EventType | None], RecordedEvent[object]]
"""Decodes a stored event, to plain JSON when there is no event type. Raises DecodingError."""


class Published:
    """An event on its way to subscriptions. What one of them has decoded, the others take."""

    __slots__ = ("_decoded", "head", "stored")

    def __init__(self, stored: StoredEvent) -> None:
        self.stored = stored
        self.head = stored.head
        self._decoded: tuple[EventType, RecordedEvent[object]] | None = None

    def recorded(self, event_type: EventType | None, decode: Decoder) -> RecordedEvent[object]:
        """The event, decoded. Raises DecodingError."""
        decoded = self._decoded
        if decoded is not None and decoded[0] is event_type:
            return decoded[1]
        recorded = decode(self.stored, event_type)
        if event_type is not None:  # plain JSON is not shared: its dicts could be changed
            self._decoded = event_type, recorded
        return recorded


class Hub:
    """The ring, and who waits for it to grow.

    Any thread may look; the ring is only ever extended, replaced by another one, or given up. One thread at a time does
    that.

    Attributes:
        active: whether anybody subscribes; otherwise nothing is published.
        subscriptions: those who do, for as long as they live.
        moves: counts what may be news to those who wait.
        sleepers: called, each once, when the ring moves.
        ended: why nobody may subscribe any more, "" while they may.
    """

    def __init__(self) -> None:
        self.active = False
        self.subscriptions: WeakSet[object] = WeakSet()
        self.moves = 0
        self.sleepers: deque[Callable[[], object]] = deque()
        self.ended = ""
        self._after: Head | None = None
        self._ring: tuple[Head, list[Published]] | None = None
        self._bytes = 0

    # -- for the heart ---------------------------------------------------------------------------------------------

    def publish(self, before: Head, events: Sequence[StoredEvent]) -> None:
        """The log goes on after `before` with these events."""
        if self._ring is None or _end(self._ring) != before:
            self._ring, self._bytes = (before, []), 0
        ring = self._ring[1]
        ring.extend([Published(stored) for stored in events])
        self._bytes += sum([len(stored.data) for stored in events])
        if len(ring) > RING_EVENTS or self._bytes > RING_BYTES:
            self._shorten()
        self.wake()

    def restart(self, head: Head) -> None:
        """The log is at `head`, and nobody knows here what stands before it."""
        self._ring, self._bytes = (head, []), 0
        self.wake()

    def pass_over(self) -> None:
        """The log goes on while nobody subscribes: what the ring ends with is its end no more, so nothing is kept."""
        if self._ring is not None:
            self._ring, self._bytes = None, 0
            self.wake()  # somebody may just have subscribed

    # -- for subscriptions -----------------------------------------------------------------------------------------

    def since(self, head: Head) -> Sequence[Published] | None:
        """Some of what follows on `head`, empty at the end; None when the ring does not know that head (any more)."""
        found = self._ring
        if found is None:
            return None
        start, ring = found
        index = head.position - start.position  # of the next one
        if not 0 <= index <= len(ring) or (ring[index - 1].head if index else start) != head:
            return None
        return ring[index : index + CHUNK]

    def is_behind(self, head: Head) -> bool:
        """Whether the ring has yet to come to where `head` is."""
        found = self._ring
        return found is not None and _end(found).position < head.position

    def wake(self) -> None:
        """Wakes all who sleep."""
        self.moves += 1
        with contextlib.suppress(IndexError):  # somebody else wakes them, too
            while self.sleepers:
                self.sleepers.popleft()()

    def end(self, why: str) -> None:
        """Nobody is served any more. The first reason counts."""
        self.ended = self.ended or why
        self.wake()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _shorten(self) -> None:
        """Keeps the newer half of what is allowed, in a new ring: those who look at the old one are not disturbed."""
        assert self._ring is not None
        start, ring = self._ring
        size, first = 0, len(ring)
        while first > 0 and len(ring) - first < RING_EVENTS // 2:
            size += len(ring[first - 1].stored.data)
            if size > RING_BYTES // 2:
                size -= len(ring[first - 1].stored.data)
                break
            first -= 1
        self._ring, self._bytes = (ring[first - 1].head if first else start, ring[first:]), size


def _end(ring: tuple[Head, list[Published]]) -> Head:
    """The head that a ring ends with."""
    start, published = ring
    return published[-1].head if published else start
