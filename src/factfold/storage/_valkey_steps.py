"""What the engine asks a driver to do, and how a command finds its server: an operation is a generator of requests.

The operations of `_valkey_log` are written once. `_valkey_threads` and `_valkey_tasks` run them: each performs a
request, and sends back the replies or throws the error.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from typing import TypeAlias, TypeVar

from msgspec import Struct

from factfold.errors import (
    OutcomeUnknownError,
    StorageError,
    StorageFormatError,
    StorageFullError,
    StorageReadOnlyError,
    StoreUnavailableError,
)
from factfold.storage._valkey_wire import Address, Refusal, Reply, Script, Word, Words, binary, items, number

T = TypeVar("T")

PAUSE = 0.02
LONGEST_PAUSE = 0.25
"""Seconds between two attempts to reach a server: the first pause, and what it grows to."""


class Rules(Struct, frozen=True):
    """The options that operations need: seconds, and a number of replicas."""

    timeout: float
    lease: float
    min_replicas: int


class Send(Struct, frozen=True):
    """Send commands to a server at once, and give the reply to each.

    `reading`: takes one of the connections for reading, and waits when all are in use.
    """

    address: Address
    commands: tuple[Words, ...]
    reading: bool


class Pause(Struct, frozen=True):
    """Wait for so many seconds."""

    seconds: float


Request: TypeAlias = Send | Pause
Replies: TypeAlias = Sequence[Reply]
Steps: TypeAlias = Generator[Request, Replies, T]


class ConnectionLostError(Exception):
    """A connection could not be made, or broke. `sent`: the server may have got the commands, and done them."""

    def __init__(self, reason: str, *, sent: bool, final: bool = False) -> None:
        super().__init__(reason)
        self.sent = sent
        self.final = final  # nothing that time heals, such as a wrong password


class Route:
    """Where the primary of a namespace is, and how to find it again.

    Outside of a cluster there is one server. In a cluster a namespace is one slot: its server is asked for when it is
    not known, has moved, or is gone.
    """

    def __init__(self, name: str, seeds: Sequence[Address], slot: int | None, timeout: float) -> None:
        self.name = name
        self.address = seeds[0]
        self._nodes = list(seeds)
        self._slot = slot
        self._timeout = timeout

    def command(self, *words: Word, reading: bool = True) -> Steps[Reply]:
        """Sends a command that may be done twice, for as long as it takes to reach a server."""
        return (yield from self.commands((words,), reading=reading))[0]

    def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Word], *, reading: bool = True
    ) -> Steps[Sequence[Reply]]:
        """Runs a script that may be run twice."""
        replies = yield from self.commands((_evalsha(script, keys, arguments),), reading=reading)
        if _is_missing(replies[0]):
            replies = yield from self.commands((_eval(script, keys, arguments),), reading=reading)
        return items(replies[0])

    def run_once(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Word], then: tuple[Words, ...] = ()
    ) -> Steps[Replies]:
        """Runs a script that must not be run twice, and then sends more commands on the same connection.

        Raises OutcomeUnknownError when it was sent and the answer did not come.
        """
        replies = yield from self.commands((_evalsha(script, keys, arguments), *then), reading=False, once=True)
        if _is_missing(replies[0]):
            replies = yield from self.commands((_eval(script, keys, arguments), *then), reading=False, once=True)
        return replies

    def commands(self, commands: tuple[Words, ...], *, reading: bool, once: bool = False) -> Steps[Replies]:
        """Sends commands to the primary; the first of them decides whether they came to the right server."""
        deadline = time.monotonic() + self._timeout
        pause = PAUSE
        asking: Address | None = None
        while True:
            reason: str
            address = asking or self.address
            ahead: tuple[Words, ...] = (("ASKING",),) if asking else ()
            asking = None
            try:
                replies = yield Send(address, ahead + commands, reading)
            except ConnectionLostError as error:
                if error.final:
                    raise StoreUnavailableError(f"{self.name}: {error}") from error
                if error.sent and once:
                    raise OutcomeUnknownError(
                        f"{self.name}: the connection to {address} broke while something was written ({error}). "
                        "Whether it was is not known yet."
                    ) from error
                reason = str(error)
                yield from self._look_around(address)
            else:
                replies = replies[len(ahead) :]
                first = replies[0]
                if not isinstance(first, Refusal) or first.code == "NOSCRIPT":
                    return replies
                reason = f"{first.code} {first.text}"
                if first.code in ("MOVED", "ASK") and self._slot is not None:
                    target = _target(first.text, address)
                    if first.code == "ASK":
                        asking = target
                    else:
                        self._moved_to(target)
                    pause, wait = PAUSE, 0.0
                    if time.monotonic() < deadline:
                        continue
                elif first.code not in _TRANSIENT and not (self._slot is not None and first.code == "READONLY"):
                    raise self._error(first)
                else:
                    yield from self._look_around(address)
            wait = min(pause, deadline - time.monotonic())
            if wait <= 0:
                raise StoreUnavailableError(
                    f"{self.name}: the server could not be reached for {self._timeout} seconds ({reason}). Nothing was "
                    "written. See whether it is running and reachable from here."
                )
            yield Pause(wait)
            pause = min(pause * 2, LONGEST_PAUSE)

    def locate(self) -> Steps[None]:
        """Finds the server of the namespace, when it opens."""
        yield from self._look_around(None)

    def _moved_to(self, address: Address) -> None:
        self.address = address
        if address not in self._nodes:
            self._nodes.append(address)

    def _look_around(self, failed: Address | None) -> Steps[None]:
        """In a cluster: asks the others first who serves the slot now."""
        if self._slot is None:
            return
        for node in sorted(self._nodes, key=lambda each: each == failed):
            try:
                (reply,) = yield Send(node, (("CLUSTER", "SLOTS"),), reading=False)
            except ConnectionLostError:
                continue
            if isinstance(reply, Refusal):
                continue
            ranges = [items(each) for each in items(reply)]
            for first, last, primary, *replicas in ranges:
                servers = [_server(each, node) for each in (primary, *replicas)]
                self._nodes += [server for server in servers if server not in self._nodes]
                if number(first) <= self._slot <= number(last):
                    self.address = servers[0]
            if self.address != failed:
                return

    def _error(self, refusal: Refusal) -> StorageError:
        """The error to raise for a command that a server does not want to do."""
        text = f"{self.name}: {{}} ({refusal.code} {refusal.text})"
        match refusal.code:
            case "OOM":
                return StorageFullError(
                    text.format(
                        "the server's memory is full; nothing was written. Give it more (maxmemory), or move "
                        "namespaces to another server"
                    )
                )
            case "MISCONF":
                return StorageFullError(text.format("the server cannot write its file; nothing was written"))
            case "READONLY":
                return StorageReadOnlyError(text.format("the server is a replica; give the url of its primary"))
            case "MOVED" | "ASK" | "CROSSSLOT":
                return StoreUnavailableError(
                    text.format("the server is part of a cluster; add cluster=true to the url")
                )
            case "WRONGTYPE":
                return StorageFormatError(
                    text.format(
                        "a key in the way has another type than factfold's own; nothing was written. Remove it, or "
                        "use another prefix or database number"
                    )
                )
            case "NOPERM" | "NOAUTH" | "WRONGPASS":
                return StoreUnavailableError(text.format("the server does not let this user do it"))
            case _:
                return StoreUnavailableError(text.format("the server refused a command"))


_TRANSIENT = frozenset({"LOADING", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "UNBLOCKED", "NOREPLICAS", "BUSY"})
"""What a server says while it starts, or while a cluster finds a new primary. Nothing was done."""


def _evalsha(script: Script, keys: Sequence[str], arguments: Sequence[Word]) -> Words:
    return ("EVALSHA", script.sha, len(keys), *keys, *arguments)


def _eval(script: Script, keys: Sequence[str], arguments: Sequence[Word]) -> Words:
    return ("EVAL", script.text, len(keys), *keys, *arguments)


def _is_missing(reply: Reply) -> bool:
    """Whether the server does not know the script: it was restarted, has failed over, or forgot it by command."""
    return isinstance(reply, Refusal) and reply.code == "NOSCRIPT"


def _target(text: str, asked: Address) -> Address:
    """The server in "SLOT HOST:PORT"; without a host it is that of the server that was asked."""
    host, _, port = text.split()[1].rpartition(":")
    return Address(host or asked.host, int(port))


def _server(reply: Reply, asked: Address) -> Address:
    host, port, *_ = items(reply)
    return Address(binary(host).decode() if host else asked.host, number(port))
