"""How a log writes: over a session of its own, whose open transaction is the held lock. It does no I/O.

Where something comes in between, the session that was asked has closed itself, or is closed by `abandon`.
"""

from __future__ import annotations

from typing import Generic

from factfold.errors import FactfoldError, LockLostError, OutcomeUnknownError
from factfold.storage._postgres_errors import Place
from factfold.storage._postgres_log import Questions
from factfold.storage._postgres_transactions import committing
from factfold.storage._postgres_wire import ConnectionLostError, ServerError
from factfold.storage._postgres_wishes import CONNECT, IDLE_TOO_LONG, S, Writes, roll_back
from factfold.storage.base import Append, Appended, Check, Conflict, Inline, News, events_of


class Writing(Generic[S]):
    """The session over which one log writes; and what accompanies its appends."""

    def __init__(self, place: Place, questions: Questions) -> None:
        self.inline: Inline | None = None
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
        session = self._held() if holds else self._idle() or (yield from self._free())
        inline = self.inline
        answer: Appended | Conflict
        try:
            answer = yield session, self._questions.append(append, inline, held=holds)
            if inline is not None:
                yield from self._accompany(session, append, answer, inline)
            return answer
        except ConnectionLostError as error:
            if error.sent and inline is None:
                raise self._outcome_unknown(error) from error
            raise (self._lock_lost() if holds else self._place.lost(error)) from error
        except ServerError as error:
            if error.state == IDLE_TOO_LONG:
                raise self._lock_lost() from error
            if error.fatal:
                raise (self._outcome_unknown(error) if inline is None else self._place.lost(error)) from error
            yield from self._roll_back()
            raise self._place.meaning(error) from error
        except Exception:  # What a handler raises, too.
            yield from self._roll_back()
            raise

    def _accompany(self, session: S, append: Append, answer: Appended | Conflict, inline: Inline) -> Writes[S, None]:
        """What is done in the transaction of an append, and its commit."""
        if isinstance(answer, Conflict):
            yield from self._roll_back()
            return
        events = events_of(append, answer)
        yield from committing(
            self._place, self._questions, session, lambda connection: inline.handle(connection, events)
        )

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

    def _idle(self) -> S | None:
        """The session, if it has no open transaction, as is the rule."""
        session = self._session
        return None if session is None or session.in_transaction or not session.is_usable() else session

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
