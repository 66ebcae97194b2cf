"""While the append of a batch is on its way, the next one is decided on top of it; what becomes of that, by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest

from factfold import AppendRefusedError, AsyncStore, OutcomeUnknownError, Transaction
from factfold.errors import StoreUnavailableError
from factfold.job import Turn
from factfold.requests import Resolve
from factfold.storage.base import Append, Check
from factfold.storage.memory import Memory
from tests.by_hand import decide_ahead, events_of, finish, look, outcome_of, put, send, strangers_append
from tests.faults import Faulty, Gate
from tests.properties.boxes import Blue, Numbers, Red, boxes, pots, red_boxes
from tests.properties.driven import DrivenHeart
from tests.properties.limits import Limits
from tests.racing import soon, within
from tests.together import heart_of


class FullError(Exception):
    """What a command raises that finds a box filled."""


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def heart(memory: Memory) -> Iterator[DrivenHeart]:
    """One that decides ahead whenever it can, and that knows two boxes."""
    with Limits(ahead=True).apply():
        heart = DrivenHeart(memory)
        heart.execute(look(boxes("x"), boxes("y"), red_boxes("x")))
        yield heart


# -- The plain course of things ----------------------------------------------------------------------------------------


def test_what_was_decided_ahead_is_sent_when_the_batch_before_is_answered(heart: DrivenHeart) -> None:
    ahead = put(2)
    (first,) = send(heart, put(1))
    (second,) = decide_ahead(heart, ahead)

    assert (first.turn, second.turn) == (Turn.WAITING, Turn.WAITING)
    assert finish(heart, first, second) == [((),), ((1,),)]
    assert ahead.runs == [(((1,),), (1,))]
    assert (first.attempts, second.attempts) == (1, 1)
    assert [event.position for event in second.stored] == [2]


def test_its_append_rests_on_that_of_the_batch_before(heart: DrivenHeart, memory: Memory) -> None:
    (first,) = send(heart, put(1))
    decide_ahead(heart, put(2))

    finish(heart, first)
    heart.step_until(lambda: heart.request is not None)

    assert isinstance(heart.request, Append)
    assert heart.request.check.after == events_of(memory)[0].head
    assert heart.request.check.versions == {"box:x": 1}


def test_states_and_versions_are_those_that_the_log_will_have(heart: DrivenHeart, memory: Memory) -> None:
    strangers_append(memory, "box:x", Blue(8))
    heart.execute(look(boxes("x"), red_boxes("x")))
    narrow, wide = look(red_boxes("x")), look(boxes("x"), red_boxes("x"))
    jobs = send(heart, put(1, red_boxes("x")), put(2))
    jobs += decide_ahead(heart, narrow, put(3), wide, put(4, red_boxes("x")), wide)

    finish(heart, *jobs)

    assert narrow.runs == [(((1, 2),), (3,))]
    assert wide.runs == [(((8, 1, 2, 3), (1, 2, 3)), (4, 4)), (((8, 1, 2, 3, 4), (1, 2, 3, 4)), (5, 5))]
    assert heart.execute(look(boxes("x"), red_boxes("x"))) == ((8, 1, 2, 3, 4), (1, 2, 3, 4))
    assert [dict(event.streams) for event in events_of(memory)] == [{"box:x": version} for version in range(1, 6)]


def test_a_version_stays_what_the_batch_before_made_it_while_other_types_are_appended(heart: DrivenHeart) -> None:
    narrow = look(red_boxes("x"))
    jobs = send(heart, put(1))
    jobs += decide_ahead(heart, narrow, lambda tx: tx.read(boxes("x")).append(Blue(2)), narrow)

    finish(heart, *jobs)

    assert narrow.runs == [(((1,),), (1,)), (((1,),), (1,))]


def test_those_who_come_later_join_it_until_it_is_full(memory: Memory) -> None:
    with Limits(ahead=True, commands=3).apply():
        heart = DrivenHeart(memory)
        heart.execute(look())
        jobs = send(heart, put(1))
        jobs += decide_ahead(heart, put(2))
        late = [put(n) for n in (3, 4, 5)]
        jobs += decide_ahead(heart, *late)

        assert [len(each.runs) for each in late] == [1, 1, 0]
        assert not heart.can_prepare
        assert finish(heart, *jobs) == [((),), ((1,),), ((1, 2),), ((1, 2, 3),), ((1, 2, 3, 4),)]
        assert heart.heart.counters.batches == 1 + 3


def test_what_waits_is_decided_in_two_groups_where_that_pays(memory: Memory) -> None:
    with Limits(ahead=True, apart=True).apply():
        heart = DrivenHeart(memory)
        heart.execute(look())
        commands = [put(n) for n in range(1, 6)]
        jobs = send(heart, *commands)

        assert [len(each.runs) for each in commands] == [1, 1, 1, 0, 0]
        heart.prepare()
        assert [len(each.runs) for each in commands] == [1, 1, 1, 1, 1]
        finish(heart, *jobs)
        assert [each.states for each in commands] == [[(tuple(range(1, n)),)] for n in range(1, 6)]


def test_nothing_is_decided_ahead_while_others_write(memory: Memory) -> None:
    heart = DrivenHeart(memory)
    for _ in range(5):
        strangers_append(memory, "box:y", Red(1))
        heart.execute(put(1))

    jobs = send(heart, put(1))
    jobs.append(heart.submit(put(2)))

    assert not heart.can_prepare
    finish(heart, *jobs)


def test_a_driver_that_never_prepares_has_all_decided_at_once(memory: Memory) -> None:
    with Limits(ahead=True, apart=False).apply():
        heart = DrivenHeart(memory, overlaps=False)
        heart.execute(look())
        jobs = send(heart, put(1))
        jobs.append(heart.submit(put(2)))

        assert not heart.can_prepare
        finish(heart, *jobs)


# -- What does not come as it was decided on ---------------------------------------------------------------------------


def test_when_the_batch_before_loses_a_race_both_are_decided_again(heart: DrivenHeart, memory: Memory) -> None:
    below, ahead = put(1), put(2)
    (first,) = send(heart, below)
    (second,) = decide_ahead(heart, ahead)
    later = heart.submit(put(3))
    strangers_append(memory, "box:x", Red(9))

    assert finish(heart, first, second, later) == [((9,),), ((9, 1),), ((9, 1, 2),)]
    assert below.states == [((),), ((9,),)]
    assert ahead.runs == [(((1,),), (1,)), (((9, 1),), (2,))]
    assert (first.attempts, second.attempts) == (2, 1)


def test_when_others_wrote_before_it_lands_what_was_decided_ahead_is_decided_again(
    heart: DrivenHeart, memory: Memory
) -> None:
    ahead = look(boxes("x"), boxes("y"))
    (first,) = send(heart, put(1))
    (second,) = decide_ahead(heart, ahead)
    strangers_append(memory, "box:y", Red(9))

    assert finish(heart, first, second) == [((),), ((1,), (9,))]
    assert ahead.states == [((1,), ()), ((1,), (9,))]


def test_when_others_write_after_it_has_landed_a_race_is_lost_as_any_other(heart: DrivenHeart, memory: Memory) -> None:
    ahead = put(2, boxes("y"))
    (first,) = send(heart, put(1))
    (second,) = decide_ahead(heart, ahead)
    heart.perform()
    strangers_append(memory, "box:y", Red(9))

    assert finish(heart, first, second) == [((),), ((9,),)]
    assert ahead.states == [((),), ((9,),)]
    assert second.attempts == 2


def test_a_batch_that_is_split_takes_what_was_decided_on_it_along(heart: DrivenHeart) -> None:
    heart.refuses = lambda append: any(event.data == b'{"n":13}' for event in append.events)
    ahead = look(boxes("x"), boxes("y"))
    jobs = send(heart, put(1), put(13, boxes("y")), put(2))
    jobs += decide_ahead(heart, ahead)

    assert finish(heart, *jobs) == [((),), AppendRefusedError, ((1,),), ((1, 2), ())]
    assert ahead.states == [((1, 2), (13,)), ((1, 2), ())]


def test_what_was_decided_ahead_and_is_refused_fails_only_who_wrote_it(heart: DrivenHeart) -> None:
    heart.refuses = lambda append: any(event.data == b'{"n":13}' for event in append.events)
    jobs = send(heart, put(1))
    jobs += decide_ahead(heart, put(13, boxes("y")), put(2))

    assert finish(heart, *jobs) == [((),), AppendRefusedError, ((1,),)]


def test_when_it_turns_out_that_the_append_happened_what_was_decided_on_it_holds(heart: DrivenHeart) -> None:
    ahead = put(2)
    (first,) = send(heart, put(1))
    (second,) = decide_ahead(heart, ahead)
    heart.perform()
    heart.lose()

    assert finish(heart, first, second) == [((),), ((1,),)]
    assert ahead.states == [((1,),)]


def test_when_it_turns_out_that_the_append_never_happens_both_are_decided_again(
    heart: DrivenHeart, memory: Memory
) -> None:
    ahead = look()
    (first,) = send(heart, put(1))
    (second,) = decide_ahead(heart, ahead)
    heart.lose()
    heart.step_until(lambda: isinstance(heart.request, Resolve))
    assert not heart.can_prepare
    heart.perform()
    strangers_append(memory, "box:x", Red(9))

    assert finish(heart, first, second) == [((9,),), ((9, 1),)]
    assert ahead.states == [((1,),), ((9, 1),)]


def test_when_nobody_can_tell_whether_it_happened_nothing_rests_on_it(heart: DrivenHeart) -> None:
    ahead = look()
    (first,) = send(heart, put(1))
    (second,) = decide_ahead(heart, ahead)
    heart.lose()
    while first.turn is not Turn.DONE:
        if isinstance(heart.request, Resolve) and not heart.answered:
            heart.fail(StoreUnavailableError("nobody there"))
        heart.step()

    assert outcome_of(first) is OutcomeUnknownError
    assert finish(heart, second) == [((),)]
    assert ahead.states == [((1,),), ((),)]


def test_an_unreachable_storage_fails_the_batch_and_not_what_was_decided_on_it(heart: DrivenHeart) -> None:
    (first,) = send(heart, put(1))
    (second,) = decide_ahead(heart, put(2))
    heart.fail(StoreUnavailableError("nobody there"))

    assert finish(heart, first, second) == [StoreUnavailableError, ((),)]


# -- Commands that raise -----------------------------------------------------------------------------------------------


def refuse_what_is_full(tx: Transaction) -> Numbers:
    state = tx.read(boxes("x")).state
    if state:
        raise FullError(state)
    return state


def test_who_raises_for_what_is_on_its_way_is_answered_when_that_is_known(heart: DrivenHeart) -> None:
    (first,) = send(heart, put(1))
    (second,) = decide_ahead(heart, refuse_what_is_full)
    heart.perform()
    assert second.turn is Turn.WAITING

    finish(heart, first)
    heart.step_until(lambda: heart.request is not None)

    assert isinstance(heart.request, Check), "what it has read is asked about, too"
    assert finish(heart, second) == [FullError]


def test_who_raises_for_what_is_never_written_is_decided_without_it(heart: DrivenHeart) -> None:
    heart.refuses = lambda append: True
    (first,) = send(heart, put(1))
    (second,) = decide_ahead(heart, refuse_what_is_full)

    assert finish(heart, first, second) == [AppendRefusedError, ()]


# -- Loads -------------------------------------------------------------------------------------------------------------


def test_what_is_not_cached_is_loaded_while_the_append_is_on_its_way(heart: DrivenHeart, memory: Memory) -> None:
    strangers_append(memory, "pot:z", Red(7))
    heart.execute(look())
    ahead = look(boxes("x"), pots("z"))
    (first,) = send(heart, put(1))
    (second,) = decide_ahead(heart, ahead)
    assert second.turn is Turn.LOADING
    assert heart.ask()
    (flight,) = heart.flights
    heart.perform_load(flight)
    heart.deliver_load(flight)

    assert heart.can_prepare
    heart.prepare()

    assert ahead.states == [((1,), (7,))]
    assert finish(heart, first, second) == [((),), ((1,), (7,))]
    assert ahead.states == [((1,), (7,))]


def test_what_is_loaded_from_behind_the_append_waits_for_its_answer(heart: DrivenHeart, memory: Memory) -> None:
    ahead = look(boxes("x"), pots("z"))
    heart.execute(look(pots("z")))
    (first,) = send(heart, put(1, pots("z"), boxes("x")))
    heart.heart.cache.drop("pot:z")
    (second,) = decide_ahead(heart, ahead)
    assert heart.ask()
    (flight,) = heart.flights
    heart.perform()
    heart.perform_load(flight)
    heart.deliver_load(flight)
    loads = heart.heart.counters.loads

    (third,) = decide_ahead(heart, put(3, boxes("y")))

    assert finish(heart, first, second, third) == [((), ()), ((1,), (1,)), ((),)]
    assert ahead.states == [((1,), (1,))]
    assert heart.heart.counters.loads == loads


def test_a_stream_that_was_dropped_and_loaded_meanwhile_has_its_version_all_the_same(heart: DrivenHeart) -> None:
    watcher, narrow, late = look(), look(red_boxes("x")), look()
    jobs = send(heart, put(1))
    jobs += decide_ahead(heart, watcher)
    heart.heart.cache.drop("box:x")
    jobs += decide_ahead(heart, narrow)
    assert heart.ask()
    (flight,) = heart.flights
    heart.perform_load(flight)
    heart.deliver_load(flight)
    heart.prepare()
    jobs.append(heart.submit(late))

    assert finish(heart, *jobs) == [((),), ((1,),), ((1,),), ((1,),)]
    assert {versions for each in (watcher, narrow, late) for _, versions in each.runs} == {(1,)}


# -- Interruptions -----------------------------------------------------------------------------------------------------


def test_an_interrupted_leader_leaves_it_to_the_next_one(heart: DrivenHeart) -> None:
    (first,) = send(heart, put(1))
    (second,) = decide_ahead(heart, put(2))
    third = heart.submit(put(3))
    heart.perform()
    heart.interrupt()

    assert finish(heart, first, second, third) == [((),), ((1,),), ((1, 2),)]


def test_an_interrupt_while_it_is_decided_leaves_it_for_later(heart: DrivenHeart) -> None:
    interrupts = [KeyboardInterrupt()]

    def interrupted(tx: Transaction) -> Numbers:
        state = tx.read(boxes("x")).state
        if interrupts:
            raise interrupts.pop()
        return state

    (first,) = send(heart, put(1))
    second, third, fourth = decide_ahead(heart, put(2), interrupted, put(4))

    assert finish(heart, first, second, third, fourth) == [((),), ((1,),), (1, 2), ((1, 2),)]


def test_who_leaves_before_it_is_sent_writes_nothing(heart: DrivenHeart, memory: Memory) -> None:
    (first,) = send(heart, put(1))
    second, third = decide_ahead(heart, put(2), put(3))
    heart.leave(second)

    assert finish(heart, first, third) == [((),), ((1,),)]
    assert [event.data for event in events_of(memory)] == [b'{"n":1}', b'{"n":3}']


async def test_a_store_that_is_closed_finishes_what_was_decided_ahead() -> None:
    gate = Gate()
    faulty = Faulty(Memory())
    with Limits(ahead=True, apart=True).apply():
        store = AsyncStore(faulty)
        await store.execute(look())
        faulty.before["append"] = gate
        calls = [asyncio.create_task(store.execute(put(n))) for n in (1, 2, 3, 4)]
        await soon(lambda: heart_of(store)._ahead is not None)
        closing = asyncio.create_task(store.close())
        gate.open()

        await within(closing)
        assert [(await within(call)).result for call in calls] == [((),), ((1,),), ((1, 2),), ((1, 2, 3),)]
        assert faulty.calls["append"] == 2


async def test_a_cancelled_leader_takes_nothing_along_that_was_decided_ahead() -> None:
    gate = Gate()
    faulty = Faulty(Memory())
    with Limits(ahead=True, apart=True).apply():
        async with AsyncStore(faulty) as store:
            await store.execute(look())
            faulty.before["append"] = gate
            calls = [asyncio.create_task(store.execute(put(n))) for n in (1, 2, 3, 4)]
            await soon(lambda: heart_of(store)._ahead is not None)
            leader = store._leader
            assert leader is not None
            leader.cancel()
            with suppress(asyncio.CancelledError):
                await soon(leader.done)
            gate.open()

            assert [(await within(call)).result for call in calls] == [((),), ((1,),), ((1, 2),), ((1, 2, 3),)]
