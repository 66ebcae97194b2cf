"""A store on a database that is locked, full, read-only, replaced or not ours: clear errors, and usable afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from factfold import (
    LogDivergedError,
    StorageFormatError,
    StorageFullError,
    StorageReadOnlyError,
    Store,
    StoreUnavailableError,
    Transaction,
)
from factfold.storage.sqlite import SQLite
from tests.conftest import MakeStore
from tests.ledger import Deposited, InsufficientFundsError, accounts, balance, deposit, withdraw


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


def other_connection(path: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(path, isolation_level=None))


def on_sqlite(make_store: MakeStore, path: Path) -> Store:
    return make_store(SQLite(path, synchronous="normal", timeout=0.1))


sqlite_only = pytest.mark.parametrize("storage", [None], ids=["sqlite"])
"""These tests make their own files: they need not run on every engine."""


@sqlite_only
def test_a_database_that_is_locked_for_too_long(make_store: MakeStore, path: Path) -> None:
    store = on_sqlite(make_store, path)
    store.execute(deposit, "ann", 1)
    with other_connection(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            store.execute(deposit, "ann", 1)
        assert store.state(accounts("ann")).balance == 1  # readers wait for nobody
        with pytest.raises(InsufficientFundsError):
            store.execute(withdraw, "ann", 5)
        connection.execute("ROLLBACK")
    assert store.execute(deposit, "ann", 1).result == 2


@sqlite_only
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to everything")
def test_a_read_only_file(make_store: MakeStore, path: Path) -> None:
    with Store(SQLite(path)) as store:
        store.execute(deposit, "ann", 1)
    path.chmod(0o444)
    store = on_sqlite(make_store, path)
    with pytest.raises(StorageReadOnlyError):
        store.execute(deposit, "ann", 1)
    assert store.state(accounts("ann")).balance == 1


@sqlite_only
def test_a_full_disk(make_store: MakeStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from factfold.storage import _sqlite_connections as connections

    monkeypatch.setattr(connections, "WRITER_PRAGMAS", (*connections.WRITER_PRAGMAS, "max_page_count = 40"))

    def fill(tx: Transaction, count: int) -> int:
        ann, ben = tx.read(accounts("ann"), accounts("ben"))
        ann.append(*[Deposited(1)] * count)
        ben.append(*[Deposited(1)] * count)
        return ann.state.balance

    store = on_sqlite(make_store, path)
    done = 0
    with pytest.raises(StorageFullError, match="full"):
        while True:
            store.execute(fill, 100)
            done += 100

    assert done > 0
    assert store.state(accounts("ann")).balance == store.state(accounts("ben")).balance == done
    assert store.head() == 2 * done
    assert store.verify(accounts).ok
    with contextlib.suppress(StorageFullError):
        for _ in range(1000):
            store.execute(deposit, "ann", 1)  # what is small enough still goes in
            done += 1
    assert store.state(accounts("ann")).balance == done
    monkeypatch.undo()
    store.close()
    assert on_sqlite(make_store, path).execute(deposit, "ann", 1).result == done + 1


@sqlite_only
def test_a_file_replaced_by_an_older_copy(make_store: MakeStore, path: Path) -> None:
    with Store(SQLite(path)) as first:
        first.execute(deposit, "ann", 1)
    older = path.with_name("older.db")
    shutil.copy(path, older)
    store = on_sqlite(make_store, path)
    for _ in range(3):
        store.execute(deposit, "ann", 1)
    os.replace(older, path)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

    with pytest.raises(LogDivergedError, match="went backwards"):
        store.execute(deposit, "ann", 1)

    assert store.execute(deposit, "ann", 1).result == 2
    assert store.head() == 2
    assert store.verify(accounts).ok


@sqlite_only
def test_a_file_replaced_by_another_log_of_the_same_length(make_store: MakeStore, path: Path) -> None:
    other = path.with_name("other.db")
    with Store(SQLite(other)) as another:
        another.execute(deposit, "ann", 100)
    store = on_sqlite(make_store, path)
    store.execute(deposit, "ann", 1)
    os.replace(other, path)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

    with pytest.raises(LogDivergedError):
        store.execute(balance, "ann")
    assert store.execute(balance, "ann").result == 100


@sqlite_only
def test_a_file_that_disappeared(make_store: MakeStore, path: Path) -> None:
    store = on_sqlite(make_store, path)
    store.execute(deposit, "ann", 1)
    away = path.with_name("away.db")
    path.rename(away)

    for use in (lambda: store.execute(deposit, "ann", 1), lambda: store.state(accounts("ann")), lambda: store.head()):
        with pytest.raises(StoreUnavailableError, match="cannot be found"):
            use()
    away.rename(path)
    assert store.execute(deposit, "ann", 1).result == 2


@sqlite_only
@pytest.mark.parametrize("content", [b"this is no database" * 100, b""])
def test_a_file_that_is_not_ours(make_store: MakeStore, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    store = on_sqlite(make_store, path)
    if not content:
        assert store.execute(deposit, "ann", 1).result == 1  # an empty file is an empty log
        return
    with pytest.raises(StorageFormatError):
        store.execute(deposit, "ann", 1)
    assert path.read_bytes() == content


@sqlite_only
def test_a_database_of_another_application(make_store: MakeStore, path: Path) -> None:
    with other_connection(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StorageFormatError, match="another application"):
        on_sqlite(make_store, path).execute(deposit, "ann", 1)


@sqlite_only
def test_a_file_of_a_newer_version(make_store: MakeStore, path: Path) -> None:
    with Store(SQLite(path)) as store:
        store.execute(deposit, "ann", 1)
    with other_connection(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageFormatError, match="newer factfold"):
        on_sqlite(make_store, path).execute(deposit, "ann", 1)
