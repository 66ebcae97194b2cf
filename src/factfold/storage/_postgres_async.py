"""PostgreSQL in an event loop: an engine, and the log of a namespace. What they ask is in `_postgres_log`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar
from weakref import WeakSet

from factfold.storage import _fork
from factfold.storage._postgres_async_news import AsyncAnnouncer, AsyncListener
from factfold.storage._postgres_async_sessions import AsyncSession, AsyncSessions
from factfold.storage._postgres_log import Questions
from factfold.storage._postgres_schema import Statements, adding_namespace, opening
from factfold.storage._postgres_transactions import Transactions
from factfold.storage._postgres_wire import ConnectionLostError, ServerError
from factfold.storage._postgres_wishes import Writes
from factfold.storage._postgres_writing import Writing
from factfold.storage.base import (
    Append,
    Appended,
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
    StoredEvent,
    StreamInfo,
    StreamPage,
    Swap,
)
from factfold.storage.postgres import Postgres

R = TypeVar("R")

_inherited: list[object] = []
"""Connections of a parent process. They are kept for ever: closing them here would end the parent's sessions."""


class AsyncPostgresEngine:
    """An opened database."""

    def __init__(self, options: Postgres, sessions: AsyncSessions, capabilities: Capabilities) -> None:
        self.capabilities = capabilities
        self.sessions = sessions
        self._options = options
        self._statements = Statements.of(options.schema)
        self._logs: WeakSet[AsyncPostgresLog] = WeakSet()
        self.announcer = AsyncAnnouncer(sessions, options.schema)
        self.listener = AsyncListener(sessions, options.schema, listens=not options.pooler)
        _fork.register(self)

    @classmethod
    async def opened(cls, options: Postgres) -> AsyncPostgresEngine:
        """Connects and brings the schema up to date."""
        sessions = AsyncSessions(options)
        session = await sessions.connect(patiently=False)
        try:
            capabilities = await session.follow(opening(options.schema, session.server_version, options.name))
        except ServerError as error:
            raise sessions.meaning(error) from error
        except ConnectionLostError as error:
            raise sessions.lost(error) from error
        finally:
            session.close()
        return cls(options, sessions, capabilities)

    async def log(self, namespace: str) -> AsyncPostgresLog:
        """One namespace, made when it does not exist yet."""
        await self.sessions.follow(adding_namespace(self._options.schema, namespace))
        name = f"{self._options.name} [{namespace}]"
        questions = Questions(self._statements, namespace, name, self._options.timeout)
        log = AsyncPostgresLog(namespace, questions, self.sessions, self.announcer, self.listener)
        self._logs.add(log)
        return log

    async def close(self) -> None:
        """Ends all work and closes all connections. Closing twice is allowed."""
        self.sessions.closed = True
        await self.announcer.close()
        await self.listener.close()
        await self.sessions.close()

    def before_fork(self) -> None:
        """Nothing to do: the child makes connections of its own."""

    def after_fork_in_parent(self) -> None:
        """Nothing to do."""

    def after_fork_in_child(self) -> None:
        """Lets go of all connections, and neither uses nor closes them."""
        _inherited.extend(self.sessions.inherited())
        self.sessions.reset()
        self.announcer.forget()
        self.listener.forget()
        for log in self._logs:
            log.forget()


class AsyncPostgresLog:
    """One namespace of a database."""

    def __init__(
        self,
        namespace: str,
        questions: Questions,
        sessions: AsyncSessions,
        announcer: AsyncAnnouncer,
        listener: AsyncListener,
    ) -> None:
        self.name = questions.name
        self._namespace = namespace
        self._questions = questions
        self._sessions = sessions
        self._announcer = announcer
        self._listener = listener
        self._writing: Writing[AsyncSession] = Writing(sessions, questions)
        self._transactions: Transactions[AsyncSession] = Transactions(sessions, questions)

    def forget(self) -> None:
        """Lets go of the sessions that write."""
        self._writing.forget()
        self._transactions.forget()

    # -- Writing ---------------------------------------------------------------------------------------------------

    async def append(self, append: Append) -> Appended | Conflict:
        answer = await self._write(self._writing.append(append))
        if isinstance(answer, Appended):
            self._announcer.announce(self._namespace)
        return answer

    async def lock(self, check: Check) -> News:
        return await self._write(self._writing.lock(check))

    async def unlock(self) -> None:
        await self._write(self._writing.unlock())

    async def _write(self, steps: Writes[AsyncSession, R]) -> R:
        try:
            return await self._sessions.perform(steps)
        except BaseException:
            self._writing.abandon()
            raise

    async def transact(self, swap: Swap, body: Callable[[object], object]) -> bool:
        return await self._sessions.perform(self._transactions.transact(swap, body))

    async def accompany(self, inline: Inline | None) -> None:
        self._writing.inline = inline

    async def resolve(self, append: Append) -> Appended | None:
        return await self._sessions.ask(self._questions.resolve(append))

    async def put(self, place: str, key: str, value: bytes | None) -> None:
        await self._sessions.ask(self._questions.put(place, key, value))

    async def swap(self, swap: Swap) -> bool:
        return await self._sessions.ask(self._questions.swap(swap))

    # -- Reading ---------------------------------------------------------------------------------------------------

    async def head(self) -> Head:
        return await self._sessions.ask(self._questions.head())

    async def check(self, check: Check) -> News:
        return await self._sessions.ask(self._questions.check(check))

    async def load(self, load: Load) -> Loaded:
        return await self._sessions.ask(self._questions.load(load))

    async def read(self, page: LogPage) -> Sequence[StoredEvent]:
        return await self._sessions.follow(self._questions.read(page))

    async def read_stream(self, page: StreamPage) -> Sequence[StoredEvent]:
        return await self._sessions.ask(self._questions.read_stream(page))

    async def streams(self, category: str | None, after: str, limit: int) -> Sequence[StreamInfo]:
        return await self._sessions.follow(self._questions.streams(category, after, limit))

    async def wait(self, after: int, timeout: float) -> int:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            heard = self._listener.heard(self._namespace)
            position = (await self.head()).position
            remaining = deadline - loop.time()
            if position > after or remaining <= 0:
                return position
            await self._listener.wait(self._namespace, heard, remaining)

    async def get(self, place: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        return await self._sessions.ask(self._questions.get(place, keys))

    async def entries(self, place: str, after: str, limit: int) -> Sequence[Entry]:
        return await self._sessions.ask(self._questions.entries(place, after, limit))

    async def problems(self) -> Sequence[str]:
        return await self._sessions.follow(self._questions.problems())
