"""The contract of the writers' lock: who holds it decides alone, and it never outlives its holder."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest

from factfold.errors import AppendRefusedError
from factfold.storage.base import Appended, Conflict, Head, Log, LogPage, Storage, StreamPage
from factfold.testing.contract.running import Background, fresh_namespace, logs, one_log, skip_without_locks
from factfold.testing.contract.scribe import Scribe, appending, asking, loading, new, selection, several


class LockContract:
    """Deciding under the lock."""

    def test_lock_then_append(self, storage: Storage) -> None:
        """Taking the lock tells what was missed; the append follows right after that, and ends the lock."""
        skip_without_locks(storage)
        with logs(storage, 2) as (log, other):
            scribe = Scribe(log)
            scribe.write(*several(2, "a:1"))
            before = scribe.head
            scribe.write(new("a:1", type="Moved"), new("b:1"))
            checked = (selection("a:1"), selection("a:1", "Noted"), selection("b:1"))
            scribe.assert_told(log.lock(asking(before, *checked)), before, {0, 2})
            scribe.must_append(appending([new("a:1")], scribe.head, *checked))
            scribe.assert_unchanged()
            _assert_free(other)

    def test_lock_then_unlock(self, storage: Storage) -> None:
        """Giving the lock back leaves nothing behind, and lets others append."""
        skip_without_locks(storage)
        with logs(storage, 2) as (log, other):
            scribe = Scribe(log)
            scribe.write(new("a:1"))
            for _ in range(3):
                log.lock(asking(scribe.head, selection("a:1")))
                log.unlock()
            scribe.assert_unchanged()
            _assert_free(other)
            _assert_free(log)

    def test_unlocking_what_is_not_held_does_nothing(self, storage: Storage) -> None:
        """`unlock` without a lock is allowed, and takes the lock from nobody else."""
        skip_without_locks(storage)
        with logs(storage, 2) as (log, other):
            log.unlock()
            log.lock(asking(log.head()))
            other.unlock()
            appending_elsewhere = Background(partial(_assert_free, other))
            assert not appending_elsewhere.ends_within(0.1), "another engine took the lock away from its holder"
            log.unlock()
            log.unlock()
            appending_elsewhere.result()

    def test_nobody_appends_while_it_is_held(self, storage: Storage) -> None:
        """What was decided under the lock is still true when it is appended, however others press."""
        skip_without_locks(storage)
        with logs(storage, 3) as (log, *others):
            stop = threading.Event()

            def press(other: Log) -> None:
                while not stop.is_set():
                    _assert_free(other)

            pressing = [Background(partial(press, other)) for other in others]
            try:
                for _ in range(30):
                    head = log.lock(asking(log.head(), selection("a:1"))).head
                    assert log.wait(head.position, 0.005) == head.position, (
                        "somebody has appended while the lock was held"
                    )
                    answer = log.append(appending(several(2, "a:1"), head, selection("a:1")))
                    assert isinstance(answer, Appended), "somebody has appended while the lock was held"
                    assert answer.first == head.position + 1
            finally:
                stop.set()
            for one in pressing:
                one.result()

    def test_who_comes_meanwhile_waits_and_goes_on(self, storage: Storage) -> None:
        """An append and a lock of others wait for the holder, and then see what it has appended."""
        skip_without_locks(storage)
        with logs(storage, 3) as (log, appender, locker):
            before = log.head()
            log.lock(asking(before))
            appended = Background(lambda: appender.append(appending([new("a:1")], before, selection("a:1"))))

            def lock_and_unlock() -> Head:
                try:
                    return locker.lock(asking(before, selection("a:1"))).head
                finally:
                    locker.unlock()

            locked = Background(lock_and_unlock)
            assert not appended.ends_within(0.1), "the append did not wait for the lock"
            assert not locked.ends_within(0.1), "two hold the lock at once"
            answer = log.append(appending([new("a:1")], before, selection("a:1")))
            assert isinstance(answer, Appended)
            assert answer.first == 1
            late = appended.result()
            assert isinstance(late, Conflict), "the holder's append came first"
            assert late.news.touched == {0}
            assert locked.result().position == 1

    def test_readers_do_not_wait_for_it(self, storage: Storage) -> None:
        """Everything but writing goes on while the lock is held, through the holder's log and through others."""
        skip_without_locks(storage)
        with logs(storage, 2) as (log, other):
            scribe = Scribe(log)
            scribe.write(new("a:1"))
            log.lock(asking(scribe.head))
            for reader in (log, other):
                reads: list[Callable[[], object]] = [
                    reader.head,
                    partial(reader.check, asking(scribe.head, selection("a:1"))),
                    partial(reader.load, loading(selection("a:1"), after=scribe.head)),
                    partial(reader.read, LogPage(0, 10)),
                    partial(reader.read_stream, StreamPage(selection("a:1"), 0, 10)),
                    partial(reader.streams, None, "", 10),
                    partial(reader.get, "snapshots", "a:1"),
                    partial(reader.wait, 0, 1.0),
                ]
                for read in reads:
                    Background(read).result()
            log.unlock()
            scribe.assert_unchanged()

    def test_an_append_ends_the_lock_whatever_comes_of_it(self, storage: Storage) -> None:
        """A conflict and a refusal give the lock back like a success."""
        skip_without_locks(storage)
        with logs(storage, 2) as (log, other):
            scribe = Scribe(log)
            scribe.write(new("a:1"))
            before = scribe.head
            scribe.write(new("a:1"))
            void = appending([new("a:1")], before, selection("b:1"))
            assert log.resolve(void) is None

            log.lock(asking(before))
            assert isinstance(log.append(appending([new("a:1")], before, selection("a:1"))), Conflict)
            scribe.log = other
            scribe.write(new("b:1"))

            log.lock(asking(before))
            with pytest.raises(AppendRefusedError):
                log.append(void)
            scribe.write(new("b:1"))
            scribe.assert_unchanged()

    def test_an_exception_between_leaves_the_log_usable(self, storage: Storage) -> None:
        """Who fails between lock and append unlocks; then everybody may lock and append, the same engine too."""
        skip_without_locks(storage)
        with logs(storage, 2) as (log, other):
            scribe = Scribe(log)
            for writer in (log, other, log):
                with pytest.raises(ZeroDivisionError):
                    _fail_under_the_lock(log, scribe.head)
                scribe.log = writer
                writer.lock(asking(scribe.head))
                scribe.write(new("a:1"))
            scribe.assert_unchanged()

    def test_a_lock_belongs_to_no_thread(self, storage: Storage) -> None:
        """One thread may take the lock, and another append or unlock, as when a leader hands over its batch."""
        skip_without_locks(storage)
        with logs(storage, 2) as (log, other):
            scribe = Scribe(log)
            for _ in range(2):
                Background(partial(log.lock, asking(scribe.head, selection("a:1")))).result()
                append = appending([new("a:1")], scribe.head, selection("a:1"))
                scribe.wrote(append, Background(partial(log.append, append)).result())
                Background(partial(log.lock, asking(scribe.head))).result()
                Background(log.unlock).result()
            scribe.assert_unchanged()
            _assert_free(other)

    def test_closing_gives_the_lock_back(self, storage: Storage) -> None:
        """An engine that is closed while it holds the lock does not lock out the others."""
        skip_without_locks(storage)
        namespace = fresh_namespace()
        with one_log(storage, namespace) as other:
            with one_log(storage, namespace) as log:
                log.lock(asking(log.head()))
            _assert_free(other)


def _assert_free(log: Log) -> None:
    """An append happens: nobody holds the lock, or it is given back in time."""
    assert isinstance(log.append(appending([new("a:1")], log.head())), Appended)


def _fail_under_the_lock(log: Log, head: Head) -> None:
    log.lock(asking(head))
    try:
        raise ZeroDivisionError
    finally:
        log.unlock()
