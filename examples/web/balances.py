"""The balances of all accounts as a table: a projection that keeps it, and the query that reads it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from examples.bank.accounts import Closed, Deposited, Opened, Transferred, Withdrawn, accounts
from examples.web.errors import NotBuiltYetError
from factfold import Projection, ProjectionContext, ReadModel, Retry

Context = ProjectionContext[sqlite3.Connection]

balances = Projection("balances", retry=Retry(max_attempts=3, base=0.05, cap=0.5), lease=3.0)
"""Each process runs it; one of them does the work, and another one takes over within three seconds if that dies."""


@balances.setup
def _(model: ReadModel[sqlite3.Connection]) -> None:
    model.connection.execute(
        f"CREATE TABLE {model.table('balances')}"
        " (account TEXT PRIMARY KEY, owner TEXT NOT NULL, balance INTEGER NOT NULL, open INTEGER NOT NULL,"
        " position INTEGER NOT NULL)"
    )


@balances.on
def _(event: Opened, context: Context) -> None:
    context.connection.execute(
        f"INSERT INTO {context.table('balances')} VALUES (?, ?, 0, 1, ?)",
        (_account(context), event.owner, context.recorded.position),
    )


@balances.on
def _(event: Deposited | Withdrawn, context: Context) -> None:
    cents = event.amount.cents if isinstance(event, Deposited) else -event.amount.cents
    _change(context, _account(context), cents)


@balances.on
def _(event: Transferred, context: Context) -> None:
    _change(context, event.source.text, -event.amount.cents)
    _change(context, event.target.text, event.amount.cents)


@balances.on
def _(event: Closed, context: Context) -> None:
    context.connection.execute(
        f"UPDATE {context.table('balances')} SET open = 0, position = ? WHERE account = ?",
        (context.recorded.position, _account(context)),
    )


def _account(context: Context) -> str:
    """The account that an event is about, which does not name it itself."""
    (stream,) = accounts.of(context.recorded)
    return stream.parts[0]


def _change(context: Context, account: str, cents: int) -> None:
    context.connection.execute(
        f"UPDATE {context.table('balances')} SET balance = balance + ?, position = ? WHERE account = ?",
        (cents, context.recorded.position, account),
    )


@dataclass(frozen=True, slots=True)
class Row:
    account: str
    owner: str
    balance: int


@dataclass(frozen=True, slots=True)
class Balances:
    """All open accounts, and the position of the last event that is in them: GET /events?after= goes on from there."""

    position: int
    accounts: tuple[Row, ...]


def read_balances(path: Path) -> Balances:
    """What the view shows, in one query. Raises NotBuiltYetError before there is one. Does I/O."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'balances'").fetchone() is None:
            raise NotBuiltYetError
        rows = connection.execute(
            "SELECT account, owner, balance, open, position FROM balances ORDER BY account"
        ).fetchall()
    shown = tuple(Row(account, owner, balance) for account, owner, balance, is_open, _ in rows if is_open)
    return Balances(max((row[-1] for row in rows), default=0), shown)
