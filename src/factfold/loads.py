"""States on their way from the log into the cache: one load for a stream, however many wait for it."""

from __future__ import annotations

from collections.abc import Sequence

from factfold.cache import AnyStream, Decode, Fetched, Folded, Key
from factfold.job import Job
from factfold.storage.base import Head, Load, Loaded, Selection, Slice, Wanted, version_in

MAX_SELECTIONS = 256
MAX_EVENTS = 2000


class Loading:
    """One fold of one stream that jobs wait for, folded as far as its events have come.

    `head` is the log's as of which they came, None while there are none; `generation` is that of the cut at that time.
    """

    __slots__ = (
        "_folded",
        "_reached",
        "_version",
        "complete",
        "generation",
        "head",
        "jobs",
        "key",
        "selection",
        "stream",
        "task",
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

    def go_on(self, generation: int) -> None:
        """Keeps what has come so far, unless the cut was begun anew since: it may be of a log that is gone."""
        if self.generation != generation:
            self.generation = generation
            self.restart()

    def wanted(self) -> Wanted:
        """What is still to be loaded."""
        return Wanted(self.selection, self._reached)

    def fold(self, part: Slice, head: Head, decode: Decode) -> None:
        """Folds the next events. What the fold raises becomes what whoever reads the stream gets."""
        stream, fold, folded = self.stream, self.stream.fold, self._folded
        self._version = part.version
        self.complete = part.complete
        self.head = head if part.events else self.head
        for stored in part.events:
            try:
                self._reached = version_in(stored, stream.id)
                folded.state = fold.advance(folded.state, decode(fold, stored, stream.id), stream.suffix)
            except Exception as error:
                error.add_note(f"while {fold.name} folded {stream.id}, version {self._reached}, at {stored.position}")
                folded.error = error
                self.complete = True
                return
            folded.version = self._reached

    def fetched(self, head: Head) -> Fetched:
        """The state, complete as of `head`."""
        return Fetched(self.stream.id, self.stream.fold, self._folded, self._version, head)


class LoadTask:
    """One request to the storage for several of them, and its answer. `loader` is the job whose caller sends it.

    Those that go on where they were cut go on together, and rest on the head that they had come to.
    """

    __slots__ = ("complete", "generation", "keys", "load", "loaded", "loader", "loadings")

    def __init__(self, waiting: Sequence[Loading], after: Head | None, generation: int, loader: Job | None) -> None:
        head = waiting[0].head
        self.loadings = [loading for loading in waiting if loading.head == head][:MAX_SELECTIONS]
        self.loader = loader
        self.generation = generation
        self.loaded: Loaded | None = None
        self.complete: list[tuple[Loading, Fetched]] = []
        self.keys = [loading.key for loading in self.loadings]
        wanted = tuple(loading.wanted() for loading in self.loadings)
        self.load = Load(wanted, after if head is None else head, MAX_EVENTS)
        for loading in self.loadings:
            loading.task = self

    def fold(self, loaded: Loaded, decode: Decode) -> None:
        """Folds what the storage answered. Takes time, and needs no guard: nobody else touches what is in flight."""
        self.loaded = loaded
        for loading, part in zip(self.loadings, loaded.slices, strict=True):
            loading.fold(part, loaded.head, decode)
            if loading.complete:
                self.complete.append((loading, loading.fetched(loaded.head)))
