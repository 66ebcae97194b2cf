"""What is asked of a PostgreSQL schema beside its logs: whether it can be used, its migration, and announcements."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar
from zlib import crc32

from factfold.errors import StorageError, StorageFormatError
from factfold.storage._postgres_migrations import VERSION, migration, quoted
from factfold.storage._postgres_wire import Parameter, Question, Row, Script, ServerError, Statement, int8
from factfold.storage.base import Capabilities

R = TypeVar("R")

Steps: TypeAlias = Generator[Question[Any] | Script, Any, R]
"""What is asked of one session: each question is sent the answer to it, or thrown the `ServerError`; and a result."""

Reads: TypeAlias = Generator[Question[Any], Any, R]
"""What is asked of whichever sessions: each question is sent the answer to it."""

OLDEST_SERVER = 140000
"""As `server_version_num` says it: PostgreSQL 14."""


@dataclass(frozen=True, slots=True)
class Statements:
    """The calls of the schema's functions."""

    append: Statement
    hold: Statement
    resolve: Statement
    put: Statement
    swap: Statement
    transact: Statement
    finish: Statement
    head: Statement
    look: Statement
    load: Statement
    read_log: Statement
    read_stream: Statement
    list_streams: Statement
    get: Statement
    entries: Statement
    unlisted: Statement
    list_memberships: Statement

    @classmethod
    def of(cls, schema: str) -> Statements:
        """Those of the schema with this name."""
        call = partial(Statement.call, quoted(schema))
        return cls(
            append=call("append", 21),
            hold=call("hold", 7),
            resolve=call("resolve", 6),
            put=call("put", 4),
            swap=call("swap", 6),
            transact=call("transact", 7),
            finish=call("finish", 0),
            head=call("head", 1),
            look=call("look", 6),
            load=call("load", 7),
            read_log=call("read_log", 9),
            read_stream=call("read_stream", 6),
            list_streams=call("list_streams", 5),
            get=call("get", 3),
            entries=call("entries", 4),
            unlisted=call("unlisted", 3),
            list_memberships=call("list_memberships", 4),
        )


# -- Opening -----------------------------------------------------------------------------------------------------------


def check_server(version: int, name: str) -> None:
    """Refuses a server that is too old. `version` is its `server_version_num`."""
    if version < OLDEST_SERVER:
        raise StorageError(
            f"{name}: the server is PostgreSQL {version // 10000}, and factfold needs {OLDEST_SERVER // 10000} or "
            "later. Upgrade it."
        )


def opening(schema: str, server_version: int, name: str, *, migrate: bool = True) -> Steps[Capabilities]:
    """Checks the server and brings the schema up to date; gives what the engine can promise."""
    check_server(server_version, name)
    encoding, flushes, durable = yield _ask(_SETTINGS, _one)
    if encoding != b"UTF8":
        raise StorageFormatError(
            f"{name}: the database's encoding is {encoding.decode()}, and factfold needs UTF8. Make another database: "
            "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0."
        )
    if (yield from _version(schema, name)) < VERSION:
        yield from _migrating(schema, name)
    return Capabilities(
        locks=True,
        durable=flushes == b"on" and durable != b"off",
        shared=True,
        transactions=True,
        elsewhere=True,
    )


def adding_namespace(schema: str, namespace: str) -> Reads[None]:
    """Makes a namespace, unless it is there."""
    table = f"{quoted(schema)}.namespaces"
    found = _sql("find_namespace", f"SELECT id FROM {table} WHERE name = $1", 1)
    if not (yield _ask(found, _all, namespace.encode())):
        added = _sql("add_namespace", f"INSERT INTO {table} (name) VALUES ($1) ON CONFLICT DO NOTHING", 1)
        yield _ask(added, _all, namespace.encode())


def listing_namespaces(schema: str, server_version: int, name: str) -> Steps[list[str]]:
    """The names of all namespaces, none where there is no schema yet. Makes and changes nothing."""
    check_server(server_version, name)
    if not (yield from _version(schema, name)):
        return []
    listed = _sql("list_namespaces", f"SELECT name FROM {quoted(schema)}.namespaces ORDER BY name", 0)
    return [text.decode() for (text,) in (yield _ask(listed, _all))]


# -- Announcements -----------------------------------------------------------------------------------------------------


def listening(schema: str) -> Script:
    """From now on the session hears the announcements of this schema, each of which is the name of a namespace."""
    return Script(f"LISTEN {quoted(schema)}".encode())


def announcement(schema: str, namespace: str) -> Question[object]:
    """Tells those who listen that a namespace has grown."""
    return _ask(_NOTIFY, _all, schema.encode(), namespace.encode())


# -- Inside ------------------------------------------------------------------------------------------------------------


def _version(schema: str, name: str) -> Steps[int]:
    """The version of the schema; 0 when there is none."""
    table = f"{quoted(schema)}.migrations"
    there, tables = yield _ask(_THERE, _one, table.encode(), schema.encode())
    if there is None:
        if tables:
            raise StorageFormatError(
                f"{name}: the schema {schema} holds {tables} tables and is not factfold's. Nothing was changed in it. "
                "Give factfold a schema of its own with Postgres(schema=...)."
            )
        return 0
    (version,) = yield _ask(_sql("version", f"SELECT coalesce(max(version), 0)::bigint FROM {table}", 0), _one)
    if version > VERSION:
        raise StorageFormatError(
            f"{name}: the schema {schema} has version {version}, and this factfold knows the versions up to {VERSION}. "
            "Use a newer factfold."
        )
    return int(version)


def _migrating(schema: str, name: str) -> Steps[None]:
    """Does what is missing, in one transaction. Of several who come at once one does it, and the others wait.

    When it fails, the connection is to be closed: the transaction is open.
    """
    try:
        yield _ask(_LOCK, _all, int8(crc32(f"factfold {schema}".encode())), opens=True)
        version = yield from _version(schema, name)
        if version < VERSION:
            (there,) = yield _ask(_SCHEMA, _one, schema.encode())
            if not there:
                yield Script(f"CREATE SCHEMA {quoted(schema)}".encode())
            for following in range(version + 1, VERSION + 1):
                yield Script(migration(schema, following).encode())
        yield Script(b"COMMIT")
    except ServerError as error:
        if error.state in ("42501", "25006"):
            raise StorageError(
                f"{name}: the schema {schema} is missing or has an older version, and this role may not make it "
                f"(PostgreSQL says: {error}). Run `factfold migrate URL` once with a role that may, or have the "
                "database's owner run what `factfold migrate URL --sql` prints."
            ) from error
        raise


def _sql(name: str, sql: str, parameters: int) -> Statement:
    return Statement(name.encode(), sql.encode(), (1,) * parameters)


def _ask(
    statement: Statement, read: Callable[[Sequence[Row]], R], *parameters: Parameter, opens: bool = False
) -> Question[R]:
    return Question(statement, parameters, read, opens=opens)


def _one(rows: Sequence[Row]) -> Row:
    return rows[0]


def _all(rows: Sequence[Row]) -> Sequence[Row]:
    return rows


_SETTINGS = _sql(
    "settings",
    "SELECT pg_encoding_to_char(encoding)::text, current_setting('fsync'), current_setting('synchronous_commit')"
    " FROM pg_database WHERE datname = current_database()",
    0,
)
_THERE = _sql(
    "there",
    "SELECT to_regclass($1)::text, (SELECT count(*) FROM pg_tables WHERE schemaname = $2)",
    2,
)
_SCHEMA = _sql("schema", "SELECT to_regnamespace(quote_ident($1)) IS NOT NULL", 1)
_NOTIFY = _sql("notify", "SELECT pg_notify($1, $2)", 2)
_LOCK = _sql(
    "migration_lock",
    # A short lock_timeout of the role is not for this: who comes second waits until the first one has done it.
    "SELECT set_config('lock_timeout', '0', true), pg_advisory_xact_lock($1)",
    1,
)
