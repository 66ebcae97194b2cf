"""The model: a log as a plain list, streams as what can be picked out of it, and commands run one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Never, TypeAlias

import msgspec

from factfold import Stream
from factfold.folds import Fold
from factfold.storage.base import NewEvent, StoredEvent
from tests.properties.boxes import KINDS, LENSES, BrokenError, Event

AnyStream: TypeAlias = Stream[object, Never]

LENS_OF = {lens.at("0").fold: lens for lens in LENSES}


class Fact(NamedTuple):
    """An event and the streams that it is in."""

    event: Event
    streams: tuple[str, ...]


def facts_of(stored: Iterable[StoredEvent | NewEvent]) -> list[Fact]:
    """What stands in a log, or is to stand there, but for the library's own events."""
    return [_fact(one.type, one.data, tuple(one.streams)) for one in stored if one.type in KINDS]


@lru_cache(10_000)
def _fact(kind: str, data: bytes, streams: tuple[str, ...]) -> Fact:
    return Fact(KINDS[kind](**msgspec.json.decode(data)), streams)


def state_through(fold: Fold, stream: str, facts: Sequence[Fact]) -> object:
    """The state of the stream with this id after these facts. Raises BrokenError."""
    return LENS_OF[fold].state([fact.event for fact in facts if stream in fact.streams])


def state_of(stream: AnyStream, facts: Sequence[Fact]) -> object:
    """The state of a stream after these facts. Raises BrokenError."""
    return state_through(stream.fold, stream.id, facts)


def version_of(stream: AnyStream, facts: Sequence[Fact]) -> int:
    """The version of the last event that the stream's fold looks at."""
    members = [fact for fact in facts if stream.id in fact.streams]
    kinds = LENS_OF[stream.fold].kinds
    return max((version for version, fact in enumerate(members, 1) if isinstance(fact.event, kinds)), default=0)


class ModelView:
    """What a command of the model has read."""

    def __init__(self, tx: ModelTransaction, stream: AnyStream) -> None:
        self.stream = stream
        self._tx = tx

    @property
    def state(self) -> object:
        return state_of(self.stream, [*self._tx.log, *self._tx.appended])

    @property
    def version(self) -> int:
        return version_of(self.stream, self._tx.log)

    def append(self, *events: Event) -> None:
        for event in events:
            self._tx.append(event, self)


class ModelTransaction:
    """What a command of the model is given: nobody else is there, and everything is at hand."""

    def __init__(self, log: Sequence[Fact]) -> None:
        self.log = log
        self.appended: list[Fact] = []
        self.failed: BrokenError | None = None
        self._views: dict[AnyStream, ModelView] = {}

    def read(self, *streams: AnyStream) -> Any:
        for stream in streams:
            if stream not in self._views:
                state_of(stream, self.log)
        for stream in streams:
            self._show(stream)
            self._views.setdefault(stream, ModelView(self, stream))
        views = tuple(self._views[stream] for stream in streams)
        return views[0] if len(views) == 1 else views

    def append(self, event: Event, *views: ModelView) -> None:
        fact = Fact(event, tuple(dict.fromkeys(view.stream.id for view in views)))
        self.appended.append(fact)
        for stream in self._views:
            if stream.id in fact.streams:
                self._show(stream)

    def call(self, command: Callable[..., Any], *args: Any) -> Any:
        before = len(self.appended)
        try:
            return command(self, *args)
        except BaseException:
            del self.appended[before:]
            raise

    def _show(self, stream: AnyStream) -> None:
        # A fold that cannot bear what the command itself appended: nothing that the command does can save it.
        try:
            state_of(stream, [*self.log, *self.appended])
        except BrokenError as error:
            self.failed = error
            raise


class Outcome(NamedTuple):
    """What became of a command: its result, or the exception; and what it appended."""

    result: object
    error: BaseException | None
    appended: Sequence[Fact]

    @property
    def decision(self) -> tuple[object, ...]:
        """What of it has to be the same whenever the same command is run on the same states."""
        return (self.result, type(self.error), getattr(self.error, "args", ()), *self.appended)


def run(command: Callable[[Any], object], log: Sequence[Fact]) -> Outcome:
    """Runs a command alone."""
    tx = ModelTransaction(log)
    try:
        result = command(tx)
    except Exception as error:
        return Outcome(None, tx.failed or error, ())
    return Outcome(None, tx.failed, ()) if tx.failed else Outcome(result, None, tuple(tx.appended))
