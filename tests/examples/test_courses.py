"""No course has more students than seats, nobody takes a course twice or more than ten, however many try at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from examples.courses import __main__ as term
from examples.courses.commands import (
    MOST_COURSES,
    change_capacity,
    change_title,
    define_course,
    move,
    subscribe,
    unsubscribe,
)
from examples.courses.courses import CapacityChanged, CourseDefined, Seats, StudentSubscribed, seats, timetables, titles
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
from examples.running import run
from factfold import Store
from tests.examples.racers import RACERS, Race


@pytest.fixture
def school() -> Iterator[Store]:
    """Logic has two seats, one of them is Ann's; music has many."""
    with Store("memory:") as store:
        store.execute(define_course, "logic", "Logic", 2)
        store.execute(define_course, "music", "Music", 100)
        store.execute(subscribe, "logic", "ann")
        yield store


# -- Rules -------------------------------------------------------------------------------------------------------------


def test_a_course_is_defined_once(school: Store) -> None:
    assert school.execute(define_course, "art", "Art", 15).events[0].event == CourseDefined("Art", 15)
    with pytest.raises(CourseExistsError, match="art is defined already"):
        school.execute(define_course, "art", "Art", 15)


@pytest.mark.parametrize("capacity", [0, -1, True, 2.5, "3", None])
def test_a_course_has_a_whole_number_of_seats(capacity: int, school: Store) -> None:
    with pytest.raises(InvalidCapacityError):
        school.execute(define_course, "art", "Art", capacity)
    with pytest.raises(InvalidCapacityError):
        school.execute(change_capacity, "logic", capacity)


def test_a_course_has_a_title(school: Store) -> None:
    with pytest.raises(InvalidTitleError):
        school.execute(define_course, "art", " ", 15)
    with pytest.raises(InvalidTitleError):
        school.execute(change_title, "logic", "")


def test_capacity_and_title_change_to_another_one(school: Store) -> None:
    assert school.execute(change_capacity, "logic", 3).events[0].event == CapacityChanged(3)
    school.execute(change_title, "logic", "Thinking")
    assert (school.state(seats("logic")), school.state(titles("logic"))) == (Seats(3, 1), "Thinking")
    with pytest.raises(UnchangedError, match="logic has 3 seats already"):
        school.execute(change_capacity, "logic", 3)
    with pytest.raises(UnchangedError, match="logic has the title 'Thinking' already"):
        school.execute(change_title, "logic", "Thinking")


def test_a_course_that_is_not_there_cannot_be_changed_or_taken(school: Store) -> None:
    for command, argument in ((change_capacity, 5), (change_title, "Art"), (subscribe, "ann")):
        with pytest.raises(UnknownCourseError, match="there is no course art"):
            school.execute(command, "art", argument)  # type: ignore[arg-type]  # one of three commands
    with pytest.raises(NotSubscribedError):
        school.execute(unsubscribe, "art", "ann")


def test_a_subscription_is_one_event_in_both_streams(school: Store) -> None:
    (recorded,) = school.execute(subscribe, "logic", "bo").events
    assert recorded.event == StudentSubscribed("logic", "bo")
    assert dict(recorded.streams) == {"course:logic": 3, "student:bo": 1}
    assert (school.state(seats("logic")), school.state(timetables("bo"))) == (Seats(2, 2), frozenset({"logic"}))


def test_a_full_course_takes_nobody(school: Store) -> None:
    school.execute(subscribe, "logic", "bo")
    with pytest.raises(CourseFullError) as caught:
        school.execute(subscribe, "logic", "cleo")
    assert (caught.value.course, caught.value.capacity) == ("logic", 2)
    school.execute(change_capacity, "logic", 3)
    school.execute(subscribe, "logic", "cleo")


def test_nobody_is_sent_away_when_there_are_fewer_seats(school: Store) -> None:
    school.execute(subscribe, "logic", "bo")
    school.execute(change_capacity, "logic", 1)
    assert school.state(seats("logic")) == Seats(1, 2)
    school.execute(unsubscribe, "logic", "bo")
    with pytest.raises(CourseFullError):
        school.execute(subscribe, "logic", "cleo")


def test_a_student_takes_a_course_once(school: Store) -> None:
    with pytest.raises(AlreadySubscribedError):
        school.execute(subscribe, "logic", "ann")
    school.execute(unsubscribe, "logic", "ann")
    school.execute(subscribe, "logic", "ann")
    assert school.state(seats("logic")).taken == 1


def test_a_student_takes_at_most_ten_courses(school: Store) -> None:
    for number in range(MOST_COURSES - 1):
        school.execute(define_course, f"course-{number}", "A course", 1)
        school.execute(subscribe, f"course-{number}", "ann")
    with pytest.raises(TooManyCoursesError, match="ann takes 10 courses"):
        school.execute(subscribe, "music", "ann")
    school.execute(unsubscribe, "logic", "ann")
    school.execute(subscribe, "music", "ann")


def test_who_moves_to_a_full_course_keeps_the_seat(school: Store) -> None:
    school.execute(subscribe, "logic", "bo")
    school.execute(subscribe, "music", "cleo")
    with pytest.raises(CourseFullError):
        school.execute(move, "cleo", "music", "logic")
    assert school.state(timetables("cleo")) == {"music"}
    school.execute(move, "bo", "logic", "music")
    assert (school.state(timetables("bo")), school.state(seats("logic")).taken) == (frozenset({"music"}), 1)


# -- Races -------------------------------------------------------------------------------------------------------------


def test_no_seat_is_given_twice(stores: tuple[Store, ...]) -> None:
    stores[0].execute(define_course, "logic", "Logic", 5)
    race = Race(stores)
    for number in range(RACERS):
        race.run(subscribe, "logic", f"student-{number}")
    assert len(race.results(CourseFullError)) == 5
    assert stores[1].state(seats("logic")) == Seats(5, 5)


def test_a_student_who_subscribes_everywhere_at_once_gets_ten_courses(stores: tuple[Store, ...]) -> None:
    race = Race(stores)
    for number in range(RACERS):
        stores[0].execute(define_course, f"course-{number}", "A course", 1)
        race.run(subscribe, f"course-{number}", "ann")
    assert len(race.results(TooManyCoursesError)) == MOST_COURSES
    timetable = stores[1].state(timetables("ann"))
    taken = {f"course-{number}" for number in range(RACERS) if stores[2].state(seats(f"course-{number}")).taken}
    assert timetable == taken


def test_sixteen_clicks_are_one_subscription(stores: tuple[Store, ...]) -> None:
    stores[0].execute(define_course, "logic", "Logic", 5)
    race = Race(stores)
    for _ in range(RACERS):
        race.run(subscribe, "logic", "ann")
    assert len(race.results(AlreadySubscribedError)) == 1
    assert stores[1].state(seats("logic")) == Seats(5, 1)


def test_a_seat_that_gets_free_is_given_to_one_of_many(stores: tuple[Store, ...]) -> None:
    stores[0].execute(define_course, "logic", "Logic", 1)
    stores[0].execute(subscribe, "logic", "ann")
    race = Race(stores)
    race.run(unsubscribe, "logic", "ann")
    for number in range(RACERS - 1):
        race.run(subscribe, "logic", f"student-{number}")
    assert 1 <= len(race.results(CourseFullError)) <= 2
    assert stores[1].state(seats("logic")).taken <= 1


def test_a_new_title_disturbs_nobody_who_subscribes(stores: tuple[Store, ...]) -> None:
    here, there, *_ = stores
    here.execute(define_course, "logic", "Logic", 5)
    there.state(seats("logic"))
    here.execute(change_title, "logic", "Thinking")
    assert there.execute(subscribe, "logic", "ann").attempts == 1


# -- The story ---------------------------------------------------------------------------------------------------------


def test_the_first_day_of_the_term_is_told_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("courses", term.main, "", []) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "14 courses of 6 seats each; 8 students want all of them, at once"
    assert max(int(line.split()[1]) for line in lines if line.endswith(" courses")) == MOST_COURSES
    assert max(int(line.split()[2]) for line in lines if line.endswith(" of 6 seats")) == 6
    assert "StudentUnsubscribed" in lines[-1]
