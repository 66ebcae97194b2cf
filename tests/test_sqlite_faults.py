"""SQLite in trouble: a full disk, a damaged file, an error at the commit, an interrupt at any moment."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import FrameType

import pytest

from factfold.errors import (
    AppendRefusedError,
    FactfoldError,
    LogDivergedError,
    OutcomeUnknownError,
    StorageFormatError,
    StorageFullError,
)
from factfold.storage import _sqlite_connections, _sqlite_tables
from factfold.storage.base import EMPTY, Appended, LogPage
from factfold.storage.sqlite import SQLite, SQLiteEngine, SQLiteLog
from factfold.testing.contract.running import one_log
from factfold.testing.contract.scribe import Scribe, appending, asking, new, several
from tests.sqlite_by_hand import by_hand


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def engine(path: Path) -> Iterator[SQLiteEngine]:
    engine = SQLite(path, timeout=0.2).open()
    yield engine
    engine.close()


@pytest.fixture
def log(engine: SQLiteEngine) -> SQLiteLog:
    return engine.log("default")


# -- Full, refused, damaged --------------------------------------------------------------------------------------------


def test_a_full_disk_writes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pragmas = _sqlite_connections.WRITER_PRAGMAS
    monkeypatch.setattr(_sqlite_connections, "WRITER_PRAGMAS", (*pragmas, "max_page_count = 30"))
    with one_log(SQLite(path), "default") as log:
        scribe = Scribe(log)
        scribe.write(new("a:1"))
        with pytest.raises(StorageFullError, match="disk is full"):
            scribe.write(*(new("a:1", data=b'"%s"' % (b"x" * 5000)) for _ in range(40)))
        scribe.assert_unchanged()
        scribe.write(new("a:1"))
        monkeypatch.setattr(_sqlite_connections, "WRITER_PRAGMAS", pragmas)
    with one_log(SQLite(path), "default") as log:
        scribe.log = log
        scribe.write(*(new("a:1", data=b'"%s"' % (b"x" * 5000)) for _ in range(40)))
        scribe.assert_unchanged()


def test_what_sqlite_cannot_store_is_refused_and_nothing_of_it_is_written(log: SQLiteLog) -> None:
    scribe = Scribe(log)
    scribe.write(new("a:1"))
    for refused in (new("a:\ud800"), new("a:1", data=b"\xff"), new("a:1", type_version=2**63)):
        with pytest.raises(AppendRefusedError):
            log.append(appending([new("a:1"), refused], scribe.head))
    scribe.assert_unchanged()
    scribe.write(new("a:1"))
    scribe.assert_unchanged()


def test_a_value_that_is_too_large_is_refused(log: SQLiteLog) -> None:
    scribe = Scribe(log)
    scribe.write(new("a:1"))
    writer = log._database._writer
    assert writer is not None
    writer.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)
    with pytest.raises(AppendRefusedError, match="too large"):
        log.append(appending([new("a:1", data=b'"%s"' % (b"x" * 20_000))], scribe.head))
    scribe.assert_unchanged()
    scribe.write(new("a:1"))


DAMAGE = [
    ("DELETE FROM memberships_1 WHERE stream = 'a:1' AND version = 2", "position 2 is version 2 of a:1"),
    ("UPDATE memberships_1 SET position = 1 WHERE stream = 'a:1' AND version = 2", "version 2 of a:1"),
    ("UPDATE memberships_1 SET type = 'Other' WHERE stream = 'a:1' AND version = 2", "position 2 is version 2 of a:1"),
    ("DELETE FROM events_1 WHERE position = 2", "version 2 of a:1 is to be at position 2: nothing is there"),
    ("INSERT INTO memberships_1 VALUES ('b:\"1\"', 1, 2, 'Noted')", 'version 1 of b:"1" is to be at position 2'),
    ("UPDATE events_1 SET streams = '{\"a:1\":7}' WHERE position = 2", "position 2 is version 7 of a:1"),
]


@pytest.mark.parametrize(("damage", "told"), DAMAGE)
def test_an_index_that_disagrees_with_the_events_is_told(path: Path, log: SQLiteLog, damage: str, told: str) -> None:
    Scribe(log).write(*several(3, "a:1"))
    assert list(log.problems()) == []
    with by_hand(path) as other:
        other.execute(damage)
    assert any(told in problem for problem in log.problems()), list(log.problems())


def test_problems_are_found_beyond_the_first_page(path: Path, log: SQLiteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sqlite_tables, "VERIFY_PAGE", 2)
    monkeypatch.setattr("factfold.storage.sqlite.VERIFY_PAGE", 2)
    Scribe(log).write(*(new(f"a:{number}", 'b:"odd" {key}, ünd') for number in range(7)))
    assert list(log.problems()) == []
    with by_hand(path) as other:
        other.execute("DELETE FROM memberships_1 WHERE stream = 'a:5'")
        other.execute("INSERT INTO memberships_1 VALUES ('z:9', 1, 6, 'Noted')")
    assert len(list(log.problems())) == 2


def test_a_damaged_file_is_told(path: Path) -> None:
    with one_log(SQLite(path), "default") as log:
        Scribe(log).write(*(new("a:1", data=b'"%s"' % (b"x" * 500)) for _ in range(500)))
    content = bytearray(path.read_bytes())
    for page in range(20, 40):
        content[page * 4096 : page * 4096 + 2000] = b"\xff" * 2000
    path.write_bytes(content)
    with one_log(SQLite(path), "default") as log:
        assert list(log.problems())
        with pytest.raises(StorageFormatError, match="damaged"):
            log.read(LogPage(0, 1000))


# -- The disk fails, the process is interrupted ------------------------------------------------------------------------


def run_script(script: str, *arguments: str) -> str:
    """Runs a test's script in a process of its own: what it does to the process must not hit the others."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_error_at_the_commit_leaves_the_outcome_open_until_it_is_resolved(path: Path) -> None:
    """A limit on the size of files makes writing the log fail, in the middle of a commit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with one_log(SQLite(path), "default") as log:
        scribe = Scribe(log)
        scribe.write(new("a:1"))
        append = appending([new("a:1", data=b'"%s"' % (b"x" * 100_000))], scribe.head)
        resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{path}-wal").stat().st_size + 50_000, hard))
        try:
            with pytest.raises(OutcomeUnknownError):
                log.append(append)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert log.resolve(append) is None
        with pytest.raises(AppendRefusedError, match="void"):
            log.append(append)
        scribe.assert_unchanged()
        scribe.write(new("a:1", data=b'"%s"' % (b"x" * 100_000)))
        scribe.assert_unchanged()


READ_ONLY = """
    import os, sys
    from factfold.errors import StorageReadOnlyError
    from factfold.storage.base import *
    from factfold.storage.sqlite import SQLite

    path = sys.argv[1]
    event = NewEvent(b"2" * 16, "Noted", 1, b"{}", b"{}", ("a:1",))
    SQLite(path).open().close()  # So that all modules are loaded: another user may not be able to.
    if os.geteuid() == 0:
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
    engine = SQLite(path).open()
    log = engine.log("default")
    print(log.head().position, len(log.read(LogPage(0, 10))), list(log.problems()))
    for attempt in (
        lambda: log.append(Append((event,), Check((), log.head(), {}))),
        lambda: log.put("place", "key", b"value"),
        lambda: engine.log("another"),
    ):
        try:
            attempt()
        except StorageReadOnlyError as error:
            print("refused")
    print(log.head().position)
    engine.close()
"""


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that other users reach, which those of pytest are not."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory
        directory.chmod(0o755)


@pytest.mark.parametrize("directory_mode", [0o777, 0o555])
def test_a_file_that_can_only_be_read_is_read(public_directory: Path, directory_mode: int) -> None:
    path = public_directory / "log.db"
    with closing(SQLite(path).open()) as engine:  # Open, so that the files beside it are there.
        Scribe(engine.log("default")).write(new("a:1"))
        for name in (path, f"{path}-wal", f"{path}-shm"):
            Path(name).chmod(0o444)
        public_directory.chmod(directory_mode)
        assert run_script(READ_ONLY, str(path)).split("\n") == ["1 1 []", *["refused"] * 3, "1", ""]
        public_directory.chmod(0o755)


class Alarm:
    """Raises KeyboardInterrupt in the main thread, once, after some time.

    Python swallows it where nobody could catch it: in a finalizer, or in a callback of the garbage collector, such as
    the one that hypothesis installs. So nobody may wait for the exception: `rang` tells that it was raised.
    """

    def __init__(self) -> None:
        self.rang = False

    def set(self, seconds: float) -> None:
        self.rang = False
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def __enter__(self) -> Alarm:
        self._handler = signal.signal(signal.SIGALRM, self._ring)
        self._timer = signal.setitimer(signal.ITIMER_REAL, 0)
        gc.disable()
        return self

    def __exit__(self, *error: object) -> None:
        gc.enable()
        signal.signal(signal.SIGALRM, self._handler)
        signal.setitimer(signal.ITIMER_REAL, *self._timer)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        self.rang = True
        raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_moment_leaves_no_lock_behind(path: Path) -> None:
    """KeyboardInterrupt hits the thread that appends a few hundred times; another engine gets the lock every time."""
    storage = SQLite(path, synchronous="normal", timeout=30)
    with closing(storage.open()) as engine, one_log(storage, "default") as other, Alarm() as alarm:
        log = engine.log("default")
        interrupted = 0
        for number in range(300):
            try:
                alarm.set(0.0005 + (number % 50) * 20e-6)
                while not alarm.rang:
                    head = log.head()
                    log.append(appending([new("a:1")], head))
                    log.lock(asking(head))
                    log.unlock()
                    log.lock(asking(head))
                    log.append(appending([new("a:1")], log.head()))
            except KeyboardInterrupt:
                interrupted += 1
            log.unlock()  # As whoever locked and was interrupted has to.
            if number % 10 == 0:
                assert isinstance(other.append(appending([new("a:2")], other.head())), Appended)
        assert interrupted > 250
        assert engine._database._running == 0
        assert engine._database._turn is None
        assert list(log.problems()) == []
        assert [one.position for one in other.read(LogPage(0, 10**6))] == list(range(1, other.head().position + 1))


@pytest.mark.parametrize("error", [LogDivergedError, AppendRefusedError])
def test_an_error_leaves_no_lock_behind(path: Path, log: SQLiteLog, error: type[FactfoldError]) -> None:
    scribe = Scribe(log)
    scribe.write(new("a:1"))
    wrong = new("a:1", data=b"\xff") if error is AppendRefusedError else new("a:1")
    after = scribe.head if error is AppendRefusedError else type(EMPTY)(1, b"0" * 16)
    with pytest.raises(error):
        log.append(appending([wrong], after))
    with one_log(SQLite(path, timeout=0.2), "default") as other:
        scribe.log = other
        scribe.write(new("a:1"))
