"""A PostgreSQL server that tests start, stop, kill and start again, with the durability that it has by default."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql

from tests.servers.installations import Installation
from tests.servers.site import PATIENCE, Site, free_port

ADMIN = "postgres"
ROLE = "factfold"
PASSWORD = "secret"
DATABASE = "factfold"


class PostgresServer:
    """One cluster, with its data in a folder of the site.

    It listens on a port of 127.0.0.1 (with passwords: `url`) and on a socket in `folder` (without: `admin`). The role
    of `url` is not a superuser; it owns the database.
    """

    def __init__(self, site: Site, installation: Installation) -> None:
        self.version = installation.version
        self.folder = site.make_folder(f"postgres-{installation.version}")
        self.port = free_port()
        self._site = site
        self._programs = installation.programs
        self._data = self.folder / "data"
        self._process: int | None = None
        self._initdb()
        self.start()
        self.sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'", database="postgres")
        self.sql(f"CREATE DATABASE {DATABASE} OWNER {ROLE}", database="postgres")

    # -- Where it is ---------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The database that tests work in, by TCP, as a role that owns it."""
        return self.url_for()

    def url_for(
        self, *, database: str = DATABASE, role: str = ROLE, password: str = PASSWORD, port: int | None = None
    ) -> str:
        """A url by TCP: to another database, as somebody else, or by way of a proxy at another port."""
        return f"postgresql://{role}:{password}@127.0.0.1:{port or self.port}/{database}"

    def admin(self, database: str = DATABASE) -> str:
        """The same database by the socket, as superuser, past every proxy and pooler."""
        return f"host={self.folder} port={self.port} user={ADMIN} dbname={database}"

    # -- Its life ------------------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The id of its first process."""
        assert self._process is not None, "it is not running"
        return self._process

    @property
    def runs(self) -> bool:
        """Whether it was started, and not ended since."""
        return self._process is not None

    def start(self) -> None:
        """Starts it, after a crash with a recovery, and returns when it accepts connections."""
        assert self._process is None, "it is running"
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "log_line_prefix": "%m [%p] ",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._process = self._site.run([self._programs / "postgres", "-D", self._data, *options], self.folder)
        deadline = time.monotonic() + PATIENCE
        while not self._is_ready():
            if self._site.ends_within(self._process, 0.01):
                self._process = None
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"PostgreSQL is not ready after {PATIENCE} s:\n{self.log_tail()}")

    def stop(self) -> None:
        """Ends it in good order; who is connected is thrown out."""
        self._signal(signal.SIGINT)
        self._await_end()

    def kill(self) -> None:
        """Ends all its processes where they stand, as a crash of the machine would; the data stays."""
        # Stopped first: it must start no further process while those that there are get listed and killed.
        self._signal(signal.SIGSTOP)
        children = _children(self.pid)
        for child in children:
            os.kill(child, signal.SIGKILL)
        self._signal(signal.SIGKILL)
        self._await_end()
        _wait_for(lambda: not any(map(_is_alive, children)), "its processes survive a SIGKILL")

    def restart(self) -> None:
        """Stops it and starts it again."""
        self.stop()
        self.start()

    def _initdb(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        command: list[str | Path] = [
            self._programs / "initdb",
            f"--pgdata={self._data}",
            f"--username={ADMIN}",
            f"--pwfile={password}",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",  # of these first files only
        ]
        try:
            # Where it can: in a language's order of letters, which is not that of the bytes.
            self._site.call([*command, "--locale-provider=icu", "--icu-locale=en-US"])
        except RuntimeError:
            self._site.call(command)

    def _is_ready(self) -> bool:
        """Whether the server has written, into the file with its process id, that it is ready."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self._process) and lines[7].strip() == "ready"

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def _await_end(self) -> None:
        if not self._site.ends_within(self.pid):
            raise TimeoutError(f"PostgreSQL has not ended after {PATIENCE} s:\n{self.log_tail()}")
        self._process = None

    def log_tail(self, lines: int = 30) -> str:
        """The end of what the server has logged."""
        return "\n".join((self.folder / "output.log").read_text(errors="replace").splitlines()[-lines:])

    # -- What tests do with it -----------------------------------------------------------------------------------------

    def connect(self, database: str = DATABASE) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of the superuser, by the socket, with autocommit."""
        return psycopg.connect(self.admin(database), autocommit=True)

    def sql(self, statement: LiteralString, *values: object, database: str = DATABASE) -> list[tuple[Any, ...]]:
        """Runs a statement as superuser; the rows, if it gives any."""
        with self.connect(database) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def program(self, name: str, *arguments: str | Path, input: str | None = None) -> str:
        """Runs psql, pg_dump or another program of this PostgreSQL as superuser, by the socket; what it printed."""
        environment = {"PGHOST": str(self.folder), "PGPORT": str(self.port), "PGUSER": ADMIN, "PGDATABASE": DATABASE}
        return self._site.call([self._programs / name, *arguments], input=input, environment=environment)

    def backup(self) -> Path:
        """A copy of the whole cluster as it is now, taken while it is in use."""
        folder = self.folder / f"backup-{uuid4().hex[:8]}"
        self.program("pg_basebackup", f"--pgdata={folder}", "--checkpoint=fast", "--no-sync")
        return folder

    def restore(self, backup: Path) -> None:
        """Stops it, puts a backup in the place of its data, and starts it again."""
        self.stop()
        self._data.rename(self.folder / f"replaced-{uuid4().hex[:8]}")
        backup.rename(self._data)
        self.start()

    @contextmanager
    def fresh_schema(self) -> Generator[str]:
        """The name of a schema that is not there yet; dropped afterwards. Fails when somebody still works in it."""
        name = f"schema_{uuid4().hex[:12]}"
        yield name
        with self.connect() as connection:
            connection.execute("SET lock_timeout = '10s'")
            connection.execute("SET client_min_messages = warning")
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))

    @contextmanager
    def fresh_database(self) -> Generator[str]:
        """The name of an empty database that belongs to the role of `url`; dropped afterwards, whoever is in it."""
        name = f"database_{uuid4().hex[:12]}"
        with self.connect() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(ROLE))
            )
        yield name
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _children(process: int) -> list[int]:
    """The processes that this one has started. None where the system does not tell: they end soon after it."""
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _is_alive(process: int) -> bool:
    """Whether a process can still do something: a dead one may wait to be buried for long."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def _wait_for(condition: Callable[[], bool], failure: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(failure)
        time.sleep(0.001)
