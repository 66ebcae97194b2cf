"""PostgreSQL in an event loop: sessions that ask one question at a time, and a pool of them.

A session's socket is watched for as long as the session lives, so that a question costs the loop one future and nothing
else. A task that is cancelled in the middle of a question closes the session: the server then rolls back what was open,
no lock outlives it, and no answer is taken for that of another question.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, cast, overload
from weakref import WeakSet

import psycopg
from psycopg.rows import tuple_row

from factfold.storage._postgres_errors import Place
from factfold.storage._postgres_lending import AsyncLentConnection, loss
from factfold.storage._postgres_schema import Reads, Steps
from factfold.storage._postgres_sessions import FIRST_PAUSE, PATIENCE, connection_parameters, interrupt
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


class AsyncSession(Connected):
    """A connection. Raises `ServerError` for what the server refused, `ConnectionLostError` when there is no answer."""

    def __init__(self, connection: AsyncLentConnection, options: Postgres) -> None:
        super().__init__(connection.pgconn)
        self._connection = connection
        self._timeout = options.timeout
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._noticed: asyncio.Future[None] | None = None
        self._heard = self._limit = 0.0
        self._clock: asyncio.TimerHandle | None = None
        self.wire = Wire(self._pgconn, prepares=not options.pooler)
        self._socket = self._pgconn.socket
        self._borrowed: asyncio.Future[None] | None = None
        self._watch_socket()

    @classmethod
    async def connected(cls, options: Postgres) -> AsyncSession:
        """Connects. Raises psycopg.Error."""
        return cls(await AsyncLentConnection.connect(options.url, **connection_parameters(options)), options)

    def is_usable(self) -> bool:
        """Whether it is open: the loop tells when it ends."""
        return not self.closed

    @overload
    async def ask(self, question: Question[R]) -> R: ...
    @overload
    async def ask(self, question: Script) -> None: ...

    async def ask(self, question: Question[R] | Script) -> R | None:
        """Sends a question and waits for the answer."""
        if self.closed:
            raise ConnectionLostError("it was closed before", sent=False)
        try:
            rows = await self._exchange(question)
        except ServerError as error:
            if error.fatal:
                self.close()
            raise
        except psycopg.Error as error:
            self.close()
            raise self.wire.last_words() or ConnectionLostError(" ".join(str(error).split())) from error
        except BaseException:
            self.close()
            raise
        return None if isinstance(question, Script) else question.read(rows)

    async def _exchange(self, question: Question[object] | Script) -> Sequence[Row]:
        wire = self.wire
        limit = self._timeout
        if isinstance(question, Script) or question.locks:
            limit *= 2  # The server may wait for a lock, up to the timeout, before it begins to answer.
        wire.send(question)
        while not wire.flush():
            await self._until_writable(limit)
        if not wire.receive():
            self._waiter = self._loop.create_future()
            self._heard, self._limit = self._loop.time(), limit
            self._set_clock(self._heard + limit)
            try:
                await self._waiter
            finally:
                self._waiter = None
        return wire.rows()

    async def _until_writable(self, limit: float) -> None:
        self._writable = self._loop.create_future()
        self._loop.add_writer(self._socket, _wake, self._writable)
        try:
            async with asyncio.timeout(limit):
                await self._writable
        except TimeoutError:
            raise psycopg.OperationalError(f"nothing could be sent for {limit:g} seconds") from None
        finally:
            self._writable = None
            if self._watched:
                self._loop.remove_writer(self._socket)

    def _incoming(self) -> None:
        """Something has come from the server: a part of an answer, a notice, or the end."""
        try:
            self._pgconn.consume_input()
            complete = self._waiter is not None and self.wire.receive()
        except psycopg.Error as error:
            self._fail(error)
        else:
            self._heard = self._loop.time()
            if complete and self._waiter is not None:
                _wake(self._waiter)
            if self._noticed is not None:
                _wake(self._noticed)

    def _set_clock(self, end: float) -> None:
        """Has the clock looked at when it is that late. It runs on from one question to the next, and is rarely set."""
        if self._clock is not None:
            if self._clock.when() <= end:
                return
            self._clock.cancel()
        self._clock = self._loop.call_at(end, self._look_at_clock)

    def _look_at_clock(self) -> None:
        self._clock = None
        if self._waiter is None:
            return
        end = self._heard + self._limit
        if end > self._loop.time():
            self._set_clock(end)
        else:
            self._fail(psycopg.OperationalError(f"nothing came for {self._limit:g} seconds"))

    def _fail(self, error: psycopg.Error) -> None:
        self._unwatch()
        waiting = [each for each in (self._waiter, self._writable) if each is not None and not each.done()]
        for each in waiting:
            each.set_exception(error)
        if not waiting:
            self.close()

    async def notices(self, seconds: float) -> list[str]:
        """What is announced on the channels that it listens to, within so many seconds: returns with the first."""
        if self.closed:
            raise ConnectionLostError("the server has closed the connection")
        found = announced(self._pgconn)
        if not found:
            self._noticed = self._loop.create_future()
            await asyncio.wait([self._noticed], timeout=seconds)
            self._noticed = None
            found = announced(self._pgconn) if self.is_usable() else []
        return found

    async def follow(self, steps: Steps[R]) -> R:
        """Asks all questions of `steps`."""
        try:
            question = next(steps)
            while True:
                try:
                    answer = await self.ask(question)
                except ServerError as error:
                    question = steps.throw(error)
                else:
                    question = steps.send(answer)
        except StopIteration as end:
            result: R = end.value
            return result

    async def lend(self, body: Callable[[object], object]) -> object:
        """Has somebody else work with the connection. Gives and raises what they do, unless it is lost by then."""
        if self.closed:
            raise ConnectionLostError("it was closed before", sent=False)
        self._unwatch()  # The driver watches the socket itself.
        self._borrowed = self._loop.create_future()
        self._connection.row_factory = tuple_row  # Another one may have changed it.
        self.wire.prepare_no_more()
        try:
            returned = body(self._connection)
            return await cast("Awaitable[object]", returned) if isinstance(returned, Awaitable) else returned
        except Exception as error:
            if self.closed:
                raise loss(error) from error
            raise
        except BaseException:
            self._pgconn.finish()
            raise
        finally:
            _wake(self._borrowed)
            self._borrowed = None
            if not self.closed:
                self._watch_socket()

    async def close_after(self, patience: float) -> None:
        """Ends the session; a task that waits for an answer gets it within `patience`, or hears that it is lost."""
        waiting = [each for each in (self._waiter, self._borrowed) if each is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=patience)
        self.close()

    def close(self) -> None:
        """Ends the session. A task that waits for an answer hears that it is lost."""
        if self._borrowed is not None:
            interrupt(self._pgconn)  # Who works with it hears of that, and then it is closed.
            return
        self._unwatch()
        self._pgconn.finish()
        for each in (self._waiter, self._writable):
            if each is not None and not each.done():
                each.set_exception(psycopg.OperationalError("the connection was closed"))
        if self._noticed is not None:
            _wake(self._noticed)

    def _watch_socket(self) -> None:
        self._watched = True
        self._loop.add_reader(self._socket, self._incoming)

    def _unwatch(self) -> None:
        # Once and at once, also when libpq has closed the socket by itself: another one may soon have its number.
        if self._watched:
            self._watched = False
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class AsyncSessions(Place):
    """All sessions of one engine: makes them, lends those that read, and ends them."""

    def __init__(self, options: Postgres) -> None:
        super().__init__(options.name)
        self._options = options
        self.reset()

    def reset(self) -> None:
        """Forgets all sessions, without closing them."""
        self._waiting = 0
        self._all: WeakSet[AsyncSession] = WeakSet()
        self._idle: list[AsyncSession] = []
        self._permits = asyncio.Semaphore(self._options.pool_size)

    def inherited(self) -> list[AsyncSession]:
        """All sessions there are."""
        return list(self._all)

    async def connect(self, *, patiently: bool = True) -> AsyncSession:
        """A new session. Patiently, it is tried again for a while: the server may be starting."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.timeout
        pause = FIRST_PAUSE
        while True:
            self.check_open()
            try:
                session = await AsyncSession.connected(self._options)
            except psycopg.Error as error:
                remaining = deadline - loop.time()
                if not patiently or remaining <= 0:
                    raise self.cannot_connect(error) from error
                await asyncio.sleep(min(remaining, random.uniform(pause / 2, pause)))
                pause *= 2
            else:
                self._all.add(session)
                if self.closed:
                    session.close()
                return session

    async def ask(self, question: Question[R]) -> R:
        """Asks through one of the sessions that are lent. What only reads is asked again when a connection was lost."""
        try:
            return await self._ask(question)
        except ConnectionLostError as error:
            self._end_idle()
            if question.once and error.sent:
                raise self.unknown(error) from error
            if self.closed or question.locks:
                raise self.lost(error) from error
        try:
            return await self._ask(question)
        except ConnectionLostError as error:
            raise self.lost(error) from error

    def _end_idle(self) -> None:
        """Ends the sessions that nobody uses: where one was lost, the others may be, too, and not know it yet."""
        while self._idle:
            self._idle.pop().close()

    async def _ask(self, question: Question[R]) -> R:
        await self._begin()
        session: AsyncSession | None = None
        try:
            session = self._idle_one() or await self.connect()
            return await session.ask(question)
        except ServerError as error:
            if error.fatal:
                raise ConnectionLostError(str(error)) from error
            raise self.meaning(error) from error
        finally:
            self._end(session)

    async def follow(self, reads: Reads[R]) -> R:
        """Asks all questions of `reads`."""
        try:
            question = next(reads)
            while True:
                question = reads.send(await self.ask(question))
        except StopIteration as end:
            result: R = end.value
            return result

    async def _begin(self) -> None:
        """Waits for the permission to use a session."""
        self.check_open()
        if self._permits.locked():
            self._waiting += 1
            try:
                async with asyncio.timeout(self._options.timeout):
                    await self._permits.acquire()
            except TimeoutError:
                raise self.exhausted(self._options.pool_size, self._options.timeout) from None
            finally:
                self._waiting -= 1
            if self.closed:
                self._permits.release()
                self.check_open()
        else:
            await self._permits.acquire()

    def _idle_one(self) -> AsyncSession | None:
        while self._idle:
            session = self._idle.pop()
            if not session.closed:
                return session
        return None

    def _end(self, session: AsyncSession | None) -> None:
        """Gives everything back."""
        if session is not None and not session.closed:
            if session.in_transaction:
                session.close()
            else:
                self._idle.append(session)
        self._permits.release()

    async def perform(self, steps: Writes[AsyncSession, R]) -> R:
        """Does what an operation wishes, one thing after the other, to its result."""
        try:
            wish = next(steps)
            while True:
                answer: object = None
                try:
                    match wish:
                        case session, question:
                            answer = await session.ask(question)
                        case Connect():
                            answer = await self.connect()
                        case Lend(session, body):
                            answer = await session.lend(body)
                except Exception as error:  # noqa: BLE001 (the operation decides what it means)
                    wish = steps.throw(error)
                else:
                    wish = steps.send(answer)
        except StopIteration as end:
            result: R = end.value
            return result
        finally:
            steps.close()

    async def close(self) -> None:
        """Waits for the questions that are being asked, for a while, and ends all sessions."""
        self.closed = True
        for _ in range(self._waiting):
            self._permits.release()  # Who waits for a session hears of it.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        for session in self.inherited():
            await session.close_after(max(0.0, deadline - loop.time()))
