"""What an error of PostgreSQL means to whoever asked: which of factfold's errors it becomes, and what to do then."""

from __future__ import annotations

import psycopg

from factfold.errors import (
    AppendRefusedError,
    FactfoldError,
    InvalidUrlError,
    LockLostError,
    OutcomeUnknownError,
    StorageError,
    StorageFormatError,
    StorageFullError,
    StorageReadOnlyError,
    StoreClosedError,
    StoreUnavailableError,
)
from factfold.storage._postgres_wire import ServerError

_REFUSED = ("22", "54")
"""Classes of SQLSTATE that are about the values: data exceptions, and limits of the program."""

_DAMAGED = ("23", "XX")
"""Violated constraints (positions and versions are given under the lock, so that none can be), and corruption."""

_FULL = ("53100", "53200")
_ABSENT = ("3F000", "42P01", "42883", "42704", "42703")
_PREPARED = ("26000", "42P05")
"""A prepared statement is not there, or another one has its name: the session is not the one that prepared it."""


def meaning(error: ServerError, name: str) -> FactfoldError:
    """What it means that the server refused. The transaction is rolled back: nothing of it was written."""
    said = f"PostgreSQL says: {error}{f' ({error.hint})' if error.hint else ''} [{error.state}]"
    if error.state.startswith(_REFUSED):
        return AppendRefusedError(f"{name}: PostgreSQL cannot store a value of this, nothing was written ({said}).")
    if error.state in _FULL:
        return StorageFullError(f"{name}: the server is out of space, nothing was written ({said}). Make room.")
    if error.state == "25006":
        return StorageReadOnlyError(
            f"{name}: the server can only be read, nothing was written ({said}). It is a standby, or its default is "
            "read-only: give the url of the primary, or add target_session_attrs=read-write to it."
        )
    if error.state == "42501":
        return StorageError(
            f"{name}: the role lacks a right, nothing was done ({said}). It needs USAGE on the schema, SELECT and "
            "INSERT on its tables, UPDATE on namespaces, and UPDATE and DELETE on places."
        )
    if error.state in _ABSENT:
        return StorageFormatError(
            f"{name}: a table or function of the schema is missing, nothing was done ({said}). A newer factfold may "
            "have migrated the schema since this store was opened, or it was dropped. Open the store again: that "
            "tells, and makes a schema that is gone anew."
        )
    if error.state in _PREPARED:
        return StorageError(
            f"{name}: prepared statements do not last here, nothing was written ({said}). A pooler in transaction mode "
            "stands in between: say so with Postgres(pooler=True), or ?pooler=true in the url."
        )
    if error.state.startswith(_DAMAGED):
        return StorageFormatError(
            f"{name}: what is stored contradicts itself, nothing was written ({said}). Restore a backup; "
            "store.verify() tells what else is wrong."
        )
    if error.state == "55P03":
        return StoreUnavailableError(
            f"{name}: somebody else held the writers' lock for too long, nothing was written ({said}). Find out who "
            "does (pg_stat_activity), or wait longer with Postgres(timeout=...)."
        )
    if error.state == "25000":
        return StorageError(f"{name}: nothing was written ({said}).")
    if error.state == "P0002":
        return StoreUnavailableError(f"{name}: nothing was written ({said}). Open the store again to make it anew.")
    return StoreUnavailableError(f"{name}: the server could not answer, nothing was written ({said}).")


class Place:
    """Where sessions lead to, and whether they still do: so that an error is told for what it is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False

    def check_open(self) -> None:
        """Raises `StoreClosedError` after `close`."""
        if self.closed:
            raise self._was_closed()

    def meaning(self, error: ServerError) -> FactfoldError:
        """What an error of the server means to whoever asked. Nothing was written."""
        return self._was_closed() if self.closed else meaning(error, self.name)

    def lost(self, error: BaseException) -> FactfoldError:
        """What a lost connection means to whoever asked for something that writes nothing."""
        if self.closed:
            return self._was_closed()
        return StoreUnavailableError(
            f"{self.name}: the connection was lost ({_one_line(error)}). It is made anew at the next use."
        )

    def stood_still(self) -> FactfoldError:
        """What it means that the server has ended a transaction that stayed open."""
        return LockLostError(
            f"{self.name}: a transaction stood still for too long, and the server has ended it. Nothing was written. "
            "What handlers do between two statements has to take less than Postgres(timeout=...)."
        )

    def unknown(self, error: BaseException) -> FactfoldError:
        """What a lost connection means to whoever asked for something that may have been written."""
        return OutcomeUnknownError(
            f"{self.name}: the connection was lost while something was written ({_one_line(error)}), and it is open "
            "whether it was."
        )

    def cannot_connect(self, error: BaseException) -> FactfoldError:
        """What it means that no connection could be made. libpq tells no SQLSTATE then; its text says what it was."""
        if isinstance(error, psycopg.ProgrammingError):
            # The text may repeat a part of a password that is not escaped; the option that it names is none.
            known = str(error).strip() if "URI query parameter" in str(error) else "check its form"
            return InvalidUrlError(
                f"{self.name}: the url cannot be read ({known}). Escape special characters in user and password, as in "
                "urllib.parse.quote(password, safe='')."
            )
        return StoreUnavailableError(
            f"{self.name}: cannot connect ({_one_line(error)}). Check that the server runs and can be reached, and "
            "that database, user and password are right."
        )

    def exhausted(self, size: int, seconds: float) -> FactfoldError:
        """What it means that no session became free."""
        return StoreUnavailableError(
            f"{self.name}: all {size} connections have been in use for {seconds:g} seconds. Allow more with "
            "Postgres(pool_size=...)."
        )

    def _was_closed(self) -> FactfoldError:
        return StoreClosedError(f"{self.name}: the store is closed.")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
