"""Courses and students: what can happen, and three looks at it, each no wider than a decision needs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from factfold import event, stream

# -- Events ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CourseDefined:
    title: str
    capacity: int


@dataclass(frozen=True, slots=True)
class CapacityChanged:
    capacity: int


@dataclass(frozen=True, slots=True)
class TitleChanged:
    title: str


@event(streams=("course", "student"))  # every append must name a course and a student
@dataclass(frozen=True, slots=True)
class StudentSubscribed:
    course: str
    student: str


@event(streams=("course", "student"))
@dataclass(frozen=True, slots=True)
class StudentUnsubscribed:
    course: str
    student: str


# -- Looks at them -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seats:
    """How many seats a course has, and how many of them are taken. None: there is no such course."""

    capacity: int | None = None
    taken: int = 0


@stream("course", initial=Seats())
def seats(state: Seats, event: CourseDefined | CapacityChanged | StudentSubscribed | StudentUnsubscribed) -> Seats:
    """The seats of a course. It does not look at titles, so a new title disturbs nobody who subscribes."""
    match event:
        case CourseDefined(capacity=capacity) | CapacityChanged(capacity):
            return replace(state, capacity=capacity)
        case StudentSubscribed():
            return replace(state, taken=state.taken + 1)
        case StudentUnsubscribed():
            return replace(state, taken=state.taken - 1)


@stream("course", initial=None)
def titles(state: str | None, event: CourseDefined | TitleChanged) -> str | None:
    """The title of a course. None: there is no such course."""
    return event.title


@stream("student", initial=frozenset[str]())
def timetables(state: frozenset[str], event: StudentSubscribed | StudentUnsubscribed) -> frozenset[str]:
    """The courses that a student takes."""
    match event:
        case StudentSubscribed(course=course):
            return state | {course}
        case StudentUnsubscribed(course=course):
            return state - {course}
