"""A ledger of accounts: the streams, events and commands that many tests share."""

from __future__ import annotations

from dataclasses import dataclass, replace

from factfold import Transaction, event, stream


@dataclass(frozen=True)
class Opened:
    owner: str


@dataclass(frozen=True)
class Renamed:
    owner: str


@dataclass(frozen=True)
class Deposited:
    amount: int


@dataclass(frozen=True)
class Withdrawn:
    amount: int


@event(streams=("ledger", "ledger"))
@dataclass(frozen=True)
class Transferred:
    source: str
    target: str
    amount: int


@dataclass(frozen=True)
class Account:
    owner: str = ""
    balance: int = 0


@stream("ledger", initial=Account())
def accounts(state: Account, event: Opened | Renamed | Deposited | Withdrawn | Transferred, id: str) -> Account:
    match event:
        case Opened(owner) | Renamed(owner):
            return replace(state, owner=owner)
        case Deposited(amount):
            return replace(state, balance=state.balance + amount)
        case Withdrawn(amount):
            return replace(state, balance=state.balance - amount)
        case Transferred(source, target, amount):
            return replace(state, balance=state.balance + amount * ((target == id) - (source == id)))


@stream("ledger", initial="")
def owners(state: str, event: Opened | Renamed) -> str:
    """Looks at names only."""
    return event.owner


@stream("ledger", initial=0)
def balances(state: int, event: Deposited | Withdrawn | Transferred, id: str) -> int:
    """Looks at money only."""
    match event:
        case Deposited(amount):
            return state + amount
        case Withdrawn(amount):
            return state - amount
        case Transferred(source, target, amount):
            return state + amount * ((target == id) - (source == id))


@stream("ledger", initial=0)
def deposits(state: int, event: Deposited) -> int:
    """How often something was deposited."""
    return state + 1


class InsufficientFundsError(Exception):
    """A command's own exception."""


def open_account(tx: Transaction, id: str, owner: str) -> None:
    tx.read(accounts(id)).append(Opened(owner))


def rename(tx: Transaction, id: str, owner: str) -> None:
    tx.read(owners(id)).append(Renamed(owner))


def deposit(tx: Transaction, id: str, amount: int = 1) -> int:
    account = tx.read(accounts(id))
    account.append(Deposited(amount))
    return account.state.balance


def withdraw(tx: Transaction, id: str, amount: int) -> int:
    account = tx.read(accounts(id))
    if account.state.balance < amount:
        raise InsufficientFundsError(id, account.state.balance, amount)
    account.append(Withdrawn(amount))
    return account.state.balance


def transfer(tx: Transaction, source: str, target: str, amount: int) -> int:
    giver, taker = tx.read(accounts(source), accounts(target))
    if giver.state.balance < amount:
        raise InsufficientFundsError(source, giver.state.balance, amount)
    tx.append(Transferred(source, target, amount), giver, taker)
    return giver.state.balance


def balance(tx: Transaction, id: str) -> int:
    return tx.read(accounts(id)).state.balance
