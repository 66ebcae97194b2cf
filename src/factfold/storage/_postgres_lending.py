"""Connections of PostgreSQL that are lent to read models: they may do anything in a transaction but end it."""

from __future__ import annotations

from typing import NoReturn

import psycopg
from psycopg.rows import TupleRow

from factfold.storage._postgres_wire import ConnectionLostError, ServerError


class LentConnection(psycopg.Connection[TupleRow]):
    """A connection that does not commit, roll back or close by command; savepoints (`transaction()`) are allowed."""

    def commit(self) -> None:
        """Is refused."""
        _refuse("commit")

    def rollback(self) -> None:
        """Is refused."""
        _refuse("roll back")

    def close(self) -> None:
        """Is refused."""
        _refuse("close the connection")

    def end(self) -> None:
        """Closes it: for its owner."""
        super().close()


class AsyncLentConnection(psycopg.AsyncConnection[TupleRow]):
    """The same for an event loop."""

    async def commit(self) -> None:
        """Is refused."""
        _refuse("commit")

    async def rollback(self) -> None:
        """Is refused."""
        _refuse("roll back")

    async def close(self) -> None:
        """Is refused."""
        _refuse("close the connection")


def loss(error: Exception) -> ServerError | ConnectionLostError:
    """How a connection was lost, of which its borrower has heard by this error."""
    heard: BaseException | None = error
    while heard is not None and not isinstance(heard, psycopg.Error):
        heard = heard.__cause__
    if heard is not None and heard.pgresult is not None:
        return ServerError(heard.pgresult)
    return ConnectionLostError(" ".join(str(heard or error).split()), sent=False)


def _refuse(what: str) -> NoReturn:
    raise psycopg.ProgrammingError(
        f"A handler may not {what}: factfold does, for a whole batch and its checkpoint. To undo a part of what a "
        "handler does, use connection.transaction(), which makes a savepoint."
    )
