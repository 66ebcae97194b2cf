"""Transactions in which read models change: a swap, then somebody else's work on the connection, and a commit of both.

It does no I/O, see `_postgres_wishes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

import psycopg

from factfold.errors import StorageError
from factfold.storage._postgres_errors import Place
from factfold.storage._postgres_log import Questions
from factfold.storage._postgres_wire import ConnectionLostError, Question, ServerError
from factfold.storage._postgres_wishes import CONNECT, IDLE_TOO_LONG, Lend, R, S, Writes, roll_back
from factfold.storage.base import Put, Swap

ANOTHER_TRANSACTION = "2D000"
"""The SQLSTATE with which `factfold.finish` refuses to commit another transaction than the one begun."""


class Transactions(Generic[S]):
    """The sessions over which the transactions of one log run: each has one for itself, and leaves it to the next."""

    def __init__(self, place: Place, questions: Questions) -> None:
        self._place = place
        self._questions = questions
        self.forget()

    def forget(self) -> None:
        """Lets go of the sessions."""
        self._idle: list[S] = []

    def transact(self, swap: Swap, body: Callable[[object], object]) -> Writes[S, bool]:
        """What `TransactionalLog.transact` promises."""
        self._place.check_open()
        session = self._idle_one()
        if session is None:
            session = yield CONNECT
        try:
            swapped = yield from _answer(self._place, session, self._questions.transact(swap))
            if swapped:
                yield from committing(self._place, self._questions, session, body)
        except Exception:
            yield from roll_back(session)
            self._keep(session)
            raise
        except BaseException:  # An interrupt: the server rolls back.
            session.close()
            raise
        yield from roll_back(session)
        self._keep(session)
        return swapped

    def _idle_one(self) -> S | None:
        while self._idle:
            session = self._idle.pop()
            if session.is_usable():
                return session
        return None

    def _keep(self, session: S) -> None:
        if not session.closed:
            self._idle.append(session)


def committing(place: Place, questions: Questions, session: S, body: Callable[[object], object]) -> Writes[S, None]:
    """Has `body` work in the open transaction of a session, and commits it with the `Put` that it gives, if it does."""
    try:
        given: object = yield Lend(session, body)
    except ConnectionLostError as error:
        raise place.lost(error) from error
    except ServerError as error:  # The last that the borrower has heard.
        raise (place.stood_still() if error.state == IDLE_TOO_LONG else place.lost(error)) from error
    if session.has_failed:
        raise StorageError(
            f"{questions.name}: a statement of a handler has failed, and the handler went on. PostgreSQL does not "
            "commit after that; nothing was written. Let the error through, or do what may fail within "
            "connection.transaction(), which makes a savepoint."
        )
    if not session.closed and not session.in_transaction:
        raise _was_ended(questions.name)
    if isinstance(given, Put):
        yield from _answer(place, session, questions.put(given.place, given.key, given.value))
    try:
        yield session, questions.finish()
    except ConnectionLostError as error:
        raise (place.unknown(error) if error.sent else place.lost(error)) from error
    except ServerError as error:
        if error.state == IDLE_TOO_LONG:
            raise place.stood_still() from error
        if error.fatal:
            raise place.unknown(error) from error
        if error.state == ANOTHER_TRANSACTION:
            raise _was_ended(questions.name) from error
        # A constraint that is checked at the end, for one: it is the handler's, and so is the error.
        raise _errors_of(error.state)(str(error)) from error


def _answer(place: Place, session: S, question: Question[R]) -> Writes[S, R]:
    """What a question in the transaction is answered with, which is not its end."""
    try:
        answer: R = yield session, question
    except ConnectionLostError as error:
        raise place.lost(error) from error
    except ServerError as error:
        raise (place.lost(error) if error.fatal else place.meaning(error)) from error
    return answer


def _was_ended(name: str) -> StorageError:
    return StorageError(
        f"{name}: a handler has ended the transaction, by COMMIT or ROLLBACK in SQL. factfold commits, for a whole "
        "batch and its checkpoint; what that handler has committed may be there without what came after it. Remove the "
        "statement. To undo a part of what a handler does, use connection.transaction(), which makes a savepoint."
    )


def _errors_of(state: str) -> type[psycopg.Error]:
    try:
        return psycopg.errors.lookup(state)
    except KeyError:  # One that an extension has made up.
        return psycopg.DatabaseError
