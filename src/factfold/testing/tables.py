"""What stands in the tables of a read model, asked for by SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol, TypeAlias, cast
from weakref import finalize

from msgspec import Struct

from factfold.projections import Projection, quoted, visible
from factfold.sameness import same
from factfold.storage.base import Put, Swap, TransactionalLog
from factfold.store import Store
from factfold.testing.differences import difference

Row: TypeAlias = tuple[object, ...] | Mapping[str, object]
"""A row as a test names it: the values in order, or by the names of their columns."""


class Found(Struct, frozen=True):
    """What a query has found."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]

    def like(self, expected: Sequence[Row]) -> list[Row]:
        """The rows, in the form of the expected ones."""
        if expected and isinstance(expected[0], Mapping):
            return [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return list(self.rows)


class Tables(Protocol):
    """Where SQL can be asked."""

    def query(self, sql: str) -> Found: ...


class Copied:
    """A copy, in memory, of what was in a file of SQLite."""

    def __init__(self, path: Path) -> None:
        # Whichever thread collects this one day closes the connection, or Python would warn of it.
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        finalize(self, self._connection.close)
        file = sqlite3.connect(path)
        try:
            file.backup(self._connection)
        finally:
            file.close()

    def query(self, sql: str) -> Found:
        """What a query finds. Raises the driver's errors."""
        return _asked(self._connection, sql)


class InStore:
    """The database of a store, which is kept open for it."""

    def __init__(self, store: Store, log: TransactionalLog) -> None:
        self._store = store
        self._log = log

    @staticmethod
    def of(store: Store) -> InStore | None:
        """The database of a store, if it has one."""
        crew = store._crewed()  # pyright: ignore[reportPrivateUsage]  # nobody else has to get at it
        return InStore(store, crew.log) if crew.transactions and isinstance(crew.log, TransactionalLog) else None

    def query(self, sql: str) -> Found:
        """What a query finds. Nothing of what it changes lasts. Raises the driver's errors."""

        def ask(connection: object) -> NoReturn:
            raise _AskedError(_asked(cast("_Executes", connection), sql))  # it is a connection of some driver

        try:
            self._log.transact(Swap(Put("scenario", "query", b"1"), None), ask)
        except _AskedError as error:
            return error.found
        raise AssertionError("a place that nobody else writes has a value already")


class _AskedError(Exception):
    """Undoes the transaction in which a query was made."""

    def __init__(self, found: Found) -> None:
        super().__init__()
        self.found = found


class _Cursor(Protocol):
    @property
    def description(self) -> Sequence[Sequence[object]] | None: ...
    def fetchall(self) -> Sequence[Sequence[object]]: ...


class _Executes(Protocol):
    def execute(self, sql: str, /) -> _Cursor: ...


def _asked(connection: _Executes, sql: str) -> Found:
    cursor = connection.execute(sql)
    if cursor.description is None:
        raise ValueError(f"{sql!r} gives no rows: a query is needed, such as SELECT ... ORDER BY ...")
    columns = tuple([str(column[0]) for column in cursor.description])
    return Found(columns, tuple([tuple(row) for row in cursor.fetchall()]))


# -- The tables of a projection ----------------------------------------------------------------------------------------


def contents(tables: Tables, projection: Projection, namespace: str) -> dict[str, Found]:
    """What stands in all of its tables, by their names."""
    return {name: tables.query(f"SELECT * FROM {view(name, namespace)}") for name in projection.tables}


def view(table: str, namespace: str) -> str:
    """What shows a table, as it stands in SQL."""
    return quoted(visible(table, namespace))


def row_difference(expected: Sequence[Row], found: Sequence[Row]) -> str | None:
    """In which rows two tables differ; None: in none. Their order does not matter, a table has none."""
    missing: list[Row] = []
    rest = list(found)
    for row in expected:
        index = next((index for index, other in enumerate(rest) if same(row, other)), None)
        if index is None:
            missing.append(row)
        else:
            del rest[index]
    if not missing and not rest:
        return None
    return difference(sorted(expected, key=repr), sorted(found, key=repr))


def checked_rows(call: str, rows: object) -> list[Row]:
    """Rows as a test names them. Raises TypeError saying how to."""
    if isinstance(rows, Sequence) and not isinstance(rows, str):
        listed = list(cast("Sequence[object]", rows))  # of whatever
        if all(isinstance(row, tuple) for row in listed) or all(isinstance(row, Mapping) for row in listed):
            return cast("list[Row]", listed)  # that is what was found out
    raise TypeError(
        f"{call}: rows are a list of tuples, or one of dicts with the names of the columns, and not {rows!r}: "
        'as in [("alice", 100)], or [{"account": "alice", "balance": 100}]'
    )
