"""The operations on one SQLite file: who reads takes a connection from a pool, who writes takes its turn.

A turn is taken first in this engine (a line of threads), then in the queue of all processes, then from SQLite itself.

An exception, KeyboardInterrupt too, may come between any two steps. So what an operation has is written down in an
object that exists before the first step (`Turn`, `_Reading`), and giving it back can be repeated at any point. After an
exception the connection is not used again: what was interrupted may still hold a snapshot open.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from factfold.errors import FactfoldError, LockLostError, OutcomeUnknownError
from factfold.storage._sqlite_connections import READER_PRAGMAS, Connections, Turn, set_pragmas
from factfold.storage._sqlite_format import (
    begin_immediate,
    connect,
    find_namespace,
    is_outcome_unknown,
    make_namespace,
    try_to_begin,
)

A = TypeVar("A")
R = TypeVar("R")

IDLE_READERS = 8
"""How many reading connections are kept for the next operations."""


class _Reading:
    """A reading connection, as one operation has it."""

    __slots__ = ("connection", "running")

    def __init__(self) -> None:
        self.running = False
        self.connection: sqlite3.Connection | None = None


class _SteppedAsideError(Exception):
    """All connections are to be closed: who still waits for its turn lets go of everything, and lines up again."""


class Database(Connections):
    """One file, as one engine works on it. Any thread may call any method."""

    def add_namespace(self, namespace: str) -> None:
        """Makes the tables of a namespace, unless it has them."""
        while namespace not in self._namespaces:
            generation = self.generation
            number = self.read(find_namespace, namespace)
            if number is None:
                number = self.write(Turn(), self._make_namespace, namespace)
            if generation == self.generation:
                self._namespaces[namespace] = number

    def number_of(self, namespace: str) -> int:
        """The number of a namespace's tables, in the file of this `generation`."""
        return self._namespaces[namespace]

    # -- Operations ------------------------------------------------------------------------------------------------

    def read(self, work: Callable[[sqlite3.Connection, A], R], argument: A) -> R:
        """Does `work` on a reading connection. A transaction that it begins is ended."""
        reading = _Reading()
        try:
            answer = work(self._start_reading(reading), argument)
            self._keep(reading)
            return answer
        except BaseException as error:
            self._drop(reading)
            if isinstance(error, sqlite3.Error):
                raise self._meaning(error) from error
            raise

    def write(self, turn: Turn, work: Callable[[sqlite3.Connection, A], R], argument: A) -> R:
        """Does `work` in a write transaction, or in the one that `turn` holds. What it does not commit is undone."""
        try:
            answer = work(self._start_writing(turn), argument)
            self.give(turn)
            return answer
        except BaseException as error:
            self._abandon(turn)
            if isinstance(error, sqlite3.Error):
                raise self._meaning(error) from error
            raise

    def hold(self, turn: Turn, work: Callable[[sqlite3.Connection, A], R], argument: A) -> R:
        """Does `work` in a write transaction, and leaves it open for a `write`, or a `give`, with the same turn."""
        try:
            answer = work(self._start_writing(turn), argument)
            with self._mutex:
                turn.held = True
                turn.running = False
                self._running -= 1
            return answer
        except BaseException as error:
            self._abandon(turn)
            if isinstance(error, sqlite3.Error):
                raise self._meaning(error) from error
            raise

    def commit(self, connection: sqlite3.Connection) -> None:
        """Commits a `write`. Raises `OutcomeUnknownError` when the file may have kept what could not be committed."""
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if not is_outcome_unknown(error):
                raise
            raise OutcomeUnknownError(
                f"{self.name}: the commit failed, and it is open whether it happened (SQLite says: {error})."
            ) from error

    def give(self, turn: Turn) -> None:
        """Gives the turn back, in whatever state it is, and undoes what was not committed."""
        if turn.held and not self._resume(turn):
            return
        if turn.running:
            if self._writer is not None and self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            if self._queue is not None:
                self._queue.give()
        with self._mutex:
            # In here nothing is called before all is in order: interrupts come with the end of a call.
            following = None
            if turn.running:
                turn.running = False
                self._running -= 1
            if self._turn is turn:
                self._turn = following = self._line[0] if self._line else None
                if following is not None:
                    del self._line[0]
            elif turn.gate is not None and turn in self._line:
                self._line.remove(turn)
            if following is not None and following.gate is not None:
                following.gate.release()

    def _abandon(self, turn: Turn) -> None:
        """Gives the turn back after an exception, and the connection up. Does nothing when it was given back."""
        if turn.running and self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()
        self.give(turn)

    def _start_writing(self, turn: Turn) -> sqlite3.Connection:
        if turn.held:
            if not self._resume(turn):
                raise self._lost()
        elif not self._take_at_once(turn):
            self._take(turn, time.monotonic() + self._timeout)
        assert self._writer is not None  # Whoever has the turn has it.
        return self._writer

    def _take_at_once(self, turn: Turn) -> bool:
        """Takes the turn if nobody else, in whatever process, has it or waits for it: what mostly is the case."""
        identity = self._look()
        with self._mutex:
            if self._turn is not None or identity != self._identity:
                return False
            self._turn = turn
            turn.running = True
            self._running += 1
        if self._writer is None or self._queue is None or not self._queue.take_at_once():
            return False
        return try_to_begin(self._writer)

    def _take(self, turn: Turn, deadline: float) -> None:
        """The same, with waiting."""
        pause = partial(self._pause_in_line, deadline)
        while True:
            if not turn.running:
                self._line_up(turn, deadline)
            try:
                if self._queue is not None:
                    self._queue.take(pause)
                if self._writer is None:
                    self._writer = self._connect_writer("rw", pause)
                begin_immediate(self._writer, pause)
                return
            except _SteppedAsideError:
                self.give(turn)

    def _line_up(self, turn: Turn, deadline: float) -> None:
        """Waits until no other thread of this engine writes."""
        while True:
            identity = self._look()
            gate = None
            with self._mutex:
                current = identity == self._identity
                if current:
                    if self._turn is None:
                        self._turn = turn
                    if self._turn is turn:
                        turn.running = True
                        self._running += 1
                        return
                    gate = turn.gate = threading.Lock()
                    gate.acquire()
                    self._line.append(turn)
            if gate is None:
                self._renew()
            elif not gate.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise self._locked()

    def _resume(self, turn: Turn) -> bool:
        """Runs in a held turn again. False: it was taken away meanwhile."""
        with self._mutex:
            turn.held = False
            if self._turn is not turn:
                return False
            turn.running = True
            self._running += 1
            return True

    def _start_reading(self, reading: _Reading) -> sqlite3.Connection:
        while not reading.running:
            identity = self._look()
            with self._mutex:
                if identity == self._identity:
                    reading.running = True
                    self._running += 1
                    if self._idle:
                        reading.connection = self._idle[-1]
                        del self._idle[-1]
            if not reading.running:
                self._renew()
        if reading.connection is None:
            reading.connection = connect(self._path, "rw", self._timeout)
            set_pragmas(reading.connection, READER_PRAGMAS)
        return reading.connection

    def _keep(self, reading: _Reading) -> None:
        """Gives the connection back for others to use."""
        connection = reading.connection
        if connection is not None and connection.in_transaction:
            connection.execute("ROLLBACK")
        with self._mutex:
            # No call in here either (`append` is one): the connection is in one place or the other.
            if connection is not None and self._identity is not None and len(self._idle) < IDLE_READERS:
                self._idle += (connection,)
                reading.connection = None
                reading.running = False
                self._running -= 1
        if reading.running:
            self._drop(reading)

    def _drop(self, reading: _Reading) -> None:
        """Closes the connection. Does nothing when it was given back."""
        if reading.connection is not None:
            reading.connection.close()
        with self._mutex:
            if reading.running:
                reading.running = False
                self._running -= 1

    def _make_namespace(self, connection: sqlite3.Connection, namespace: str) -> int:
        number = make_namespace(connection, namespace)
        self.commit(connection)
        return number

    def _pause_in_line(self, deadline: float, seconds: float) -> None:
        if self._identity is None:
            raise _SteppedAsideError
        self._pause(deadline, seconds)

    def _lost(self) -> FactfoldError:
        if self._closed:
            return self._was_closed()
        return LockLostError(
            f"{self.name}: the writers' lock was taken away while a batch was decided under it (the process forked, or "
            "the file was replaced). Nothing was written."
        )
