"""What read models may do on the connection that writes the log: not end its transaction, and not write to the log."""

from __future__ import annotations

import re
import sqlite3
from types import TracebackType

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
    """Looks at what is prepared on a connection, inside a `with` block. What it denies, SQLite calls "not authorized".

    SQLite prepares anew what was prepared before, so nothing gets around it; that is why it is not always there.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._denied = False

    def __enter__(self) -> None:
        self._connection.set_authorizer(self._decide)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.set_authorizer(None)
        cause = error
        while cause is not None:
            if getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_OK) == sqlite3.SQLITE_AUTH:
                if not self._denied:
                    # Python drops what is raised in an authorizer, and denies: it was Ctrl-C, here nothing else raises.
                    raise KeyboardInterrupt from error
                cause.add_note(
                    "A handler may not begin, commit or roll back: factfold does, for a whole batch. Nor may it attach "
                    "databases, or write to the log's own tables."
                )
            cause = cause.__cause__

    def _decide(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        table = first if action in _ON_FIRST else second if action in _ON_SECOND else None
        if action in _TRANSACTIONS or (table is not None and _OURS.fullmatch(table)):
            self._denied = True
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK
