"""Streams that are taken for empty while the append of the batch before is on its way, by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from factfold import Transaction
from factfold.job import Turn
from factfold.storage.base import Append
from factfold.storage.memory import Memory
from tests.by_hand import Command, decide_ahead, events_of, finish, look, put, send, strangers_append
from tests.properties.boxes import Blue, Red, boxes, red_boxes
from tests.properties.driven import DrivenHeart
from tests.properties.limits import Limits


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def heart(memory: Memory) -> Iterator[DrivenHeart]:
    """One that decides ahead whenever it can, guesses whenever it can, and knows one box."""
    with Limits(ahead=True, guesses=True).apply():
        heart = DrivenHeart(memory)
        heart.execute(look(boxes("x")))
        yield heart


def test_what_was_guessed_ahead_is_sent_as_it_is(heart: DrivenHeart, memory: Memory) -> None:
    new = put(2, boxes("new"))
    (first,) = send(heart, put(1))
    (second,) = decide_ahead(heart, new)

    finish(heart, first)
    heart.step_until(lambda: heart.request is not None)

    assert isinstance(heart.request, Append)
    assert (heart.request.empty, heart.request.check.selections) == (("box:new",), ())
    assert heart.request.check.versions == {"box:new": 0}
    assert finish(heart, second) == [((),)]
    assert new.runs == [(((),), (0,))]
    assert heart.heart.counters.loads == 1  # of the box that it knew before


def test_it_goes_on_from_what_the_batch_before_has_guessed(heart: DrivenHeart) -> None:
    after, through_another = put(2, boxes("new")), look(red_boxes("new"))
    jobs = send(heart, put(1, boxes("new")))
    jobs += decide_ahead(heart, after, through_another, put(3, boxes("other")))

    finish(heart, *jobs)

    assert after.runs == [(((1,),), (1,))]
    assert through_another.runs == [(((1, 2),), (2,))]
    assert heart.execute(look(boxes("new"), red_boxes("new"))) == ((1, 2), (1, 2))


def test_a_wrong_guess_of_the_batch_before_has_both_decided_again(heart: DrivenHeart, memory: Memory) -> None:
    strangers_append(memory, "box:old", Red(7))
    first, second = put(1, boxes("old")), put(2, boxes("old"))
    jobs = send(heart, first)
    jobs += decide_ahead(heart, second)

    assert finish(heart, *jobs) == [((7,),), ((7, 1),)]
    assert [event.streams["box:old"] for event in events_of(memory)] == [1, 2, 3]


def test_a_command_does_not_wait_for_ever_for_what_its_batch_still_takes_for_empty(heart: DrivenHeart) -> None:
    both = Command(3, boxes("x"), looks=(boxes("x"), boxes("new")))
    jobs = send(heart, put(1))
    jobs += decide_ahead(heart, put(2, boxes("new")), both)
    assert jobs[-1].turn is Turn.LOADING  # a run must not see the one loaded and the other not

    assert heart.ask()
    heart.perform_load(heart.flights[0])
    heart.deliver_load(heart.flights[0])
    heart.prepare()

    assert finish(heart, *jobs) == [((),), ((),), ((1,), (2,))]


def test_all_folds_of_a_stream_see_it_empty_even_when_one_of_them_is_loaded_by_then(
    heart: DrivenHeart, memory: Memory
) -> None:
    strangers_append(memory, "box:old", Red(7))
    heart.execute(look(boxes("x")))
    both, wide = look(boxes("x"), red_boxes("old")), look(boxes("old"), red_boxes("old"))
    jobs = send(heart, put(1), both)
    jobs += decide_ahead(heart, put(2, boxes("old")))
    assert heart.ask()
    heart.perform_load(heart.flights[0])
    heart.deliver_load(heart.flights[0])
    jobs += decide_ahead(heart, wide)

    finish(heart, *jobs)

    assert wide.states == [((2,), (2,)), ((7, 2), (7, 2))]


def weigh(tx: Transaction) -> tuple[int, ...]:
    view = tx.read(boxes("y"))
    return (*view.state, view.version)


def forgetful(memory: Memory) -> DrivenHeart:
    """One that knows what is in a box and not how much that is: to tell its version, it has to load it again."""
    heart = DrivenHeart(memory)
    strangers_append(memory, "box:y", Red(7))
    heart.execute(look(boxes("x"), boxes("y")))
    strangers_append(memory, "box:x", Blue(8))
    heart.execute(look(boxes("y")))
    return heart


def test_what_lost_its_state_in_this_batch_is_not_taken_for_empty(memory: Memory) -> None:
    with Limits(news=0, guesses=True).apply():
        heart = forgetful(memory)
        seen: list[tuple[object, object]] = []

        def through_both(tx: Transaction) -> None:
            narrow = tx.read(red_boxes("y"))
            wide = tx.read(boxes("y"))
            seen.append((wide.state, narrow.state))

        finish(heart, *[heart.submit(command) for command in (put(2, boxes("y")), weigh, through_both)])

        assert seen
        assert all(wide == narrow for wide, narrow in seen), seen


def test_what_lost_its_state_in_the_batch_before_is_not_taken_for_empty(memory: Memory) -> None:
    with Limits(news=0, guesses=True, ahead=True).apply():
        heart = forgetful(memory)
        narrow = look(red_boxes("y"))
        jobs = send(heart, put(2, boxes("y")), weigh)
        jobs += decide_ahead(heart, narrow)

        assert finish(heart, *jobs) == [((7,),), (7, 2, 2), ((7, 2),)]
        assert narrow.states == [((7, 2),)]


def test_what_was_evicted_since_it_was_read_ahead_is_not_taken_for_empty(memory: Memory) -> None:
    """Whoever had it loaded needs it no more when the batch before is answered."""
    strangers_append(memory, "box:y", Red(7))
    narrow_first = look(red_boxes("y"), boxes("y"))
    with Limits(ahead=True).apply():
        heart = DrivenHeart(memory, cache_size=0)
        first = heart.submit(Command(1, boxes("x"), looks=(boxes("y"), boxes("x"))))
        heart.step_until(lambda: isinstance(heart.request, Append))
        (second,) = decide_ahead(heart, look(boxes("y")))
        finish(heart, first)
    assert not heart.heart.cache.slots
    with Limits(ahead=True, guesses=True).apply():
        third = heart.submit(narrow_first)

        assert finish(heart, second, third) == [((7,),), ((7,), (7,))]
        assert narrow_first.states == [((7,), (7,))]


def test_who_is_left_of_a_batch_that_was_lost_is_answered_by_the_log(memory: Memory) -> None:
    """The append did not happen, and who wanted it leaves for a load. Nothing was heard of what others have written."""
    with Limits(guesses=True).apply():
        heart = DrivenHeart(memory, locks=False)
        heart.execute(look(boxes("x")))
        writer, reader = send(heart, put(1, boxes("new")), look(boxes("x")))
        strangers_append(memory, "box:x", Red(7))
        heart.lose()

        assert finish(heart, writer, reader) == [((),), ((7,),)]
