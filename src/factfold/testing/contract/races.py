"""The contract under races between the threads of one process, through one engine and through several."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from factfold.storage.base import Appended, Log, LogPage, Storage
from factfold.testing.contract.running import PATIENCE, Background, fresh_namespace, logs, one_log, outcome_of, together
from factfold.testing.contract.scribe import Scribe, appending, asking, loading, new, read_log, selection
from factfold.testing.contract.workers import (
    aborting,
    assert_one_winner_each,
    poll_everything,
    race_for_places,
    race_in_threads,
    write_in_step,
)


class RaceContract:
    """Threads that write at the same moment."""

    def test_16_threads_race_for_a_place_through_one_engine(self, storage: Storage) -> None:
        """They all see it free, all try to take it, and exactly one gets it; 20 times."""
        barrier = threading.Barrier(16)
        engine = storage.open()
        try:
            log = engine.log(fresh_namespace())
            one_at_a_time = threading.Lock()
            results = together([lambda: race_for_places(log, barrier, 20, one_at_a_time)] * 16)
            assert_one_winner_each(log, results)
        finally:
            engine.close()

    def test_16_threads_race_for_a_place_through_engines_of_their_own(self, storage: Storage) -> None:
        """Exactly one of 16 engines gets the one free place; 20 times."""
        namespace = fresh_namespace()
        results = race_in_threads(storage, namespace, threading.Barrier(16), 20, 16)
        with one_log(storage, namespace) as log:
            assert_one_winner_each(log, results)

    def test_racing_decisions_that_rest_on_each_other_exclude_each_other(self, storage: Storage) -> None:
        """Write skew: two who read both streams and write one each, at the same moment. One must lose, every time."""
        barrier = threading.Barrier(2)

        def leave(log: Log, own: int) -> list[bool]:
            left: list[bool] = []
            with aborting(barrier):
                for round in range(20):
                    both = (selection(f"on-call:{round}/0"), selection(f"on-call:{round}/1"))
                    after = log.head()
                    barrier.wait(PATIENCE)
                    answer = log.append(appending([new(both[own].stream)], after, *both))
                    left.append(isinstance(answer, Appended))
            return left

        with logs(storage, 2) as (one, other):
            first, second = together([partial(leave, one, 0), partial(leave, other, 1)])
        assert [a + b for a, b in zip(first, second, strict=True)] == [1] * 20, "exactly one may go home"

    def test_writers_in_threads_never_conflict_when_they_are_unrelated(self, storage: Storage) -> None:
        """Every append to a stream that nobody else writes to happens at its first attempt."""
        barrier = threading.Barrier(4)
        with logs(storage, 4) as all_logs:
            written = together(
                [partial(write_in_step, log, barrier, number, 40) for number, log in enumerate(all_logs)]
            )
            stored = read_log(all_logs[0])
        assert [one.position for one in stored] == list(range(1, len(stored) + 1))
        for number, ids in enumerate(written):
            assert [one.id for one in stored if f"writer:{number}" in one.streams] == ids

    def test_a_reader_beside_writing_threads_misses_nothing(self, storage: Storage) -> None:
        """Who has seen a position never finds something new at it or below it, by pages and by news."""
        barrier = threading.Barrier(3)
        with logs(storage, 4) as (reader, *writers):
            work = [partial(write_in_step, log, barrier, number, 100) for number, log in enumerate(writers)]
            writing = [Background(one) for one in work]
            seen = poll_everything(reader, lambda: all(one.ends_within(0) for one in writing))
            written = [one.result() for one in writing]
        assert sorted(one.id for one in seen) == sorted(id for ids in written for id in ids)

    def test_any_thread_may_use_a_log(self, storage: Storage) -> None:
        """Seven threads read through the log that an eighth appends to: each sees whole streams that only grow."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            written = threading.Event()

            def write() -> None:
                try:
                    for _ in range(50):
                        scribe.write(new("a:1"), new("a:1"))
                finally:
                    written.set()

            def read() -> None:
                seen = 0
                over = False
                while seen < 100:
                    assert not over, f"nobody writes any more, and there are {seen} events"
                    over = written.is_set()
                    loaded = log.load(loading(selection("a:1")))
                    versions = [stored.streams["a:1"] for stored in loaded.slices[0].events]
                    assert versions == list(range(1, loaded.head.position + 1)), "the stream is the whole log"
                    assert len(versions) % 2 == 0, "half an append was seen"
                    assert len(versions) >= seen, "what was there is gone"
                    seen = len(versions)
                    assert len(log.read(LogPage(0, 1000))) >= seen
                    assert log.check(asking(loaded.head)).head.position >= seen
                    if seen < 100 and not over:
                        log.wait(seen, 0.1)

            together([write, *[read] * 7])
            scribe.assert_unchanged()

    def test_resolving_disturbs_no_writer(self, storage: Storage) -> None:
        """`resolve` may be called by any thread, also while another appends through the same log."""
        with one_log(storage) as log:
            rounds = 50

            def resolve() -> None:
                for _ in range(rounds):
                    assert log.resolve(appending([new("b:1")], log.head())) is None

            def append() -> list[int]:
                answers = [outcome_of(partial(_append_to_hot, log)) for _ in range(rounds)]
                assert all(isinstance(answer, Appended) for answer in answers), answers
                return [answer.first for answer in answers if isinstance(answer, Appended)]

            work: list[Callable[[], object]] = [append, resolve]
            assert together(work)[0] == list(range(1, rounds + 1))
            assert log.load(loading(selection("b:1"))).slices[0].version == 0


def _append_to_hot(log: Log) -> object:
    return log.append(appending([new("a:1")], log.head(), selection("a:1")))
