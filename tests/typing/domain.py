"""Events, states and streams that the cases of types are about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from factfold import event, stream


@dataclass(frozen=True)
class Opened:
    owner: str


@dataclass(frozen=True)
class Deposited:
    amount: int


@dataclass(frozen=True)
class Account:
    owner: str | None = None
    balance: int = 0


AccountEvent: TypeAlias = Opened | Deposited


@stream("account", initial=Account())
def accounts(state: Account, event: AccountEvent) -> Account:
    match event:
        case Opened(owner):
            return replace(state, owner=owner)
        case Deposited(amount):
            return replace(state, balance=state.balance + amount)


@dataclass(frozen=True)
class Defined:
    capacity: int


@event(name="course.enrolled", version=2, streams=("course", "student"))
@dataclass(frozen=True)
class Enrolled:
    course: str
    student: str


@dataclass(frozen=True)
class Course:
    capacity: int = 0
    enrolled: int = 0


@stream("course", initial=Course())
def courses(state: Course, event: Defined | Enrolled) -> Course:
    if isinstance(event, Defined):
        return replace(state, capacity=event.capacity)
    return replace(state, enrolled=state.enrolled + 1)


@stream("student", initial=frozenset[str]())
def students(state: frozenset[str], event: Enrolled) -> frozenset[str]:
    return state | {event.course}


@dataclass(frozen=True)
class Item:
    name: str


@stream("cart", initial=())
def carts(state: tuple[Item, ...], event: Item) -> tuple[Item, ...]:
    return (*state, event)


@stream("counter", initial=0)
def counters(state: int, event: Deposited) -> int:
    return state + 1


@dataclass(frozen=True)
class Ticked:
    pass


@stream("clock", initial=0.0)
def clocks(state: float, event: Ticked) -> float:
    return state + 1.0
