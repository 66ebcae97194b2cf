"""The engine for servers: logs in PostgreSQL, which any number of processes and machines share.

`Postgres` holds the options; nothing here needs the driver. `_postgres_engine` (threads) and `_postgres_async` (an
event loop) ask the questions of `_postgres_log` over connections that `_postgres_sessions` and `_postgres_async` keep;
`_postgres_wire` knows how values travel, and the files `postgres_*.sql` hold what the server does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from factfold.errors import InvalidUrlError, MissingDriverError
from factfold.storage._postgres_migrations import script
from factfold.storage.base import AsyncEngine

if TYPE_CHECKING:
    from factfold.storage._postgres_engine import PostgresEngine


@dataclass(frozen=True, slots=True, repr=False)
class Postgres:
    """Logs in a PostgreSQL database (14 or later), in a schema of their own, which is made when it is missing.

    `url` is one of libpq's: `postgresql://user@host:5432/database?sslmode=require`, or `host=... dbname=...`. What it
    leaves out comes from libpq's environment variables and files.

    `timeout` is how many seconds to wait for a connection, for an answer, and for other writers. `pool_size` is how
    many connections read at the same time; each log that is written to has one more, and waiting for events another
    one. `pooler=True` is for a transaction-mode pooler such as PgBouncer in between: nothing is prepared, and nothing
    rests on the session, so that waiting polls.
    """

    url: str
    _: KW_ONLY
    schema: str = "factfold"
    timeout: float = 5.0
    pool_size: int = 8
    pooler: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.url, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # Untyped callers.
            raise InvalidUrlError(f"Postgres: a url is a str, not a {type(self.url).__name__}.")
        if not _SCHEMA.fullmatch(self.schema) or self.schema.startswith("pg_"):
            raise InvalidUrlError(
                f"Postgres: {self.schema!r} cannot be a schema. Use small letters, digits and underscores, at most 48, "
                "beginning with a letter, and not with pg_."
            )
        if not 0 < self.timeout < 1_000_000:
            raise InvalidUrlError(f"Postgres: timeout is a number of seconds above 0, not {self.timeout!r}.")
        if not 0 < self.pool_size < 10_000:
            raise InvalidUrlError(f"Postgres: pool_size is a number of connections above 0, not {self.pool_size!r}.")

    def __repr__(self) -> str:
        return f"Postgres({self.name!r}, schema={self.schema!r})"

    @property
    def name(self) -> str:
        """The url without secrets."""
        if self.url.startswith(("postgresql://", "postgres://")):
            try:
                parts = urlsplit(self.url)
            except ValueError:
                return "postgresql://"
            if "@" in parts.path + parts.fragment:
                return "postgresql://"  # A password that is not escaped: nobody knows where it ends.
            user, at, place = parts.netloc.rpartition("@")
            return f"postgresql://{user.partition(':')[0]}{at}{place}{parts.path}"
        said = {name: value.strip("'") for name, value in _KEYWORDS.findall(self.url)}
        user = f"{said['user']}@" if "user" in said else ""
        port = f":{said['port']}" if "port" in said else ""
        return f"postgresql://{user}{said.get('host', '')}{port}/{said.get('dbname', '')}"

    def sql(self) -> str:
        """The SQL that makes the schema, for those whose role may not: `factfold migrate URL --sql` prints it."""
        return script(self.schema)

    def open(self) -> PostgresEngine:
        """Connects and brings the schema up to date.

        Raises `StoreUnavailableError`, `StorageFormatError`, `StorageError` (the role may not make the schema, or the
        server is too old) and `MissingDriverError`.
        """
        try:
            from factfold.storage._postgres_engine import PostgresEngine
        except ImportError as error:
            raise missing_driver(self.name, error) from error
        return PostgresEngine.opened(self)

    def namespaces(self) -> Sequence[str]:
        """The names of the namespaces, none where there is no schema yet. Raises the same; makes nothing."""
        try:
            from factfold.storage._postgres_engine import namespaces_in
        except ImportError as error:
            raise missing_driver(self.name, error) from error
        return namespaces_in(self)

    async def open_async(self) -> AsyncEngine:
        """Connects for the running event loop, and brings the schema up to date. Raises the same."""
        try:
            from factfold.storage._postgres_async import AsyncPostgresEngine
        except ImportError as error:
            raise missing_driver(self.name, error) from error
        return await AsyncPostgresEngine.opened(self)


def missing_driver(name: str, error: ImportError) -> Exception:
    """What to say when the driver cannot be imported; another error of importing is what it is."""
    if error.name not in ("psycopg", "psycopg_c", "psycopg_binary") and "pq wrapper" not in str(error):
        return error
    return MissingDriverError(
        f"{name}: PostgreSQL needs the driver psycopg 3. Install it: pip install 'factfold[postgres]'"
    )


_SCHEMA = re.compile(r"[a-z][a-z0-9_]{0,47}")
_KEYWORDS = re.compile(r"(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|\S*)")
"""Keywords and their values, as libpq takes them where it is not given a url."""
