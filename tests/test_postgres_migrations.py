"""A PostgreSQL schema of an older version is brought up to date, by a store or by hand, and what is in it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from zlib import crc32

import psycopg
import pytest
from psycopg import sql

from factfold.storage._postgres_migrations import VERSION, migration
from factfold.storage.base import Append, Log, LogPage, Put, Swap
from factfold.storage.postgres import Postgres
from factfold.testing.contract.running import one_log
from factfold.testing.contract.scribe import appending, new
from tests.racing import eventually, start
from tests.servers.postgres import PostgresServer

NAMESPACE = "old"


@pytest.fixture
def old(postgres_server: PostgresServer, postgres_schema: str) -> Iterator[psycopg.Connection]:
    """A connection to a database at version 1, in which the functions of that version have written."""
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(postgres_schema)))
        connection.execute(migration(postgres_schema, 1).encode())
        connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(postgres_schema)))
        connection.execute("INSERT INTO namespaces (name) VALUES (%s)", (NAMESPACE,))
        event = new("a:1")
        connection.execute(
            """SELECT * FROM append(
                %s, 1000, 0, NULL, '{}', '{}', '{}', ARRAY[%s::uuid], ARRAY['Noted'], ARRAY[1], ARRAY['1'::jsonb],
                ARRAY['{}'::jsonb], ARRAY['{"a:1":1}'], ARRAY['a:1'], ARRAY['Noted'], ARRAY[1::bigint], ARRAY[1],
                ARRAY['a:1'], ARRAY[0::bigint]
            )""",
            (NAMESPACE, event.id.hex()),
        )
        connection.execute("SELECT put(%s, 'consumers', 'a', %s)", (NAMESPACE, b"1"))
        yield connection


def assert_goes_on(log: Log) -> None:
    """What was written before is there, and everything works on it."""
    assert [stored.streams for stored in log.read(LogPage(0, 10))] == [{"a:1": 1}]
    (entry,) = log.entries("consumers", "", 10)
    assert (entry.key, entry.value) == ("a", b"1")
    assert 0 <= entry.age < 60
    assert log.swap(Swap(Put("consumers", "a", b"2"), b"1", (Put("parked", "b", b"3"),)))
    append: Append = appending([new("a:1")], log.head())
    log.append(append)
    assert log.resolve(append) is not None
    assert [info.version for info in log.streams(None, "", 10)] == [2]
    assert list(log.problems()) == []


def versions(connection: psycopg.Connection) -> list[int]:
    return [version for (version,) in connection.execute("SELECT version FROM migrations ORDER BY version")]


def test_a_database_of_version_1_is_migrated_by_whoever_opens_it_first(
    old: psycopg.Connection, direct: Postgres
) -> None:
    with ThreadPoolExecutor(4) as threads:
        for engine in threads.map(lambda _: direct.open(), range(4)):
            engine.close()
    assert versions(old) == list(range(1, VERSION + 1))
    with one_log(direct, NAMESPACE) as log:
        assert_goes_on(log)


def test_who_comes_second_waits_for_the_migration_also_with_a_short_lock_timeout(
    old: psycopg.Connection, direct: Postgres, postgres_server: PostgresServer
) -> None:
    hasty = replace(direct, url=f"{direct.url}?options=-clock_timeout%3D1ms")
    with old.transaction():
        old.execute("SELECT pg_advisory_xact_lock(%s)", (crc32(f"factfold {direct.schema}".encode()),))
        opening = start(hasty.open)
        waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND waitstart < clock_timestamp() - interval '5 ms'"
        eventually(lambda: opening.ended or postgres_server.sql(waits))
    opening.result().close()
    assert versions(old) == list(range(1, VERSION + 1))


def test_the_printed_sql_does_what_is_missing(old: psycopg.Connection, direct: Postgres) -> None:
    """Also where nothing is."""
    for _ in range(2):
        old.execute(direct.sql().encode())
        assert versions(old) == list(range(1, VERSION + 1))
    with one_log(direct, NAMESPACE) as log:
        assert_goes_on(log)
