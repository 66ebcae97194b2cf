"""What the properties are about: boxes and pots of numbered things, each seen through wide, narrow and lossy folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Never, TypeAlias

from factfold import Stream, stream


@dataclass(frozen=True)
class Red:
    n: int


@dataclass(frozen=True)
class Blue:
    n: int


@dataclass(frozen=True)
class Knot:
    """May be in several streams at once."""

    n: int


Event: TypeAlias = Red | Blue | Knot
Numbers: TypeAlias = tuple[int, ...]

KINDS: dict[str, type[Event]] = {"Red": Red, "Blue": Blue, "Knot": Knot}


class BrokenError(Exception):
    """What `fragile_boxes` raises."""


@stream("box", initial=())
def boxes(state: Numbers, event: Red | Blue | Knot) -> Numbers:
    return (*state, event.n)


@stream("box", initial=())
def red_boxes(state: Numbers, event: Red) -> Numbers:
    return (*state, event.n)


@stream("box", initial=())
def warm_boxes(state: Numbers, event: Red | Knot) -> Numbers:
    return (*state, event.n)


@stream("box", initial=0)
def parities(state: int, event: Blue | Knot) -> int:
    """Comes back to a former state again and again, at another version."""
    return 1 - state


@stream("box", initial=())
def fragile_boxes(state: Numbers, event: Red | Blue) -> Numbers:
    """Bears two things, and breaks for ever when a blue one comes third."""
    if len(state) == 2 and isinstance(event, Blue):
        raise BrokenError
    return (*state, event.n)


@stream("pot", initial=())
def pots(state: Numbers, event: Red | Blue | Knot) -> Numbers:
    return (*state, event.n)


@stream("pot", initial=())
def knotted_pots(state: Numbers, event: Knot) -> Numbers:
    return (*state, event.n)


def _numbers(events: Sequence[Event]) -> Numbers:
    return tuple(event.n for event in events)


def _parity(events: Sequence[Event]) -> int:
    return len(events) % 2


def _fragile(events: Sequence[Event]) -> Numbers:
    if len(events) > 2 and isinstance(events[2], Blue):
        raise BrokenError
    return _numbers(events)


@dataclass(frozen=True)
class Lens:
    """A stream type, and what its state has to be, said in another way than by a fold."""

    at: Callable[[str], Stream[object, Never]]
    kinds: tuple[type[Event], ...]
    expected: Callable[[Sequence[Event]], object]

    def state(self, events: Sequence[Event]) -> object:
        """The state after these events of a stream; those that the fold does not look at are left out."""
        return self.expected([event for event in events if isinstance(event, self.kinds)])


LENSES = (  # the fragile one last
    Lens(boxes, (Red, Blue, Knot), _numbers),
    Lens(red_boxes, (Red,), _numbers),
    Lens(parities, (Blue, Knot), _parity),
    Lens(pots, (Red, Blue, Knot), _numbers),
    Lens(warm_boxes, (Red, Knot), _numbers),
    Lens(knotted_pots, (Knot,), _numbers),
    Lens(fragile_boxes, (Red, Blue), _fragile),
)
