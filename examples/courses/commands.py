"""What teachers and students can do."""

from __future__ import annotations

from examples.courses.courses import (
    CapacityChanged,
    CourseDefined,
    StudentSubscribed,
    StudentUnsubscribed,
    TitleChanged,
    seats,
    timetables,
    titles,
)
from examples.courses.errors import (
    AlreadySubscribedError,
    CourseExistsError,
    CourseFullError,
    InvalidCapacityError,
    InvalidTitleError,
    NotSubscribedError,
    TooManyCoursesError,
    UnchangedError,
    UnknownCourseError,
)
from factfold import Transaction

MOST_COURSES = 10
"""How many courses a student may take."""


def define_course(tx: Transaction, course: str, title: str, capacity: int) -> None:
    """Offers a new course."""
    _check_title(course, title)
    _check_capacity(course, capacity)
    there = tx.read(seats(course))
    if there.state.capacity is not None:
        raise CourseExistsError(course)
    there.append(CourseDefined(title, capacity))


def change_capacity(tx: Transaction, course: str, capacity: int) -> None:
    """Gives a course more seats, or fewer. Nobody is sent away: with fewer seats than students it is just full."""
    _check_capacity(course, capacity)
    there = tx.read(seats(course))
    if there.state.capacity is None:
        raise UnknownCourseError(course)
    if there.state.capacity == capacity:
        raise UnchangedError(course, f"{capacity} seats")
    there.append(CapacityChanged(capacity))


def change_title(tx: Transaction, course: str, title: str) -> None:
    """Gives a course another title."""
    _check_title(course, title)
    there = tx.read(titles(course))
    if there.state is None:
        raise UnknownCourseError(course)
    if there.state == title:
        raise UnchangedError(course, f"the title {title!r}")
    there.append(TitleChanged(title))


def subscribe(tx: Transaction, course: str, student: str) -> None:
    """A student takes a seat. What the course allows and what the student may do is decided together."""
    there, timetable = tx.read(seats(course), timetables(student))
    if there.state.capacity is None:
        raise UnknownCourseError(course)
    if course in timetable.state:
        raise AlreadySubscribedError(course, student)
    if there.state.taken >= there.state.capacity:
        raise CourseFullError(course, there.state.capacity)
    if len(timetable.state) >= MOST_COURSES:
        raise TooManyCoursesError(student, MOST_COURSES)
    tx.append(StudentSubscribed(course, student), there, timetable)


def unsubscribe(tx: Transaction, course: str, student: str) -> None:
    """A student leaves a course, and the seat is free again."""
    there, timetable = tx.read(seats(course), timetables(student))
    if course not in timetable.state:
        raise NotSubscribedError(course, student)
    tx.append(StudentUnsubscribed(course, student), there, timetable)


def move(tx: Transaction, student: str, source: str, target: str) -> None:
    """A student changes from one course to another, and keeps the seat if the other one is full."""
    tx.call(unsubscribe, source, student)
    tx.call(subscribe, target, student)


def _check_capacity(course: str, capacity: int) -> None:
    if type(capacity) is not int or capacity < 1:
        raise InvalidCapacityError(course, capacity)


def _check_title(course: str, title: str) -> None:
    if not title.strip():
        raise InvalidTitleError(course)
