"""Walks a whole log and tells what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct

from factfold.codec import EventType, Transform, decoding_error
from factfold.errors import DecodingError
from factfold.folds import Fold
from factfold.reading import opened_by
from factfold.storage.base import LogPage, StoredEvent, StreamInfo
from factfold.streams import category_of

PAGE = 1000
MAX_PROBLEMS = 1000


class Verification(Struct, frozen=True):
    """What `verify` found: how many events and streams there are, and one sentence for each problem.

    Events and streams are those that `log` and `streams` show; the library's own events (`$executed`, for the keys of
    `execute_once`) are looked at as well, and counted in `system_events`. At most 1,000 problems are listed; `ok` is
    True when there is none.
    """

    events: int
    streams: int
    problems: tuple[str, ...]
    system_events: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


class Verifier:
    """Takes the log page by page, then the streams, and keeps what is wrong."""

    def __init__(self, folds: Sequence[Fold], transform: Transform | None) -> None:
        self._folds: dict[str, list[Fold]] = {}
        for fold in folds:
            self._folds.setdefault(fold.category, []).append(fold)
        self._transform = transform
        self._position = 0
        self._system_events = 0
        self._versions: dict[str, int] = {}
        self._seen: set[str] = set()
        self._known: dict[tuple[str, str], tuple[EventType, ...]] = {}
        self._unknown: Counter[tuple[str, str]] = Counter()
        self._problems: list[str] = []

    def page(self) -> LogPage:
        """The page of the log to give to `log` next."""
        return LogPage(self._position, PAGE, system=True)

    def log(self, stored: Sequence[StoredEvent]) -> bool:
        """Looks at a page of the log. Whether another one is to follow: the end is not chased while others write."""
        for one in stored:
            if one.position != self._position + 1:
                self._found(f"position {one.position} follows on {self._position}: events are missing between them")
            self._position = one.position
            self._system_events += one.type.startswith("$")
            streams = one.streams
            if not streams:
                self._found(f"the event at position {one.position} ({one.type}) belongs to no stream")
            for stream, version in streams.items():
                before = self._versions.get(stream, 0)
                if version != before + 1:
                    self._found(f"{stream}: version {version} at position {one.position} follows on {before}")
                self._versions[stream] = version
            self._decode(one, streams)
        return len(stored) == PAGE

    def streams(self, infos: Iterable[StreamInfo]) -> str | None:
        """Looks at a page of streams. Gives the id to go on from."""
        last = None
        for info in infos:
            last = info.id
            self._seen.add(info.id)
            found = self._versions.get(info.id, 0)
            if found < info.version and info.position <= self._position:
                self._found(f"{info.id} claims version {info.version}, and the log has {found} events of it")
        return last

    def result(self, problems: Iterable[str]) -> Verification:
        """All that was found, with what the engine itself found."""
        for stream in self._versions.keys() - self._seen:
            if not stream.startswith("$"):
                self._found(f"{stream} has events in the log, and is not among the streams")
        for (category, name), count in sorted(self._unknown.items()):
            known = ", ".join(sorted({name for fold in self._folds[category] for name in fold.by_name}))
            self._found(
                f"{count} event(s) of type {name!r} stand in streams of {category!r}, and none of its folds knows that "
                f"type (they know {known}). Was a class renamed? Say so: @event(was=[{name!r}])."
            )
        found = [*self._problems, *problems]
        streams = sum(not stream.startswith("$") for stream in self._versions)
        events = self._position - self._system_events
        return Verification(events, streams, tuple(found[:MAX_PROBLEMS]), self._system_events)

    def _decode(self, one: StoredEvent, streams: Iterable[str]) -> None:
        tried: set[EventType] = set()
        for stream in streams:
            key = category_of(stream), one.type
            known = self._known.get(key)
            if known is None:
                known = self._known[key] = self._types_of(*key)
            if not known and key[0] in self._folds:
                self._unknown[key] += 1
            for event_type in known:
                if event_type in tried:
                    continue
                tried.add(event_type)
                try:
                    event_type.read(opened_by(self._transform, [one], stream)[0].data, one.type_version)
                except DecodingError as error:
                    self._found(str(error))
                except Exception as error:
                    self._found(str(decoding_error(one, event_type, error, stream)))

    def _types_of(self, category: str, name: str) -> tuple[EventType, ...]:
        """What the folds of a category take an event with this stored name for."""
        return tuple([fold.by_name[name] for fold in self._folds.get(category, ()) if name in fold.by_name])

    def _found(self, problem: str) -> None:
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(problem)
