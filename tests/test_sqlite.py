"""What is special about SQLite: the file and its format, its locks, its errors. The contract is in test_contract.py."""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

from factfold.errors import (
    AppendRefusedError,
    FactfoldError,
    InvalidUrlError,
    LockLostError,
    LogDivergedError,
    OutcomeUnknownError,
    StorageFormatError,
    StorageFullError,
    StoreClosedError,
    StoreUnavailableError,
)
from factfold.storage import _sqlite_connections, _sqlite_tables
from factfold.storage._sqlite_database import IDLE_READERS
from factfold.storage._sqlite_format import APPLICATION_ID, MIGRATIONS
from factfold.storage.base import EMPTY, Appended, LogPage
from factfold.storage.sqlite import SQLite, SQLiteEngine, SQLiteLog
from factfold.testing.contract.running import SPAWN, Background, Processes, one_log
from factfold.testing.contract.scribe import Scribe, appending, asking, loading, new, selection, several
from tests.racing import eventually
from tests.sqlite_fixture import EVENTS, FIXTURES, VOID


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


@contextmanager
def by_hand(path: Path) -> Generator[sqlite3.Connection]:
    """Another program that works on the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


# -- Options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [":memory:", "", "file:x.db", "a\0b"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidUrlError):
        SQLite(path)


def test_a_log_in_memory_is_refused_with_a_hint() -> None:
    with pytest.raises(InvalidUrlError, match="Memory"):
        SQLite(":memory:")


def test_options_that_mean_nothing_are_refused(path: Path) -> None:
    with pytest.raises(InvalidUrlError, match="synchronous"):
        SQLite(path, synchronous="off")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(InvalidUrlError, match="timeout"):
        SQLite(path, timeout=0)


def test_commits_are_flushed_unless_they_need_not_be(path: Path) -> None:
    for storage, level, durable in ((SQLite(path), 2, True), (SQLite(path, synchronous="normal"), 1, False)):
        with closing(storage.open()) as engine:
            engine.log("default").append(appending([new("a:1")], engine.log("default").head()))
            assert engine.capabilities.durable is durable
            writer = engine._database._writer
            assert writer is not None
            assert writer.execute("PRAGMA synchronous").fetchone() == (level,)


# -- Opening -----------------------------------------------------------------------------------------------------------


def test_a_new_file_is_marked_as_ours_and_keeps_a_write_ahead_log(path: Path, engine: SQLiteEngine) -> None:
    with by_hand(path) as other:
        assert other.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert other.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="is a directory"):
        SQLite(tmp_path).open()


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=str(tmp_path / "nowhere")):
        SQLite(tmp_path / "nowhere" / "log.db").open()


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"Dear diary, " * 1000)
    with pytest.raises(StorageFormatError, match="not a SQLite database"):
        SQLite(path).open()
    assert path.read_bytes() == b"Dear diary, " * 1000


@pytest.mark.parametrize("mark", ["CREATE TABLE songs (title)", "PRAGMA application_id = 7", "PRAGMA user_version = 7"])
def test_the_database_of_another_application_is_refused_and_left_alone(path: Path, mark: str) -> None:
    with by_hand(path) as other:
        other.execute(mark)
    before = path.read_bytes()
    with pytest.raises(StorageFormatError, match="another application"):
        SQLite(path).open()
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    SQLite(path).open().close()
    with by_hand(path) as other:
        other.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(StorageFormatError, match="newer factfold"):
        SQLite(path).open()
    with by_hand(path) as other:
        assert other.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
def test_a_file_of_every_earlier_schema_is_opened(path: Path, version: int) -> None:
    shutil.copy(FIXTURES / f"sqlite-schema-{version}.db", path)
    with one_log(SQLite(path), "default") as log:
        found = log.read(LogPage(0, 10))
        assert [(one.id, one.type, one.type_version, one.data, one.metadata) for one in found] == [
            (one.id, one.type, one.type_version, one.data, one.metadata) for one in EVENTS
        ]
        assert found[2].streams == {"account:alice": 2, "account:bob": 2}
        assert log.get("snapshots", "account:alice") == b"\x00\x01"
        assert list(log.problems()) == []
        with pytest.raises(AppendRefusedError):
            log.append(
                appending([EVENTS[0].__class__(VOID, "Opened", 1, b"{}", b"{}", ("account:carol",))], log.head())
            )
        assert isinstance(log.append(appending([new("account:alice")], log.head())), Appended)


def test_migrations_happen_wholly_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE half (done)")
        raise ZeroDivisionError

    monkeypatch.setattr("factfold.storage._sqlite_format.MIGRATIONS", (*MIGRATIONS, fail))
    with pytest.raises(ZeroDivisionError):
        SQLite(path).open()
    with by_hand(path) as other:
        assert other.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        assert other.execute("PRAGMA user_version").fetchone() == (0,)


def open_at_the_barrier(storage: SQLite, barrier: threading.Barrier, number: int) -> int:
    barrier.wait(30)
    with one_log(storage, "default") as log:
        # Each knows of the others only what the log tells.
        while not isinstance(log.append(appending([new(f"a:{number}")], log.head(), selection("a:all"))), Appended):
            pass
        return log.head().position


def test_8_processes_open_an_empty_file_at_once(path: Path) -> None:
    barrier = SPAWN.Barrier(8)
    with Processes(open_at_the_barrier, [(SQLite(path), barrier, number) for number in range(8)]) as opening:
        opening.results()
    with one_log(SQLite(path), "default") as log:
        assert log.head().position == 8
        assert list(log.problems()) == []


def test_a_path_with_odd_characters_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "50% of what? #1 äöü.db"
    with one_log(SQLite(path), "default") as log:
        Scribe(log).write(new("a:1"))
    assert path.exists()


def test_the_file_is_found_again_after_a_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with one_log(SQLite("log.db"), "default") as log:
        monkeypatch.chdir("/")
        Scribe(log).write(new("a:1"))
        assert log.head().position == 1


# -- Locked ------------------------------------------------------------------------------------------------------------


def test_a_database_locked_for_longer_than_the_timeout_is_unavailable(path: Path, log: SQLiteLog) -> None:
    scribe = Scribe(log)
    scribe.write(new("a:1"))
    with by_hand(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match=r"locked for 0\.2 seconds"):
            scribe.write(new("a:1"))
    scribe.assert_unchanged()
    scribe.write(new("a:1"))
    scribe.assert_unchanged()


def test_reading_goes_on_while_the_database_is_locked(path: Path, log: SQLiteLog) -> None:
    scribe = Scribe(log)
    scribe.write(new("a:1"))
    with by_hand(path) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE events_1 SET type = 'Forged'")
        scribe.assert_unchanged()
        scribe.assert_told(log.check(asking(EMPTY, selection("a:1"))), EMPTY, {0})


def test_a_writer_gets_the_lock_as_soon_as_it_is_free(path: Path) -> None:
    with one_log(SQLite(path), "default") as log, by_hand(path) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = Background(lambda: log.append(appending([new("a:1")], EMPTY)))
        assert not waiting.ends_within(0.05)
        other.execute("COMMIT")
        assert isinstance(waiting.result(), Appended)


def test_a_namespace_waits_for_the_lock_that_another_one_holds(engine: SQLiteEngine, log: SQLiteLog) -> None:
    other = engine.log("other")
    log.lock(asking(EMPTY))
    with pytest.raises(StoreUnavailableError, match="locked"):
        other.append(appending([new("a:1")], EMPTY))
    log.unlock()
    assert isinstance(other.append(appending([new("a:1")], EMPTY)), Appended)


def test_threads_of_one_engine_get_the_lock_in_the_order_they_came(path: Path) -> None:
    with closing(SQLite(path).open()) as engine:
        logs = [engine.log(f"n{number}") for number in range(5)]
        order: list[int] = []

        def append(number: int) -> None:
            logs[number].append(appending([new("a:1")], EMPTY))
            order.append(number)

        first = engine.log("first")
        first.lock(asking(EMPTY))
        waiting: list[Background[None]] = []
        for number in range(5):
            waiting.append(Background(partial(append, number)))
            eventually(lambda: len(engine._database._line) == len(waiting))
        first.unlock()
        for one in waiting:
            one.result()
        assert order == [0, 1, 2, 3, 4]


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


# -- Another file, or none, at the path --------------------------------------------------------------------------------


def older_copy(path: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "older.db"
    with by_hand(path) as other:
        other.execute("VACUUM INTO ?", (str(copy),))
    return copy


def test_an_older_copy_in_its_place_shows_as_another_past(path: Path, tmp_path: Path, log: SQLiteLog) -> None:
    scribe = Scribe(log)
    scribe.write(new("a:1"))
    copy = older_copy(path, tmp_path)
    known = scribe.head
    scribe.write(new("a:1"))
    os.replace(copy, path)
    with pytest.raises(LogDivergedError):
        log.append(appending([new("a:1")], scribe.head))
    with pytest.raises(LogDivergedError):
        log.check(asking(scribe.head))
    with pytest.raises(LogDivergedError):
        log.load(loading(selection("a:1"), after=scribe.head))
    assert log.head() == known
    del scribe.events[1:]
    scribe.versions = {"a:1": 1}
    scribe.write(new("a:1"))
    scribe.assert_unchanged()
    assert list(log.problems()) == []


@pytest.mark.parametrize("meanwhile", ["nothing", "a lock is held", "the writer is gone"])
def test_a_file_that_is_moved_away_keeps_what_was_committed(
    path: Path, tmp_path: Path, log: SQLiteLog, meanwhile: str
) -> None:
    scribe = Scribe(log)
    scribe.write(new("a:1"))
    copy = older_copy(path, tmp_path)
    scribe.write(*several(5, "a:1"))
    log.check(asking(scribe.head))  # So that a reader is kept.
    if meanwhile == "a lock is held":
        log.lock(asking(scribe.head))
    elif meanwhile == "the writer is gone":
        with pytest.raises(AppendRefusedError):
            log.append(appending([new("a:1", data=b"\xff")], scribe.head))
    os.rename(path, tmp_path / "moved.db")
    os.rename(copy, path)

    assert log.head().position == 1
    with closing(SQLite(tmp_path / "moved.db").open()) as former:
        assert former.log(one_name(log)).head() == scribe.head


def test_a_rest_that_was_interrupted_does_not_part_two_engines_of_one_file(
    path: Path, engine: SQLiteEngine, log: SQLiteLog
) -> None:
    with closing(SQLite(path).open()) as other_engine:
        other = other_engine.log(one_name(log))
        scribe = Scribe(log)
        scribe.write(new("a:1"))
        assert other.head() == scribe.head
        engine._database._come_to_rest()  # and nothing of what follows on it: no fork, no other file

        scribe.write(new("a:1"))

        assert other.head() == scribe.head
        assert isinstance(other.append(appending([new("a:1")], scribe.head)), Appended)
    assert log.head().position == 3


def one_name(log: SQLiteLog) -> str:
    return log.name.rpartition("[")[2].removesuffix("]")


def test_the_first_to_notice_another_file_may_be_a_reader(path: Path, tmp_path: Path, log: SQLiteLog) -> None:
    scribe = Scribe(log)
    scribe.write(new("a:1"))
    copy = older_copy(path, tmp_path)
    scribe.write(new("a:1"))
    os.replace(copy, path)
    assert log.head().position == 1


def test_a_namespace_is_found_again_in_another_file_or_made(
    path: Path, tmp_path: Path, engine: SQLiteEngine, log: SQLiteLog
) -> None:
    late = engine.log("late")
    Scribe(late).write(new("a:1"))
    with closing(SQLite(tmp_path / "other.db").open()) as other:
        # Here the names have other numbers, and one is missing.
        Scribe(other.log("first")).write(*several(3, "a:1"))
        Scribe(other.log("late")).write(*several(5, "a:1"))
    os.replace(tmp_path / "other.db", path)
    assert late.head().position == 5
    assert log.head() == EMPTY
    assert isinstance(log.append(appending([new("a:1")], EMPTY)), Appended)
    assert late.head().position == 5


def test_a_removed_file_is_told_and_found_again(path: Path, tmp_path: Path, log: SQLiteLog) -> None:
    scribe = Scribe(log)
    scribe.write(new("a:1"))
    path.rename(tmp_path / "elsewhere.db")
    for attempt in (
        lambda: log.append(appending([new("a:1")], scribe.head)),
        lambda: log.check(asking(scribe.head)),
        lambda: log.load(loading(selection("a:1"))),
    ):
        with pytest.raises(StoreUnavailableError, match="was removed"):
            attempt()
    assert not path.exists(), "nothing is made in its place"
    (tmp_path / "elsewhere.db").rename(path)
    scribe.assert_unchanged()
    scribe.write(new("a:1"))


def test_a_lock_is_lost_when_the_file_is_replaced(path: Path, tmp_path: Path, log: SQLiteLog) -> None:
    scribe = Scribe(log)
    scribe.write(new("a:1"))
    copy = older_copy(path, tmp_path)
    log.lock(asking(scribe.head))
    os.replace(copy, path)
    assert log.head() == scribe.head
    with pytest.raises(LockLostError):
        log.append(appending([new("a:1")], scribe.head))
    scribe.assert_unchanged()
    scribe.write(new("a:1"))


# -- Closing -----------------------------------------------------------------------------------------------------------


def test_a_closed_engine_leaves_one_file_and_the_queue(path: Path) -> None:
    with one_log(SQLite(path), "default") as log:
        Scribe(log).write(new("a:1"))
        log.load(loading(selection("a:1")))
    assert sorted(each.name for each in path.parent.iterdir()) == ["log.db", "log.db-queue"]


def test_closing_ends_the_wait_for_a_lock(path: Path) -> None:
    engine = SQLite(path, timeout=60).open()
    log = engine.log("default")
    with by_hand(path) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = Background(lambda: log.append(appending([new("a:1")], EMPTY)))
        assert not waiting.ends_within(0.05)
        engine.close()
        with pytest.raises(StoreClosedError):
            waiting.result()


def test_more_may_read_at_once_than_connections_are_kept(path: Path) -> None:
    with closing(SQLite(path).open()) as engine:
        Scribe(engine.log("default")).write(*several(20, "a:1"))
        together = threading.Barrier(20)

        def count(connection: sqlite3.Connection, _: None) -> int:
            together.wait(20)
            return len(connection.execute("SELECT * FROM events_1").fetchall())

        reading = [Background(partial(engine._database.read, count, None)) for _ in range(20)]
        assert [one.result() for one in reading] == [20] * 20
        assert engine._database._running == 0
        assert len(engine._database._idle) == IDLE_READERS
