"""The types of a stream come from its fold, and initial values may be narrower than its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_type
from uuid import UUID

import msgspec

from factfold import RecordedEvent, Stream, StreamType, event, stream
from tests.typing.domain import Account, AccountEvent, Course, Defined, Deposited, Enrolled, Opened, accounts, courses

# -- What is inferred --------------------------------------------------------------------------------------------------

assert_type(accounts, StreamType[Account, Opened | Deposited])
assert_type(accounts, StreamType[Account, AccountEvent])
assert_type(accounts("alice"), Stream[Account, Opened | Deposited])
assert_type(courses("math"), Stream[Course, Defined | Enrolled])
assert_type(accounts.category, str)
assert_type(accounts.initial, Account)
assert_type(accounts.event_types, tuple[type[Opened | Deposited], ...])


def parts_are_texts_numbers_and_uuids(id: UUID, part: str | int | UUID) -> None:
    assert_type(accounts("alice", 7, id), Stream[Account, Opened | Deposited])
    assert_type(accounts(part), Stream[Account, Opened | Deposited])
    assert_type(accounts(), Stream[Account, Opened | Deposited])
    assert_type(accounts("alice").id, str)
    assert_type(accounts("alice").parts, tuple[str, ...])


def the_streams_of_an_event(recorded: RecordedEvent[object], enrolled: RecordedEvent[Enrolled]) -> None:
    assert_type(accounts.of(recorded), tuple[Stream[Account, Opened | Deposited], ...])
    assert_type(courses.of(enrolled), tuple[Stream[Course, Defined | Enrolled], ...])


# -- Initial values ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Draft:
    pass


@dataclass(frozen=True)
class Placed:
    lines: int


@dataclass(frozen=True)
class LineAdded:
    sku: str


@dataclass(frozen=True)
class WasPlaced:
    pass


@stream("maybe", initial=None)
def maybe(state: Account | None, event: Opened) -> Account | None:
    return Account(event.owner) if state is None else state


assert_type(maybe, StreamType[Account | None, Opened])
assert_type(maybe.initial, Account | None)


@stream("lines", initial=())
def lines(state: tuple[LineAdded, ...], event: LineAdded) -> tuple[LineAdded, ...]:
    return (*state, event)


assert_type(lines, StreamType[tuple[LineAdded, ...], LineAdded])


@stream("names", initial=frozenset())  # pyright: ignore[reportUnknownArgumentType]  # its strict mode asks: of what?
def names(state: frozenset[str], event: Opened) -> frozenset[str]:
    return state | {event.owner}


assert_type(names, StreamType[frozenset[str], Opened])


@stream("typed_names", initial=frozenset[str]())
def typed_names(state: frozenset[str], event: Opened) -> frozenset[str]:
    return state | {event.owner}


assert_type(typed_names, StreamType[frozenset[str], Opened])


@stream("order", initial=Draft())
def orders(state: Draft | Placed, event: LineAdded | WasPlaced) -> Draft | Placed:
    match state, event:
        case Draft(), WasPlaced():
            return Placed(0)
        case Placed(count), LineAdded():
            return Placed(count + 1)
        case _:
            return state


assert_type(orders, StreamType[Draft | Placed, LineAdded | WasPlaced])
assert_type(orders.initial, Draft | Placed)


def no_words() -> Mapping[str, int]:
    return {}


@stream("words", initial=no_words())
def words(state: Mapping[str, int], event: LineAdded) -> Mapping[str, int]:
    return {**state, event.sku: state.get(event.sku, 0) + 1}


assert_type(words, StreamType[Mapping[str, int], LineAdded])


@stream("total", initial=0)
def totals(state: float, event: Deposited) -> float:
    return state + event.amount


assert_type(totals, StreamType[float, Deposited])


@stream("flag", initial=False, snapshot_every=200, snapshot_version=2)
def flags(state: bool, event: Opened) -> bool:
    return not state


assert_type(flags, StreamType[bool, Opened])

# -- A third parameter -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transferred:
    source: str
    target: str
    amount: int


@stream("purse", initial=0)
def purses(state: int, event: Transferred, id: str) -> int:
    return state - event.amount if id == event.source else state + event.amount


@stream("last", initial=None)
def last_transfers(state: Transferred | None, event: Transferred, id: str) -> Transferred | None:
    return event if id == event.target else state


assert_type(purses, StreamType[int, Transferred])
assert_type(last_transfers, StreamType[Transferred | None, Transferred])

# -- Events ------------------------------------------------------------------------------------------------------------


@event(name="renamed", version=3)
class Renamed(msgspec.Struct, frozen=True):
    name: str


assert_type(Renamed, type[Renamed])
assert_type(Enrolled("math", "ann"), Enrolled)
assert_type(Enrolled("math", "ann").course, str)
