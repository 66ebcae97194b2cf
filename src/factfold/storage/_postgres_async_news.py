"""Announcements, in an event loop: writers tell that a log has grown, and whoever waits for that hears it.

See `_postgres_news`, which does the same with threads.
"""

from __future__ import annotations

import asyncio
import contextlib

from factfold.errors import FactfoldError
from factfold.storage._postgres_async_sessions import AsyncSession, AsyncSessions
from factfold.storage._postgres_news import IDLE, INTERVAL, LONGEST_PAUSE, POLL, SHORT_POLL
from factfold.storage._postgres_schema import announcement, listening
from factfold.storage._postgres_wire import ConnectionLostError, Script, ServerError


class AsyncAnnouncer:
    """Tells other processes that logs have grown, in a task of its own."""

    def __init__(self, sessions: AsyncSessions, schema: str) -> None:
        self._sessions = sessions
        self._schema = schema
        self.forget()

    def forget(self) -> None:
        """Begins anew, as a child process does."""
        self._grown: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def announce(self, namespace: str) -> None:
        """Returns at once."""
        self._grown.add(namespace)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Ends the task."""
        await _cancelled(self._task)

    async def _run(self) -> None:
        while self._grown and not self._sessions.closed:
            namespace = self._grown.pop()
            with contextlib.suppress(FactfoldError):  # Who waits will look for himself.
                await self._sessions.ask(announcement(self._schema, namespace))
            if not self._grown or namespace in self._grown:
                await asyncio.sleep(INTERVAL)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            self._task = None


class AsyncListener:
    """Hears announcements, in a task of its own with a session of its own, while somebody waits for them."""

    def __init__(self, sessions: AsyncSessions, schema: str, *, listens: bool) -> None:
        self._sessions = sessions
        self._schema = schema
        self._listens = listens
        self.forget()

    def forget(self) -> None:
        """Begins anew, as a child process does."""
        self._heard: dict[str, int] = {}
        self._beginnings = 0
        self._session: AsyncSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiters: set[asyncio.Future[None]] = set()

    def heard(self, namespace: str) -> tuple[int, int]:
        """Changes when something is announced of this namespace, and when it may have been missed."""
        return self._beginnings, self._heard.get(namespace, 0)

    async def wait(self, namespace: str, heard: tuple[int, int], seconds: float) -> None:
        """Returns when `heard` has changed, or it is time to look."""
        loop = asyncio.get_running_loop()
        if self._listens and self._task is None:
            self._task = loop.create_task(self._run())
            self._task.add_done_callback(self._ended)
        end = loop.time() + min(seconds, SHORT_POLL if self._session is None else POLL)
        while not self._sessions.closed and self.heard(namespace) == heard and (left := end - loop.time()) > 0:
            waiter = loop.create_future()
            self._waiters.add(waiter)
            try:
                await asyncio.wait([waiter], timeout=left)
            finally:
                self._waiters.discard(waiter)

    async def close(self) -> None:
        """Ends the task, and wakes those who wait; the engine is closed."""
        self._wake()
        await _cancelled(self._task)

    async def _run(self) -> None:
        pause = SHORT_POLL
        while not self._sessions.closed:
            session: AsyncSession | None = None
            try:
                session = await self._sessions.connect()
                await session.ask(listening(self._schema))
                self._session = session
                self._beginnings += 1
                self._wake()
                pause = SHORT_POLL
                await self._hear_until_idle(session)
                return
            except (FactfoldError, ServerError, ConnectionLostError):
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            finally:
                self._session = None
                if session is not None:
                    session.close()

    async def _hear_until_idle(self, session: AsyncSession) -> None:
        """Also asks now and then, since of a connection that was cut nothing would ever be heard."""
        loop = asyncio.get_running_loop()
        asked = used = loop.time()
        while True:
            namespaces = await session.notices(POLL)
            for namespace in namespaces:
                self._heard[namespace] = self._heard.get(namespace, 0) + 1
            if namespaces:
                self._wake()
            now = loop.time()
            if self._waiters:
                used = now
            elif now - used > IDLE:
                return
            if now - asked > IDLE / 2:
                await session.ask(Script(b"SELECT"))
                asked = now

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            self._task = None


async def _cancelled(task: asyncio.Task[None] | None) -> None:
    """Cancels a task and waits for its end."""
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
