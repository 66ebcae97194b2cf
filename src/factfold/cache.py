"""One cut of the log: folded states, all valid at one and the same position, and the least recently used ones dropped.

Positions are dense, so the cache simply consumes the log in order: what this process commits, and the news that answers
bring about others. A state whose stream is touched is advanced when the event is at hand and the stream's version
follows exactly; otherwise it is dropped. Then the cut moves on. No state is ever taken from before or behind it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from typing import Never, TypeAlias

from msgspec import Struct, structs

from factfold.folds import Fold
from factfold.hub import Hub
from factfold.storage.base import EMPTY, Head, News, StoredEvent
from factfold.streams import Stream, suffix_of

AnyStream: TypeAlias = Stream[object, Never]
"""A stream of whatever state and events."""

Key: TypeAlias = tuple[str, Fold]
"""What a state is cached under: a stream's id and the fold."""

Decode: TypeAlias = Callable[[Fold, StoredEvent, str], object]
"""Decodes a stored event for a fold that reads the stream of this id; raises DecodingError."""

TAIL_EVENTS = 1000
"""How many of the latest events are kept at least: what is loaded comes back behind them, and is brought up."""

TAIL_EVENT_BYTES = 16 * 1024
"""Of how many bytes of data an event is kept whole. Of a larger one it is kept only which streams it is in."""


class Folded:
    """A fold's state of one stream, and the version of the last event that it looks at.

    Where folding failed there is no state, but the error and its traceback, which whoever reads it gets.
    """

    __slots__ = ("error", "state", "traceback", "version")

    def __init__(self, state: object, version: int) -> None:
        self.state = state
        self.version = version
        self.error: Exception | None = None

    def fail(self, error: Exception) -> None:
        """It cannot be folded any further."""
        self.error, self.traceback = error, error.__traceback__


class Slot(Struct, eq=False):
    """What is known of one stream: its version at the cut (None: not known exactly), its states, who pins them.

    `suffix` is the stream's id without its category.
    """

    suffix: str
    version: int | None
    folds: dict[Fold, Folded] = {}
    pins: set[Hashable] | None = None


class Fetched:
    """A state that was folded from a load, as of `head`; not part of the cut until it is installed."""

    __slots__ = ("fold", "folded", "head", "stream", "version")

    def __init__(self, stream: str, fold: Fold, folded: Folded, version: int, head: Head) -> None:
        self.stream = stream
        self.fold = fold
        self.folded = folded
        self.version = version
        self.head = head


class Cache:
    """Folded states at the cut `head`. `size` bounds the streams that are kept while nobody needs them.

    `slots` is what is known of each stream; others may look at it, and only what is said here changes it. `hub` is told
    where the cut moves, while anybody listens there.
    """

    def __init__(self, size: int, decode: Decode) -> None:
        self.head: Head | None = None
        self.hub = Hub()
        self.hits = self.misses = self.evictions = self.refreshes = 0
        self._size = size
        self._decode = decode
        self.slots: dict[str, Slot] = {}
        self._unpinned: OrderedDict[str, None] = OrderedDict()
        self._tail: deque[StoredEvent] = deque()
        self._tail_after: Head | StoredEvent = EMPTY  # what the first event of the tail follows on
        self._tail_size = TAIL_EVENTS
        self._own_before = 0

    def __len__(self) -> int:
        return len(self.slots)

    # -- reading ---------------------------------------------------------------------------------------------------

    def get(self, key: Key) -> Folded | None:
        """The state at the cut, or None when it has to be loaded."""
        stream, fold = key
        slot = self.slots.get(stream)
        if slot is None or (folded := slot.folds.get(fold)) is None:
            self.misses += 1
            return None
        self.hits += 1
        if not slot.pins:
            self._unpinned.move_to_end(stream)
        return folded

    def holds(self, key: Key) -> bool:
        """Whether `get` would give a state."""
        slot = self.slots.get(key[0])
        return slot is not None and key[1] in slot.folds

    # -- moving the cut --------------------------------------------------------------------------------------------

    def reset(self, head: Head) -> None:
        """Drops everything and starts again at `head`."""
        self.head = head
        self.slots.clear()
        self._unpinned.clear()
        self._tail.clear()
        self._tail_after = head
        if self.hub.active:
            self.hub.restart(head)
        else:
            self.hub.pass_over()

    def hear(self, news: News, asked: Sequence[Key | None]) -> None:
        """Moves the cut to the news' head. `asked` tells what the selections asked about were, None: no fold's."""
        assert self.head is not None
        known = self.head.position - news.after.position
        if news.head.position <= self.head.position or known < 0:
            return
        if self.head != (news.events[known - 1].head if known and not news.too_far else news.after):
            self._keep_only(set(), news.head)  # too much lies between, or it is not the same log any more
        elif news.too_far:
            untouched = {key for index, key in enumerate(asked) if index not in news.touched and key is not None}
            self._keep_only(untouched, news.head)
        else:
            fresh = news.events[known:]
            for stored in fresh:
                self._consume(stored)
            if self.hub.active:
                self.hub.publish(self.head, fresh)
            else:
                self.hub.pass_over()
        self.head = news.head

    def own(self, events: Sequence[StoredEvent], size: int) -> None:
        """Moves the cut over events of this process, `size` bytes of data, whose states the batch moves on itself."""
        if self.hub.active and self.head is not None:
            self.hub.publish(self.head, events)
        else:
            self.hub.pass_over()
        self.head = events[-1].head
        if size <= TAIL_EVENT_BYTES:
            self._tail.extend(events)
        else:
            self._tail.extend([_remembered(stored) for stored in events])
        # What was loaded while this batch was appended may be of the time before it: so the last two are kept whole.
        self._tail_size = max(TAIL_EVENTS, self._own_before + len(events))
        self._own_before = len(events)

    def install(self, fetched: Fetched) -> bool:
        """Takes a loaded state into the cut. False: the cut has moved too far since, it has to be loaded again."""
        assert self.head is not None
        folded, version = fetched.folded, fetched.version
        slot = Slot(suffix_of(fetched.stream), version)
        slot.folds[fetched.fold] = folded
        if fetched.head.position > self.head.position:
            return False
        if fetched.head != self.head:
            if not self._remembers(fetched.head):
                return False  # or it is of another log, which stood in this one's place
            for stored in self._since(fetched.head.position):
                if fetched.stream in stored.streams and not self._advance(slot, fetched.stream, stored):
                    return False
        if not slot.folds:
            return False  # it could not be folded any further: loading it again will tell why
        present = self.slots.get(fetched.stream)
        if present is None:
            self.slots[fetched.stream] = slot
            self._unpinned[fetched.stream] = None
        else:
            present.version = slot.version
            present.folds.setdefault(fetched.fold, folded)
        return True

    def adopt(self, key: Key, folded: Folded) -> None:
        """Takes over the state of a stream that was empty when the cut moved; the events behind that come after."""
        stream, fold = key
        slot = self.slots.get(stream)
        if slot is None:
            slot = self.slots[stream] = Slot(suffix_of(stream), 0)
            self._unpinned[stream] = None
        slot.folds.setdefault(fold, folded)

    def pin(self, stream: str, owner: Hashable) -> None:
        """Keeps a stream's states until `owner` lets go of them."""
        if (slot := self.slots.get(stream)) is not None:
            if slot.pins is None:
                slot.pins = set()
            slot.pins.add(owner)
            self._unpinned.pop(stream, None)

    def unpin(self, stream: str, owner: Hashable) -> None:
        """Lets go of a stream's states. What could not be folded is forgotten then, so that it is tried again."""
        slot = self.slots.get(stream)
        if slot is None or slot.pins is None or owner not in slot.pins:
            return
        slot.pins.remove(owner)
        if not slot.pins:
            slot.folds = {fold: folded for fold, folded in slot.folds.items() if folded.error is None}
            self._unpinned[stream] = None

    def trim(self) -> None:
        """Evicts what was used least recently, down to the size; forgets the oldest events of the tail."""
        tail = self._tail
        if len(tail) > self._tail_size:
            for _ in range(len(tail) - self._tail_size - 1):
                tail.popleft()
            self._tail_after = tail.popleft()
        while len(self._unpinned) > self._size:
            stream, _ = self._unpinned.popitem(last=False)
            del self.slots[stream]
            self.evictions += 1

    def drop(self, stream: str) -> None:
        """Forgets a stream's states."""
        self.slots.pop(stream, None)
        self._unpinned.pop(stream, None)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _consume(self, stored: StoredEvent) -> None:
        for stream in stored.streams:
            slot = self.slots.get(stream)
            if slot is not None:
                self.refreshes += 1
                if not self._advance(slot, stream, stored):
                    self.drop(stream)
        self._tail.append(_remembered(stored))

    def _advance(self, slot: Slot, stream: str, stored: StoredEvent) -> bool:
        version = stored.streams[stream]
        if slot.version is not None and version != slot.version + 1:
            return False
        slot.version = version
        for fold, folded in list(slot.folds.items()):
            if stored.type not in fold.selected or folded.error is not None:
                continue
            if not stored.data:
                return False
            try:
                folded.state = fold.evolve(folded.state, self._decode(fold, stored, stream), slot.suffix)
            except Exception:
                del slot.folds[fold]  # whoever reads it loads it again, and hears why it cannot be folded
            else:
                folded.version = version
        return True

    def _keep_only(self, keys: set[Key], head: Head) -> None:
        for stream, slot in list(self.slots.items()):
            slot.folds = {fold: folded for fold, folded in slot.folds.items() if (stream, fold) in keys}
            slot.version = None
            if not slot.folds:
                self.drop(stream)
        self._tail.clear()
        self._tail_after = head
        if self.hub.active:
            self.hub.restart(head)
        else:
            self.hub.pass_over()

    def _remembers(self, head: Head) -> bool:
        """Whether the tail holds all that came after this head, and it was a head of this log."""
        before = head.position - self._tail_after.position
        return before >= 0 and head.id == (self._tail[before - 1] if before else self._tail_after).id

    def _since(self, position: int) -> list[StoredEvent]:
        found: list[StoredEvent] = []
        for stored in reversed(self._tail):
            if stored.position <= position:
                break
            found.append(stored)
        found.reverse()
        return found


def _remembered(stored: StoredEvent) -> StoredEvent:
    """The event as the tail keeps it: without its data (JSON is never empty) where that is large."""
    return stored if len(stored.data) <= TAIL_EVENT_BYTES else structs.replace(stored, data=b"")
