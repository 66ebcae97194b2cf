"""PostgreSQL with threads: an engine, and the log of a namespace. What they ask is in `_postgres_log`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar
from weakref import WeakSet

from factfold.storage import _fork
from factfold.storage._postgres_log import Questions
from factfold.storage._postgres_news import Announcer, Listener
from factfold.storage._postgres_schema import Statements, Steps, adding_namespace, listing_namespaces, opening
from factfold.storage._postgres_sessions import Session, Sessions
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


def namespaces_in(options: Postgres) -> list[str]:
    """The names of all namespaces of a database, which is left as it is."""
    return _asked_once(options, Sessions(options), listing_namespaces)


def _asked_once(options: Postgres, sessions: Sessions, what: Callable[[str, int, str], Steps[R]]) -> R:
    """Asks something of the schema, in a session of its own."""
    session = sessions.connect(patiently=False)
    try:
        return session.follow(what(options.schema, session.server_version, options.name))
    except ServerError as error:
        raise sessions.meaning(error) from error
    except ConnectionLostError as error:
        raise sessions.lost(error) from error
    finally:
        session.close()


class PostgresEngine:
    """An opened database."""

    def __init__(self, options: Postgres, sessions: Sessions, capabilities: Capabilities) -> None:
        self.capabilities = capabilities
        self.sessions = sessions
        self._options = options
        self._statements = Statements.of(options.schema)
        self._logs: WeakSet[PostgresLog] = WeakSet()
        self.announcer = Announcer(sessions, options.schema)
        self.listener = Listener(sessions, options.schema, listens=not options.pooler)
        _fork.register(self)

    @classmethod
    def opened(cls, options: Postgres) -> PostgresEngine:
        """Connects and brings the schema up to date."""
        sessions = Sessions(options)
        return cls(options, sessions, _asked_once(options, sessions, opening))

    def log(self, namespace: str) -> PostgresLog:
        """One namespace, made when it does not exist yet."""
        self.sessions.follow(adding_namespace(self._options.schema, namespace))
        name = f"{self._options.name} [{namespace}]"
        questions = Questions(self._statements, namespace, name, self._options.timeout)
        log = PostgresLog(namespace, questions, self.sessions, self.announcer, self.listener)
        self._logs.add(log)
        return log

    def close(self) -> None:
        """Ends all work and closes all connections. Closing twice is allowed."""
        self.sessions.closed = True
        self.announcer.close()
        self.listener.close()
        self.sessions.close()

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


class PostgresLog:
    """One namespace of a database."""

    def __init__(
        self, namespace: str, questions: Questions, sessions: Sessions, announcer: Announcer, listener: Listener
    ) -> None:
        self.name = questions.name
        self._namespace = namespace
        self._questions = questions
        self._sessions = sessions
        self._announcer = announcer
        self._listener = listener
        self._writing: Writing[Session] = Writing(sessions, questions)
        self._transactions: Transactions[Session] = Transactions(sessions, questions)

    def forget(self) -> None:
        """Lets go of the sessions that write."""
        self._writing.forget()
        self._transactions.forget()

    # -- Writing ---------------------------------------------------------------------------------------------------

    def append(self, append: Append) -> Appended | Conflict:
        answer = self._write(self._writing.append(append))
        if isinstance(answer, Appended):
            self._announcer.announce(self._namespace)
        return answer

    def lock(self, check: Check) -> News:
        return self._write(self._writing.lock(check))

    def unlock(self) -> None:
        self._write(self._writing.unlock())

    def _write(self, steps: Writes[Session, R]) -> R:
        try:
            return self._sessions.perform(steps)
        except BaseException:
            self._writing.abandon()
            raise

    def transact(self, swap: Swap, body: Callable[[object], object]) -> bool:
        return self._sessions.perform(self._transactions.transact(swap, body))

    def accompany(self, inline: Inline | None) -> None:
        self._writing.inline = inline

    def resolve(self, append: Append) -> Appended | None:
        return self._sessions.ask(self._questions.resolve(append))

    def put(self, place: str, key: str, value: bytes | None) -> None:
        self._sessions.ask(self._questions.put(place, key, value))

    def swap(self, swap: Swap) -> bool:
        return self._sessions.ask(self._questions.swap(swap))

    # -- Reading ---------------------------------------------------------------------------------------------------

    def head(self) -> Head:
        return self._sessions.ask(self._questions.head())

    def check(self, check: Check) -> News:
        return self._sessions.ask(self._questions.check(check))

    def load(self, load: Load) -> Loaded:
        return self._sessions.ask(self._questions.load(load))

    def read(self, page: LogPage) -> Sequence[StoredEvent]:
        return self._sessions.follow(self._questions.read(page))

    def read_stream(self, page: StreamPage) -> Sequence[StoredEvent]:
        return self._sessions.ask(self._questions.read_stream(page))

    def streams(self, category: str | None, after: str, limit: int) -> Sequence[StreamInfo]:
        return self._sessions.follow(self._questions.streams(category, after, limit))

    def wait(self, after: int, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        while True:
            heard = self._listener.heard(self._namespace)
            position = self.head().position
            remaining = deadline - time.monotonic()
            if position > after or remaining <= 0:
                return position
            self._listener.wait(self._namespace, heard, remaining)

    def get(self, place: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        return self._sessions.ask(self._questions.get(place, keys))

    def entries(self, place: str, after: str, limit: int) -> Sequence[Entry]:
        return self._sessions.ask(self._questions.entries(place, after, limit))

    def problems(self) -> Iterator[str]:
        yield from self._sessions.follow(self._questions.problems())
