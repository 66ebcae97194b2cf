"""The engine in memory that processes and machines share: logs in Valkey or Redis, or in a cluster of them.

`Valkey` holds the options; nothing here needs the driver. `_valkey_engine` (threads) and `_valkey_async` (an event
loop) run the operations of `_valkey_log`, `_valkey_reading` and `_valkey_values` over connections that
`_valkey_threads` and `_valkey_tasks` keep. `_valkey_steps` finds the server, `_valkey_wire` knows how values travel,
and the scripts in `lua/` are what the server does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from factfold.errors import InvalidUrlError, MissingDriverError
from factfold.storage._valkey_address import Server, parse
from factfold.storage.base import AsyncEngine

if TYPE_CHECKING:
    from factfold.storage._valkey_engine import ValkeyEngine


@dataclass(frozen=True, slots=True, repr=False)
class Valkey:
    """Logs in a Valkey server, or in Redis 7.0 or newer: `valkey://user:password@host:6379/0`, `valkeys://` with TLS.

    `cluster=True` spreads namespaces over a cluster; its url may name several nodes, separated by commas.

    A server that would lose what it acknowledged when it restarts is refused, unless `durable=False`. `min_replicas` is
    how many replicas must have an append before it counts (`NotReplicatedError`).

    `timeout` is how many seconds to wait for a connection, for an answer, and for other writers. `lease` is for how
    many seconds a batch may be decided under the writers' lock: as long as that, a process that died keeps the others
    waiting.
    `connections` is how many read at the same time. All keys begin with `prefix`.
    """

    url: str
    _: KW_ONLY
    cluster: bool = False
    durable: bool = True
    min_replicas: int = 0
    timeout: float = 5.0
    lease: float = 1.0
    connections: int = 8
    prefix: str = "factfold"
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_check_hostname: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.url, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # Untyped callers.
            raise InvalidUrlError(f"Valkey: a url is a str, not a {type(self.url).__name__}.")
        server = self.server()
        if len(server.addresses) > 1 and not self.cluster:
            raise InvalidUrlError(f"{server.name!r}: several hosts are nodes of a cluster: set cluster=True.")
        if server.database and self.cluster:
            raise InvalidUrlError(f"{server.name!r}: a cluster has the database 0 only.")
        if not _PREFIX.fullmatch(self.prefix):
            raise InvalidUrlError(
                f"Valkey: {self.prefix!r} cannot be a prefix. Use letters, digits, '.', '_', '-' and ':', at most 64."
            )
        if type(self.min_replicas) is not int or self.min_replicas < 0:
            raise InvalidUrlError(f"Valkey: min_replicas is a number of replicas, not {self.min_replicas!r}.")
        if not 0 < self.timeout < 1_000_000:
            raise InvalidUrlError(f"Valkey: timeout is a number of seconds above 0, not {self.timeout!r}.")
        if not 0.01 <= self.lease < 1_000_000:
            raise InvalidUrlError(f"Valkey: lease is a number of seconds, 0.01 or more, not {self.lease!r}.")
        if not 0 < self.connections < 10_000:
            raise InvalidUrlError(f"Valkey: connections is a number above 0, not {self.connections!r}.")

    def __repr__(self) -> str:
        return f"Valkey({self.name!r}, prefix={self.prefix!r})"

    @property
    def name(self) -> str:
        """The url without user and password."""
        return self.server().name

    def server(self) -> Server:
        """What the url says."""
        tls: Mapping[str, object] = {name: value for name in TLS_OPTIONS if (value := getattr(self, name)) is not None}
        return parse(self.url, tls)

    def open(self) -> ValkeyEngine:
        """Connects, and asks the server how durable it is.

        Raises `StoreUnavailableError`, `UnsafeStorageError`, `StorageReadOnlyError` and `MissingDriverError`.
        """
        try:
            from factfold.storage._valkey_engine import ValkeyEngine
        except ModuleNotFoundError as error:
            raise missing_driver(self.name, error) from error
        return ValkeyEngine.opened(self)

    async def open_async(self) -> AsyncEngine:
        """Connects for the running event loop. Raises the same."""
        try:
            from factfold.storage._valkey_async import AsyncValkeyEngine
        except ModuleNotFoundError as error:
            raise missing_driver(self.name, error) from error
        return await AsyncValkeyEngine.opened(self)


def missing_driver(name: str, error: ModuleNotFoundError) -> Exception:
    """What to say when the driver cannot be imported; another error of importing is what it is."""
    if error.name is None or error.name.partition(".")[0] not in ("redis", "hiredis"):
        return error
    return MissingDriverError(
        f"{name}: Valkey and Redis need the driver redis-py. Install it: pip install 'factfold[valkey]'"
    )


TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")

_PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,64}")
