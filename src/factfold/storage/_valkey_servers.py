"""What a server promises: its version, its place in a cluster, how durable it is. It is asked when a store opens."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from factfold.errors import StorageReadOnlyError, StoreUnavailableError, UnsafeStorageError
from factfold.storage._valkey_steps import ConnectionLostError, Send, Steps
from factfold.storage._valkey_wire import Address, Refusal, Reply, Words, binary, items

OLDEST_REDIS = (7, 0)
"""Valkey began later than that: every version of it will do."""


class Promises(Struct, frozen=True):
    """How durable a server is: `durable` when what it acknowledged survives a crash; `text` for people."""

    durable: bool
    text: str


def inspect(address: Address, name: str, *, cluster: bool, durable: bool) -> Steps[Promises]:
    """Asks a server what it promises.

    Raises UnsafeStorageError when it would lose or evict what it acknowledged (with `durable`), StorageReadOnlyError
    for a replica, and StoreUnavailableError for one that cannot be used.
    """
    commands: tuple[Words, ...] = (("INFO",), ("CONFIG", "GET", "appendfsync"))
    try:
        info, config = yield Send(address, commands, reading=False)
    except ConnectionLostError as error:
        raise StoreUnavailableError(
            f"{name}: the server cannot be used: {error}. See whether it is running and reachable from here, and what "
            "the url says."
        ) from error
    if isinstance(info, Refusal):
        raise StoreUnavailableError(f"{name}: the server does not tell about itself ({info.code} {info.text}).")
    facts = _facts(binary(info).decode())
    check_version(facts, name)
    _check_place(facts, name, cluster)
    promises = _promises(facts, _appendfsync(config))
    policy = facts.get("maxmemory_policy", "noeviction")
    if facts.get("maxmemory", "0") != "0" and policy != "noeviction":
        raise UnsafeStorageError(
            f"{name}: the server removes keys when its memory is full (maxmemory-policy {policy}), and with them "
            "events. Set maxmemory-policy to noeviction, or use a server of its own."
        )
    if durable and facts.get("aof_enabled", "0") == "0":
        raise UnsafeStorageError(
            f"{name}: the server keeps no append-only file: a restart would lose what it has acknowledged. Set "
            "appendonly to yes, or, if losing events is all right, open it with Valkey(..., durable=False) or "
            "?durable=false."
        )
    return promises


def check_version(facts: Mapping[str, str], name: str) -> None:
    """Raises StoreUnavailableError for a server that is too old; `facts` are those of INFO."""
    if "valkey_version" in facts:
        return
    version = facts.get("redis_version", "0")
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < OLDEST_REDIS:
        raise StoreUnavailableError(
            f"{name}: this is Redis {version}, and factfold needs {'.'.join(map(str, OLDEST_REDIS))} "
            "or newer, or Valkey."
        )


def _check_place(facts: Mapping[str, str], name: str, cluster: bool) -> None:
    if (facts.get("cluster_enabled") == "1") != cluster:
        raise StoreUnavailableError(
            f"{name}: the server is {'no' if cluster else 'a'} node of a cluster. "
            f"{'Leave out' if cluster else 'Say'} cluster=true in the url, or in Valkey(..., cluster=True)."
        )
    if facts.get("role") == "slave" and not cluster:
        primary = f"{facts.get('master_host')}:{facts.get('master_port')}"
        raise StorageReadOnlyError(
            f"{name}: the server is a replica, which cannot be written to. Its primary is {primary}."
        )


def _promises(facts: Mapping[str, str], appendfsync: str | None) -> Promises:
    if facts.get("aof_enabled", "0") == "0":
        return Promises(durable=False, text="no append-only file: a restart loses events")
    if appendfsync == "always":
        return Promises(durable=True, text="appendfsync always: nothing acknowledged is lost")
    if appendfsync == "no":
        return Promises(durable=False, text="appendfsync no: a crash of the machine loses up to half a minute")
    if appendfsync == "everysec":
        return Promises(durable=False, text="appendfsync everysec: a crash of the machine loses up to two seconds")
    return Promises(durable=False, text="an append-only file; the server does not tell when it is flushed")


def _appendfsync(reply: Reply) -> str | None:
    """The setting; None where the server does not tell, as those of some providers."""
    if isinstance(reply, Refusal) or len(items(reply)) != 2:
        return None
    return binary(items(reply)[1]).decode()


def _facts(info: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in info.splitlines() if ":" in line and not line.startswith("#"))
