"""The contract under races between processes, and when one of them dies."""

from __future__ import annotations

from factfold.storage.base import Appended, LogPage, Storage
from factfold.testing.contract.running import (
    PATIENCE,
    SPAWN,
    Background,
    Processes,
    capabilities,
    fresh_namespace,
    is_picklable,
    one_log,
    skip_unless_shared,
    skip_without_locks,
)
from factfold.testing.contract.scribe import appending, new, read_log
from factfold.testing.contract.workers import (
    append_in,
    assert_one_winner_each,
    lock_until_killed,
    open_together,
    poll_everything,
    race_in_threads,
    write_in_turn_for,
    write_unrelated_in,
    write_until_killed,
)

FAIRNESS_SECONDS = 2.0


class ProcessContract:
    """Processes that share a storage; skipped when `capabilities.shared` is False."""

    def test_processes_see_what_others_wrote(self, storage: Storage) -> None:
        """A process opens what another has written, appends to it, and the next one finds both."""
        skip_unless_shared(storage)
        namespace = fresh_namespace()
        with one_log(storage, namespace) as log:
            log.append(appending([new("a:1")], log.head()))
            with Processes(append_in, [(storage, namespace, 0)]) as other:
                assert other.results() == [(1, 2)]
            assert [stored.position for stored in read_log(log)] == [1, 2]
            assert isinstance(log.append(appending([new("a:1")], log.head())), Appended)

    def test_16_racers_in_processes_race_for_a_place(self, storage: Storage) -> None:
        """Exactly one of 16 racers in four processes gets the one free place; 20 times."""
        skip_unless_shared(storage)
        namespace, barrier = fresh_namespace(), SPAWN.Barrier(16)
        with Processes(race_in_threads, [(storage, namespace, barrier, 20, 4)] * 4) as racing:
            results = [each for process in racing.results() for each in process]
        with one_log(storage, namespace) as log:
            assert_one_winner_each(log, results)

    def test_a_reader_beside_writing_processes_misses_nothing(self, storage: Storage) -> None:
        """Unrelated writers never conflict; a reader sees every event of theirs once, in order, without a gap."""
        skip_unless_shared(storage)
        namespace, barrier = fresh_namespace(), SPAWN.Barrier(3)
        with (
            one_log(storage, namespace) as log,
            Processes(
                write_unrelated_in, [(storage, namespace, barrier, number, 200) for number in range(3)]
            ) as writers,
        ):
            writing = Background(writers.results)
            seen = poll_everything(log, lambda: writing.ends_within(0))
            written = writing.result()
        assert sorted(one.id for one in seen) == sorted(id for ids in written for id in ids)
        for number, ids in enumerate(written):
            assert [one.id for one in seen if f"writer:{number}" in one.streams] == ids, "each writer's order is kept"

    def test_equal_writers_in_processes_get_fair_shares(self, storage: Storage) -> None:
        """Three processes that press for one hot stream each get at least half of their fair share."""
        skip_unless_shared(storage)
        namespace, barrier, locks = fresh_namespace(), SPAWN.Barrier(3), capabilities(storage).locks
        arguments = (storage, namespace, barrier, FAIRNESS_SECONDS, locks)
        with Processes(write_in_turn_for, [arguments] * 3) as writers:
            shares = writers.results()
        with one_log(storage, namespace) as log:
            assert log.head().position == sum(shares), "every append that was acknowledged is in the log, once"
        assert min(shares) >= sum(shares) / 3 / 2, f"equal writers got {shares} appends in {FAIRNESS_SECONDS} s"

    def test_a_killed_writer_leaves_whole_appends(self, storage: Storage) -> None:
        """A process that is killed while it writes has written each append wholly or not at all."""
        skip_unless_shared(storage)
        namespace = fresh_namespace()
        with one_log(storage, namespace) as log:
            with Processes(write_until_killed, [(storage, namespace)]) as writers:
                assert log.wait(5, PATIENCE) > 5, "the writer does not get to write"
                writers.kill()
            stored = read_log(log)
            assert [one.position for one in stored] == list(range(1, len(stored) + 1))
            assert len(stored) % 5 == 0, "an append of five events is there in part"
            for number in range(5):
                versions = [one.streams[f"part:{number}"] for one in stored if f"part:{number}" in one.streams]
                assert versions == list(range(1, len(stored) // 5 + 1))
            assert list(log.problems()) == []
            assert isinstance(log.append(appending([new("a:1")], log.head())), Appended)
            assert len(log.read(LogPage(len(stored), 10))) == 1

    def test_the_lock_of_a_killed_process_is_free(self, storage: Storage) -> None:
        """A process that dies while it holds the writers' lock does not lock out the others."""
        skip_unless_shared(storage)
        skip_without_locks(storage)
        namespace, locked = fresh_namespace(), SPAWN.Event()
        with (
            one_log(storage, namespace) as log,
            Processes(lock_until_killed, [(storage, namespace, locked)]) as holder,
        ):
            assert locked.wait(PATIENCE), "the other process does not get the lock"
            holder.kill()
            assert isinstance(log.append(appending([new("a:1")], log.head())), Appended)

    def test_processes_may_open_a_new_place_at_once(self, storage: Storage) -> None:
        """The first opening prepares the place; processes that come at the same moment wait for it."""
        if not is_picklable(storage):
            skip_unless_shared(storage)
        namespace, barrier = fresh_namespace(), SPAWN.Barrier(4)
        with Processes(open_together, [(storage, namespace, barrier, number) for number in range(4)]) as writers:
            writers.wait()
            # Only now: asking for the capabilities opens the storage, and then its place is no longer new.
            skip_unless_shared(storage)
            writers.results()
        with one_log(storage, namespace) as log:
            assert [stored.position for stored in read_log(log)] == [1, 2, 3, 4]
