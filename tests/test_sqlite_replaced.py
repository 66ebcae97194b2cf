"""Another SQLite file, or none, stands at the path of the one that is open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from factfold.errors import (
    AppendRefusedError,
    LockLostError,
    LogDivergedError,
    StoreUnavailableError,
)
from factfold.storage.base import EMPTY, Appended
from factfold.storage.sqlite import SQLite, SQLiteEngine, SQLiteLog
from factfold.testing.contract.scribe import Scribe, appending, asking, loading, new, selection, several
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
