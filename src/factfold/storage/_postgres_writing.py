"""How a log writes: over a session of its own, whose open transaction is the held lock. It does no I/O.

Each operation is a generator. It yields `CONNECT`, and is sent a session; or a session and what to ask it, and is sent
the answer; or `Lend`. Who drives it (`Sessions.perform`, `AsyncSessions.perform`) throws in what is raised, but
interrupts: then the session that was asked has closed itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

from factfold.errors import FactfoldError, LockLostError, OutcomeUnknownError
from factfold.storage._postgres_errors import Place
from factfold.storage._postgres_log import Questions
from factfold.storage._postgres_wire import ConnectionLostError, Question, Script, ServerError
from factfold.storage.base import Append, Appended, Check, Conflict, News

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


class Writing(Generic[S]):
    """The session over which one log writes."""

    def __init__(self, place: Place, questions: Questions) -> None:
        self._place = place
        self._questions = questions
        self.forget()

    def forget(self) -> None:
        """Lets go of the session."""
        self._session: S | None = None
        self._holds = False

    def append(self, append: Append) -> Writes[S, Appended | Conflict]:
        """What `Log.append` promises."""
        self._place.check_open()
        holds, self._holds = self._holds, False
        session = self._held() if holds else (yield from self._free())
        try:
            answer: Appended | Conflict = yield session, self._questions.append(append, ends=holds)
            return answer
        except ConnectionLostError as error:
            if error.sent:
                raise self._outcome_unknown(error) from error
            raise (self._lock_lost() if holds else self._place.lost(error)) from error
        except ServerError as error:
            if error.state == IDLE_TOO_LONG:
                raise self._lock_lost() from error
            if error.fatal:
                raise self._outcome_unknown(error) from error
            yield from self._roll_back()
            raise self._place.meaning(error) from error
        except FactfoldError:
            yield from self._roll_back()
            raise

    def lock(self, check: Check) -> Writes[S, News]:
        """What `Log.lock` promises."""
        self._place.check_open()
        session = yield from self._free()
        try:
            news: News = yield session, self._questions.hold(check)
            self._holds = True
            return news
        except ConnectionLostError as error:
            raise self._place.lost(error) from error
        except ServerError as error:
            yield from self._roll_back()
            raise self._place.meaning(error) from error
        except FactfoldError:
            yield from self._roll_back()
            raise

    def unlock(self) -> Writes[S, None]:
        """What `Log.unlock` promises."""
        self._holds = False
        yield from self._roll_back()

    def abandon(self) -> None:
        """Ends the session, if an operation was interrupted and has left a transaction open: no lock outlives it."""
        if self._session is not None and self._session.in_transaction:
            self._session.close()

    def _roll_back(self) -> Writes[S, None]:
        if self._session is not None:
            yield from roll_back(self._session)

    def _free(self) -> Writes[S, S]:
        """The session, without an open transaction."""
        yield from self._roll_back()
        if self._session is None or not self._session.is_usable():
            self._session = yield CONNECT
        assert self._session is not None  # It has just been made.
        return self._session

    def _held(self) -> S:
        """The session, with the transaction that holds the lock."""
        if self._session is None or not self._session.is_usable() or not self._session.in_transaction:
            raise self._lock_lost()
        return self._session

    def _lock_lost(self) -> FactfoldError:
        return LockLostError(
            f"{self._questions.name}: the connection that held the writers' lock was lost while a batch was decided "
            "under it. Nothing was written."
        )

    def _outcome_unknown(self, error: Exception) -> FactfoldError:
        return OutcomeUnknownError(
            f"{self._questions.name}: the connection was lost while events were appended ({error}), and it is open "
            "whether they were."
        )
