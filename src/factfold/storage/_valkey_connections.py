"""Makes redis-py's connections, of both kinds, and tells its errors as ours. Nothing else knows redis-py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

import hiredis
from redis import Connection, SSLConnection
from redis.asyncio import Connection as AsyncConnection
from redis.asyncio import SSLConnection as AsyncSSLConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry

from factfold.storage._valkey_address import Server
from factfold.storage._valkey_steps import ConnectionLostError
from factfold.storage._valkey_wire import Address, Refusal, Reply, Words


class Wire(Protocol):
    """What we use of a connection of redis-py."""

    def connect(self) -> None: ...
    def send_packed_command(self, command: object, check_health: bool = ...) -> None: ...
    def read_response(self, disable_decoding: bool = ...) -> Reply: ...
    def disconnect(self) -> None: ...


class AsyncWire(Protocol):
    """What we use of an asynchronous connection of redis-py."""

    async def connect(self) -> None: ...
    async def send_packed_command(self, command: object, check_health: bool = ...) -> None: ...
    async def read_response(self, disable_decoding: bool = ...) -> Reply: ...
    async def disconnect(self, nowait: bool = ...) -> None: ...


def new_wire(server: Server, address: Address, timeout: float) -> Wire:
    """A connection that is not made yet."""
    # redis-py's own signatures are wider, and partly without types.
    make = cast("Callable[..., Wire]", Connection if server.tls is None else SSLConnection)
    return make(**_options(server, address, timeout, Retry(NoBackoff(), 0)))


def new_async_wire(server: Server, address: Address) -> AsyncWire:
    """An asynchronous connection that is not made yet."""
    # As above.
    make = cast("Callable[..., AsyncWire]", AsyncConnection if server.tls is None else AsyncSSLConnection)
    # Whoever uses it limits the time of it all: a timeout for each part costs more than the rest.
    return make(**_options(server, address, None, AsyncRetry(NoBackoff(), 0)))


def _options(server: Server, address: Address, timeout: float | None, retry: Retry | AsyncRetry) -> dict[str, object]:
    return {
        "host": address.host,
        "port": address.port,
        "db": server.database,
        "username": server.username,
        "password": server.password,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "protocol": 2,  # a reply to each command, and nothing in between
        "retry": retry,
        **(server.tls or {}),
    }


DRIVER_ERRORS = (RedisError, OSError, EOFError)
"""What redis-py raises when a connection cannot be made, or breaks."""


def lost(error: Exception, address: Address, *, sent: bool) -> ConnectionLostError:
    """What the loss of a connection means."""
    if isinstance(error, AuthenticationError):
        return ConnectionLostError(
            f"{address} does not accept this user and password ({error})", sent=False, final=True
        )
    if isinstance(error, ResponseError) and not isinstance(error, BusyLoadingError):
        return ConnectionLostError(f"{address} refuses the connection ({error})", sent=False, final=True)
    return ConnectionLostError(f"{address}: {str(error) or type(error).__name__}", sent=sent)


def refusal(error: ResponseError | BusyLoadingError) -> Refusal:
    """The error of a server, with its first word, which redis-py takes away from those it knows."""
    text = str(error)
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return Refusal(code, text.removeprefix(f"{code} "))
    code, _, rest = text.partition(" ")
    return Refusal(code, rest)


def packed(commands: Sequence[Words]) -> list[bytes]:
    """The bytes to send for these commands."""
    return [_pack(words) for words in commands]


# Its signature is partly without types, and does not say that words may be mixed.
_pack = cast("Callable[[Words], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]


_CODES: dict[type[Exception], str] = {
    MovedError: "MOVED",  # before its base, ASK
    AskError: "ASK",
    AuthenticationError: "NOAUTH",
    BusyLoadingError: "LOADING",
    ClusterCrossSlotError: "CROSSSLOT",
    ClusterDownError: "CLUSTERDOWN",
    MasterDownError: "MASTERDOWN",
    NoPermissionError: "NOPERM",
    NoScriptError: "NOSCRIPT",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    TryAgainError: "TRYAGAIN",
}
