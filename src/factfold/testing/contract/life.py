"""The contract of an engine's life: opening, closing, reopening, forking; namespaces, places, and waiting."""

from __future__ import annotations

import os
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial

import pytest

from factfold.errors import AppendRefusedError, StoreClosedError
from factfold.storage.base import EMPTY, Appended, LogPage, Put, Storage, StreamPage, Swap
from factfold.testing.contract.running import (
    PATIENCE,
    Background,
    capabilities,
    fresh_namespace,
    logs,
    one_log,
    skip_without_locks,
    together,
)
from factfold.testing.contract.scribe import Scribe, appending, asking, loading, new, read_log, selection, several


class LifeContract:
    """What surrounds the log."""

    # -- Closing and reopening -----------------------------------------------------------------------------------------

    def test_use_after_close_is_refused(self, storage: Storage) -> None:
        """Every method of a log raises `StoreClosedError` once its engine is closed, and the engine opens no other."""
        engine = storage.open()
        log = engine.log(fresh_namespace())
        scribe = Scribe(log)
        scribe.write(new("a:1"))
        engine.close()
        append = appending([new("a:1")], scribe.head, selection("a:1"))
        uses: list[Callable[[], object]] = [
            partial(engine.log, "default"),
            log.head,
            partial(log.append, append),
            partial(log.check, append.check),
            partial(log.resolve, append),
            partial(log.load, loading(selection("a:1"))),
            partial(log.read, LogPage(0, 10)),
            partial(log.read_stream, StreamPage(selection("a:1"), 0, 10)),
            partial(log.streams, None, "", 10),
            partial(log.wait, 0, 0.01),
            partial(log.get, "snapshots", "a"),
            partial(log.put, "snapshots", "a", b""),
            partial(log.swap, Swap(Put("snapshots", "a", b""), None)),
            partial(log.entries, "snapshots", "", 10),
            lambda: list(log.problems()),
        ]
        for use in uses:
            with pytest.raises(StoreClosedError):
                pytest.fail(f"after close, {use} answered {use()!r}")

    def test_locking_after_close_is_refused(self, storage: Storage) -> None:
        """The writers' lock cannot be taken through a closed engine."""
        skip_without_locks(storage)
        engine = storage.open()
        log = engine.log(fresh_namespace())
        engine.close()
        with pytest.raises(StoreClosedError):
            log.lock(asking(EMPTY))

    def test_closing_twice_is_allowed(self, storage: Storage) -> None:
        """The second `close` does nothing, also when nothing was ever done with the engine."""
        for use in (True, False):
            engine = storage.open()
            if use:
                Scribe(engine.log(fresh_namespace())).write(new("a:1"))
            engine.close()
            engine.close()

    def test_closing_one_engine_leaves_the_others_open(self, storage: Storage) -> None:
        """Engines opened on one storage are independent of one another."""
        namespace = fresh_namespace()
        with one_log(storage, namespace) as log:
            scribe = Scribe(log)
            scribe.write(new("a:1"))
            with one_log(storage, namespace) as other:
                assert other.head() == scribe.head
            scribe.write(new("a:1"))
            scribe.assert_unchanged()

    def test_what_was_written_is_there_after_reopening(self, storage: Storage) -> None:
        """Events, places and void ids outlive the engine, and numbers go on where they ended."""
        namespace = fresh_namespace()
        with one_log(storage, namespace) as log:
            scribe = Scribe(log)
            scribe.write(new("a:1"), new("a:1", "b:1"))
            log.put("snapshots", "a:1", b"state")
            void = appending([new("a:1")], scribe.head)
            assert log.resolve(void) is None
        for _ in range(2):
            with one_log(storage, namespace) as log:
                scribe.log = log
                scribe.assert_unchanged()
                assert log.get("snapshots", ["a:1"]) == {"a:1": b"state"}
                with pytest.raises(AppendRefusedError):
                    log.append(void)
                scribe.must_append(appending([new("b:1")], scribe.head, selection("b:1")))

    def test_many_may_open_a_new_place_at_once(self, storage: Storage) -> None:
        """The first opening prepares the place; others who come at the same moment wait for it."""
        namespace = fresh_namespace()

        def open_and_append(number: int) -> None:
            with one_log(storage, namespace) as log:
                assert isinstance(
                    log.append(appending([new(f"a:{number}")], EMPTY, selection(f"a:{number}"))), Appended
                )

        together([partial(open_and_append, number) for number in range(8)])
        with one_log(storage, namespace) as log:
            assert [stored.position for stored in read_log(log)] == list(range(1, 9))

    def test_a_whole_log_has_no_problems(self, storage: Storage) -> None:
        """`problems` finds nothing in what was written in good order."""
        with one_log(storage) as log:
            assert list(log.problems()) == []
            scribe = Scribe(log)
            scribe.write(new("a:1"), new("a:1", "b:1"), new("b:1", type="$mark"))
            scribe.write(*several(10, "a:2"))
            assert list(log.problems()) == []

    def test_a_log_says_where_it_is(self, storage: Storage) -> None:
        """`name` is for messages: it names the namespace."""
        namespace = fresh_namespace()
        with one_log(storage, namespace) as log:
            assert namespace in log.name
            assert storage.name

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no os.fork")
    def test_a_forked_child_opens_its_own_engine(self, storage: Storage) -> None:
        """A child opens and appends while its parent has the storage open; the parent goes on."""
        namespace = fresh_namespace()
        with one_log(storage, namespace) as log:
            scribe = Scribe(log)
            scribe.write(new("a:1"))
            shared = new("a:1")

            def work_in_child() -> None:
                with one_log(storage, namespace) as own:
                    answer = own.append(appending([shared], scribe.head, selection("a:1")))
                    assert isinstance(answer, Appended)
                    assert (answer.first, dict(answer.versions)) == (2, {"a:1": 1})

            _in_forked_child(work_in_child)
            written = [stored.id for stored in read_log(log)][1:]
            assert written == ([shared.id] if capabilities(storage).shared else [])
            head = log.head()
            answer = log.append(appending([new("a:1")], head, selection("a:1")))
            assert isinstance(answer, Appended)
            assert answer.first == head.position + 1

    # -- Namespaces ----------------------------------------------------------------------------------------------------

    def test_namespaces_are_independent(self, storage: Storage) -> None:
        """Each has its own positions, streams, conflicts and places; names are compared byte by byte."""
        base = fresh_namespace()
        names = [base, base.upper(), f"{base}%", f"{base}'; --", f"{base} é/日本", f"{base}:a"]
        engine = storage.open()
        try:
            scribes = [Scribe(engine.log(name)) for name in names]
            for round in range(3):
                for number, scribe in enumerate(scribes):
                    scribe.must_append(
                        appending(several(number + 1, "a:1", f"b:{number}"), scribe.head, selection("a:1"))
                    )
                    scribe.log.put("snapshots", "a:1", f"{number} in round {round}".encode())
            for number, scribe in enumerate(scribes):
                scribe.assert_unchanged()
                assert scribe.log.get("snapshots", ["a:1"]) == {"a:1": f"{number} in round 2".encode()}
                assert [info.id for info in scribe.log.streams(None, "", 10)] == ["a:1", f"b:{number}"]
        finally:
            engine.close()

    def test_namespaces_of_one_engine_are_used_at_once(self, storage: Storage) -> None:
        """Each namespace may have its own writer, in a thread of its own."""
        engine = storage.open()
        try:
            scribes = [Scribe(engine.log(fresh_namespace())) for _ in range(4)]

            def write(scribe: Scribe) -> None:
                for _ in range(25):
                    scribe.must_append(appending([new("a:1"), new("a:1", "b:1")], scribe.head, selection("a:1")))

            together([partial(write, scribe) for scribe in scribes])
            for scribe in scribes:
                scribe.assert_unchanged()
        finally:
            engine.close()

    # -- Places --------------------------------------------------------------------------------------------------------

    def test_small_values_are_kept_in_places(self, storage: Storage) -> None:
        """`put` writes and overwrites any bytes, None removes, and every engine sees it."""
        with logs(storage, 2) as (one, other):
            assert one.get("snapshots", ["a:1"]) == {}
            for value in (b"first", b"", bytes(range(256)), "日本".encode(), b"x" * 1_000_000, b"last"):
                one.put("snapshots", "a:1", value)
                assert one.get("snapshots", ["a:1"]) == {"a:1": value}
                assert other.get("snapshots", ["a:1"]) == {"a:1": value}
            other.put("snapshots", "a:1", None)
            other.put("snapshots", "a:1", None)
            assert one.get("snapshots", ["a:1"]) == {}
            assert one.head() == EMPTY, "places are no events"

    def test_places_and_keys_are_independent(self, storage: Storage) -> None:
        """A value belongs to its place and its key, byte by byte."""
        keys = ["a", "A", "a ", "a:b", "b", "%", "_", "'", '"', "é", "e\u0301", "🔑", "$x", "x" * 255]
        written = {
            (place, key): f"{place}/{key}".encode() for place in ("snapshots", "checkpoints", "a") for key in keys
        }
        with one_log(storage) as log:
            for (place, key), value in written.items():
                log.put(place, key, value)
            log.put("snapshots", "a", None)
            del written["snapshots", "a"]
            for place in ("snapshots", "checkpoints", "a"):
                expected = {key: value for (at, key), value in written.items() if at == place}
                assert log.get(place, keys) == expected
            assert log.get("nowhere", ["a"]) == {}

    def test_many_values_are_got_in_one_go(self, storage: Storage) -> None:
        """`get` gives those of the keys that have a value, however many are asked for."""
        with one_log(storage) as log:
            for number in range(0, 600, 3):
                log.put("snapshots", f"a:{number}", str(number).encode())
            found = log.get("snapshots", [f"a:{number}" for number in range(600)])
            assert found == {f"a:{number}": str(number).encode() for number in range(0, 600, 3)}
            assert log.get("snapshots", []) == {}

    # -- Waiting -------------------------------------------------------------------------------------------------------

    def test_waiting_ends_when_an_event_arrives(self, storage: Storage) -> None:
        """`wait` returns the head's position early, whichever engine appended, and blocks nobody meanwhile."""
        with logs(storage, 2) as (one, other):
            for writer in (one, other):
                head = one.head()
                waiting = Background(partial(one.wait, head.position, PATIENCE))
                assert not waiting.ends_within(0.05), f"there is nothing above {head.position} yet: {waiting.result()}"
                assert isinstance(writer.append(appending([new("a:1")], head)), Appended)
                assert waiting.result(PATIENCE / 2) == head.position + 1

    def test_waiting_ends_at_its_timeout(self, storage: Storage) -> None:
        """Without a new event `wait` returns the position of the head when its time is over."""
        with one_log(storage) as log:
            scribe = Scribe(log)
            for position in (0, 1):
                start = time.monotonic()
                assert log.wait(position, 0.2) == position
                assert 0.15 < time.monotonic() - start < PATIENCE / 2
                scribe.write(new("a:1"))

    def test_waiting_for_what_is_there_does_not_wait(self, storage: Storage) -> None:
        """`wait` returns at once when the head is above the position that is asked with."""
        with one_log(storage) as log:
            Scribe(log).write(*several(3, "a:1"))
            start = time.monotonic()
            assert [log.wait(position, PATIENCE) for position in (0, 1, 2)] == [3, 3, 3]
            assert log.wait(3, 0) == 3, "and with no time, it only looks"
            assert time.monotonic() - start < PATIENCE / 2

    def test_closing_ends_the_waiting(self, storage: Storage) -> None:
        """`close` ends all work of its engine: a thread that waits for events goes on, by an answer or an error."""
        engine = storage.open()
        log = engine.log(fresh_namespace())
        waiting = Background(partial(log.wait, 0, PATIENCE))
        assert not waiting.ends_within(0.05)
        engine.close()
        assert waiting.ends_within(PATIENCE / 2), "the engine is closed, and a thread still waits in it"


def _in_forked_child(work: Callable[[], None]) -> None:
    """Forks; fails with what went wrong in the child."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Forking beside threads is what this is about.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        # Nothing of the test run may go on in the child: whatever happens, it ends here.
        try:
            work()
        except BaseException:  # noqa: BLE001 (told to the test, which fails with it)
            os.write(writing, traceback.format_exc().encode()[:60_000])
        finally:
            os._exit(0)
    os.close(writing)
    try:
        ended, _, _ = select.select([reading], [], [], PATIENCE)
        if not ended:
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert ended, f"the forked child was still at work after {PATIENCE} seconds"
        with os.fdopen(os.dup(reading), "rb") as answer:
            trouble = answer.read().decode()
        assert not trouble, f"in the forked child:\n{trouble}"
    finally:
        os.close(reading)
