"""PostgreSQL with threads: sessions that ask one question at a time, and a pool of them.

An exception, KeyboardInterrupt too, may come between any two steps. A session that it meets in the middle of a question
is closed: the server then rolls back what was open, and no lock outlives it.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, overload
from weakref import WeakValueDictionary, finalize

import psycopg
from psycopg.pq.abc import PGconn
from psycopg.rows import tuple_row

from factfold.storage._postgres_errors import Place
from factfold.storage._postgres_lending import LentConnection, loss
from factfold.storage._postgres_schema import Reads, Steps
from factfold.storage._postgres_wire import (
    Connected,
    ConnectionLostError,
    Question,
    Row,
    Script,
    ServerError,
    Wire,
    announced,
)
from factfold.storage._postgres_wishes import Connect, Lend, Writes
from factfold.storage.postgres import Postgres

R = TypeVar("R")

PATIENCE = 5.0
"""For how many seconds `close` waits for the questions that are being asked."""

FIRST_PAUSE = 0.05
"""Seconds before the second try to connect; from then on they double."""


def connection_parameters(options: Postgres) -> dict[str, Any]:
    """What connections are made with beside the url, where that says nothing else."""
    parameters: dict[str, Any] = {"client_encoding": "UTF8", "autocommit": True}
    if options.pooler:
        parameters["prepare_threshold"] = None
    if "connect_timeout" not in options.url:
        parameters["connect_timeout"] = max(2, math.ceil(options.timeout))
    if "application_name" not in options.url:
        parameters["application_name"] = "factfold"
    return parameters


def _end(connection: LentConnection, process: int) -> None:
    if os.getpid() == process:  # what a process has inherited is its parent's
        connection.end()


def interrupt(pgconn: PGconn) -> None:
    """Makes whoever waits for something from the server hear that the connection is lost."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(pgconn.socket)) as copy:
        copy.shutdown(socket.SHUT_RDWR)


class Session(Connected):
    """A connection. Raises `ServerError` for what the server refused, `ConnectionLostError` when there is no answer."""

    def __init__(self, connection: LentConnection, options: Postgres) -> None:
        super().__init__(connection.pgconn)
        self._using = threading.Lock()  # Held while it is in use: nobody else closes it meanwhile.
        self._timeout = options.timeout
        self._connection = connection
        self.wire = Wire(self._pgconn, prepares=not options.pooler)
        self._incoming = select.poll()
        self._incoming.register(self._pgconn.socket, select.POLLIN)
        self._both = select.poll()
        self._both.register(self._pgconn.socket, select.POLLIN | select.POLLOUT)
        # Of a log that nobody has any more. Not by `__del__`: a collector may come to the connection first.
        finalize(self, _end, connection, os.getpid()).atexit = False

    @classmethod
    def connected(cls, options: Postgres) -> Session:
        """Connects. Raises psycopg.Error."""
        return cls(LentConnection.connect(options.url, **connection_parameters(options)), options)

    @overload
    def ask(self, question: Question[R]) -> R: ...
    @overload
    def ask(self, question: Script) -> None: ...

    def ask(self, question: Question[R] | Script) -> R | None:
        """Sends a question and waits for the answer."""
        with self._using:
            if self.closed:
                raise ConnectionLostError("it was closed before", sent=False)
            try:
                rows = self._exchange(question)
            except ServerError as error:
                if error.fatal:
                    self._connection.end()
                raise
            except psycopg.Error as error:
                self._connection.end()
                raise self.wire.last_words() or ConnectionLostError(" ".join(str(error).split())) from error
            except BaseException:
                self._connection.end()
                raise
        return None if isinstance(question, Script) else question.read(rows)

    def _exchange(self, question: Question[object] | Script) -> Sequence[Row]:
        wire, pgconn = self.wire, self._pgconn
        limit = self._timeout
        if isinstance(question, Script) or question.locks:
            limit *= 2  # The server may wait for a lock, up to the timeout, before it begins to answer.
        wire.send(question)
        while not wire.flush():
            if self._wait(self._both, limit) & ~select.POLLOUT:
                pgconn.consume_input()
        while not wire.receive():
            self._wait(self._incoming, limit)
            pgconn.consume_input()
        return wire.rows()

    def lend(self, body: Callable[[object], object]) -> object:
        """Has somebody else work with the connection. Gives and raises what they do, unless it is lost by then."""
        with self._using:
            if self.closed:
                raise ConnectionLostError("it was closed before", sent=False)
            self._connection.row_factory = tuple_row  # Another one may have changed it.
            self.wire.prepare_no_more()
            try:
                return body(self._connection)
            except Exception as error:
                if self.closed:
                    raise loss(error) from error
                raise
            except BaseException:
                self._connection.end()
                raise

    def follow(self, steps: Steps[R]) -> R:
        """Asks all questions of `steps`."""
        try:
            question = next(steps)
            while True:
                try:
                    answer = self.ask(question)
                except ServerError as error:
                    question = steps.throw(error)
                else:
                    question = steps.send(answer)
        except StopIteration as end:
            result: R = end.value
            return result

    def is_usable(self) -> bool:
        """Whether it is open, as far as can be told without asking the server. One that is not is closed."""
        with self._using:
            if self.closed:
                return False
            if not self._incoming.poll(0):
                return True
            with contextlib.suppress(psycopg.Error):
                self._pgconn.consume_input()  # A notice, or the last words before the end.
                if not self._incoming.poll(0):
                    return True
            self._connection.end()
            return False

    def notices(self, seconds: float) -> list[str]:
        """What is announced on the channels that it listens to, within so many seconds: returns with the first."""
        with self._using:
            try:
                if self._incoming.poll(seconds * 1000):
                    self._pgconn.consume_input()
                return announced(self._pgconn)
            except psycopg.Error as error:
                self._connection.end()
                raise ConnectionLostError(" ".join(str(error).split())) from error

    def close(self, patience: float = 0.0) -> None:
        """Ends the session. A thread that waits for an answer gets it within `patience`, or hears that it is lost."""
        if self._using.acquire(timeout=patience):
            self._connection.end()
            self._using.release()
        else:
            self.interrupt()

    def interrupt(self) -> None:
        """Makes a thread that waits for something from the server hear that the connection is lost."""
        interrupt(self._pgconn)

    def _wait(self, poll: select.poll, seconds: float) -> int:
        ready = poll.poll(seconds * 1000)
        if not ready:
            raise psycopg.OperationalError(f"nothing came for {seconds:g} seconds")
        return ready[0][1]


class Sessions(Place):
    """All sessions of one engine: makes them, lends those that read, and ends them."""

    def __init__(self, options: Postgres) -> None:
        super().__init__(options.name)
        self._options = options
        self.reset()

    def reset(self) -> None:
        """Forgets all sessions, without closing them."""
        self._all: WeakValueDictionary[int, Session] = WeakValueDictionary()
        self._idle: list[Session] = []
        self._permits: SimpleQueue[None] = SimpleQueue()
        for _ in range(self._options.pool_size):
            self._permits.put(None)

    def inherited(self) -> list[Session]:
        """All sessions there are."""
        # The references first, in one step: other threads may connect meanwhile.
        return [session for each in self._all.valuerefs() if (session := each()) is not None]

    def connect(self, *, patiently: bool = True) -> Session:
        """A new session. Patiently, it is tried again for a while: the server may be starting."""
        deadline = time.monotonic() + self._options.timeout
        pause = FIRST_PAUSE
        while True:
            self.check_open()
            try:
                session = Session.connected(self._options)
            except psycopg.Error as error:
                remaining = deadline - time.monotonic()
                if not patiently or remaining <= 0:
                    raise self.cannot_connect(error) from error
                time.sleep(min(remaining, random.uniform(pause / 2, pause)))
                pause *= 2
            else:
                self._all[id(session)] = session
                if self.closed:
                    session.close()
                return session

    def lend(self) -> Loan:
        """Something that a session can be had from, and must be given back to."""
        return Loan(self._permits, self._idle)

    def session_for(self, loan: Loan) -> Session:
        """A session for as long as the loan lasts: an idle one, or a new one."""
        self.check_open()
        if not loan.begin(self._options.timeout):
            raise self.exhausted(self._options.pool_size, self._options.timeout)
        self.check_open()
        while loan.take_idle():
            if loan.held[0].is_usable():
                return loan.held[0]
            del loan.held[:]
        loan.held.append(self.connect())
        return loan.held[0]

    def ask(self, question: Question[R]) -> R:
        """Asks through one of the sessions that are lent. What only reads is asked again when a connection was lost."""
        try:
            return self._ask(question)
        except ConnectionLostError as error:
            self._end_idle()
            if question.once and error.sent:
                raise self.unknown(error) from error
            if self.closed or question.locks:
                raise self.lost(error) from error
        try:
            return self._ask(question)
        except ConnectionLostError as error:
            raise self.lost(error) from error

    def _end_idle(self) -> None:
        """Ends the sessions that nobody uses: where one was lost, the others may be, too, and not know it yet."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _ask(self, question: Question[R]) -> R:
        loan = self.lend()
        try:
            return self.session_for(loan).ask(question)
        except ServerError as error:
            if error.fatal:
                raise ConnectionLostError(str(error)) from error
            raise self.meaning(error) from error
        finally:
            loan.end()

    def follow(self, reads: Reads[R]) -> R:
        """Asks all questions of `reads`."""
        try:
            question = next(reads)
            while True:
                question = reads.send(self.ask(question))
        except StopIteration as end:
            result: R = end.value
            return result

    def perform(self, steps: Writes[Session, R]) -> R:
        """Does what an operation wishes, one thing after the other, to its result."""
        try:
            wish = next(steps)
            while True:
                answer: object = None
                try:
                    match wish:
                        case session, question:
                            answer = session.ask(question)
                        case Connect():
                            answer = self.connect()
                        case Lend(session, body):
                            answer = session.lend(body)
                except Exception as error:  # noqa: BLE001 (the operation decides what it means)
                    wish = steps.throw(error)
                else:
                    wish = steps.send(answer)
        except StopIteration as end:
            result: R = end.value
            return result
        finally:
            steps.close()

    def close(self) -> None:
        """Waits for the questions that are being asked, for a while, and ends all sessions."""
        self.closed = True
        for _ in range(threading.active_count()):
            self._permits.put(None)  # Who waits for a session hears of it.
        deadline = time.monotonic() + PATIENCE
        for session in self.inherited():
            session.close(max(0.0, deadline - time.monotonic()))


class Loan:
    """The permission to use a session of the pool, and the session. It gives itself back when it is forgotten."""

    __slots__ = ("_idle", "_permission", "_permits", "held")

    def __init__(self, permits: SimpleQueue[None], idle: list[Session]) -> None:
        self._permits = permits
        self._idle = idle
        self._permission: list[None] = []
        self.held: list[Session] = []

    def begin(self, timeout: float) -> bool:
        """Waits for the permission. In one step, so that no interrupt comes between having it and knowing it."""
        try:
            self._permission += map(self._permits.get, (True,), (timeout,))
        except Empty:
            return False
        return True

    def take_idle(self) -> bool:
        """Takes a session that nobody uses, if there is one; in one step, too."""
        try:
            self.held += map(self._idle.pop, (-1,))
        except IndexError:
            return False
        return True

    def end(self) -> None:
        """Gives everything back. Calling it twice is allowed, also after an interrupt.

        An interrupt may cost the session, which is then closed, or give the permission twice: nobody lacks either.
        """
        held, self.held = self.held, []
        self._idle += (session for session in held if not session.closed and not session.in_transaction)
        for permission in self._permission:
            self._permits.put(permission)
        self._permission = []

    def __del__(self) -> None:
        self.end()
