"""Accounts: what can happen to one, and what that comes to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

from examples.bank.money import AccountId, Money
from factfold import Stream, event, stream

# -- Events: what can happen -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    owner: str


@dataclass(frozen=True, slots=True)
class Deposited:
    amount: Money


@dataclass(frozen=True, slots=True)
class Withdrawn:
    amount: Money


@event(streams=("account", "account"))
@dataclass(frozen=True, slots=True)
class Transferred:
    """One fact about two accounts: it stands in the log once, and in both of them."""

    source: AccountId
    target: AccountId
    amount: Money
    reference: str = ""


@dataclass(frozen=True, slots=True)
class OverdraftAgreed:
    """From now on the balance may go down to minus this many cents."""

    limit: int


@dataclass(frozen=True, slots=True)
class Closed:
    pass


AccountEvent: TypeAlias = Opened | Deposited | Withdrawn | Transferred | OverdraftAgreed | Closed

# -- State: what it comes to -------------------------------------------------------------------------------------------


class Status(Enum):
    """How far an account has come in its life."""

    UNKNOWN = "not known"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Account:
    """Balance and overdraft are in cents; a balance below zero is what the owner owes."""

    status: Status = Status.UNKNOWN
    owner: str = ""
    balance: int = 0
    overdraft: int = 0

    @property
    def available(self) -> int:
        """What may leave the account."""
        return self.balance + self.overdraft


@stream("account", initial=Account())
def accounts(state: Account, event: AccountEvent, id: str) -> Account:
    """The accounts. A transfer is told apart by the id: it comes or it goes."""
    match event:
        case Opened(owner):
            return Account(Status.OPEN, owner)
        case Deposited(amount):
            return replace(state, balance=state.balance + amount.cents)
        case Withdrawn(amount):
            return replace(state, balance=state.balance - amount.cents)
        case Transferred(source=source, amount=amount):
            change = -amount.cents if source.text == id else amount.cents
            return replace(state, balance=state.balance + change)
        case OverdraftAgreed(limit):
            return replace(state, overdraft=limit)
        case Closed():
            return replace(state, status=Status.CLOSED, overdraft=0)


def account(id: AccountId) -> Stream[Account, AccountEvent]:
    """The stream of an account. Whoever has an AccountId has a valid one."""
    return accounts(id.text)
