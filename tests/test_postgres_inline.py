"""Inline projections in PostgreSQL: what accompanies an append commits with it or not at all, whatever breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import psycopg
import pytest

from factfold.errors import (
    AppendRefusedError,
    InlineProjectionsError,
    LockLostError,
    OutcomeUnknownError,
    StorageError,
    StoreUnavailableError,
)
from factfold.storage.base import (
    EMPTY,
    INLINE,
    Append,
    Appended,
    Conflict,
    Head,
    Inline,
    Put,
    StoredEvent,
    Swap,
    TransactionalLog,
)
from factfold.storage.postgres import Postgres
from factfold.testing.contract.running import fresh_namespace
from factfold.testing.contract.scribe import appending, asking, new, selection
from tests.looping import log_of
from tests.postgres_faults import settle
from tests.racing import eventually
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import Direction, Proxy

NAMES = b"counts:1"
Between = Callable[[Any], object]


@contextmanager
def opened(
    flavour: str, storage: Postgres, between: Between = lambda connection: None, namespace: str | None = None
) -> Iterator[TransactionalLog]:
    """A log whose appends write the positions of their events into an empty table, and then do something else."""
    table = f"{storage.schema}.seen"

    def handle(connection: object, events: Sequence[StoredEvent]) -> object:
        insert = f"INSERT INTO {table} VALUES {', '.join(f'({event.position})' for event in events)}".encode()
        if isinstance(connection, psycopg.AsyncConnection):
            return handle_in_a_loop(connection, insert)
        cast("psycopg.Connection", connection).execute(insert)
        between(connection)
        return None

    async def handle_in_a_loop(connection: psycopg.AsyncConnection, insert: bytes) -> None:
        await connection.execute(insert)
        between(connection)

    with log_of(flavour, storage, namespace) as plain:
        log = cast("TransactionalLog", plain)  # it has all its methods, behind __getattr__ in a loop
        log.transact(
            Swap(Put(*INLINE, NAMES), None),
            lambda connection: cast("Any", connection).execute(
                f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (position int)"
            ),
        )
        log.accompany(Inline(NAMES, handle))
        yield log


@pytest.fixture(scope="module")
def postgres_schema(postgres_server: PostgresServer) -> Iterator[str]:
    """One for all tests of this file, which use namespaces of their own."""
    with postgres_server.fresh_schema() as schema:
        yield schema


@pytest.fixture
def seen(postgres_server: PostgresServer, postgres_schema: str) -> Callable[[], list[int]]:
    """The positions that the table holds, as others see it."""
    return lambda: [
        position
        for (position,) in postgres_server.sql(cast("Any", f"SELECT position FROM {postgres_schema}.seen ORDER BY 1"))
    ]


def one(head: Head) -> Append:
    return appending([new("a:1")], head, selection("a:1"))


def test_what_accompanies_an_append_commits_with_it(
    flavour: str, direct: Postgres, seen: Callable[[], list[int]]
) -> None:
    """At once, and under the lock; and what loses is accompanied by nothing."""
    namespace = fresh_namespace()
    with opened(flavour, direct, namespace=namespace) as log, log_of("threads", direct, namespace) as other:
        assert isinstance(log.append(appending([new("a:1"), new("b:1")], EMPTY)), Appended)
        assert seen() == [1, 2]
        assert isinstance(log.append(one(EMPTY)), Conflict)
        news = log.lock(asking(EMPTY))
        assert isinstance(log.append(one(news.head)), Appended)
        log.lock(asking(EMPTY))
        assert isinstance(log.append(one(EMPTY)), Conflict)
        with pytest.raises(InlineProjectionsError, match="counts:1 inline, and this store runs no projection"):
            other.append(one(log.head()))
        assert isinstance(log.append(one(log.head())), Appended)
        assert seen() == [1, 2, 3, 4]
        void = one(log.head())
        assert other.resolve(void) is None
        with pytest.raises(AppendRefusedError, match="void"):
            log.append(void)
        assert seen() == [1, 2, 3, 4]


def test_an_error_of_the_database_undoes_the_append(
    flavour: str, direct: Postgres, seen: Callable[[], list[int]]
) -> None:
    def end_it(connection: Any) -> None:
        connection.pgconn.exec_(b"COMMIT")

    def fail(connection: Any) -> None:
        raise LookupError("of the handler")

    troubles: list[Between] = [fail]
    with opened(flavour, direct, lambda connection: troubles.pop()(connection) if troubles else None) as log:
        for lock in (False, True):
            troubles[:] = [fail]
            if lock:
                log.lock(asking(EMPTY))
            append = one(EMPTY)
            with pytest.raises(LookupError, match="of the handler"):
                log.append(append)
            assert log.resolve(append) is None
            assert (log.head(), seen()) == (EMPTY, [])
        assert isinstance(log.append(one(EMPTY)), Appended)
        troubles[:] = [end_it]
        with pytest.raises(StorageError, match="has ended the transaction"):
            log.append(one(log.head()))
        assert isinstance(log.append(one(log.head())), Appended)


def test_a_connection_that_is_lost_meanwhile_leaves_nothing_and_the_lock_is_free(
    flavour: str, direct: Postgres, postgres_server: PostgresServer, seen: Callable[[], list[int]]
) -> None:
    """Nothing can have been written, as nobody had sent the commit."""

    def end(connection: Any) -> None:
        if not ended:
            ended.append(pid := connection.info.backend_pid)
            postgres_server.sql("SELECT pg_terminate_backend(%s)", pid)
            eventually(lambda: not postgres_server.sql("SELECT 1 FROM pg_stat_activity WHERE pid = %s", pid))
            raise psycopg.OperationalError("noticed")

    ended: list[int] = []
    with opened(flavour, direct, end) as log:
        append = one(EMPTY)
        with pytest.raises((StoreUnavailableError, psycopg.OperationalError)):
            log.append(append)
        assert log.resolve(append) is None
        assert seen() == []
        assert isinstance(log.append(one(EMPTY)), Appended)
        assert seen() == [1]


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize(("direction", "text", "part"), [("requests", b"finish", 0.0), ("answers", b"COMMIT", 0.0)])
def test_an_append_that_is_cut_at_its_commit_is_resolved(
    flavour: str,
    proxy: Proxy,
    proxied: Postgres,
    postgres_server: PostgresServer,
    seen: Callable[[], list[int]],
    direction: Direction,
    text: bytes,
    part: float,
    locked: bool,
) -> None:
    with opened(flavour, proxied) as log:
        assert isinstance(log.append(one(EMPTY)), Appended)
        head = log.head()
        if locked:
            log.lock(asking(head))
        append = one(head)
        trap = proxy.trap(direction, text, part=part)
        with pytest.raises(OutcomeUnknownError):
            log.append(append)
        trap.caught()
        settle(postgres_server)
        done = direction == "answers"
        assert (log.resolve(append) is not None) is done
        assert seen() == ([1, 2] if done else [1])
        assert isinstance(log.append(one(log.head())), Appended)


def test_a_handler_that_stands_still_gives_the_lock_back(
    flavour: str, postgres_server: PostgresServer, postgres_schema: str, seen: Callable[[], list[int]]
) -> None:
    def stand_still(connection: Any) -> None:
        pid = connection.info.backend_pid
        if not stood:
            stood.append(pid)
            eventually(lambda: not postgres_server.sql("SELECT 1 FROM pg_stat_activity WHERE pid = %s", pid))

    stood: list[int] = []
    storage = Postgres(postgres_server.url, schema=postgres_schema, timeout=0.3)
    with opened(flavour, storage, stand_still) as log:
        with pytest.raises(LockLostError, match="stood still for too long"):
            log.append(one(EMPTY))
        assert (log.head(), seen()) == (EMPTY, [])
        assert isinstance(log.append(one(EMPTY)), Appended)
