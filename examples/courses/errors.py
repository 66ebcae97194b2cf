"""Why somebody cannot subscribe, or a course cannot be changed: each error carries the facts."""

from __future__ import annotations

from dataclasses import dataclass


class CourseError(Exception):
    """The rules of the school do not allow it."""


@dataclass(eq=False)
class InvalidCapacityError(CourseError, ValueError):
    """A course has at least one seat."""

    course: str
    capacity: object

    def __str__(self) -> str:
        return f"{self.course} cannot have {self.capacity!r} seats: a whole number is, from 1 on"


@dataclass(eq=False)
class InvalidTitleError(CourseError, ValueError):
    """A course has a title."""

    course: str

    def __str__(self) -> str:
        return f"{self.course} needs a title that can be read: this one is blank"


@dataclass(eq=False)
class CourseExistsError(CourseError):
    """The id of a course is used once."""

    course: str

    def __str__(self) -> str:
        return f"{self.course} is defined already: choose another id, or change its title and capacity"


@dataclass(eq=False)
class UnknownCourseError(CourseError):
    """There is no such course."""

    course: str

    def __str__(self) -> str:
        return f"there is no course {self.course}: define it first"


@dataclass(eq=False)
class UnchangedError(CourseError):
    """A change that changes nothing is most probably meant for another course."""

    course: str
    value: str

    def __str__(self) -> str:
        return f"{self.course} has {self.value} already: is another course meant?"


@dataclass(eq=False)
class CourseFullError(CourseError):
    """All seats are taken."""

    course: str
    capacity: int

    def __str__(self) -> str:
        return f"{self.course} is full, all {self.capacity} seats are taken: wait until somebody leaves"


@dataclass(eq=False)
class AlreadySubscribedError(CourseError):
    """Nobody takes two seats in one course."""

    course: str
    student: str

    def __str__(self) -> str:
        return f"{self.student} is subscribed to {self.course} already"


@dataclass(eq=False)
class NotSubscribedError(CourseError):
    """Only who takes a course can leave it."""

    course: str
    student: str

    def __str__(self) -> str:
        return f"{self.student} is not subscribed to {self.course}, and cannot leave it"


@dataclass(eq=False)
class TooManyCoursesError(CourseError):
    """A student takes so many courses, and no more."""

    student: str
    most: int

    def __str__(self) -> str:
        return f"{self.student} takes {self.most} courses, and more are not allowed: leave one first"
