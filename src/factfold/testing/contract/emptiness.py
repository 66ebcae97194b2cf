"""The contract of `Append.empty`: streams that an append takes for new, and that must have no event at all."""

from __future__ import annotations

import threading
from functools import partial

import pytest
from msgspec.structs import replace

from factfold.errors import AppendRefusedError, LogDivergedError
from factfold.storage.base import EMPTY, Appended, Conflict, Head, Storage
from factfold.testing.contract.running import (
    PATIENCE,
    Barrier,
    fresh_namespace,
    logs,
    one_log,
    skip_without_locks,
    together,
)
from factfold.testing.contract.scribe import Scribe, appending, new, read_log, selection, several
from factfold.testing.contract.workers import aborting

RACERS = 16
ROUNDS = 10


class EmptyContract:
    """When streams that must be empty let an append happen, and when they do not."""

    def test_empty_streams_let_an_append_happen(self, storage: Storage) -> None:
        """Written or not, read or not, in an empty log or a longer one, and whatever others have written meanwhile."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.must_append(appending([new("a:1")], EMPTY, empty=["a:1", "unwritten:1"]))
            before = scribe.head
            scribe.must_append(appending([new("a:1", "b:1"), new("b:1")], before, selection("b:1"), empty=["b:1"]))
            events = [new("a:1", "c:1"), *several(2, "d:1")]
            scribe.must_append(appending(events, before, selection("unwritten:1"), empty=["d:1", "unwritten:1", "c:1"]))
            scribe.assert_unchanged()

    def test_a_stream_with_an_event_of_any_type_is_not_empty(self, storage: Storage) -> None:
        """Also when no selection looks at that type, and when the event is not above `after`."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("a:1", type="Renamed"), new("b:1", type="$internal"))
            scribe.write(new("c:1"))
            for stream in ("a:1", "b:1", "c:1"):
                narrow = selection(stream, "Noted")
                for after in (scribe.events[0].head, scribe.events[1].head):
                    answer = log.append(appending([new(stream)], after, selection(stream, "Never"), empty=[stream]))
                    _assert_told(scribe, answer, after, set(), {stream})
                answer = log.append(appending([new(stream)], scribe.head, narrow, empty=[stream]))
                _assert_told(scribe, answer, scribe.head, set(), {stream})
            scribe.assert_unchanged()

    def test_a_stream_that_is_not_written_may_have_to_be_empty(self, storage: Storage) -> None:
        """It keeps the append from happening like one that is written, and in no selection either."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("a:1", "shared:1"))
            answer = log.append(appending([new("b:1")], scribe.head, empty=["shared:1"]))
            _assert_told(scribe, answer, scribe.head, set(), {"shared:1"})
            scribe.assert_unchanged()
            scribe.must_append(appending([new("b:1")], scribe.head, empty=["c:1"]))
            scribe.assert_unchanged()

    def test_all_streams_that_are_not_empty_are_told_at_once(self, storage: Storage) -> None:
        """Those that have events and no others, beside all selections that failed; and nothing is written."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(*several(2, "a:1"), new("b:1"), new("d:1", "e:1"))
            before = scribe.head
            scribe.write(new("b:1"), new("f:1"))
            names = [f"{name}:1" for name in "nabocdpef"]
            checked = (selection("a:1"), selection("b:1"), selection("n:1"), selection("f:1", "Never"))
            append = appending([new("n:1"), new("a:1", "o:1")], before, *checked, empty=names)
            _assert_told(scribe, log.append(append), before, {1}, {"a:1", "b:1", "d:1", "e:1", "f:1"})
            untouched = appending([new("n:1")], before, selection("a:1"), empty=["n:1", "a:1", "p:1"])
            _assert_told(scribe, log.append(untouched), before, set(), {"a:1"})
            touched = appending([new("n:1")], before, *checked, empty=["n:1", "o:1"])
            _assert_told(scribe, log.append(touched), before, {1}, set())
            scribe.assert_unchanged()

    def test_void_and_diverged_appends_are_told_before_streams_are_looked_at(self, storage: Storage) -> None:
        """An append that never will happen is no conflict, and neither is one that rests on another past."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("a:1"))
            append = appending([new("a:1")], scribe.head, empty=["a:1"])
            assert log.resolve(append) is None
            with pytest.raises(AppendRefusedError):
                log.append(append)
            elsewhere = Head(1, new("a:1").id)
            with pytest.raises(LogDivergedError):
                log.append(appending([new("a:1")], elsewhere, empty=["a:1"]))
            scribe.assert_unchanged()

    def test_streams_must_be_empty_under_the_lock_too(self, storage: Storage) -> None:
        """Whoever holds it appends nothing to a stream that it took for empty in vain, and gives the lock back."""
        skip_without_locks(storage)
        with logs(storage, 2) as (log, other):
            scribe = Scribe(log)
            scribe.write(new("a:1"))
            append = appending([new("a:1"), new("b:1")], scribe.head, selection("a:1"), empty=["b:1", "a:1"])
            log.lock(append.check)
            _assert_told(scribe, log.append(append), scribe.head, set(), {"a:1"})
            assert other.resolve(replace(append, events=(new("c:1"),))) is None  # in vain, while the lock is kept
            log.lock(append.check)
            scribe.must_append(replace(append, events=(new("b:1"),), empty=("b:1",)))
            scribe.assert_unchanged()

    def test_16_racers_for_a_stream_that_must_be_empty_have_one_winner(self, storage: Storage) -> None:
        """All take a stream for new at the same moment, and exactly one finds it so; 10 times."""
        namespace = fresh_namespace()
        barrier = threading.Barrier(RACERS)
        won = together([partial(_race, storage, namespace, barrier)] * RACERS)
        assert [sum(round) for round in zip(*won, strict=True)] == [1] * ROUNDS, "exactly one comes first"
        with one_log(storage, namespace) as log:
            found = read_log(log)
        assert [(one.position, dict(one.streams)) for one in found] == [
            (round + 1, {f"new:{round}": 1}) for round in range(ROUNDS)
        ]


def _race(storage: Storage, namespace: str, barrier: Barrier) -> list[bool]:
    """In each round the first to append to a stream, or not; nothing but that it is new stands in the way."""
    won: list[bool] = []
    with aborting(barrier), one_log(storage, namespace) as log:
        for round in range(ROUNDS):
            stream = f"new:{round}"
            append = appending([new(stream)], log.head(), empty=[stream])
            barrier.wait(PATIENCE)
            answer = log.append(append)
            won.append(isinstance(answer, Appended))
            if isinstance(answer, Conflict):
                assert (answer.not_empty, answer.news.touched) == (frozenset({stream}), frozenset()), (
                    "who loses is told why"
                )
                log.unlock()  # an engine may keep the next turn for one who has lost
            barrier.wait(PATIENCE)  # so that each knows the log as it is
    return won


def _assert_told(
    scribe: Scribe, answer: Appended | Conflict, after: Head, touched: set[int], not_empty: set[str]
) -> None:
    """The append did not happen for just these reasons, and what came since `after` is told."""
    assert isinstance(answer, Conflict), f"a stream that must be empty has events, and yet it was appended: {answer}"
    assert answer.not_empty == not_empty, "`not_empty` are the streams of `empty` with an event, all of them"
    scribe.assert_told(answer.news, after, touched)
