"""A fold: how the events of one category become a state, and all that is checked when one is defined."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from factfold.annotations import describe, event_classes, function_hints, show
from factfold.codec import EventType, decoding_error, event_type, unreadable
from factfold.copying import Copier, copier
from factfold.errors import DefinitionError
from factfold.immutability import check_state
from factfold.returned import Returned
from factfold.states import StateCodec, state_codec
from factfold.storage.base import StoredEvent

Evolve = Callable[[object, object, str], object]
"""The state after an event, in the stream whose `suffix` is the third argument."""


class Rival(Struct, frozen=True):
    """What a fold defined beside another one, of the same category, takes for a stored name that both look at."""

    fold: str
    event_type: EventType

    def check(self, event_type: EventType, data: bytes, stream: str) -> None:
        """Raises EncodingError when the other fold could never read what is about to be appended."""
        try:
            self.event_type.read(data, event_type.version)
        except Exception as error:
            raise unreadable(event_type, self.event_type, self.fold, stream, error) from error


class Fold(Struct, frozen=True, eq=False, weakref=True):
    """A fold without its types. Each is equal to itself only: two folds over one stream are two things."""

    name: str
    """`module.name` of the user's function."""
    category: str
    initial: object
    selected: frozenset[str]
    """The stored names of the events that it looks at, today's and former ones."""
    by_class: Mapping[type, EventType]
    by_name: Mapping[str, EventType]
    evolve: Evolve
    """Leaves the state that it is given as it is, whatever the user's function does."""
    advance: Evolve
    """`evolve` for a state that nobody else holds: the user's function may have changed it in place."""
    show: Copier | None
    """Copies a state for someone who could change it in place; None when nobody can."""
    rivals: dict[str, tuple[Rival, ...]]
    """By stored name, where folds defined beside this one take it for another class. Grows as they are defined."""
    snapshot_every: int | None = None
    snapshot_version: int = 1
    codec: StateCodec | None = None
    """How states are saved; None when no snapshots are kept."""

    @property
    def place(self) -> str:
        """Where its function is defined: the module, and the function or class around it."""
        return self.name.rpartition(".")[0]

    def __deepcopy__(self, memo: object) -> Fold:
        return self

    def __repr__(self) -> str:
        return f"<Fold {self.name} of {self.category}>"

    def decode(self, stored: StoredEvent, stream_id: str) -> object:
        """A stored event as an object. Raises DecodingError naming stream, version, position and type."""
        try:
            known = self.by_name[stored.type]
            if stored.type_version == known.version:  # the same as `read`, without a call: loads spend their time here
                return known.decode(stored.data)
            return known.read(stored.data, stored.type_version)
        except Exception as error:
            raise decoding_error(stored, self.by_name.get(stored.type), error, stream_id) from error


def define(
    category: str,
    initial: object,
    function: Callable[..., object],
    names: Mapping[str, object],
    *,
    snapshot_every: int | None = None,
    snapshot_version: int = 1,
) -> Fold:
    """The fold that a function's annotations describe; `names` are the local names around it.

    Raises DefinitionError saying what is wrong with the function, its state or its events.
    """
    name = describe(function)
    state_parameter, event_parameter, *with_id = _parameters(function, name)
    hints = function_hints(function, names)
    for missing in (one for one in (state_parameter, event_parameter, "return") if one not in hints):
        what = "what it returns" if missing == "return" else f"its parameter `{missing}`"
        raise DefinitionError(
            f"{name}: {what} has no annotation. A fold says what it folds: "
            "`def accounts(state: Account, event: Opened | Deposited) -> Account`."
        )
    for third in with_id:
        if hints.get(third, str) is not str:
            raise DefinitionError(f"{name}: its third parameter gets the stream's id, a str, not {show(hints[third])}.")
    states = (hints[state_parameter], hints["return"])
    events = event_classes(hints[event_parameter], f"{name}: the parameter `{event_parameter}`")

    where = f"{name}: the state"
    for annotation in states:
        check_state(annotation, where, names)
    _check_initial(initial, states, name)
    by_class = {cls: _event_type(cls, name, names) for cls in events}
    show_state = copier(states, where, names)
    returned = Returned(hints["return"], name)
    advance = _with_own_events(_contained(function, bool(with_id), name, returned), by_class, names)
    by_name = _by_name(by_class, name)
    codec = None if snapshot_every is None else state_codec(hints["return"], by_class.values(), where, names)
    return Fold(
        name=name,
        category=category,
        initial=initial if show_state is None else show_state(initial),
        selected=frozenset(by_name),
        by_class=by_class,
        by_name=by_name,
        evolve=advance if show_state is None else _with_own_state(advance, show_state),
        advance=advance,
        show=show_state,
        rivals={},
        snapshot_every=snapshot_every,
        snapshot_version=snapshot_version,
        codec=codec,
    )


def introduce(folds: Iterable[Fold]) -> None:
    """Tells folds of one category that were defined in one place of each other; the newest is the last.

    What one of them appends, the others have to read. Those of other places may belong to another program that runs in
    this process, with a log of its own, and are left alone. So are those that were defined again under their name.
    """
    newest = {fold.name: fold for fold in folds}.values()
    for fold in newest:
        fold.rivals.clear()
        for mine in fold.by_class.values():
            rivals = [
                Rival(other.name, theirs)
                for other in newest
                if (theirs := other.by_name.get(mine.name)) is not None and theirs is not mine
            ]
            if rivals:
                fold.rivals[mine.name] = tuple(rivals)


# -- What is checked ---------------------------------------------------------------------------------------------------


def _parameters(function: Callable[..., object], name: str) -> list[str]:
    target = inspect.unwrap(function)
    if not inspect.isfunction(target):
        raise DefinitionError(f"{name}: @stream stands above a function `(state, event) -> state`.")
    if inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target):
        raise DefinitionError(
            f"{name}: a fold is a plain `def`, not `async`: all it does is to compute the next state, and it does so "
            "again at every replay. What needs I/O belongs before the command."
        )
    if inspect.isgeneratorfunction(target):
        raise DefinitionError(f"{name}: a fold returns the next state, and this one yields. Use `return`.")
    parameters = inspect.signature(function).parameters.values()
    positional = [one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    if len(positional) != len(parameters) or len(positional) not in (2, 3):
        raise DefinitionError(
            f"{name}: a fold takes the state and an event, and the stream's id if it likes: `(state, event)` or "
            f"`(state, event, id: str)`. This one takes `{inspect.signature(function)}`."
        )
    return positional


def _event_type(cls: type, name: str, names: Mapping[str, object]) -> EventType:
    try:
        return event_type(cls, names)
    except DefinitionError as error:
        raise DefinitionError(f"{name}: {error}") from error.__cause__


def _by_name(by_class: Mapping[type, EventType], name: str) -> dict[str, EventType]:
    found: dict[str, EventType] = {}
    for each in by_class.values():
        for stored_name in each.names:
            other = found.setdefault(stored_name, each)
            if other is not each:
                raise DefinitionError(
                    f"{name}: {describe(other.cls)} and {describe(each.cls)} both stand for {stored_name!r} "
                    "in the log, and could not be told apart. Give one of them another name, `@event(name=...)`, or "
                    "let one of them alone say that it `was` that."
                )
    return found


def _check_initial(initial: object, states: Sequence[object], name: str) -> None:
    """Refuses an initial state of another class than the annotations'; what is inside it is left to type checkers."""
    if not any(Returned(annotation, name).allows(initial) for annotation in states):
        raise DefinitionError(
            f"{name}: the initial state is {initial!r}, and the state is annotated as {show(states[0])}. The initial "
            "state is what there is before the first event: give another one, or allow it in the annotation."
        )


# -- What is put around the function -----------------------------------------------------------------------------------


def _contained(function: Callable[..., object], with_id: bool, name: str, returned: Returned) -> Evolve:
    """The function with three parameters, with ordinary exceptions only, and with states as they are annotated only.

    A fold runs wherever events are folded: in another caller's thread, in a task of the store. `SystemExit` or
    `CancelledError` would end that one. KeyboardInterrupt is left alone: as a rule it is not the fold's.
    """
    classes = returned.classes

    def evolve(state: object, event: object, stream: str) -> object:
        try:
            after = function(state, event, stream) if with_id else function(state, event)
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise RuntimeError(f"{name} raised {error!r}, and a fold may raise ordinary exceptions only") from error
        if type(after) not in classes and not returned.allows(after):
            raise returned.refusal(after, event, name)
        return after

    return evolve


def _with_own_state(advance: Evolve, copy_state: Copier) -> Evolve:
    return lambda state, event, stream: advance(copy_state(state), event, stream)


def _with_own_events(function: Evolve, by_class: Mapping[type, EventType], names: Mapping[str, object]) -> Evolve:
    # The dict of a Mapping inside an event is shared by everyone who sees the event: no state may come to hold it.
    copiers: dict[type[Any], Copier] = {}
    for cls in by_class:
        if (made := copier((cls,), describe(cls), names)) is not None:
            copiers[cls] = made
    if not copiers:
        return function

    def advance(state: object, event: object, stream: str) -> object:
        copy_event = copiers.get(type(event))
        return function(state, event if copy_event is None else copy_event(event), stream)

    return advance
