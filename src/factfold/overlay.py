"""What the commands of one batch see: the cut of the log, plus what the earlier ones of them appended.

Nothing of it is in the cache until the batch is committed; when the batch has to run again, it is simply thrown away.
While a batch is on its way, the next one may be decided on top of it: its overlay rests on the other one, as if all of
that were in the log. That becomes true (`settle`), or the upper overlay is thrown away, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from msgspec import Struct

from factfold.cache import AnyStream, Cache, Folded, Key, Slot
from factfold.codec import EventType, unreadable
from factfold.folds import Fold
from factfold.guessing import Guesses
from factfold.storage.base import Appended, Check, Head, Selection, StoredEvent

Seal: TypeAlias = Callable[[bytes], bytes]
"""Turns an event's JSON into the JSON that is stored; raises EncodingError."""


class Pending(Struct, frozen=True, eq=False, gc=False):
    """An event that a command appended: its JSON, as `stored` too, and its twin as decoded from it, for the folds."""

    event_type: EventType
    data: bytes
    twin: object
    streams: tuple[str, ...]
    stored: bytes

    def twin_for(self, fold: Fold) -> object | None:
        """The event as this fold decodes it, or None when the fold does not look at it. Raises EncodingError."""
        mine = self.event_type
        event_type = fold.by_name.get(mine.name)
        if event_type is mine:
            return self.twin
        if event_type is None:
            return None
        try:
            return event_type.read(self.data, mine.version)
        except Exception as error:
            raise unreadable(mine, event_type, fold.name, ", ".join(self.streams), error) from error


class Reading(Struct, eq=False, gc=False):
    """A fold's state at some point of the batch.

    `applied` counts the events of the batch in this stream that the fold has been shown; `last` is the number of the
    last of them that it looks at, 0 if none. `under` is what the batch below ended with, where there is one. Of what
    could not be folded there is no reading: by its error's traceback that would be a cycle, which no collector sees.
    """

    folded: Folded
    state: object
    applied: int
    last: int
    under: Reading | None = None


class Overlay(Struct, eq=False):
    """The states of a batch while its commands run, and the boundary that they are decided on.

    `below` is the overlay of the batch that is on its way, where this one is decided on top of that. With guesses,
    streams that are not loaded may be taken for empty: `guessed`. `assumes`: this batch, or the one below, has done so.
    """

    _cache: Cache
    seal: Seal | None
    below: Overlay | None = None
    _guesses: Guesses | None = None
    assumes: bool = False
    _readings: dict[Key, Reading] = {}
    _appended: dict[str, list[Pending]] = {}
    _dropped: set[str] = set()
    guessed: set[str] = set()
    events: list[Pending] = []
    bytes: int = 0
    boundary: dict[Key, object] = {}
    exact: set[str] = set()

    # -- while commands run ----------------------------------------------------------------------------------------

    def read(self, stream: AnyStream) -> Reading | None:
        """The state of a stream after what this batch has appended so far; None when it has to be loaded.

        Raises what the fold raised, where the stream cannot be folded.
        """
        key = stream.key
        reading = self._readings.get(key)
        if reading is None and stream.id in self.guessed:
            reading = self._take_for_empty(stream)
        elif reading is None and self.below is not None:
            under = self.below.read(stream)
            if under is None:
                return None
            reading = self._readings[key] = Reading(under.folded, under.state, 0, 0, under)
        elif reading is None:
            folded = self._cache.get(key)
            if folded is None:
                return None
            if folded.error is not None:
                raise folded.error.with_traceback(folded.traceback)
            reading = self._readings[key] = Reading(folded, folded.state, 0, 0)
        if (appended := self._appended.get(stream.id)) is not None and reading.applied < len(appended):
            reading = self._readings[key] = _shown(reading, appended, stream.fold, stream.suffix)
        return reading

    def guess(self, stream: AnyStream, command: Callable[..., object]) -> Reading | None:
        """As `read`, for a stream that is not loaded, if it may be taken for empty."""
        id, fold = stream.key
        if self._guesses is None or id in self._cache.slots or self._knows(id):
            return None
        if not self._guesses.expects_nothing(command, fold):
            return None
        self.guessed.add(id)
        self.assumes = True
        return self._take_for_empty(stream)

    def _take_for_empty(self, stream: AnyStream) -> Reading:
        fold = stream.fold
        state = fold.initial if fold.show is None else fold.show(fold.initial)
        reading = self._readings[stream.key] = Reading(Folded(state, 0), state, 0, 0)
        return reading

    def _knows(self, stream: str) -> bool:
        """Whether commands of this batch, or of the one below, have read the stream, although it is not loaded now."""
        below = self.below
        return stream in self._dropped or (
            below is not None and (stream in below._dropped or stream in below._appended)
        )

    def is_guessed(self, stream: str) -> bool:
        """Whether a stream is only taken for empty, apart from what this batch, or the one below, appended to it."""
        return stream in self.guessed or (self.below is not None and stream in self.below.guessed)

    def version(self, stream: AnyStream, reading: Reading) -> int | None:
        """The version of the last event that the fold looks at; None when the stream has to be loaded to know it.

        Where that event is one of this batch, its version holds only if nobody else appends anything to the stream, so
        the whole stream becomes part of the boundary.
        """
        version = self.known_version(stream.id, reading)
        if version is None:
            self._cache.drop(stream.id)
            self._dropped.add(stream.id)
        elif reading.last:
            self.exact.add(stream.id)
        return version

    def known_version(self, stream: str, reading: Reading) -> int | None:
        """The version of the last event that the fold looks at, if it is known."""
        below = self.below
        if reading.last == 0:
            if below is not None and reading.under is not None:
                return below.known_version(stream, reading.under)
            return reading.folded.version
        slot = self._cache.slots.get(stream)
        version = 0 if self.is_guessed(stream) else None if slot is None else slot.version
        if version is None:
            return None
        return version + reading.last + (0 if below is None else len(below._appended.get(stream, ())))

    def keep(self, stream: str, appended: list[Pending]) -> tuple[int, int]:
        """Takes over what a command appended to a stream: how many of the batch it had before, and has now."""
        there = self._appended.get(stream)
        if there is None:
            self._appended[stream] = appended
            return 0, len(appended)
        before = len(there)
        there += appended
        return before, len(there)

    # -- when they are decided -------------------------------------------------------------------------------------

    def keys(self) -> tuple[Key | None, ...]:
        """What the selections of `check` are about, index by index; None where it is not a fold's."""
        guessed = self.guessed
        return (
            *(key for key in self.boundary if key[0] not in guessed),
            *(None for stream in self.exact if stream not in guessed),
        )

    def empty(self) -> tuple[str, ...]:
        """The streams of the boundary that were taken for empty: nothing in them may have been there before."""
        guessed = self.guessed
        return tuple(dict.fromkeys([stream for stream, _ in self.boundary if stream in guessed])) if guessed else ()

    def check(self, head: Head) -> Check:
        """The boundary of the batch: all that its commands read, with the versions at the cut, where they are known.

        Except for what is `empty`.
        """
        selections: list[Selection] = []
        versions: dict[str, int] = {}
        slots, guessed = self._cache.slots, self.guessed
        for stream, fold in self.boundary:
            if stream in guessed:
                versions[stream] = 0
                continue
            selections.append(Selection(stream, fold.selected))
            slot = slots.get(stream)
            if slot is not None and slot.version is not None:
                versions[stream] = slot.version
        if self.exact:
            selections += [Selection(stream, None) for stream in self.exact if stream not in guessed]
        return Check(tuple(selections), head, versions)

    def commit(self, stored: Sequence[StoredEvent], appended: Appended, empty: Sequence[str]) -> None:
        """Makes the states of the batch the cache's, after the cache has heard the news.

        `empty` are the streams that were empty before.
        """
        self._cache.own(stored, self.bytes)
        slots, readings, boundary = self._cache.slots, self._readings, self.boundary
        if empty:
            adopted = set(empty)
            for key, known in readings.items():
                if key[0] in adopted:
                    self._cache.adopt(key, known.folded)
        for stream, events in self._appended.items():
            slot = slots.get(stream)
            if slot is None:
                continue
            before, count = appended.versions[stream], len(events)
            slot.version = before + count
            behind: list[Fold] = []
            for fold, folded in slot.folds.items():
                reading = readings.get((stream, fold))
                if (
                    reading is not None
                    and reading.applied == count
                    and (stream, fold) in boundary  # or others may have moved it on since it was read
                ):
                    folded.state = reading.state
                    if reading.last:
                        folded.version = before + reading.last
                elif folded.error is None:
                    behind.append(fold)
            for fold in behind:
                _bring_up(slot, fold, events, before)

    def settle(self) -> None:
        """The batch below is committed, right behind the cut that it was decided on: from now on this one stands alone.

        What was dropped from the cache meanwhile did not move on with it: then it goes on resting on what is gone.
        """
        slots = self._cache.slots
        for (stream, fold), reading in self._readings.items():
            slot = slots.get(stream)
            if slot is None and reading.under is None and stream in self.guessed:
                continue
            if slot is None or slot.folds.get(fold) is not reading.folded:
                return
        self._dropped.update([stream for stream, _ in self._readings])  # they may be evicted before more is decided
        self.below = None


def _bring_up(slot: Slot, fold: Fold, events: Sequence[Pending], before: int) -> None:
    """Moves a cached state on over what the batch appended to its stream, which had the version `before`."""
    folded = slot.folds[fold]
    try:
        reading = _shown(Reading(folded, folded.state, 0, 0), events, fold, slot.suffix)
    except Exception:
        del slot.folds[fold]  # whoever reads it loads it again, and hears why it cannot be folded
    else:
        folded.state = reading.state
        if reading.last:
            folded.version = before + reading.last


def _shown(reading: Reading, appended: Sequence[Pending], fold: Fold, suffix: str) -> Reading:
    """The reading after the events of the batch that it has not been shown yet."""
    state, last = reading.state, reading.last
    for number in range(reading.applied, len(appended)):
        twin = appended[number].twin_for(fold)
        if twin is not None:
            state = fold.evolve(state, twin, suffix)
            last = number + 1
    return Reading(reading.folded, state, len(appended), last, reading.under)
