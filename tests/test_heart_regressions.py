"""What the heart once got wrong: rare orders of things, each of them driven by hand."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

import pytest

from factfold import Stream, Transaction, stream
from factfold.deciding import MAX_MISSES
from factfold.errors import ImpureCommandError, LogDivergedError, StoreUnavailableError
from factfold.job import Job, Turn
from factfold.requests import Request, Sleep, Unlock
from factfold.settings import do_nothing, read_state
from factfold.storage.base import Append, Check, Load
from factfold.storage.memory import Memory
from tests.properties.boxes import Blue, BrokenError, Event, Red, boxes, fragile_boxes, red_boxes
from tests.properties.driven import DrivenHeart
from tests.properties.interleaving import append_blindly, restore_backup
from tests.properties.model import AnyStream

E = TypeVar("E")


@stream("box", initial=False)
def reddened(state: bool, event: Red) -> bool:
    """The same after one red thing and after two."""
    return True


@stream("box", initial=())
def blue_boxes(state: tuple[int, ...], event: Blue) -> tuple[int, ...]:
    return (*state, event.n)


@stream("box", initial=0)
def blues_after_reds(state: int, event: Red | Blue) -> int:
    """Breaks on a blue thing that comes first."""
    if state == 0 and isinstance(event, Blue):
        raise BrokenError
    return state + 1


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def heart(memory: Memory) -> DrivenHeart:
    return DrivenHeart(memory)


def state(at: AnyStream) -> Callable[[Transaction], object]:
    return lambda tx: read_state(tx, at)


def put(tx: Transaction, at: Stream[object, E], *events: E) -> None:
    tx.read(at).append(*events)


def strangers_append(memory: Memory, id: str, *events: Event) -> None:
    append_blindly(memory, [(event, (id,)) for event in events])


def finish(heart: DrivenHeart, *jobs: Job, before: Callable[[Request], None] = lambda request: None) -> None:
    """Drives the heart until the jobs are answered. `before` is called before each request."""
    while not all(job.turn is Turn.DONE for job in jobs):
        if heart.request is not None and heart.can_perform:
            before(heart.request)
        assert heart.step(), "nobody answers"


def once_before_an_append(interfere: Callable[[], None]) -> Callable[[Request], None]:
    """Does this when the first append is on its way."""
    appends: list[Request] = []

    def before(request: Request) -> None:
        if isinstance(request, Append) and not appends:
            appends.append(request)
            interfere()

    return before


@pytest.mark.parametrize("writer_first", [True, False])
def test_a_state_that_a_suspended_run_has_read_moves_on_with_the_strangers_when_its_batch_commits(
    memory: Memory, heart: DrivenHeart, writer_first: bool
) -> None:
    heart.execute(lambda tx: tx.read(boxes("x"), red_boxes("x")) and None)

    writer = heart.submit(lambda tx: put(tx, red_boxes("x"), Red(1))) if writer_first else None
    suspended = heart.submit(lambda tx: (tx.read(boxes("x")).state, tx.read(boxes("y")).state))
    writer = writer or heart.submit(lambda tx: put(tx, red_boxes("x"), Red(1)))
    finish(heart, writer, suspended, before=once_before_an_append(lambda: strangers_append(memory, "box:x", Blue(7))))

    assert suspended.receipt().result == ((7, 1), ())
    assert heart.execute(state(boxes("x"))) == (7, 1)


def test_what_was_loaded_and_cannot_be_folded_any_further_is_loaded_again(memory: Memory, heart: DrivenHeart) -> None:
    strangers_append(memory, "box:x", Red(1), Red(2))
    heart.execute(state(boxes("x")))
    reader = heart.submit(state(fragile_boxes("x")))
    heart.step_until(lambda: bool(heart.flights))
    (late,) = heart.flights
    heart.perform_load(late)
    heart.flights.clear()
    strangers_append(memory, "box:x", Blue(3))
    heart.execute(lambda tx: put(tx, boxes("y"), Red(4)))  # the cut moves over what breaks the fold

    heart.flights.append(late)
    finish(heart, reader)

    with pytest.raises(BrokenError):
        reader.receipt()


def test_a_leader_takes_no_state_that_is_only_half_folded(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factfold.loads.MAX_EVENTS", 2)
    strangers_append(memory, "box:x", *(Red(n) for n in range(4)))
    others: list[Job] = []

    def lead_meanwhile() -> None:
        if parts == 2 and not others:
            others.append(heart.submit(state(boxes("x"))))
            heart.lead()

    heart = DrivenHeart(memory, decoding=lead_meanwhile)
    reader = heart.submit(state(boxes("x")))
    for parts in (1, 2):  # noqa: B007 - read by the function above
        heart.step_until(lambda: bool(heart.flights))
        (flight,) = heart.flights
        heart.perform_load(flight)
        heart.deliver_load(flight)
    finish(heart, reader, *others)

    assert [job.receipt().result for job in (reader, *others)] == [(0, 1, 2, 3)] * 2


def test_a_stream_that_is_read_twice_in_one_call_is_written_once(memory: Memory, heart: DrivenHeart) -> None:
    heart.execute(lambda tx: tx.read(boxes("x"), boxes("x"))[1].append(Red(1)))

    assert heart.execute(state(boxes("x"))) == (1,)


def test_a_command_that_comes_when_nobody_can_be_reached_any_more_waits_for_the_next_leader(
    memory: Memory, heart: DrivenHeart
) -> None:
    first = heart.submit(do_nothing)
    late: list[Job] = []

    def come(job: Job) -> None:
        if not late:
            late.append(heart.submit(do_nothing))

    heart.notified = come
    heart.lead()
    heart.fail(StoreUnavailableError("nobody there"))
    heart.deliver()
    finish(heart, *late)

    with pytest.raises(StoreUnavailableError):
        first.receipt()
    assert late[0].receipt().result is None


def test_a_command_may_read_on_where_a_version_tells_it_to_although_the_state_is_the_same(
    memory: Memory, heart: DrivenHeart
) -> None:
    strangers_append(memory, "box:x", Red(1))
    strangers_append(memory, "box:2", Red(22))

    follower = heart.submit(lambda tx: tx.read(boxes(tx.read(reddened("x")).version)).state)
    heart.step_until(lambda: [flight.task.keys[0][0] for flight in heart.flights] == ["box:1"])
    strangers_append(memory, "box:x", Red(2))
    finish(heart, follower)

    assert follower.receipt().result == (22,)


def test_a_command_hears_why_a_stream_cannot_be_folded_also_when_it_had_to_be_loaded(
    memory: Memory, heart: DrivenHeart
) -> None:
    strangers_append(memory, "box:x", Blue(1))

    with pytest.raises(BrokenError):
        heart.execute(state(blues_after_reds("x")))
    with pytest.raises(BrokenError):
        heart.execute(lambda tx: tx.read(boxes("x"), blues_after_reds("x")) and None)


def test_a_command_may_read_on_behind_what_is_broken_and_then_has_to_be_loaded_again(
    memory: Memory, heart: DrivenHeart
) -> None:
    strangers_append(memory, "box:x", Blue(1))
    strangers_append(memory, "box:y", Red(2))

    def reading_on(tx: Transaction) -> object:
        with suppress(BrokenError):
            tx.read(blues_after_reds("x"))
        return read_state(tx, boxes("y"))

    failing = heart.submit(state(blues_after_reds("x")))
    heart.step_until(lambda: any(flight.landed for flight in heart.flights))
    heart.deliver_load(heart.flights[0])
    reader = heart.submit(reading_on)  # x is kept for the other one, who is answered while y is being loaded
    finish(heart, failing, reader)

    with pytest.raises(BrokenError):
        failing.receipt()
    assert reader.receipt().result == (2,)


def test_a_command_that_reads_something_else_behind_what_is_broken_is_told_so(
    memory: Memory, heart: DrivenHeart
) -> None:
    strangers_append(memory, "box:x", Blue(1))
    runs: list[int] = []

    def fickle(tx: Transaction) -> None:
        runs.append(1)
        with suppress(BrokenError):
            tx.read(blues_after_reds("x"))
        tx.read(boxes(f"other-{len(runs)}"))

    with pytest.raises(ImpureCommandError, match="box:other-2"):
        heart.execute(fickle)


@pytest.mark.parametrize("forgive", [False, True])
def test_a_fold_that_breaks_on_what_the_batch_appended_is_part_of_the_boundary(
    memory: Memory, heart: DrivenHeart, forgive: bool
) -> None:
    def forgiving(tx: Transaction) -> object:
        try:
            return read_state(tx, blues_after_reds("x"))
        except BrokenError:
            return "broken"

    heart.execute(lambda tx: tx.read(blue_boxes("x"), blues_after_reds("x")) and None)
    writer = heart.submit(lambda tx: put(tx, blue_boxes("x"), Blue(1)))
    reader = heart.submit(forgiving if forgive else state(blues_after_reds("x")))
    finish(heart, writer, reader, before=once_before_an_append(lambda: strangers_append(memory, "box:x", Red(7))))

    assert reader.receipt().result == 2


# -- A log that goes backwards ---------------------------------------------------------------------------------------


def test_what_is_loaded_in_parts_is_of_one_log(
    memory: Memory, heart: DrivenHeart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factfold.loads.MAX_EVENTS", 2)
    strangers_append(memory, "box:x", Red(1))
    heart.execute(state(boxes("y")))
    strangers_append(memory, "box:x", Red(2), Red(3))
    reader = heart.submit(state(boxes("x")))
    load_part(heart)

    restore_backup(memory, 1)
    strangers_append(memory, "box:x", Blue(22), Blue(33), Blue(44))
    finish(heart, reader)

    with pytest.raises(LogDivergedError):
        reader.receipt()
    assert heart.execute(state(boxes("x"))) == (1, 22, 33, 44)


def test_what_was_loaded_in_part_before_the_log_was_found_to_have_gone_backwards_is_forgotten(
    memory: Memory, heart: DrivenHeart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factfold.loads.MAX_EVENTS", 2)
    heart.execute(state(boxes("y")))
    strangers_append(memory, "box:x", Red(1), Red(2), Red(3))
    heart.execute(state(boxes("z")))
    reader = heart.submit(state(boxes("x")))
    load_part(heart)

    restore_backup(memory, 1)
    with pytest.raises(LogDivergedError):
        heart.execute(do_nothing)
    strangers_append(memory, "box:x", Blue(22), Blue(33), Blue(44))
    finish(heart, reader)

    assert reader.receipt().result == (1, 22, 33, 44)


def test_news_of_another_log_do_not_move_states_of_this_one(memory: Memory, heart: DrivenHeart) -> None:
    strangers_append(memory, "box:x", Red(1))
    heart.execute(state(boxes("x")))
    readers = [heart.submit(state(boxes(id))) for id in ("y", "z")]
    heart.lead()
    assert [heart.ask(reader) for reader in readers] == [True, True]
    of_this_log, of_another_one = heart.flights

    strangers_append(memory, "box:x", Red(2))
    heart.perform_load(of_this_log)
    restore_backup(memory, 1)
    strangers_append(memory, "box:x", Blue(22))
    strangers_append(memory, "box:y", Blue(33))
    heart.perform_load(of_another_one)
    heart.deliver_load(of_this_log)
    heart.deliver_load(of_another_one)
    finish(heart, *readers)

    assert heart.execute(state(boxes("x"))) == (1, 22)


def test_a_state_of_another_log_is_not_moved_on_by_what_came_in_this_one(memory: Memory, heart: DrivenHeart) -> None:
    heart.execute(state(boxes("x")))
    reader = heart.submit(state(boxes("y")))
    heart.lead()
    heart.ask(reader)
    (late,) = heart.flights
    heart.flights.clear()
    strangers_append(memory, "box:y", Red(1))
    heart.perform_load(late)
    restore_backup(memory, 0)
    strangers_append(memory, "box:x", Red(2))
    strangers_append(memory, "box:x", Red(3))
    heart.execute(do_nothing)

    heart.flights.append(late)
    finish(heart, reader)

    assert reader.receipt().result == ()


def load_part(heart: DrivenHeart) -> None:
    """Loads one page for whoever waits."""
    heart.step_until(lambda: bool(heart.flights))
    (flight,) = heart.flights
    heart.perform_load(flight)
    heart.deliver_load(flight)


def call_and_go_on(tx: Transaction) -> None:
    """Calls a command that appends and raises, and appends something else."""

    def failing(tx: Transaction) -> None:
        tx.read(boxes("x")).append(Red(100))
        raise BrokenError

    with suppress(BrokenError):
        tx.call(failing)
    tx.read(boxes("x")).append(Red(1))


def test_what_was_undone_does_not_count_for_later_commands_of_the_batch(memory: Memory, heart: DrivenHeart) -> None:
    heart.execute(lambda tx: tx.read(boxes("x"), red_boxes("x")) and None)

    first = heart.submit(call_and_go_on)
    second = heart.submit(lambda tx: put(tx, red_boxes("x"), Red(2)))
    third = heart.submit(state(boxes("x")))
    finish(heart, first, second, third)

    assert third.receipt().result == (1, 2)
    assert heart.execute(state(boxes("x"))) == (1, 2)
    assert heart.heart.counters.loads == 1


@pytest.mark.parametrize("again", [False, True])
def test_the_version_after_an_undo_is_that_of_the_last_event_that_counts(
    memory: Memory, heart: DrivenHeart, again: bool
) -> None:
    heart.execute(lambda tx: tx.read(boxes("x"), blue_boxes("x")) and None)

    def only_undone(tx: Transaction) -> None:
        def failing(tx: Transaction) -> None:
            tx.read(blue_boxes("x")).append(Blue(100), Blue(101))
            raise BrokenError

        if again:
            tx.read(blue_boxes("x"))
        with suppress(BrokenError):
            tx.call(failing)
        tx.read(boxes("x")).append(Red(1))

    def version(at: AnyStream) -> Callable[[Transaction], object]:
        return lambda tx: tx.read(at).version

    jobs = [heart.submit(only_undone), heart.submit(version(blue_boxes("x"))), heart.submit(version(boxes("x")))]
    finish(heart, *jobs)

    assert [job.receipt().result for job in jobs] == [None, 0, 1]
    assert [heart.execute(version(at)) for at in (blue_boxes("x"), boxes("x"))] == [0, 1]


def test_the_version_through_a_narrow_fold_counts_what_it_does_not_look_at(memory: Memory, heart: DrivenHeart) -> None:
    heart.execute(lambda tx: tx.read(boxes("x"), blue_boxes("x")) and None)

    mixed: tuple[Red | Blue, ...] = (Red(1), Red(2), Blue(3))
    writer = heart.submit(lambda tx: put(tx, boxes("x"), *mixed))
    reader = heart.submit(lambda tx: tx.read(blue_boxes("x")).version)
    finish(heart, writer, reader)

    assert reader.receipt().result == 3


def test_each_run_begins_with_the_context_of_its_caller(memory: Memory, heart: DrivenHeart) -> None:
    variable = ContextVar("variable", default="caller's")
    seen: list[str] = []

    def command(tx: Transaction) -> None:
        seen.append(variable.get())
        variable.set("a run's")
        tx.read(boxes("x"))

    heart.execute(command)

    assert seen == ["caller's", "caller's"]


def test_only_what_is_not_cached_is_loaded(memory: Memory, heart: DrivenHeart) -> None:
    heart.execute(state(boxes("cached")))
    reader = heart.submit(lambda tx: tx.read(boxes("cached"), boxes("cold")) and None)
    heart.step_until(lambda: bool(heart.flights))

    assert [wanted.selection.stream for wanted in heart.flights[0].task.load.wanted] == ["box:cold"]
    finish(heart, reader)


def test_what_only_reads_is_validated_once_more_at_the_most(memory: Memory, heart: DrivenHeart) -> None:
    heart.execute(state(boxes("x")))
    reader = heart.submit(state(boxes("x")))
    checks: list[Request] = []

    def write_before_each_check(request: Request) -> None:
        if isinstance(request, Check):
            checks.append(request)
            strangers_append(memory, "box:x", Red(len(checks)))

    finish(heart, reader, before=write_before_each_check)

    assert len(checks) == 1
    assert reader.receipt().result == (1,)


def test_what_was_cut_at_different_heads_goes_on_apart(
    memory: Memory, heart: DrivenHeart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factfold.loads.MAX_EVENTS", 2)
    strangers_append(memory, "box:x", Red(1), Red(2), Red(3))
    readers = [heart.submit(state(boxes(id))) for id in "xy"]
    heart.step_until(lambda: bool(heart.heart.missing.loadings))
    heart.ask(readers[0])
    heart.perform_load(heart.flights[0])
    heart.deliver_load(heart.flights[0])
    strangers_append(memory, "box:y", Red(4), Red(5), Red(6))
    heart.ask(readers[1])
    heart.perform_load(heart.flights[0])
    heart.deliver_load(heart.flights[0])

    while heart.ask():
        pass
    assert [flight.task.keys for flight in heart.flights] == [[boxes(id).key] for id in "xy"]
    restore_backup(memory, 3)
    strangers_append(memory, "box:y", Blue(7), Blue(8), Blue(9))
    finish(heart, *readers)

    for reader in readers:  # this process has seen what is gone
        with pytest.raises(LogDivergedError):
            reader.receipt()
    assert [heart.execute(state(boxes(id))) for id in "xy"] == [(1, 2, 3), (7, 8, 9)]


def test_nobody_loads_what_nobody_waits_for_any_more(heart: DrivenHeart) -> None:
    left, stays = [heart.submit(state(boxes(id))) for id in "xy"]
    heart.step_until(lambda: {left.turn, stays.turn} == {Turn.LOADING})

    heart.leave(left)

    assert list(heart.heart.missing.loadings) == [boxes("y").key]
    finish(heart, stays)


def test_what_an_interrupted_leader_had_begun_to_note_is_not_waited_for(heart: DrivenHeart) -> None:
    reader = heart.submit(state(boxes("x")))
    reader.miss(boxes("y").key)

    finish(heart, reader)

    assert reader.receipt().result == ()


# -- Loads that come too late ------------------------------------------------------------------------------------------


class Busy:
    """Appends so much, while each load is under way, that the cut cannot remember what came since."""

    def __init__(self, heart: DrivenHeart) -> None:
        self.heart = heart
        self.appended = 0

    def overtake(self) -> None:
        """The next load is answered, then overtaken by appends, and then delivered."""
        self.heart.step_until(lambda: bool(self.heart.flights))
        (late,) = self.heart.flights
        self.heart.perform_load(late)
        self.heart.flights.clear()
        for _ in range(3):
            self.appended += 1
            self.heart.execute(lambda tx: put(tx, boxes("busy"), Red(self.appended)))
        self.heart.flights.append(late)
        self.heart.deliver_load(late)


def test_a_load_that_always_comes_too_late_is_made_by_the_leader(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factfold.cache.TAIL_EVENTS", 0)
    strangers_append(memory, "box:cold", Red(7), Red(8))
    heart = DrivenHeart(memory)
    heart.execute(state(boxes("busy")))
    reader = heart.submit(state(boxes("cold")))
    busy = Busy(heart)

    for _ in range(MAX_MISSES):
        busy.overtake()
    finish(heart, reader)

    assert reader.receipt().result == (7, 8)
    assert heart.heart.counters.loads == 1 + MAX_MISSES + 1
    assert heart.execute(state(boxes("cold"))) == (7, 8)


@pytest.mark.parametrize("answered", [False, True])
def test_a_leader_that_is_interrupted_while_it_loads_leaves_nobody_behind(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    monkeypatch.setattr("factfold.cache.TAIL_EVENTS", 0)
    strangers_append(memory, "box:cold", Red(7))
    heart = DrivenHeart(memory)
    heart.execute(state(boxes("busy")))
    reader = heart.submit(state(boxes("cold")))
    for _ in range(MAX_MISSES):
        Busy(heart).overtake()
    heart.step_until(lambda: isinstance(heart.request, Load))
    if answered:
        heart.perform()

    heart.interrupt()
    finish(heart, reader)

    assert reader.receipt().result == (7,)


def test_what_cannot_be_loaded_by_the_leader_either_is_told(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factfold.cache.TAIL_EVENTS", 0)
    heart = DrivenHeart(memory)
    heart.execute(state(boxes("busy")))
    reader = heart.submit(state(boxes("cold")))
    for _ in range(MAX_MISSES):
        Busy(heart).overtake()
    heart.step_until(lambda: isinstance(heart.request, Load))
    heart.fail(StoreUnavailableError("nobody there"))
    finish(heart, reader)

    with pytest.raises(StoreUnavailableError):
        reader.receipt()
    assert heart.execute(state(boxes("cold"))) == ()


def test_an_error_of_a_fold_is_not_kept_for_others_when_nobody_waits_for_it_any_more(
    memory: Memory, heart: DrivenHeart
) -> None:
    strangers_append(memory, "box:x", Blue(1))
    failing = [True]

    @stream("box", initial=0)
    def moody(state: int, event: Red | Blue) -> int:
        if failing:
            raise BrokenError
        return state + 1

    left = heart.submit(state(moody("x")))
    heart.step_until(lambda: bool(heart.flights))
    (flight,) = heart.flights
    heart.perform_load(flight)
    heart.leave(left)
    heart.deliver_load(flight)
    heart.execute(do_nothing)

    failing.clear()
    assert heart.execute(state(moody("x"))) == 1


# -- What is raised ----------------------------------------------------------------------------------------------------


def frames_of(job: Job) -> list[str]:
    with pytest.raises((BrokenError, StoreUnavailableError)) as caught:
        job.receipt()
    return [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


@pytest.mark.parametrize("broken", [True, False], ids=["a fold", "the storage"])
def test_callers_who_get_the_same_error_get_their_own_traceback(
    memory: Memory, heart: DrivenHeart, broken: bool
) -> None:
    strangers_append(memory, "box:x", Blue(1))
    callers = [heart.submit(state(blues_after_reds("x"))) for _ in range(16)]
    heart.step_until(lambda: bool(heart.flights))
    if not broken:
        heart.fail_load(heart.flights[0])
    finish(heart, *callers)

    errors = {job.error for job in callers}
    first, *others = [frames_of(job) for job in callers]

    assert len(errors) == 1
    assert ("blues_after_reds" in first) == broken
    assert others == [first] * 15


# -- The lock ----------------------------------------------------------------------------------------------------------


def test_what_takes_long_is_not_run_again_under_the_lock(
    memory: Memory, heart: DrivenHeart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factfold.deciding.MAX_LOCKED_SECONDS", -1.0)
    heart.execute(state(boxes("x")))
    writer = heart.submit(lambda tx: put(tx, boxes("x"), Red(1)))
    requests: list[type] = []
    interfere = once_before_an_append(lambda: strangers_append(memory, "box:x", Blue(7)))

    def before(request: Request) -> None:
        requests.append(type(request))
        interfere(request)

    finish(heart, writer, before=before)

    assert requests == [Append, Unlock, Sleep, Append]
    assert writer.receipt().attempts == 2
    assert heart.execute(state(boxes("x"))) == (7, 1)


@dataclass(frozen=True)
class Moody:
    """Cannot be compared."""

    count: int

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError("never compare me")

    def __hash__(self) -> int:
        return 1


@stream("box", initial=Moody(0))
def moods(state: Moody, event: Red) -> Moody:
    return Moody(state.count + 1)


def test_states_of_one_version_that_cannot_be_compared_fail_nobody(heart: DrivenHeart) -> None:
    def put(tx: Transaction) -> None:
        tx.read(moods("x")).append(Red(1))

    def look(tx: Transaction) -> int:
        return tx.read(moods("x")).state.count + len(tx.read(boxes("y")).state)

    heart.execute(state(moods("x")))
    refused, looking = heart.submit(put), heart.submit(look)
    heart.refuses = lambda append: True
    heart.step_until(lambda: refused.turn is Turn.DONE)  # and with it the state that the other one has seen
    heart.refuses = lambda append: False
    again, bystander = heart.submit(put), heart.submit(state(boxes("z")))
    heart.step_until(lambda: all(job.turn is Turn.DONE for job in (looking, again, bystander)))
    assert looking.receipt().result == 1
    assert again.receipt().position == 1
    assert bystander.receipt().result == ()
