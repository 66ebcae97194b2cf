"""Statements and balances in tables of SQL: a projection into the SQLite file that holds the log."""

from __future__ import annotations

import sqlite3
from typing import TypeAlias

from examples.bank.accounts import Closed, Deposited, Opened, Transferred, Withdrawn, accounts
from factfold import Projection, ProjectionContext, ReadModel

Booking: TypeAlias = ProjectionContext[sqlite3.Connection]

statements = Projection("statements", tables=("statements", "balances"))


@statements.setup
def create(model: ReadModel[sqlite3.Connection]) -> None:
    model.connection.execute(
        f"CREATE TABLE {model.table('balances')} (account TEXT PRIMARY KEY, owner TEXT, cents INTEGER, closed INTEGER)"
    )
    model.connection.execute(
        f"CREATE TABLE {model.table('statements')} (account TEXT, position INTEGER, booked_at TEXT, entry TEXT,"
        " cents INTEGER, balance INTEGER, PRIMARY KEY (account, position)) WITHOUT ROWID"
    )


@statements.on
def opened(event: Opened, booking: Booking) -> None:
    insert = f"INSERT INTO {booking.table('balances')} VALUES (?, ?, 0, 0)"
    booking.connection.execute(insert, (_account(booking), event.owner))


@statements.on
def deposited(event: Deposited, booking: Booking) -> None:
    _book(booking, _account(booking), "deposit", event.amount.cents)


@statements.on
def withdrawn(event: Withdrawn, booking: Booking) -> None:
    _book(booking, _account(booking), "withdrawal", -event.amount.cents)


@statements.on
def transferred(event: Transferred, booking: Booking) -> None:
    reference = f": {event.reference}" if event.reference else ""
    _book(booking, event.source.text, f"to {event.target}{reference}", -event.amount.cents)
    _book(booking, event.target.text, f"from {event.source}{reference}", event.amount.cents)


@statements.on
def closed(event: Closed, booking: Booking) -> None:
    update = f"UPDATE {booking.table('balances')} SET closed = 1 WHERE account = ?"
    booking.connection.execute(update, (_account(booking),))


def _account(booking: Booking) -> str:
    """The account that the event is about; the event itself does not say so."""
    (account,) = accounts.of(booking.recorded)
    return account.parts[0]


def _book(booking: Booking, account: str, entry: str, cents: int) -> None:
    """A line of a statement, with what was on the account after it."""
    balances, lines = booking.table("balances"), booking.table("statements")
    booking.connection.execute(f"UPDATE {balances} SET cents = cents + ? WHERE account = ?", (cents, account))
    at = f"{booking.recorded.recorded_at:%Y-%m-%d %H:%M:%S}"
    booking.connection.execute(
        f"INSERT INTO {lines} SELECT account, ?, ?, ?, ?, cents FROM {balances} WHERE account = ?",
        (booking.recorded.position, at, entry, cents, account),
    )
