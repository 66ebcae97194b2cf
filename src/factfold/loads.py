"""States on their way from the log into the cache: one load for a stream, however many wait for it."""

from __future__ import annotations

from collections.abc import Sequence

from factfold.cache import AnyStream, Decode, Fetched, Folded, Key
from factfold.job import Job
from factfold.storage.base import Head, Load, Loaded, Selection, Slice, Wanted, version_in

MAX_SELECTIONS = 256
MAX_EVENTS = 2000


class Loading:
    """One fold of one stream that jobs wait for, folded as far as its events have come."""

    __slots__ = ("_folded", "_reached", "_version", "complete", "jobs", "key", "selection", "stream", "task")

    def __init__(self, stream: AnyStream) -> None:
        self.stream = stream
        self.key: Key = stream.key
        self.selection = Selection(stream.id, stream.fold.selected)
        self.jobs: list[Job] = []
        self.task: LoadTask | None = None
        self.restart()

    def restart(self) -> None:
        """Forgets what was folded: an interruption may have left it half done."""
        fold = self.stream.fold
        self.complete = False
        self._folded = Folded(fold.initial if fold.show is None else fold.show(fold.initial), 0)
        self._version = 0
        self._reached = 0

    def wanted(self) -> Wanted:
        """What is still to be loaded."""
        return Wanted(self.selection, self._reached)

    def fold(self, part: Slice, decode: Decode) -> None:
        """Folds the next events. What the fold raises becomes what whoever reads the stream gets."""
        stream, fold, folded = self.stream, self.stream.fold, self._folded
        self._version = part.version
        self.complete = part.complete
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
    """One request to the storage for several of them, and its answer. `loader` is the job whose caller sends it."""

    __slots__ = ("complete", "generation", "keys", "load", "loaded", "loader", "loadings")

    def __init__(self, waiting: Sequence[Loading], after: Head | None, generation: int, loader: Job | None) -> None:
        self.loadings = waiting[:MAX_SELECTIONS]
        self.loader = loader
        self.generation = generation
        self.loaded: Loaded | None = None
        self.complete: list[tuple[Loading, Fetched]] = []
        self.keys = [loading.key for loading in self.loadings]
        self.load = Load(tuple(loading.wanted() for loading in self.loadings), after, MAX_EVENTS)
        for loading in self.loadings:
            loading.task = self

    def fold(self, loaded: Loaded, decode: Decode) -> None:
        """Folds what the storage answered. Takes time, and needs no guard: nobody else touches what is in flight."""
        self.loaded = loaded
        for loading, part in zip(self.loadings, loaded.slices, strict=True):
            loading.fold(part, decode)
            if loading.complete:
                self.complete.append((loading, loading.fetched(loaded.head)))
