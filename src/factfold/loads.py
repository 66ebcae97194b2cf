"""States on their way from the log into the cache: one load for a stream, however many wait for it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from factfold.cache import AnyStream, Decode, Fetched, Folded, Key
from factfold.job import Job
from factfold.snapshots import Snapshot, Snapshots, key_of
from factfold.storage.base import Head, Load, Loaded, Selection, Slice, StoredEvent, Wanted, version_in

MAX_SELECTIONS = 256
MAX_EVENTS = 2000


class Loading:
    """One fold of one stream that jobs wait for, folded as far as its events have come.

    `head` is the log's as of which they came, None while there are none; `generation` is that of the cut at that time.
    Where the fold keeps snapshots, it first asks for one (`asks`) and goes on from there (`used`), if the log bears it
    out; otherwise it is `refused`, and all events are folded.
    """

    __slots__ = (
        "_count",
        "_folded",
        "_last",
        "_reached",
        "_resumed",
        "_version",
        "asks",
        "complete",
        "generation",
        "head",
        "jobs",
        "key",
        "refused",
        "selection",
        "stream",
        "task",
        "used",
    )

    def __init__(self, stream: AnyStream) -> None:
        self.stream = stream
        self.key: Key = stream.key
        self.selection = Selection(stream.id, stream.fold.selected)
        self.jobs: list[Job] = []
        self.task: LoadTask | None = None
        self.generation = 0
        self.restart()

    def restart(self) -> None:
        """Forgets what was folded: an interruption may have left it half done."""
        fold = self.stream.fold
        self.complete = False
        self.head: Head | None = None
        self._folded = Folded(fold.initial if fold.show is None else fold.show(fold.initial), 0)
        self._version = 0
        self._reached = 0
        self._count = 0
        self._last: StoredEvent | None = None
        self._resumed: Snapshot | None = None
        self.used = self.refused = False
        self.asks = fold.codec is not None

    def go_on(self, generation: int) -> None:
        """Keeps what has come so far, unless the cut was begun anew since: it may be of a log that is gone."""
        if self.generation != generation:
            self.generation = generation
            self.restart()

    def resume(self, data: bytes | None, snapshots: Snapshots) -> None:
        """Goes on from the snapshot that was found, from the event on that it rests on."""
        self.asks = False
        if data is None:
            return
        self._resumed = found = snapshots.decode(self.stream, data)
        self.refused = found is None
        if found is not None:
            self._folded = Folded(found.state, found.version)
            self._reached = found.version - 1

    def wanted(self) -> Wanted:
        """What is still to be loaded."""
        return Wanted(self.selection, self._reached)

    def fold(self, part: Slice, head: Head, decode: Decode) -> None:
        """Folds the next events. What the fold raises becomes what whoever reads the stream gets."""
        events = part.events
        if self._resumed is not None and (events or part.complete):
            if not events or not self._resumed.rests_on(events[0]):
                self.restart()
                self.asks, self.refused = False, True
                return
            self._resumed, self._last, events = None, events[0], events[1:]
            self.used = True
            self._reached = self._folded.version
        stream, fold, folded = self.stream, self.stream.fold, self._folded
        self._version = part.version
        self.complete = part.complete
        self.head = head if part.events else self.head
        for stored in events:
            try:
                self._reached = version_in(stored, stream.id)
                folded.state = fold.advance(folded.state, decode(fold, stored, stream.id), stream.suffix)
            except Exception as error:
                error.add_note(f"while {fold.name} folded {stream.id}, version {self._reached}, at {stored.position}")
                folded.fail(error)
                self.complete = True
                return
            folded.version = self._reached
            self._last = stored
        self._count += len(events)

    def fetched(self, head: Head) -> Fetched:
        """The state, complete as of `head`."""
        return Fetched(self.stream.id, self.stream.fold, self._folded, self._version, head)

    def to_save(self) -> Snapshot | None:
        """The complete state, if it is to be saved: it took many events, or what is saved does not fit."""
        folded, fold = self._folded, self.stream.fold
        if fold.snapshot_every is None or folded.error is not None:
            return None
        if self._count <= fold.snapshot_every and not self.refused:
            return None
        if self._last is None:
            return Snapshot(self.stream, None, 0, 0, b"")
        return Snapshot(self.stream, folded.state, folded.version, self._last.position, self._last.id)


def _together(waiting: Iterable[Loading], generation: int) -> list[Loading]:
    """The first ones that have come to the same head."""
    found: list[Loading] = []
    for loading in waiting:
        loading.go_on(generation)
        if not found or loading.head == found[0].head:
            found.append(loading)
            if len(found) == MAX_SELECTIONS:
                break
    return found


class LoadTask:
    """One request to the storage for several of them, and its answer. `loader` is the job whose caller sends it.

    Those that go on where they were cut go on together, and rest on the head that they had come to. `asked` are the
    keys of the snapshots to be got first (`resume`), `to_save` the snapshots that came of it.
    """

    __slots__ = (
        "_after",
        "asked",
        "asked_at",
        "complete",
        "generation",
        "keys",
        "loaded",
        "loader",
        "loadings",
        "to_save",
    )

    def __init__(self, waiting: Iterable[Loading], after: Head | None, generation: int, loader: Job | None) -> None:
        self.loadings = _together(waiting, generation)
        head = self.loadings[0].head
        self.loader = loader
        self.generation = generation
        self.loaded: Loaded | None = None
        self.complete: list[tuple[Loading, Fetched]] = []
        self.keys = [loading.key for loading in self.loadings]
        self.asked = [key_of(loading.stream) for loading in self.loadings if loading.asks]
        self.asked_at = time.monotonic()
        self.to_save: list[Snapshot] = []
        self._after = after if head is None else head
        for loading in self.loadings:
            loading.task = self

    def resume(self, found: Mapping[str, bytes], snapshots: Snapshots) -> None:
        """Goes on from the snapshots that were found; needs no guard."""
        for loading in self.loadings:
            if loading.asks:
                loading.resume(found.get(key_of(loading.stream)), snapshots)

    @property
    def load(self) -> Load:
        """What to ask the storage for, once the snapshots are there."""
        return Load(tuple([loading.wanted() for loading in self.loadings]), self._after, MAX_EVENTS)

    def fold(self, loaded: Loaded, decode: Decode) -> None:
        """Folds what the storage answered. Takes time, and needs no guard: nobody else touches what is in flight."""
        self.loaded = loaded
        for loading, part in zip(self.loadings, loaded.slices, strict=True):
            loading.fold(part, loaded.head, decode)
            if loading.complete:
                self.complete.append((loading, loading.fetched(loaded.head)))
                if (snapshot := loading.to_save()) is not None:
                    self.to_save.append(snapshot)
