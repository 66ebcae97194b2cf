"""What is special about SQLite: the file and its format, and its locks. The contract is in test_contract.py."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from factfold.errors import (
    InvalidUrlError,
    StorageFormatError,
    StoreClosedError,
    StoreUnavailableError,
)
from factfold.storage._sqlite_database import IDLE_READERS
from factfold.storage._sqlite_format import APPLICATION_ID, MIGRATIONS
from factfold.storage.base import EMPTY, Appended
from factfold.storage.sqlite import SQLite, SQLiteEngine, SQLiteLog
from factfold.testing.contract.running import SPAWN, Background, Processes, one_log
from factfold.testing.contract.scribe import Scribe, appending, asking, loading, new, selection, several
from tests.racing import eventually, within
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


async def test_no_task_that_reads_waits_for_one_that_waits_to_write(path: Path) -> None:
    engine = await SQLite(path, timeout=60).open_async()
    log = await engine.log("default")
    with by_hand(path) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(log.put("snapshots", "a:1", b""))
        await asyncio.sleep(0)  # it has taken the only thread that writes
        assert (await within(log.check(asking(EMPTY, selection("a:1"))))).head == EMPTY
        assert await within(log.head()) == EMPTY
        assert not writing.done()
        other.execute("ROLLBACK")
    await within(writing)
    await engine.close()


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
