"""The bank of the demo: accounts, and transfers that are one event in both accounts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from factfold import Transaction, event, stream


@event(name="demo.opened")
@dataclass(frozen=True, slots=True)
class Opened:
    """An account was opened with a first deposit."""

    deposit: int


@event(name="demo.transferred")
@dataclass(frozen=True, slots=True)
class Transferred:
    """Money went from one account to another; both are named as in their streams' ids."""

    source: str
    target: str
    amount: int


@dataclass(frozen=True, slots=True)
class Account:
    """What is in an account, and how many transfers it took part in."""

    balance: int = 0
    transfers: int = 0


class InsufficientFundsError(Exception):
    """The bank refuses a transfer: the source holds less than the amount."""


@stream("demo.account", initial=Account())
def accounts(state: Account, event: Opened | Transferred, id: str) -> Account:
    """The accounts; the parts of their ids are the run of the demo, and a number."""
    match event:
        case Opened(deposit):
            return replace(state, balance=state.balance + deposit)
        case Transferred(source, _, amount):
            change = -amount if source == id else amount
            return Account(state.balance + change, state.transfers + 1)


def open_account(tx: Transaction, run: str, number: int, deposit: int) -> None:
    """Opens an account."""
    tx.read(accounts(run, number)).append(Opened(deposit))


def transfer(tx: Transaction, run: str, source: int, target: int, amount: int) -> None:
    """Moves money, if there is enough of it."""
    src, dst = tx.read(accounts(run, source), accounts(run, target))
    if src.state.balance < amount:
        raise InsufficientFundsError
    tx.append(Transferred(account_name(run, source), account_name(run, target), amount), src, dst)


def account_name(run: str, number: int) -> str:
    """An account as its stream's id names it, without the category."""
    return f"{run}/{number}"
