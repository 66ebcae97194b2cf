"""What makes a SQLite file one of factfold's: its mark, its schema, its statements, and what its errors mean."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib import resources
from pathlib import Path

from msgspec import Struct

from factfold.errors import (
    AppendRefusedError,
    FactfoldError,
    StorageError,
    StorageFormatError,
    StorageFullError,
    StorageReadOnlyError,
    StoreUnavailableError,
)

APPLICATION_ID = int.from_bytes(b"ffld", "big")
"""Stands in the header of each of our files, and tells them from those of other applications."""

Pause = Callable[[float], None]
"""Sleeps for so many seconds (0: not at all), or raises when the caller has waited for long enough."""

BUSY_PAUSE = 0.5e-3
"""Seconds between two tries for a lock that somebody holds who does not queue."""


class Statements(Struct, frozen=True):
    """The statements of one namespace; `sqlite.sql` holds their texts."""

    head: str
    head_for_append: str
    before_all: str
    id_at: str
    version: str
    insert_event: str
    insert_membership: str
    insert_void: str
    find_event: str
    events_between: str
    is_touched: str
    selected: str
    selected_backwards: str
    page: str
    page_backwards: str
    streams: str
    get: str
    entries: str
    put: str
    remove: str
    events_without_membership: str
    memberships_page: str

    @classmethod
    def of(cls, namespace: int) -> Statements:
        """The statements for the tables with this number."""
        return cls(*(_numbered(_TEXTS[name], namespace) for name in cls.__struct_fields__))


def _texts() -> dict[str, str]:
    source = resources.files("factfold.storage").joinpath("sqlite.sql").read_text("utf-8")
    source = re.sub(r"--(?! name: ).*", "", source)
    _, *parts = re.split(r"^-- name: (\w+)\n", source, flags=re.MULTILINE)
    return {name: text.strip().removesuffix(";") for name, text in zip(parts[::2], parts[1::2], strict=True)}


def _numbered(text: str, namespace: int) -> str:
    return re.sub(r"\b(events|memberships|voids|places)_N\b", rf"\g<1>_{namespace}", text)


_TEXTS = _texts()


# -- Opening -----------------------------------------------------------------------------------------------------------


def connect(path: str, mode: str, timeout: float) -> sqlite3.Connection:
    """Opens a connection that any thread may use; `mode` is one of ro, rw and rwc (which makes the file).

    The file is never opened in any other way than by SQLite: closing a descriptor of it would drop all locks that this
    process has on it.
    """
    return sqlite3.connect(
        f"{Path(path).as_uri()}?mode={mode}",
        uri=True,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=1024,
    )


def prepare(connection: sqlite3.Connection, name: str, pause: Pause) -> None:
    """Makes sure that the file is ours and of this version's schema: an empty or an older one is brought up to it.

    Several processes may do this at once: one of them does it, the others wait.
    """
    connection.execute("BEGIN")
    version = _version(connection, name)
    connection.execute("COMMIT")
    _use_wal(connection, name, pause)
    if version == len(MIGRATIONS):
        return
    begin_immediate(connection, pause)
    for migrate in MIGRATIONS[_version(connection, name) :]:
        migrate(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    connection.execute("COMMIT")


def namespaces_in(path: str, name: str, timeout: float) -> list[str]:
    """The names of all namespaces of a file, which is left as it is. Refuses what `prepare` refuses."""
    try:
        with closing(connect(path, "rw", timeout)) as connection:
            connection.execute("BEGIN")
            if not _version(connection, name):
                return []
            return [found for (found,) in connection.execute(_TEXTS["namespaces"])]
    except sqlite3.Error as error:
        raise storage_error(error, name) from error


def find_namespace(connection: sqlite3.Connection, namespace: str) -> int | None:
    """The number of a namespace's tables; None when it has none."""
    found = connection.execute(_TEXTS["find_namespace"], (namespace,)).fetchone()
    return None if found is None else int(found[0])


def make_namespace(connection: sqlite3.Connection, namespace: str) -> int:
    """The same, within a write transaction: makes the tables when there are none."""
    number = find_namespace(connection, namespace)
    if number is None:
        number = connection.execute(_TEXTS["insert_namespace"], (namespace,)).lastrowid
        assert number is not None  # An INSERT gives one.
        _execute_all(connection, _numbered(_TEXTS["namespace_1"], number))
    return number


def begin_immediate(connection: sqlite3.Connection, pause: Pause) -> None:
    """Begins to write, as soon as nobody else does."""
    while not try_to_begin(connection):
        pause(BUSY_PAUSE)


def try_to_begin(connection: sqlite3.Connection) -> bool:
    """Begins to write, unless somebody else does."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if is_busy(error):
            return False
        raise
    return True


def is_busy(error: sqlite3.Error) -> bool:
    """Whether somebody else holds the lock that was asked for."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _version(connection: sqlite3.Connection, name: str) -> int:
    """The version of the file's schema; 0 when it is empty. Looks at several things, so it wants a transaction."""
    application = _pragma(connection, "application_id")
    version = _pragma(connection, "user_version")
    if application == APPLICATION_ID:
        if not 0 < version <= len(MIGRATIONS):
            raise StorageFormatError(
                f"{name}: the file has version {version} of factfold's schema, and this factfold knows the versions up "
                f"to {len(MIGRATIONS)}. Use a newer factfold."
            )
        return version
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application or version or tables:
        raise StorageFormatError(
            f"{name}: the file belongs to another application (application id {application}, version {version}, "
            f"{tables} tables and indexes). Nothing was changed in it. Give factfold a file of its own."
        )
    return 0


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _use_wal(connection: sqlite3.Connection, name: str, pause: Pause) -> None:
    """Turns on the write-ahead log: readers and the writer then do not wait for each other. The file remembers it."""
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    while mode != "wal":
        try:
            changed = connection.execute("PRAGMA journal_mode = wal").fetchone()[0]
        except sqlite3.OperationalError as error:
            if _code(error) == sqlite3.SQLITE_READONLY:
                return
            if not is_busy(error):
                raise
            pause(BUSY_PAUSE)
            continue
        if changed != "wal":
            raise StoreUnavailableError(
                f"{name}: SQLite cannot keep a write-ahead log here (its journal mode stayed {changed!r}). "
                "Put the file on a local disk: network file systems do not work."
            )
        mode = changed


def _execute_all(connection: sqlite3.Connection, statements: str) -> None:
    # Not executescript: that would commit first.
    for statement in statements.split(";"):
        connection.execute(statement)


def _create(connection: sqlite3.Connection) -> None:
    _execute_all(connection, _TEXTS["schema_1"])


def _note_when_values_were_written(connection: sqlite3.Connection) -> None:
    for (number,) in connection.execute(_TEXTS["namespace_ids"]).fetchall():
        _execute_all(connection, _numbered(_TEXTS["places_2"], number))


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_create, _note_when_values_were_written)
"""Each brings a file from the version of its index to the next one, all in one transaction. 0 is an empty file."""


# -- Errors ------------------------------------------------------------------------------------------------------------


def storage_error(error: sqlite3.Error, name: str) -> FactfoldError:
    """What an error of SQLite means to whoever asked. What was begun is rolled back: nothing of it was written."""
    code = _code(error)
    said = f"SQLite says: {error}"
    if code == sqlite3.SQLITE_FULL:
        return StorageFullError(f"{name}: the disk is full, nothing was written ({said}). Make room and try again.")
    if code == sqlite3.SQLITE_READONLY:
        return StorageReadOnlyError(
            f"{name}: the file can only be read, nothing was written ({said}). SQLite needs write permission for the "
            "file and for its directory."
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT):
        return StorageFormatError(
            f"{name}: the file is not a SQLite database, or it is damaged ({said}). Nothing was written. "
            "Restore a backup, or give the path of another file."
        )
    if code == sqlite3.SQLITE_TOOBIG or isinstance(error, sqlite3.DataError):
        return AppendRefusedError(f"{name}: a value is too large for SQLite, nothing was written ({said}).")
    if is_busy(error):
        return StoreUnavailableError(f"{name}: the database is locked by someone else ({said}). Nothing was written.")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):
        return StoreUnavailableError(
            f"{name}: the file cannot be opened, read or written ({said}). SQLite needs read and write permission for "
            "it and for its directory."
        )
    return StorageError(f"{name}: unexpected ({said}).")


def is_outcome_unknown(error: sqlite3.Error) -> bool:
    """Whether a COMMIT that raised this may have happened all the same, once the file is recovered after a crash."""
    return not is_busy(error) and _code(error) not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY)


def _code(error: sqlite3.Error) -> int | None:
    """The primary result code; None when the module itself raised."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
