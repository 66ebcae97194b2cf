"""The contract of `resolve` and of a log that went backwards: what happened is told truly, and never guessed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from uuid import UUID

import pytest

from factfold.errors import AppendRefusedError, LogDivergedError
from factfold.storage.base import Appended, Conflict, Head, Log, Storage
from factfold.testing.contract.running import Background, logs, one_log, outcome_of, skip_without_locks
from factfold.testing.contract.scribe import Scribe, appending, asking, facts, loading, new, selection, several


class OutcomeContract:
    """An append whose answer was lost, and a past that no longer exists."""

    # -- Resolving -----------------------------------------------------------------------------------------------------

    def test_an_append_that_happened_is_found(self, storage: Storage) -> None:
        """`resolve` gives the answer that was lost, whatever has been appended since, as often as it is asked."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(*several(2, "a:1"))
            before = scribe.head
            scribe.write(new("b:1"))
            append = appending([new("a:1"), new("a:1", "b:1"), new("c:1")], before, selection("a:1"))
            answer = scribe.must_append(append)
            scribe.write(new("a:1"), new("b:1"))
            for _ in range(2):
                resolved = log.resolve(append)
                assert resolved is not None, "the append is in the log"
                assert resolved.first == answer.first
                assert dict(resolved.versions) == dict(answer.versions)
                assert resolved.recorded_at == answer.recorded_at
                assert (resolved.news.after, resolved.news.head) == (before, answer.news.head), (
                    "news end before `first`"
                )
                assert facts(resolved.news.events) == facts(answer.news.events)
                assert resolved.news.touched == frozenset()
            scribe.assert_unchanged()

    def test_an_append_that_did_not_happen_never_will(self, storage: Storage) -> None:
        """What `resolve` has declared void is refused when it arrives late; its events may come under another id."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("a:1"))
            append = appending([new("a:1"), new("b:1")], scribe.head, selection("a:1"))
            assert log.resolve(append) is None, "it was never sent"
            for _ in range(2):
                with pytest.raises(AppendRefusedError):
                    log.append(append)
            assert log.resolve(append) is None, "and stays void"
            scribe.assert_unchanged()
            scribe.write(new("a:1"), new("b:1"))
            scribe.assert_unchanged()

    def test_a_void_append_is_refused_by_every_engine(self, storage: Storage) -> None:
        """The outcome holds for all engines, also for those opened later."""
        with logs(storage, 2) as (one, other):
            scribe = Scribe(one)
            scribe.write(new("a:1"))
            append = appending([new("a:1")], scribe.head, selection("a:1"))
            assert one.resolve(append) is None
            with pytest.raises(AppendRefusedError):
                other.append(append)
            assert other.resolve(append) is None
            scribe.assert_unchanged()

    def test_an_append_that_lost_did_not_happen(self, storage: Storage) -> None:
        """After a conflict, `resolve` says that nothing was written."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            scribe.write(new("a:1"))
            before = scribe.head
            scribe.write(new("a:1"))
            append = appending([new("a:1")], before, selection("a:1"))
            assert isinstance(log.append(append), Conflict)
            assert log.resolve(append) is None
            scribe.assert_unchanged()

    def test_resolving_one_append_leaves_the_others_alone(self, storage: Storage) -> None:
        """A void id keeps out its own append only, in its own namespace only."""
        with one_log(storage) as log, one_log(storage) as elsewhere:
            scribe, other = Scribe(log), Scribe(elsewhere)
            scribe.write(new("a:1"))
            append = appending([new("a:1")], scribe.head, selection("a:1"))
            assert log.resolve(append) is None
            scribe.must_append(appending([new("a:1")], scribe.head, selection("a:1")))
            other.must_append(appending(append.events, other.head))
            scribe.assert_unchanged()
            other.assert_unchanged()

    def test_resolving_and_a_late_append_agree(self, storage: Storage) -> None:
        """However an append races its own resolution, both answers tell the same outcome."""
        with logs(storage, 2) as (one, other):
            for number in range(20):
                append = appending([new(f"a:{number}")], one.head(), selection(f"a:{number}"))
                appending_it = Background(partial(outcome_of, partial(one.append, append)))
                resolved = other.resolve(append)
                appended = appending_it.result()
                version = one.load(loading(selection(f"a:{number}"))).slices[0].version
                if resolved is None:
                    assert isinstance(appended, AppendRefusedError), f"declared void, and yet the answer was {appended}"
                    assert version == 0, "an append that was declared void is in the log"
                else:
                    assert isinstance(appended, Appended), f"found in the log, and yet the answer was {appended}"
                    assert (version, resolved.first) == (1, appended.first)

    def test_resolving_waits_for_the_writer(self, storage: Storage) -> None:
        """While the writers' lock is held nothing is certain: `resolve` waits, also through the holder's own log."""
        skip_without_locks(storage)
        with logs(storage, 2) as (one, other):
            for log in (other, one):
                append = appending(several(2, "a:1"), one.head(), selection("a:1"))
                one.lock(append.check)
                resolving = Background(partial(log.resolve, append))
                assert not resolving.ends_within(0.1), "the append may still come, and resolve did not wait for it"
                answer = one.append(append)
                assert isinstance(answer, Appended)
                resolved = resolving.result()
                assert resolved is not None, "it was appended under the lock"
                assert resolved.first == answer.first

    # -- A log that went backwards -------------------------------------------------------------------------------------

    def test_an_append_on_another_past_is_refused(self, storage: Storage) -> None:
        """Nothing is written after an event that the log does not have, with selections or without."""

        def ask(log: Log, after: Head) -> object:
            with pytest.raises(LogDivergedError):
                log.append(appending([new("c:1")], after))
            return log.append(appending([new("c:1")], after, selection("c:1"), versions={"a:1": 1}))

        _assert_diverged(storage, ask)

    def test_a_check_on_another_past_is_refused(self, storage: Storage) -> None:
        """A decision that rests on an event that the log does not have is not valid."""

        def ask(log: Log, after: Head) -> object:
            with pytest.raises(LogDivergedError):
                log.check(asking(after))
            return log.check(asking(after, selection("a:1")))

        _assert_diverged(storage, ask)

    def test_a_load_on_another_past_is_refused(self, storage: Storage) -> None:
        """A load that is to continue from an event that the log does not have brings nothing."""
        _assert_diverged(storage, lambda log, after: log.load(loading(selection("a:1"), after=after)))

    def test_a_lock_on_another_past_is_not_taken(self, storage: Storage) -> None:
        """The writers' lock is free after the error."""
        skip_without_locks(storage)
        _assert_diverged(storage, lambda log, after: log.lock(asking(after, selection("a:1"))))

    def test_an_append_under_the_lock_on_another_past_gives_it_back(self, storage: Storage) -> None:
        """The lock ends with the append, also when the append meets another past."""
        skip_without_locks(storage)

        def ask(log: Log, after: Head) -> object:
            log.lock(asking(log.head()))
            return log.append(appending([new("c:1")], after))

        _assert_diverged(storage, ask)


def _assert_diverged(storage: Storage, ask: Callable[[Log, Head], object]) -> None:
    """Asks with heads that the log does not have; each time the error tells them apart and nothing has changed."""
    with logs(storage, 2) as (log, other):
        scribe = Scribe(log)
        beyond_an_empty_log = Head(1, new().id)
        scribe.write(new("a:1"), new("b:1"))
        scribe.write(new("a:1"), new("b:1"))
        foreign = new().id
        last = scribe.head
        wrong: list[tuple[Head, bytes | None]] = [
            (Head(last.position, foreign), last.id),
            (Head(last.position, scribe.events[0].id), last.id),
            (Head(2, foreign), scribe.events[1].id),
            (beyond_an_empty_log, scribe.events[0].id),
            (Head(last.position + 1, foreign), None),
            (Head(last.position + 1, last.id), None),
            (Head(last.position + 5_000, foreign), None),
        ]
        for after, found in wrong:
            with pytest.raises(LogDivergedError) as error:
                ask(log, after)
            assert error.value.position == after.position
            assert error.value.expected == UUID(bytes=after.id)
            assert error.value.found == (UUID(bytes=found) if found else None)
        scribe.assert_unchanged()
        # The log goes on for those who know it, through either engine: no lock was left behind.
        scribe.log = other
        scribe.write(new("a:1"))
        scribe.log = log
        scribe.must_append(appending([new("a:1")], scribe.head, selection("a:1")))
        scribe.assert_unchanged()
    with one_log(storage) as empty, pytest.raises(LogDivergedError):
        ask(empty, beyond_an_empty_log)
