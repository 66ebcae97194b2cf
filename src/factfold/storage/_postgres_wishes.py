"""What operations that write wish of whoever drives them. They are generators and do no I/O.

Each yields `CONNECT`, and is sent a session; or a session and what to ask it, and is sent the answer; or `Lend`. Who
drives it (`Sessions.perform`, `AsyncSessions.perform`) throws in what is raised, but interrupts: then the session that
was asked has closed itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

from factfold.storage._postgres_wire import ConnectionLostError, Question, Script, ServerError

IDLE_TOO_LONG = "25P03"
"""The SQLSTATE with which the server ends a transaction that has held the lock for too long."""


class Connect(Enum):
    """The wish for a new session."""

    CONNECT = 0


CONNECT: Final = Connect.CONNECT


class AnySession(Protocol):
    """What has to be known of a session."""

    @property
    def closed(self) -> bool: ...
    @property
    def in_transaction(self) -> bool: ...
    @property
    def has_failed(self) -> bool: ...
    def is_usable(self) -> bool: ...
    def close(self) -> None: ...


R = TypeVar("R")
S = TypeVar("S", bound=AnySession)


@dataclass(frozen=True, slots=True)
class Lend(Generic[S]):
    """The wish that somebody else works with the driver's connection of a session."""

    session: S
    body: Callable[[object], object]


Writes: TypeAlias = Generator[Connect | tuple[S, Question[Any] | Script] | Lend[S], Any, R]


def roll_back(session: S) -> Writes[S, None]:
    """Ends the transaction that is open, if there is one. Whatever goes wrong, it ends."""
    if not session.closed and session.in_transaction:
        try:
            yield session, Script(b"ROLLBACK")
        except (ServerError, ConnectionLostError):
            session.close()
