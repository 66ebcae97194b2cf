"""Urls of storages: which one each of them means, and what to say about those that mean none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import parse_qsl, unquote

from factfold.errors import InvalidUrlError, MissingDriverError
from factfold.storage.base import Storage


def storage_at(storage: str | Storage) -> Storage:
    """What `factfold.storage.open_storage` promises."""
    if not isinstance(storage, str):
        if isinstance(storage, type) or not (hasattr(storage, "open") and hasattr(storage, "open_async")):
            raise InvalidUrlError(
                f"A storage is a url or an object such as Memory() or SQLite('bank.db'), not {storage!r}. {_USABLE}"
            )
        return storage
    scheme, colon, rest = storage.partition(":")
    scheme = scheme.lower()
    if scheme in _SCHEMES and colon:
        return _SCHEMES[scheme](storage, rest)
    if scheme in _LATER and colon:
        raise InvalidUrlError(f"The storage {scheme}: is not in this version of factfold. {_USABLE}")
    # From here on the text is not repeated beyond its scheme when it may hold a password.
    if "://" not in storage and (len(scheme) == 1 or not colon or not scheme.isalnum()):
        hint = "memory:" if storage.strip(":") in ("memory", "") else f"sqlite:///{storage}"
        raise InvalidUrlError(f"{storage!r} is not a url. Did you mean {hint!r}? {_USABLE}")
    close = get_close_matches(scheme, [*_SCHEMES, *_LATER], n=1)
    hint = f"Did you mean {close[0]}:? " if close else ""
    raise InvalidUrlError(f"There is no storage {scheme}:. {hint}{_USABLE}")


_USABLE = (
    "Usable are memory:, sqlite:///relative/path.db, sqlite:////absolute/path.db, "
    "postgresql://user@host:5432/database and valkey://host:6379/0 (or redis://)."
)


def _memory(url: str, rest: str) -> Storage:
    from factfold.storage.memory import Memory

    if rest:
        raise InvalidUrlError(
            f"{url!r}: write 'memory:', nothing follows. To share one log in memory, share a Memory()."
        )
    return Memory()


def _sqlite(url: str, rest: str) -> Storage:
    path, _, query = rest.partition("?")
    if not path.startswith("///"):
        raise InvalidUrlError(
            f"{url!r}: three slashes come before the path, as in 'sqlite:///{path.lstrip('/') or 'bank.db'}', "
            "and four before an absolute one."
        )
    options = _options(url, query, {"synchronous": str, "timeout": float})
    try:
        from factfold.storage.sqlite import SQLite
    except ModuleNotFoundError as error:
        if error.name not in ("sqlite3", "_sqlite3"):
            raise
        raise MissingDriverError(
            f"{url!r}: this Python was built without the module sqlite3. Use another build of Python, or memory:."
        ) from error
    return SQLite(unquote(path[3:], errors="surrogateescape"), **options)


def _postgres(url: str, rest: str) -> Storage:
    """What follows the question mark is for PostgreSQL's client library, except for our own options."""
    from factfold.storage.postgres import Postgres

    place, _, query = rest.partition("?")
    if not place.startswith("//"):
        raise InvalidUrlError(
            f"{url.partition(':')[0]}: two slashes come next, as in 'postgresql://user@host/database'."
        )
    ours: list[tuple[str, str]] = []
    others: list[str] = []
    for part in filter(None, query.split("&")):
        name, _, text = part.partition("=")
        if name in _POSTGRES_OPTIONS:
            ours.append((name, unquote(text)))
        else:
            others.append(part)
    options = _read_options(f"postgresql:{place.rpartition('@')[2]}", ours, _POSTGRES_OPTIONS)
    return Postgres(f"postgresql:{place}{'?' if others else ''}{'&'.join(others)}", **options)


def _valkey(url: str, rest: str) -> Storage:
    from factfold.storage._valkey_address import PORT
    from factfold.storage.valkey import Valkey

    scheme = url.partition(":")[0].lower()
    if not rest.startswith("//"):
        raise InvalidUrlError(f"{scheme}: two slashes come next, as in '{scheme}://localhost:{PORT}/0'.")
    credentials, at, public = rest[2:].rpartition("@")
    place, _, query = public.partition("?")
    options = _options(f"{scheme}://{place}", query, _VALKEY_OPTIONS)
    return Valkey(f"{scheme}://{credentials}{at}{place}", **options)


def _boolean(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text.lower()]


_POSTGRES_OPTIONS: Mapping[str, Callable[[str], object]] = {
    "schema": str,
    "timeout": float,
    "pool_size": int,
    "pooler": _boolean,
}

_VALKEY_OPTIONS: Mapping[str, Callable[[str], object]] = {
    "cluster": _boolean,
    "durable": _boolean,
    "min_replicas": int,
    "timeout": float,
    "lease": float,
    "connections": int,
    "prefix": str,
    "ssl_ca_certs": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_check_hostname": _boolean,
}


def _options(url: str, query: str, known: Mapping[str, Callable[[str], object]]) -> dict[str, Any]:
    """What follows the question mark. The values are checked further by the storage's own constructor."""
    return _read_options(url, parse_qsl(query, keep_blank_values=True), known)


def _read_options(
    url: str, given: Iterable[tuple[str, str]], known: Mapping[str, Callable[[str], object]]
) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, text in given:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise InvalidUrlError(f"{url!r}: there is no option {name!r}. {hint}The options are {', '.join(known)}.")
        if name in options:
            raise InvalidUrlError(f"{url!r}: the option {name!r} is given twice.")
        try:
            options[name] = known[name](text)
        except (ValueError, KeyError) as error:
            raise InvalidUrlError(f"{url!r}: the option {name} cannot be {text!r}.") from error
    return options


_SCHEMES: Mapping[str, Callable[[str, str], Storage]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "postgresql": _postgres,
    "postgres": _postgres,
    "valkey": _valkey,
    "valkeys": _valkey,
    "redis": _valkey,
    "rediss": _valkey,
}
_LATER = ("nats",)
