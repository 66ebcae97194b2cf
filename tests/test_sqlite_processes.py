"""SQLite between processes: the fair queue, and what a fork does to an engine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from factfold.errors import LockLostError
from factfold.storage import _sqlite_connections
from factfold.storage._fair_queue import FairQueue
from factfold.storage.base import EMPTY, Appended, Conflict, Head, Log, LogPage
from factfold.storage.sqlite import SQLite
from factfold.testing.contract.running import PATIENCE, SPAWN, Background, Barrier, Processes, one_log, run
from factfold.testing.contract.scribe import Scribe, appending, asking, loading, new, read_log, selection
from tests.racing import eventually

linux = pytest.mark.skipif(sys.platform != "linux", reason="there is no fair queue here")


# -- The queue ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path: Path) -> Iterator[list[FairQueue]]:
    """Six places to stand in one queue."""
    opened = [FairQueue.open(str(tmp_path / "queue"), 0o600) for _ in range(6)]
    places = [place for place in opened if place is not None]
    assert len(places) == 6
    yield places
    for place in places:
        place.close()


def stand_in_line(place: FairQueue, then: Callable[[], None] = lambda: None) -> Background[None]:
    """Waits for the turn in a thread, does something, and gives it back. Returns when it stands in the line."""
    standing = threading.Event()

    def pause(seconds: float) -> None:
        standing.set()
        time.sleep(seconds)

    def wait() -> None:
        place.take(pause)
        standing.set()
        then()
        place.give()

    waiting = Background(wait)
    assert standing.wait(PATIENCE)
    return waiting


def give_up(seconds: float) -> None:
    """A pause of someone who does not wait at all."""
    raise TimeoutError


@linux
def test_the_turn_goes_to_those_who_wait_in_the_order_they_came(places: list[FairQueue]) -> None:
    order: list[int] = []
    assert places[0].take_at_once()
    waiting = [stand_in_line(places[number], partial(order.append, number)) for number in (3, 1, 5, 2, 4)]
    places[0].give()
    for one in waiting:
        one.result()
    assert order == [3, 1, 5, 2, 4]


@linux
def test_who_comes_does_not_overtake_those_who_wait(places: list[FairQueue]) -> None:
    assert places[0].take_at_once()
    waiting = stand_in_line(places[1])
    assert not places[2].take_at_once(), "one has the turn"
    places[0].give()
    waiting.result()
    assert places[2].take_at_once()


@linux
def test_who_gives_up_waiting_holds_up_nobody(places: list[FairQueue]) -> None:
    assert places[0].take_at_once()
    with pytest.raises(TimeoutError):
        places[1].take(give_up)
    places[1].give()
    waiting = stand_in_line(places[2])
    places[0].give()
    waiting.result()


@linux
def test_who_has_the_turn_may_take_it_again(places: list[FairQueue]) -> None:
    assert places[0].take_at_once()
    waiting = stand_in_line(places[1])
    places[0].take(give_up)
    places[0].give()
    waiting.result()


TAKE_AND_STAY = """
import sys, time
from factfold.storage._fair_queue import FairQueue
place = FairQueue.open(sys.argv[1], 0o600)
place.take(lambda seconds: (print("waits", flush=True), time.sleep(60)))
print("has the turn", flush=True)
time.sleep(60)
"""


@linux
@pytest.mark.parametrize("dead", ["has the turn", "waits"])
def test_a_process_that_dies_holds_up_nobody(tmp_path: Path, places: list[FairQueue], dead: str) -> None:
    if dead == "waits":
        assert places[0].take_at_once()
    with subprocess.Popen(
        [sys.executable, "-c", TAKE_AND_STAY, str(tmp_path / "queue")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == dead
        waiting = stand_in_line(places[1])
        process.kill()
        places[0].give()
        waiting.result()


def test_without_a_queue_writers_poll(tmp_path: Path) -> None:
    """Where the queue's file cannot be made (here a directory is in its place) all works, only less fairly."""
    path = tmp_path / "log.db"
    Path(f"{path}-queue").mkdir()
    storage = SQLite(path)

    def write(log: Log) -> None:
        for _ in range(50):
            assert isinstance(log.append(appending([new("a:1")], log.head())), Appended | Conflict)

    with one_log(storage, "default") as one, one_log(storage, "default") as other:
        writing = [Background(partial(write, log)) for log in (one, other)]
        for each in writing:
            each.result()
        assert one.head().position == 100
        assert list(one.problems()) == []


def append_for(storage: SQLite, barrier: Barrier, seconds: float) -> int:
    """Appends events one by one, as often as it can; how often that was."""
    with one_log(storage, "default") as log:
        log.append(appending([new("a:1")], log.head()))
        barrier.wait(PATIENCE)
        deadline = time.monotonic() + seconds
        count = 0
        while time.monotonic() < deadline:
            count += isinstance(log.append(appending([new("a:1")], log.head())), Appended)
        return count


@linux
def test_4_processes_that_append_in_a_loop_get_fair_shares(tmp_path: Path) -> None:
    storage, barrier = SQLite(tmp_path / "log.db"), SPAWN.Barrier(4)
    with Processes(append_for, [(storage, barrier, 1.0)] * 4) as writing:
        shares = writing.results()
    assert min(shares) >= sum(shares) / 4 / 2, shares


# -- Forks -------------------------------------------------------------------------------------------------------------

forks = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def in_a_fork(work: Callable[[], object]) -> Callable[[], None]:
    """Does the work in a forked child; what is returned waits until it has ended well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(int(PATIENCE))  # It must not stay when it hangs.
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def wait() -> None:
        _, status = os.waitpid(pid, 0)
        assert status == 0, f"the child ended with status {status}; see its output"

    return wait


def all_are_above(logs: list[Log], position: int) -> bool:
    return all(log.head().position > position for log in logs)


class TestForks:
    pytestmark = forks

    def test_parent_and_child_go_on_while_threads_write(self, tmp_path: Path) -> None:
        """8 threads append and read through one engine while the process forks three times; all appends are there."""
        with closing(SQLite(tmp_path / "log.db", synchronous="normal", timeout=30).open()) as engine:
            logs: list[Log] = [engine.log(f"n{number}") for number in range(8)]
            stop = threading.Event()
            barrier = threading.Barrier(9)

            def write(log: Log) -> list[bytes]:
                barrier.wait(PATIENCE)
                ids: list[bytes] = []
                head = log.head()
                while not stop.is_set():
                    event = new("a:1")
                    answer = log.append(appending([event], head, selection("a:1")))
                    if isinstance(answer, Conflict):  # The child has written.
                        head = answer.news.head
                        continue
                    ids.append(event.id)
                    head = Head(answer.first, event.id)
                    assert log.load(loading(selection("a:1"), after=head)).head.position >= head.position
                return ids

            def child() -> None:
                for log in logs:
                    for _ in range(5):
                        while not isinstance(log.append(appending([new("c:1")], log.head())), Appended):
                            pass
                    assert list(log.problems()) == []

            writing = [Background(partial(write, log)) for log in logs]
            barrier.wait(PATIENCE)
            for count in range(1, 4):
                eventually(partial(all_are_above, logs, 10 * count))
                in_a_fork(child)()
            stop.set()
            for log, each in zip(logs, writing, strict=True):
                written = each.result()
                found = read_log(log)
                assert [one.position for one in found] == list(range(1, len(found) + 1))
                assert [one.id for one in found if "a:1" in one.streams] == written
                assert sum("c:1" in one.streams for one in found) == 3 * 5
                assert list(log.problems()) == []

    def test_the_child_inherits_no_descriptor_of_the_file(self, tmp_path: Path) -> None:
        if not Path("/proc/self/fd").exists():
            pytest.skip("this system does not list descriptors")
        path = tmp_path / "log.db"

        def child() -> None:
            for number in os.listdir("/proc/self/fd"):
                try:
                    name = os.readlink(f"/proc/self/fd/{number}")
                except FileNotFoundError:  # That of the listing itself.
                    continue
                assert not name.startswith(str(path)), name

        with one_log(SQLite(path), "default") as log:
            Scribe(log).write(new("a:1"))
            log.load(loading(selection("a:1")))
            in_a_fork(child)()
            assert log.head().position == 1

    def test_a_lock_held_at_the_fork_is_lost_to_both(self, tmp_path: Path) -> None:
        storage = SQLite(tmp_path / "log.db", timeout=1)
        with one_log(storage, "default") as log, one_log(storage, "default") as other:

            def lose_and_go_on() -> None:
                with pytest.raises(LockLostError):
                    log.append(appending([new("a:1")], EMPTY))
                while not isinstance(log.append(appending([new("b:1")], log.head())), Appended):
                    pass

            log.lock(asking(EMPTY))
            wait = in_a_fork(lose_and_go_on)
            lose_and_go_on()
            wait()
            assert other.head().position == 2
            assert isinstance(other.append(appending([new("a:1")], other.head())), Appended)

    def test_a_lock_that_another_thread_held_is_free_in_the_child(self, tmp_path: Path) -> None:
        with one_log(SQLite(tmp_path / "log.db", timeout=1), "default") as log:
            Background(lambda: log.lock(asking(EMPTY))).result()
            in_a_fork(lambda: log.append(appending([new("a:1")], EMPTY)))()
            log.unlock()
            assert log.head().position == 1

    def test_an_async_engine_works_in_the_child(self, tmp_path: Path) -> None:
        storage = SQLite(tmp_path / "log.db")

        async def parent() -> None:
            engine = await storage.open_async()
            log = await engine.log("default")
            await log.append(appending([new("a:1")], EMPTY))

            async def child() -> None:
                assert isinstance(await log.append(appending([new("a:1")], await log.head())), Appended)
                assert len(await log.read(LogPage(0, 10))) == 2
                await engine.close()

            def fork() -> None:
                # In a thread, whose copy in the child runs a loop of its own.
                in_a_fork(lambda: asyncio.run(child()))()

            await asyncio.to_thread(fork)
            assert isinstance(await log.append(appending([new("a:1")], await log.head())), Appended)
            assert (await log.head()).position == 3
            await engine.close()

        run(parent())

    def test_a_child_forked_in_the_middle_of_a_long_read_refuses_to_work(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_sqlite_connections, "PATIENCE", 0.1)
        with closing(SQLite(tmp_path / "log.db").open()) as engine:
            log = engine.log("default")
            reached, go_on = threading.Event(), threading.Event()

            def long_read(connection: object, _: None) -> None:
                reached.set()
                assert go_on.wait(PATIENCE)

            reading = Background(lambda: engine._database.read(long_read, None))
            assert reached.wait(PATIENCE)

            def child() -> None:
                with pytest.raises(Exception, match="forked while"):
                    log.head()

            in_a_fork(child)()
            assert log.head() == EMPTY, "the parent has lost nothing"
            go_on.set()
            reading.result()
