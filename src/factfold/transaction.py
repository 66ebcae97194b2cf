"""What a command sees of the world: it reads streams, and appends to what it has read."""

# A transaction and its views are one thing in two classes.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from itertools import islice
from typing import Any, Concatenate, Generic, Never, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload
from uuid import UUID

from msgspec import Struct

from factfold.cache import AnyStream, Key
from factfold.codec import EventType
from factfold.commands import check_command, refusal_of_result
from factfold.errors import ForeignViewError, WrongEventError, WrongStreamsError
from factfold.folds import Fold
from factfold.overlay import Overlay, Pending, Reading
from factfold.streams import Stream, category_of, no_stream

S_co = TypeVar("S_co", covariant=True)
E_contra = TypeVar("E_contra", contravariant=True)
E = TypeVar("E")
P = ParamSpec("P")
R = TypeVar("R")
S1 = TypeVar("S1")
S2 = TypeVar("S2")
S3 = TypeVar("S3")
S4 = TypeVar("S4")
S5 = TypeVar("S5")
S6 = TypeVar("S6")
E1 = TypeVar("E1")
E2 = TypeVar("E2")
E3 = TypeVar("E3")
E4 = TypeVar("E4")
E5 = TypeVar("E5")
E6 = TypeVar("E6")

inside_command: ContextVar[bool] = ContextVar("factfold.inside_command", default=False)
"""True while a command runs: a store's methods refuse to be called then."""


class Suspension(BaseException):
    """Ends a run that read what is not loaded yet. No `Exception`, so that a command does not catch it by accident."""


class Origin(Protocol):
    """What a transaction is for: a command, whose time and ids are fixed for all runs of one `execute`."""

    @property
    def command(self) -> Callable[..., object]: ...
    def now(self) -> datetime: ...
    def new_id(self, index: int) -> UUID: ...


class View(Struct, Generic[S_co, E_contra], eq=False):
    """A stream as a command has read it: its state, and the place to append to it.

    `state` includes what this command appended.
    """

    _tx: Transaction
    _stream: Stream[S_co, E_contra]
    _reading: Reading
    _other: View[object, Never] | None  # another view of the same stream, through another fold
    _state: object
    _shown: Any  # the state as the command sees it: the fold that made it returns S
    _last: int = 0  # the number of the last event that this run appended and the fold looks at, 0 if none

    @property
    def stream(self) -> Stream[S_co, E_contra]:
        """The stream that was read."""
        return self._stream

    @property
    def state(self) -> S_co:
        """The folded state, including what this command appended."""
        state: S_co = self._shown
        return state

    @property
    def version(self) -> int:
        """The version in the stream of the last event that the fold looks at, as it was read; 0 if there is none."""
        return self._tx._version(self)

    def append(self, *events: E_contra) -> None:
        """Appends events to this stream, all or none of them. No I/O: they are written when the command completes.

        Raises:
            WrongEventError: the fold does not list the class of an event.
            WrongStreamsError: an event declares other streams, with `@event(streams=...)`.
            EncodingError: an event does not encode, or would come back as something else, or not at all in another
                fold.
            ForeignViewError: the run that this view belongs to is over.
        """
        self._tx._append(events, (self,))

    def __repr__(self) -> str:
        return f"<View of {self._stream.id}>"


AnyView = View[object, E]

Change: TypeAlias = "tuple[View[object, Never], object, int, object]"
"""A view, and its state, the number of the last event and the shown state, as they were before an event."""

Read: TypeAlias = tuple[Key, object, "int | None"]
"""What a run read, the state that it found, and the version, where that is known."""


class AnyStreamType(Protocol):
    """A stream type, whatever its states and events are: where several of different types are given at once."""

    @property
    def fold(self) -> Fold: ...
    @property
    def event_types(self) -> tuple[type[object], ...]: ...


class Transaction(Struct, eq=False):
    """The first parameter of a command: reads streams, appends to what was read.

    A command is pure and may run more than once; only its last run counts.
    """

    _overlay: Overlay
    _origin: Origin
    _views: dict[Key, View[object, Never]] = {}
    _by_stream: dict[str, View[object, Never]] = {}
    _events: list[Pending] = []
    _appended: dict[str, list[Pending]] = {}
    _changes: list[Change] | None = None  # of views, since the innermost `call` began
    _bytes: int = 0
    _ids: int = 0
    _open: bool = True
    _loaded: bool = False  # whether a stream was read that is loaded
    _assumes: bool = False  # whether one was that is taken for empty
    guessed: list[AnyStream] | None = None
    failed: Exception | None = None
    suspended: tuple[AnyStream, ...] = ()
    broken: dict[Key, Exception] = {}  # what could not be read, and why

    def __repr__(self) -> str:
        return "<Transaction>" if self._open else "<Transaction that is over>"

    @property
    def now(self) -> datetime:
        """The time (UTC), the same in every run of one `execute`."""
        return self._origin.now()

    def new_id(self) -> UUID:
        """A new id (UUID v7); the n-th call gives the same one in every run of one `execute`."""
        self._ids += 1
        return self._origin.new_id(self._ids - 1)

    @overload
    def read(self, stream: Stream[S1, E1], /) -> View[S1, E1]: ...
    @overload
    def read(self, a: Stream[S1, E1], b: Stream[S2, E2], /) -> tuple[View[S1, E1], View[S2, E2]]: ...
    @overload
    def read(
        self, a: Stream[S1, E1], b: Stream[S2, E2], c: Stream[S3, E3], /
    ) -> tuple[View[S1, E1], View[S2, E2], View[S3, E3]]: ...
    @overload
    def read(
        self, a: Stream[S1, E1], b: Stream[S2, E2], c: Stream[S3, E3], d: Stream[S4, E4], /
    ) -> tuple[View[S1, E1], View[S2, E2], View[S3, E3], View[S4, E4]]: ...
    @overload
    def read(
        self, a: Stream[S1, E1], b: Stream[S2, E2], c: Stream[S3, E3], d: Stream[S4, E4], e: Stream[S5, E5], /
    ) -> tuple[View[S1, E1], View[S2, E2], View[S3, E3], View[S4, E4], View[S5, E5]]: ...
    @overload
    def read(
        self,
        a: Stream[S1, E1],
        b: Stream[S2, E2],
        c: Stream[S3, E3],
        d: Stream[S4, E4],
        e: Stream[S5, E5],
        f: Stream[S6, E6],
        /,
    ) -> tuple[View[S1, E1], View[S2, E2], View[S3, E3], View[S4, E4], View[S5, E5], View[S6, E6]]: ...
    @overload
    def read(self, streams: Iterable[Stream[S1, E1]], /) -> tuple[View[S1, E1], ...]: ...

    def read(self, *streams: AnyStream | Iterable[AnyStream]) -> object:
        """Reads one stream (gives its view), several, or an iterable of streams (gives a tuple of views).

        What is read is what the decision rests on: the command takes effect only if none of it has changed. All
        streams of one call are loaded together. Reading a stream twice gives the same view.

        Raises:
            TypeError: something else than streams was given.
            ForeignViewError: the run that this transaction belongs to is over.
            Exception: what a fold raises on the stream's events; `DecodingError` where an event cannot be decoded.
        """
        if not self._open:
            raise _over()
        if len(streams) == 1:
            only = streams[0]
            if type(only) is Stream:
                return self._views.get(only.key) or self._read(only, (only,))
            if not isinstance(only, Iterable) or isinstance(only, str | bytes | Mapping):
                raise no_stream("tx.read()", streams[0])
            streams = tuple(only)  # each is checked below
        elif not streams:
            raise TypeError("tx.read() needs a stream to read, for example tx.read(accounts('alice'))")
        for each in streams:
            if type(each) is not Stream:
                raise no_stream("tx.read()", each)
        together = cast("tuple[AnyStream, ...]", streams)  # each was checked above
        return tuple([self._views.get(stream.key) or self._read(stream, together) for stream in together])

    def append(self, event: E, view: AnyView[E], /, *views: AnyView[E]) -> None:
        """Appends one event to the streams of several views: one position, and a version in each stream.

        Raises:
            WrongEventError: a view's fold does not list the class of the event.
            WrongStreamsError: the event declares other streams, with `@event(streams=...)`.
            EncodingError: the event does not encode, or would come back as something else, or not at all in another
                fold.
            ForeignViewError: a view belongs to another transaction, or to a run that is over.
        """
        self._append((event,), (view, *views))

    def call(self, command: Callable[Concatenate[Transaction, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs another command inside this one and returns its result. If it raises, what it appended is undone."""
        if not self._open:
            raise _over()
        check_command(command)
        events, views = len(self._events), len(self._views)
        changes: list[Change] = []
        around, self._changes = self._changes, changes
        try:
            result = command(self, *args, **kwargs)
            if (refusal := refusal_of_result(command, result)) is not None:
                raise refusal
        except BaseException:
            self._undo(events, views, changes)
            raise
        finally:
            self._changes = around
        if around is not None:
            around += changes
        return result

    # -- for the batch ---------------------------------------------------------------------------------------------

    @property
    def appended(self) -> Sequence[Pending]:
        """The events that this run has appended so far."""
        return self._events

    def trace(self) -> list[Read]:
        """What this run has read, in order, with what it found."""
        version = self._overlay.known_version
        return [(key, view._reading.state, version(key[0], view._reading)) for key, view in self._views.items()]

    @property
    def reads(self) -> tuple[Key, ...]:
        """What this run rests on."""
        return (*self._views, *self.broken)

    def complete(self) -> tuple[Sequence[Pending], tuple[Key, ...]]:
        """Ends the run and hands what it appended over to the batch. Gives that and, if there is any, its reads."""
        events = self._events
        reads: tuple[Key, ...] = ()
        if events:
            reads = self.reads
            overlay = self._overlay
            overlay.events.extend(events)
            overlay.bytes += self._bytes
            for stream, appended in self._appended.items():
                before, after = overlay.keep(stream, appended)
                view = self._by_stream.get(stream)
                while view is not None:
                    reading = view._reading
                    reading.state, reading.applied = view._state, after
                    if view._last:
                        reading.last = before + view._last
                    view = view._other
        self.abandon(decided=True)
        return events, reads

    def abandon(self, *, decided: bool) -> None:
        """Ends the run without effect. A `decided` one (it raised) rests on what it read, as a completed one does."""
        self._open = False
        if decided:
            boundary = self._overlay.boundary
            for key in self._views:
                boundary[key] = None
            for key in self.broken:
                boundary[key] = None
        del self._overlay, self._views, self._by_stream  # views know their transaction: no garbage for the collector

    # -- inside ----------------------------------------------------------------------------------------------------

    def _read(self, stream: AnyStream, together: tuple[AnyStream, ...]) -> View[object, Never]:
        """A view of a stream that was not read before. All of `together` are loaded when this one has to be."""
        if self.suspended:
            raise Suspension
        overlay = self._overlay
        try:
            reading = overlay.read(stream)
            if reading is None and self._may_guess(stream):
                reading = overlay.guess(stream, self._origin.command)
        except Exception as error:
            self.broken.update(dict.fromkeys([each.key for each in together], error))  # the command rests on this, too
            raise
        if reading is None or (overlay.assumes and not self._fits(stream)):
            wanted = {each.key: each for each in (*(self.guessed or ()), *together)}
            self.suspended = tuple(wanted.values())
            raise Suspension
        by_stream = self._by_stream
        state, show = reading.state, stream.fold.show
        view = View(self, stream, reading, by_stream.get(stream.id), state, state if show is None else show(state))
        self._views[stream.key] = by_stream[stream.id] = view
        if self._events:
            self._catch_up(view)
        return view

    def _may_guess(self, stream: AnyStream) -> bool:
        """Whether the stream may be taken for empty, next to all that this run has read."""
        if not self._overlay.assumes:  # so nobody has kept account of it: all that was read is loaded
            self._loaded = any(not _is_system(view._stream) for view in self._views.values())
        return not self._loaded or _is_system(stream)

    def _fits(self, stream: AnyStream) -> bool:
        """Whether the stream's state is one of the same moment as all that this run has read.

        What is loaded is as of the cut. Streams that are taken for empty are as of the log's beginning, where all of
        them are: a run must not see both, which may never have been true together. The library's own are not seen.
        """
        if self._overlay.is_guessed(stream.id):
            if self.guessed is None:
                self.guessed = []
            self.guessed.append(stream)
            self._assumes = self._assumes or not _is_system(stream)
        elif not _is_system(stream):
            self._loaded = True
        return not (self._assumes and self._loaded)

    def _catch_up(self, view: View[object, Never]) -> None:
        """Shows a view, as it was read, what was appended to its stream before, through another fold."""
        stream = view._stream.id
        for number, pending in enumerate(self._appended.get(stream, ()), 1):
            self._show(view, pending, number)

    def _show(self, view: View[object, Never], pending: Pending, number: int) -> None:
        """Shows a view the next event of its stream, which is the number-th one of this run."""
        stream = view._stream
        fold = stream.fold
        try:
            twin = pending.twin_for(fold)
            if twin is not None:
                if self._changes is not None:
                    self._changes.append((view, view._state, view._last, view._shown))
                view._state = state = fold.evolve(view._state, twin, stream.suffix)
                view._last = number
                view._shown = state if fold.show is None else fold.show(state)
        except Exception as error:
            self.failed = error  # this run cannot count any more, even if the command catches it
            raise

    def _append(self, events: tuple[object, ...], views: tuple[View[object, E], ...]) -> None:
        if not self._open:
            raise _over()
        known = self._views
        for view in views:
            if type(view) is not View or known.get(view._stream.key) is not view:
                raise _not_ours(view)
        first, alone = views[0]._stream, len(views) == 1
        streams = (first.id,) if alone else tuple(dict.fromkeys([view._stream.id for view in views]))
        by_class, seal = first.fold.by_class, self._overlay.seal
        encoded: list[Pending] = []
        for event in events:
            event_type = by_class.get(type(event))
            if event_type is None or not alone:
                event_type = _event_type(event, views)
            if event_type.streams:
                _check_streams(event_type, streams)
            data, twin = event_type.encode(event)
            if first.fold.rivals or not alone:
                _check_rivals(event_type, data, views)
            encoded.append(Pending(event_type, data, twin, streams, data if seal is None else seal(data)))
        for pending in encoded:
            self._events.append(pending)
            self._bytes += len(pending.stored)
            for stream in streams:
                appended = self._appended.get(stream)
                if appended is None:
                    appended = self._appended[stream] = []
                appended.append(pending)
                shown = self._by_stream.get(stream)
                while shown is not None:
                    self._show(shown, pending, len(appended))
                    shown = shown._other

    def _undo(self, events: int, views: int, changes: Sequence[Change]) -> None:
        """Goes back to when there were so many events and views, before these changes."""
        for pending in reversed(self._events[events:]):
            for stream in pending.streams:
                appended = self._appended.get(stream)
                if appended is None or appended[-1] is not pending:
                    continue  # a fold raised before this stream got the event
                appended.pop()
                if not appended:
                    del self._appended[stream]
            self._bytes -= len(pending.stored)
        del self._events[events:]
        for view, state, last, shown in reversed(changes):
            view._state, view._last, view._shown = state, last, shown
        for view in islice(reversed(self._views.values()), len(self._views) - views):
            state, show = view._reading.state, view._stream.fold.show
            view._state, view._last, view._shown = state, 0, state if show is None else show(state)
            self._catch_up(view)

    def _version(self, view: View[object, E]) -> int:
        if not self._open:
            raise _over()
        version = self._overlay.version(view._stream, view._reading)
        if version is None:
            self.suspended = (view._stream,)
            raise Suspension
        return version


def _is_system(stream: AnyStream) -> bool:
    return stream.id.startswith("$")


def _event_type(event: object, views: tuple[View[object, E], ...]) -> EventType:
    """How the event is stored, provided that each of the folds lists exactly its class."""
    found: EventType | None = None
    for view in views:
        fold = view._stream.fold
        event_type = fold.by_class.get(type(event))
        if event_type is None:
            listed = ", ".join(cls.__name__ for cls in fold.by_class)
            raise WrongEventError(
                f"{event!r} cannot be appended to {view._stream.id}: its fold {fold.name} looks at {listed}, "
                f"and not at {type(event).__name__}. Append one of these classes exactly (no subclass), or add "
                f"{type(event).__name__} to the annotation of the fold's second parameter."
            )
        found = found or event_type
    assert found is not None  # there is at least one view
    return found


def _check_rivals(event_type: EventType, data: bytes, views: tuple[View[object, E], ...]) -> None:
    for view in views:
        for rival in view._stream.fold.rivals.get(event_type.name, ()):
            rival.check(event_type, data, view._stream.id)


def _check_streams(event_type: EventType, streams: tuple[str, ...]) -> None:
    named = [category_of(stream) for stream in streams]
    missing: list[str] = []
    for category in event_type.streams:
        if category in named:
            named.remove(category)
        else:
            missing.append(category)
    if missing:
        raise WrongStreamsError(
            f"{event_type.cls.__name__} declares streams={event_type.streams!r}, and was appended to "
            f"{', '.join(streams)}: a stream of {', '.join(missing)} is missing. "
            "Read it too, and name its view: tx.append(event, view, other_view)."
        )


def _not_ours(view: object) -> Exception:
    if type(view) is not View:
        return TypeError(f"tx.append() needs the views to append to, as tx.read() gives them, and got {view!r}")
    return ForeignViewError(
        f"{view!r} was read by another transaction, or by an earlier run of this command. "
        "Append only to what tx.read() gave in the same run, and keep no view outside of it."
    )


def _over() -> ForeignViewError:
    return ForeignViewError(
        "A transaction or a view was used after the run of its command was over. Read and append inside the command "
        "only, and keep no view outside of it."
    )
