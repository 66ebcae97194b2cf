"""The connections of one engine to one SQLite file: how they are opened, and when all of them are made anew.

One connection writes, a pool of others reads, and every operation is counted while it runs. At a moment when none runs
all connections are closed, to be opened again by the next operation: when the process forks (SQLite must not be carried
over a fork), and when another file stands at the path (its inode tells). `_identity` is the signal: an operation begins
only while it equals the identity of the file at the path, else it goes through `_renew` first.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections import deque
from functools import partial

from factfold.errors import FactfoldError, StoreClosedError, StoreUnavailableError
from factfold.storage import _fork
from factfold.storage._fair_queue import FairQueue
from factfold.storage._sqlite_format import (
    Pause,
    begin_immediate,
    connect,
    find_namespace,
    make_namespace,
    prepare,
    storage_error,
)

WRITER_PRAGMAS: tuple[str, ...] = ("wal_autocheckpoint = 4000", "journal_size_limit = 67108864", "cache_size = -16384")
"""Set on every connection that writes. A page that is written often is copied into the file only once per 16 MB."""

READER_PRAGMAS: tuple[str, ...] = ("query_only = on",)
"""Set on every connection that reads."""

PATIENCE = 5.0
"""For how many seconds a fork, a renewal and `close` wait for the operations that run."""


class Turn:
    """The writers' lock, as one operation waits for it, has it (`running`), or keeps it for the next one (`held`)."""

    __slots__ = ("gate", "held", "running", "thread")

    def __init__(self) -> None:
        self.running = False
        self.held = False
        self.gate: threading.Lock | None = None
        self.thread = threading.get_ident()


class Connections:
    """All connections of one engine."""

    def __init__(self, path: str, name: str, synchronous: str, timeout: float) -> None:
        self.name = name
        self.generation = 0
        """Counts the openings of the file: what was learned from it before may not hold for what is open now."""
        self._path = os.path.abspath(path)
        self._synchronous = synchronous
        self._timeout = timeout
        self._namespaces: dict[str, int] = {}
        self._closed = False
        self._forked_while_used = False
        self._holder: Turn | None = None  # This and the next two are what `before_fork` leaves for after it.
        self._forks_alone = False
        self._at_rest = False
        self._reset()
        _fork.register(self)

    def _reset(self) -> None:
        self._renewal = threading.Lock()  # Held by the one thread that opens or closes all connections.
        self._mutex = threading.Lock()  # Guards what follows; never held while something is waited for.
        self._identity: tuple[int, int] | None = None
        self._running = 0
        self._turn: Turn | None = None
        self._line: deque[Turn] = deque()
        self._idle: list[sqlite3.Connection] = []
        self._writer: sqlite3.Connection | None = None  # Belongs to the turn.
        self._queue: FairQueue | None = None
        self._opened: tuple[int, int] | None = None  # What is open, also while no operation may begin.
        self._wal: tuple[int, int] | None = None  # Its write-ahead log.

    def open(self) -> None:
        """Opens the file, and makes it when there is none."""
        if os.path.isdir(self._path):
            raise StoreUnavailableError(f"{self.name}: {self._path} is a directory. Give the path of a file in it.")
        if not os.path.isdir(os.path.dirname(self._path)):
            raise StoreUnavailableError(
                f"{self.name}: there is no directory {os.path.dirname(self._path)}. Make it first."
            )
        with self._renewal:
            self._open("rwc")

    def close(self) -> None:
        """Waits for what runs, for a while, and closes everything. A lock that is held is given up."""
        with self._renewal:
            self._closed = True
            self._come_to_rest()
            self._close_idle()

    # -- Opening and closing all connections -----------------------------------------------------------------------

    def _look(self) -> tuple[int, int]:
        """The identity of the file that stands at the path now."""
        try:
            status = os.stat(self._path)
        except OSError as error:
            if self._closed:
                raise self._was_closed() from None
            raise StoreUnavailableError(
                f"{self.name}: the file cannot be found any more ({error.strerror}). It was removed, or its directory "
                "is not mounted. Put it back, or open the store again."
            ) from error
        return status.st_dev, status.st_ino

    def _renew(self) -> None:
        """Opens the file that stands at the path now. What was open before is closed."""
        with self._renewal:
            if self._closed:
                raise self._was_closed()
            if self._forked_while_used:
                raise StoreUnavailableError(
                    f"{self.name}: this process was forked while its parent was in the middle of an operation that "
                    f"took more than {PATIENCE:g} seconds, and SQLite cannot be used here. Fork earlier, or start "
                    "processes by spawn."
                )
            if self._identity == self._look():
                return
            if not self._come_to_rest():
                raise StoreUnavailableError(
                    f"{self.name}: another file stands at the path, and it cannot be opened before the operations on "
                    "the former one have ended. Try again."
                )
            if self._opened not in (None, self._look()):
                self._part_with_former()
            self._close_idle()
            self._open("rw")

    def _part_with_former(self) -> None:
        """Another file was put in the place of the one that is open: what is in its write-ahead log goes into it."""
        for connection in (self._writer, *self._idle):
            with contextlib.suppress(sqlite3.Error):
                if connection is not None:
                    connection.rollback()  # Of a lock that was held, which nobody will miss here.
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        beside = os.path.realpath(self._path)
        with contextlib.suppress(OSError):
            if _identity(f"{beside}-wal") == self._wal:
                # SQLite leaves them there when the file is moved away. They must not be taken for the new file's.
                os.remove(f"{beside}-shm")
                os.remove(f"{beside}-wal")

    def _open(self, mode: str) -> None:
        pause = partial(self._pause, time.monotonic() + self._timeout)
        writer = None
        try:
            identity = self._look() if os.path.exists(self._path) else None
            writer = self._connect_writer(mode, pause)
            identity = identity or self._look()
            numbers = {name: self._number_in(writer, name, pause) for name in self._namespaces}
            # SQLite gives its own files beside the database the same permissions.
            permissions = os.stat(self._path).st_mode & 0o777
            self._queue = FairQueue.open(os.path.realpath(self._path) + "-queue", permissions)
        except BaseException as error:
            if writer is not None:
                writer.close()
            if isinstance(error, sqlite3.Error):
                raise self._meaning(error) from error
            raise
        self._writer = writer
        self._namespaces = numbers
        self.generation += 1
        self._opened = identity
        with self._mutex:
            self._identity = identity

    def _number_in(self, writer: sqlite3.Connection, namespace: str, pause: Pause) -> int:
        number = find_namespace(writer, namespace)
        if number is None:
            begin_immediate(writer, pause)
            number = make_namespace(writer, namespace)
            writer.execute("COMMIT")
        return number

    def _connect_writer(self, mode: str, pause: Pause) -> sqlite3.Connection:
        connection = connect(self._path, mode, self._timeout)
        try:
            prepare(connection, self.name, pause)
            set_pragmas(connection, WRITER_PRAGMAS)
            # The second is for macOS, where a flush is none without it. From now on it is us who wait, in a queue.
            set_pragmas(connection, (f"synchronous = {self._synchronous}", "fullfsync = on", "busy_timeout = 0"))
            with contextlib.suppress(OSError):
                self._wal = _identity(os.path.realpath(self._path) + "-wal")
        except BaseException:
            connection.close()
            raise
        return connection

    def _come_to_rest(self) -> bool:
        """Lets no operation begin, and waits until none runs. Takes the turn from whoever holds it while deciding."""
        with self._mutex:
            self._identity = None
        deadline = time.monotonic() + PATIENCE
        while self._running:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2e-3)
        with self._mutex:
            self._turn = None
            line, self._line = self._line, deque()
        for turn in line:
            if turn.gate is not None:
                turn.gate.release()
        return True

    def _close_idle(self) -> None:
        """Closes the connections that nobody uses; at rest that is all of them."""
        with self._mutex:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        if not self._running:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            if self._queue is not None:
                self._queue.close()
                self._queue = None
            self._opened = self._wal = None

    # -- Forks -----------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Closes all connections, so that the child inherits none. Both open their own when they need them."""
        self._holder = self._turn
        self._forks_alone = self._renewal.acquire(timeout=PATIENCE)
        identity = self._identity
        self._at_rest = self._forks_alone and self._come_to_rest()
        if self._at_rest:
            self._close_idle()
        else:
            self._identity = identity

    def after_fork_in_parent(self) -> None:
        if self._forks_alone:
            self._renewal.release()

    def after_fork_in_child(self) -> None:
        if not self._at_rest:
            # Not even to be closed here: that would meddle with locks that the parent has.
            _inherited.append((self._writer, self._idle, self._queue))
            self._forked_while_used = True
        if self._holder is not None and self._holder.thread != threading.get_ident():
            # Its thread is not in this process: nobody will miss the lock.
            self._holder.held = False
        self._reset()

    # -- Waiting, and what errors mean -----------------------------------------------------------------------------

    def _pause(self, deadline: float, seconds: float) -> None:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise self._locked()
        if seconds:
            time.sleep(min(seconds, remaining))

    def _meaning(self, error: sqlite3.Error) -> FactfoldError:
        return self._was_closed() if self._closed else storage_error(error, self.name)

    def _locked(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{self.name}: somebody else, perhaps in another process, kept the database locked for {self._timeout:g} "
            "seconds. Nothing was written. Find out who holds it, or wait longer with SQLite(timeout=...)."
        )

    def _was_closed(self) -> StoreClosedError:
        return StoreClosedError(f"{self.name}: the store is closed.")


_inherited: list[object] = []
"""Connections that a fork could not wait for. They are kept for ever, because they must not be closed."""


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def set_pragmas(connection: sqlite3.Connection, pragmas: tuple[str, ...]) -> None:
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}")
