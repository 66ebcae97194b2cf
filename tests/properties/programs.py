"""Commands made by hypothesis: small programs that read, look, append, refuse, and read on where a state tells them to.

A program notes what it sees, after each of its steps and in every run, also in those that are thrown away.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hypothesis import strategies as st

from factfold import Transaction
from tests.properties.boxes import LENSES, BrokenError, Event, Knot, Numbers
from tests.properties.chance import Chance, chances
from tests.properties.model import LENS_OF, AnyStream, Fact

IDS = 3
"""How many streams there are of each category."""

EVENTS_PER_PROGRAM = 1000
POISON = 999
"""The number, within its program, of an event that the storage refuses."""


class RefusedError(Exception):
    """What a program raises; its argument is what it had seen."""


# -- What a program notes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """A state, or a version, that a run saw, after it had appended this much itself."""

    stream: AnyStream
    what: str
    value: object
    own: tuple[Fact, ...]


@dataclass
class Run:
    """One run of a program: where it stood, and what it saw there."""

    position: int
    before: tuple[Fact, ...]
    seen: list[Seen] = field(default_factory=list)
    wrote: tuple[Fact, ...] = ()


def standing(tx: Transaction) -> Run:
    """Which cut of the log a run of a command stands on, and what was appended there before it and not written yet.

    That is what the batch before has appended, if it is still on its way, and the earlier commands of its own batch.
    """
    overlay = tx._overlay
    head = overlay._cache.head
    assert head is not None
    unwritten = [*(() if overlay.below is None else overlay.below.events), *overlay.events]
    before = [(as_event(pending.twin), pending.streams) for pending in unwritten]
    return Run(head.position, tuple(Fact(event, streams) for event, streams in before if event is not None))


# -- What a program is made of -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """Reads some streams at once; perhaps one of them twice."""

    places: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Weigh:
    """Looks at the version of what was read."""

    view: int


@dataclass(frozen=True)
class Follow:
    """Reads the stream that a state, or a version, names."""

    view: int
    lens: int
    by_version: bool


@dataclass(frozen=True)
class Put:
    """Appends events to one stream."""

    view: int
    kinds: tuple[int, ...]


@dataclass(frozen=True)
class Tie:
    """Appends one event to several streams."""

    views: tuple[int, ...]


@dataclass(frozen=True)
class Poison:
    """Appends what the storage refuses."""

    view: int


@dataclass(frozen=True)
class When:
    """Goes on with these steps if the sum of a state is even, or odd."""

    view: int
    odd: bool
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Attempt:
    """Does these steps in a `tx.call`, and goes on when they are refused."""

    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Swallow:
    """Does these steps, and goes on whatever they raise: an exception, or a suspension."""

    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Refuse:
    """Raises."""


Step: TypeAlias = Look | Weigh | Follow | Put | Tie | Poison | When | Attempt | Swallow | Refuse


@dataclass(eq=False)
class Program:
    """A command. `runs` are those that it has had so far; `meanwhile` is called in each run, as others might be."""

    number: int
    steps: tuple[Step, ...]
    runs: list[Run] = field(default_factory=list, repr=False)
    meanwhile: Callable[[], None] | None = field(default=None, repr=False)

    def __call__(self, tx: Transaction) -> str:
        if not isinstance(tx, Transaction):
            return _Interpreter(self, tx, Run(0, ())).run()
        run = standing(tx)
        self.runs.append(run)
        if self.meanwhile is not None:
            self.meanwhile()
        return _Interpreter(self, tx, run).run()

    def owns(self, event: Event) -> bool:
        """Whether this program appended the event."""
        return event.n // EVENTS_PER_PROGRAM == self.number


class _Interpreter:
    """One run of a program, on a transaction or on the model's."""

    def __init__(self, program: Program, tx: Any, run: Run) -> None:
        self._program = program
        self._tx = tx
        self._run = run
        self._views: list[Any] = []
        self._own: list[Fact] = []
        self._made = 0
        self._doomed = False

    def run(self) -> str:
        self._do(self._program.steps)
        self._note()
        self._run.wrote = tuple(self._own)
        return self._summary()

    def _do(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._step(step)
            self._note()

    def _step(self, step: Step) -> None:
        match step:
            case Look(places):
                self._read(*(LENSES[lens].at(str(id)) for lens, id in places))
            case When(view, odd, steps):
                if self._views and self._weight(self._pick(view)) % 2 == odd:
                    self._do(steps)
            case Attempt(steps):
                self._attempt(steps)
            case Swallow(steps):
                with contextlib.suppress(BaseException):
                    self._do(steps)
            case Refuse():
                raise RefusedError(self._summary())
            case _ if not self._views:
                pass
            case Weigh(view):
                self._version(self._pick(view))
            case Follow(view, lens, by_version):
                seen = self._pick(view)
                weight = self._version(seen) if by_version else self._weight(seen)
                self._read(LENSES[lens].at(str(weight % IDS)))
            case Put(view, kinds):
                self._put(self._pick(view), kinds)
            case Tie(views):
                self._tie([self._pick(view) for view in views])
            case Poison(view):
                self._append(self._event(LENS_OF[self._pick(view).stream.fold].kinds[0], POISON), self._pick(view))

    def _read(self, *streams: AnyStream) -> None:
        views = self._breakable(lambda: self._tx.read(*streams))
        for view in (views,) if len(streams) == 1 else views:
            if view not in self._views:
                self._views.append(view)

    def _attempt(self, steps: Sequence[Step]) -> None:
        before, views = len(self._own), list(self._views)

        def inner(tx: object) -> None:
            self._do(steps)

        try:
            self._tx.call(inner)
        except BaseException as error:
            del self._own[before:]
            self._views = views
            if not isinstance(error, RefusedError | BrokenError):
                raise

    def _put(self, view: Any, kinds: Sequence[int]) -> None:
        allowed = LENS_OF[view.stream.fold].kinds
        events = [self._event(allowed[kind % len(allowed)]) for kind in kinds]
        self._own += [Fact(event, (view.stream.id,)) for event in events]
        self._breakable(lambda: view.append(*events))

    def _tie(self, views: Sequence[Any]) -> None:
        tied = [view for view in views if Knot in LENS_OF[view.stream.fold].kinds]
        if tied:
            self._append(self._event(Knot), *tied)

    def _append(self, event: Event, *views: Any) -> None:
        self._own.append(Fact(event, tuple(dict.fromkeys(view.stream.id for view in views))))
        self._breakable(lambda: self._tx.append(event, *views))

    def _breakable(self, act: Callable[[], Any]) -> Any:
        """Does what shows events to folds. When one breaks on what this run appended, the run cannot count any more."""
        try:
            return act()
        except BrokenError:
            self._doomed = self._doomed or bool(self._own)
            raise

    def _event(self, kind: type[Event], number: int | None = None) -> Event:
        self._made += 1
        return kind(self._program.number * EVENTS_PER_PROGRAM + (self._made if number is None else number))

    def _pick(self, view: int) -> Any:
        return self._views[view % len(self._views)]

    @staticmethod
    def _weight(view: Any) -> int:
        state: Numbers | int = view.state
        return state if isinstance(state, int) else sum(state)

    def _version(self, view: Any) -> int:
        version: int = view.version
        self._saw(view, "version", version)
        return version

    def _note(self) -> None:
        for view in self._views:
            self._saw(view, "state", view.state)

    def _saw(self, view: Any, what: str, value: object) -> None:
        if not self._doomed:
            self._run.seen.append(Seen(view.stream, what, value, tuple(self._own)))

    def _summary(self) -> str:
        return " ".join(f"{view.stream.id}={view.state}" for view in self._views)


def as_event(twin: object) -> Event | None:
    """An event of a program; None for those of the library itself."""
    return twin if isinstance(twin, Event) else None


def poisoned(facts: Sequence[Fact]) -> bool:
    """Whether the storage refuses some of this."""
    return any(fact.event.n % EVENTS_PER_PROGRAM == POISON for fact in facts)


# -- How programs are drawn --------------------------------------------------------------------------------------------


def programs(max_size: int = 8, *, poison: bool = False) -> st.SearchStrategy[list[Program]]:
    """Some programs, numbered from 1 on. `poison`: some of them append what the storage refuses."""
    return st.lists(chances(25), min_size=1, max_size=max_size).map(
        lambda drawn: [Program(number, _steps(chance, poison)) for number, chance in enumerate(drawn, 1)]
    )


def _steps(chance: Chance, poison: bool) -> tuple[Step, ...]:
    steps: list[Step] = [_look(chance)]
    while not chance.is_over:
        steps.append(_step(chance, 2))
    end = chance.first % 32
    if end == 31 and poison:
        steps.append(Poison(0))
    elif end > 27:
        steps.append(Refuse())
    return tuple(steps)


def _step(chance: Chance, depth: int) -> Step:
    match chance.below(14 if depth else 10):
        case 0 | 1 | 2 | 3:
            return Put(chance.below(4), tuple(chance.below(3) for _ in range(1 + chance.below(2))))
        case 4 | 5:
            return _look(chance)
        case 6:
            return Tie(tuple(chance.below(4) for _ in range(1 + chance.below(3))))
        case 7:
            return Weigh(chance.below(4))
        case 8:
            return Follow(chance.below(4), _lens(chance), bool(chance.below(2)))
        case 9:
            return Look(((0, 0),)) if depth == 2 else Refuse()
        case 10:
            return When(chance.below(4), bool(chance.below(2)), _block(chance, depth - 1))
        case 11 | 12:
            return Attempt(_block(chance, depth - 1))
        case _:
            return Swallow(_block(chance, depth - 1))


def _block(chance: Chance, depth: int) -> tuple[Step, ...]:
    return tuple(_step(chance, depth) for _ in range(1 + chance.below(3)))


def _look(chance: Chance) -> Look:
    return Look(tuple((_lens(chance), chance.choose((0, 0, *range(IDS)))) for _ in range(1 + chance.below(3))))


def _lens(chance: Chance) -> int:
    lenses: tuple[int, ...] = (0, 0, *range(len(LENSES)))
    return chance.choose(lenses)
