"""What read models may do on the connection that writes the log: not end its transaction, and not write to the log."""

from __future__ import annotations

import re
import sqlite3
from types import TracebackType

COMMIT = "COMMIT -- of factfold"
ROLLBACK = "ROLLBACK -- of factfold"
"""Not the plain words: a statement that the connection has cached is not looked at again."""

_OURS = re.compile(r"(events|memberships|voids|places)_\d+|namespaces")
_TRANSACTIONS = (sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH)
_ON_FIRST = (
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_UPDATE,
    sqlite3.SQLITE_DELETE,
    sqlite3.SQLITE_DROP_TABLE,
)
_ON_SECOND = (
    sqlite3.SQLITE_ALTER_TABLE,
    sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_CREATE_TRIGGER,
    sqlite3.SQLITE_DROP_INDEX,
)


class Guard:
    """Has what is prepared on a connection looked at, while `body` runs. SQLite then says "not authorized"."""

    def __init__(self) -> None:
        self._watches = False

    def watch(self, connection: sqlite3.Connection) -> None:
        """Guards a connection from now on."""
        connection.set_authorizer(self._decide)

    def __enter__(self) -> None:
        self._watches = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._watches = False
        cause: BaseException | None = error
        while cause is not None:
            if (
                isinstance(cause, sqlite3.DatabaseError)
                and getattr(cause, "sqlite_errorcode", 0) == sqlite3.SQLITE_AUTH
            ):
                cause.add_note(
                    "A handler may not begin, commit or roll back: factfold does, for a whole batch. Nor may it attach "
                    "databases, or write to the log's own tables."
                )
            cause = cause.__cause__

    def _decide(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if not self._watches:
            return sqlite3.SQLITE_OK
        table = first if action in _ON_FIRST else second if action in _ON_SECOND else None
        if action in _TRANSACTIONS or (table is not None and _OURS.fullmatch(table)):
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK
