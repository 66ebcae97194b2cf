"""What is done to a PostgreSQL server under stores, and what is seen of them there, past the stores themselves."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from tests.racing import eventually
from tests.servers.postgres import ROLE, PostgresServer


def end_backends(server: PostgresServer) -> None:
    """Ends all connections of stores, by `pg_terminate_backend`."""
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", ROLE)


def end_waiting_backends(server: PostgresServer) -> None:
    """Ends the connections of stores that wait for a lock."""
    server.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s AND wait_event_type = 'Lock'", ROLE
    )


def waiting_for_a_lock(server: PostgresServer) -> int:
    """How many statements of stores wait for a lock."""
    found = server.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND wait_event_type = 'Lock' AND state = 'active'",
        ROLE,
    )
    count: int = found[0][0]
    return count


def settle(server: PostgresServer) -> None:
    """Returns when no statement of a store is under way in the server any more, whether its client lives or not."""
    eventually(
        lambda: not server.sql("SELECT 1 FROM pg_stat_activity WHERE usename = %s AND state = 'active'", ROLE),
    )


def appends_begun(server: PostgresServer) -> dict[int, object]:
    """When each connection of a store whose newest statement is an append has begun it, by process id."""
    return dict(
        server.sql("SELECT pid, query_start FROM pg_stat_activity WHERE usename = %s AND query LIKE '%%append%%'", ROLE)
    )


@contextmanager
def lock_held(server: PostgresServer, schema: str, namespace: str = "default") -> Generator[None]:
    """Holds the writers' lock of a namespace, as a stalled writer would."""
    with psycopg.connect(server.admin()) as connection:
        statement = sql.SQL("SELECT FROM {} WHERE name = %s FOR UPDATE")
        locked = connection.execute(statement.format(sql.Identifier(schema, "namespaces")), (namespace,))
        assert locked.rowcount == 1, f"there is no namespace {namespace}"
        yield


def tokens(server: PostgresServer, schema: str) -> list[str]:
    """The tokens of the notes in the log, in order, as another session sees them by plain SQL."""
    statement = sql.SQL("SELECT data ->> 'token' FROM {} WHERE type = 'outcomes.noted' ORDER BY position")
    with server.connect() as connection:
        return [token for (token,) in connection.execute(statement.format(sql.Identifier(schema, "log")))]
