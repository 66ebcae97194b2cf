"""The embedded engine: a log in one SQLite file, which several processes may share.

`SQLite` holds the options, `SQLiteEngine` the opened file, `SQLiteLog` is one namespace. Underneath, `_sqlite_tables`
does the work in SQL (`sqlite.sql`), on a connection that `_sqlite_database` gives it at its turn (`_fair_queue`).
`_sqlite_connections` opens and renews them, `_sqlite_format` knows the file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from factfold.errors import InvalidUrlError, StorageFormatError
from factfold.storage._sqlite_connections import Turn
from factfold.storage._sqlite_database import Database
from factfold.storage._sqlite_format import namespaces_in
from factfold.storage._sqlite_tables import VERIFY_PAGE, Tables, quick_check
from factfold.storage.base import (
    Append,
    Appended,
    AsyncEngine,
    Capabilities,
    Check,
    Conflict,
    Entry,
    Head,
    Inline,
    Load,
    Loaded,
    LogPage,
    News,
    Put,
    StoredEvent,
    StreamInfo,
    StreamPage,
    Swap,
)
from factfold.storage.threads import open_in_thread

POLL = 5e-3
LONGEST_POLL = 20e-3
"""Seconds between two looks at the head while `wait` waits: the first one, and what it grows to."""


@dataclass(frozen=True, slots=True)
class SQLite:
    """A log in the file at `path`, which is made when there is none. Files beside it (-wal, -shm, -queue) belong to it.

    `synchronous="full"` flushes each commit to the disk. `"normal"` flushes now and then: faster, and the last commits
    may be lost when the machine (not the process) goes down. `timeout` is how many seconds to wait for other writers.
    """

    path: str | os.PathLike[str]
    _: KW_ONLY
    synchronous: Literal["full", "normal"] = "full"
    timeout: float = 5.0

    def __post_init__(self) -> None:
        path = os.fspath(self.path)
        if not isinstance(path, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # Untyped callers.
            raise InvalidUrlError(f"SQLite: a path is a str or a Path, not {path!r}.")
        if path == ":memory:" or path.startswith("file:"):
            raise InvalidUrlError(f"SQLite: {path!r} is not a path. For a log in memory use Memory(), or 'memory:'.")
        if not path or "\0" in path:
            raise InvalidUrlError(f"SQLite: {path!r} is no path of a file. Write, for example, 'sqlite:///bank.db'.")
        if self.synchronous not in ("full", "normal"):
            raise InvalidUrlError(f"SQLite: synchronous is 'full' or 'normal', not {self.synchronous!r}.")
        if not 0 < self.timeout < 1_000_000:
            raise InvalidUrlError(f"SQLite: timeout is a number of seconds above 0, not {self.timeout!r}.")

    @property
    def name(self) -> str:
        """The url of the file."""
        return "sqlite:///" + os.fspath(self.path).replace("%", "%25").replace("?", "%3F")

    def open(self) -> SQLiteEngine:
        """Opens the file. Raises `StoreUnavailableError`, `StorageFormatError`, `StorageReadOnlyError`."""
        database = Database(os.fspath(self.path), self.name, self.synchronous, self.timeout)
        database.open()
        return SQLiteEngine(database, durable=self.synchronous == "full")

    def namespaces(self) -> Sequence[str]:
        """The names of the namespaces that the file has. Raises the same; makes no file, and changes nothing in it."""
        return namespaces_in(os.path.abspath(self.path), self.name, self.timeout)

    async def open_async(self) -> AsyncEngine:
        """Opens the file, to be worked on in threads of its own. Raises the same."""
        return await open_in_thread(self.open)


class SQLiteEngine:
    """An opened file."""

    def __init__(self, database: Database, *, durable: bool) -> None:
        self.capabilities = Capabilities(locks=True, durable=durable, shared=True, transactions=True)
        self._database = database

    def log(self, namespace: str) -> SQLiteLog:
        """One namespace. Its tables are made when it has none: on a read-only file that is `StorageReadOnlyError`."""
        self._database.add_namespace(namespace)
        return SQLiteLog(self._database, namespace)

    def close(self) -> None:
        """Ends all work and closes all connections. Closing twice is allowed."""
        self._database.close()


class SQLiteLog:
    """One namespace of a file: chooses the connection for what `Tables` does."""

    def __init__(self, database: Database, namespace: str) -> None:
        self.name = f"{database.name} [{namespace}]"
        self._database = database
        self._tables = Tables(database, namespace, self.name)
        self._held: Turn | None = None

    def head(self) -> Head:
        return self._database.read(self._tables.head, None)

    def append(self, append: Append) -> Appended | Conflict:
        turn = self._held or Turn()
        try:
            return self._database.write(turn, self._tables.append, append)
        except BaseException:
            self._database.give(turn)  # Again: an interrupt may have come before `write` began.
            raise
        finally:
            self._held = None

    def check(self, check: Check) -> News:
        return self._database.read(self._tables.check, check)

    def lock(self, check: Check) -> News:
        self._held = turn = Turn()
        try:
            return self._database.hold(turn, self._tables.check_under_lock, check)
        except BaseException:
            self._database.give(turn)
            self._held = None
            raise

    def unlock(self) -> None:
        if self._held is not None:
            try:
                self._database.give(self._held)
            except BaseException:
                self._database.give(self._held)
                raise
            finally:
                self._held = None

    def resolve(self, append: Append) -> Appended | None:
        return self._database.write(Turn(), self._tables.resolve, append)

    def load(self, load: Load) -> Loaded:
        return self._database.read(self._tables.load, load)

    def read(self, page: LogPage) -> Sequence[StoredEvent]:
        return self._database.read(self._tables.read, page)

    def read_stream(self, page: StreamPage) -> Sequence[StoredEvent]:
        return self._database.read(self._tables.read_stream, page)

    def streams(self, category: str | None, after: str, limit: int) -> Sequence[StreamInfo]:
        return self._database.read(self._tables.streams, (category, after, limit))

    def wait(self, after: int, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        pause = POLL
        while True:
            position = self.head().position
            remaining = deadline - time.monotonic()
            if position > after or remaining <= 0:
                return position
            time.sleep(min(pause, remaining))
            pause = min(pause * 1.5, LONGEST_POLL)

    def get(self, place: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        return self._database.read(self._tables.get, (place, keys))

    def put(self, place: str, key: str, value: bytes | None) -> None:
        self._database.write(Turn(), self._tables.put, Put(place, key, value))

    def swap(self, swap: Swap) -> bool:
        return self._database.write(Turn(), self._tables.swap, swap)

    def entries(self, place: str, after: str, limit: int) -> Sequence[Entry]:
        return self._database.read(self._tables.entries, (place, after, limit))

    def transact(self, swap: Swap, body: Callable[[object], object]) -> bool:
        return self._database.write(Turn(), self._tables.transact, (swap, body))

    def accompany(self, inline: Inline | None) -> None:
        self._tables.inline = inline

    def problems(self) -> Iterator[str]:
        try:
            yield from self._problems()
        except StorageFormatError as error:
            yield str(error)

    def _problems(self) -> Iterator[str]:
        for line in self._database.read(quick_check, None):
            yield f"{self.name}: {line}"
        position = 0
        while position < self.head().position:
            yield from self._database.read(self._tables.unlisted_streams, position)
            position += VERIFY_PAGE
        after: tuple[str, int] | None = ("", 0)
        while after is not None:
            found, after = self._database.read(self._tables.wrong_memberships, after)
            yield from found
