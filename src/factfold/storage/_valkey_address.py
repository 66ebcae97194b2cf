"""The url of a Valkey or Redis server: where it is, and who connects to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from factfold.errors import InvalidUrlError
from factfold.storage._valkey_wire import Address

SCHEMES = {"valkey": False, "redis": False, "valkeys": True, "rediss": True}
"""Which of them mean TLS."""

PORT = 6379


@dataclass(frozen=True, slots=True)
class Server:
    """What a url says. `addresses`: several are nodes of one cluster. `tls`: options of TLS, None without."""

    addresses: tuple[Address, ...]
    database: int
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    tls: Mapping[str, object] | None
    name: str


def parse(url: str, tls: Mapping[str, object]) -> Server:
    """Reads a url. Raises InvalidUrlError, which does not repeat its password."""
    scheme, colon, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in SCHEMES or not colon:
        raise InvalidUrlError(
            "Valkey: a url begins with valkey://, valkeys:// (TLS), redis:// or rediss:// (TLS), as in "
            f"'valkey://localhost:6379/0', not with {scheme[:20]!r}."
        )
    credentials, _, place = rest.rpartition("@")
    hosts, _, path = place.partition("/")
    name = f"{scheme}://{place}"
    if any(character in rest for character in "?#") or "/" in credentials:
        raise InvalidUrlError(
            f"{scheme}://: in a user or a password, special characters are written as %-codes, as %3F for a question "
            "mark. Options are arguments of Valkey(...), or belong into the url that is given to a store."
        )
    if path and not path.isdecimal():
        raise InvalidUrlError(f"{name!r}: what follows the slash is the number of a database, such as 0, not {path!r}.")
    if tls and not SCHEMES[scheme]:
        raise InvalidUrlError(f"{name!r}: {', '.join(tls)} is for TLS; such urls begin with valkeys:// or rediss://.")
    username, _, password = credentials.partition(":")
    return Server(
        tuple(_address(name, scheme, each) for each in hosts.split(",")),
        int(path or 0),
        unquote(username) or None,
        unquote(password) or None,
        dict(tls) if SCHEMES[scheme] else None,
        name,
    )


def _address(name: str, scheme: str, host: str) -> Address:
    try:
        parts = urlsplit(f"{scheme}://{host}")
        return Address(parts.hostname or "localhost", parts.port or PORT)
    except ValueError as error:
        raise InvalidUrlError(f"{name!r}: {host!r} is not a host and a port ({error}).") from error
