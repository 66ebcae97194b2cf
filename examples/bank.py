"""A bank: accounts are streams, and a transfer is a command over two of them.

python examples/bank.py                      in memory
python examples/bank.py sqlite:///bank.db    in a file; `factfold log sqlite:///bank.db` shows what happened
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from typing import TypeAlias

from factfold import Store, Transaction, stream

# -- Small types: what is made once is valid everywhere ----------------------------------------------------------------


@dataclass(frozen=True)
class AccountId:
    """The name of an account: lower case letters, digits and hyphens."""

    text: str

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z][a-z0-9-]{0,39}", self.text):
            raise ValueError(f"{self.text!r} is no account: up to 40 of a-z, 0-9 and '-' are, beginning with a letter")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Money:
    """A sum that changes hands: at least one cent."""

    cents: int

    def __post_init__(self) -> None:
        if type(self.cents) is not int or self.cents < 1:
            raise ValueError(f"{self.cents!r} is no amount: a whole number of cents is, from 1 on")

    def __str__(self) -> str:
        return in_euros(self.cents)


def in_euros(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02} EUR"


# -- Events: what can happen -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Opened:
    owner: str


@dataclass(frozen=True)
class Deposited:
    amount: Money


@dataclass(frozen=True)
class Withdrawn:
    amount: Money


@dataclass(frozen=True)
class Closed:
    pass


# -- State: what they come to. An account that is not open has no balance that anybody could look at -------------------


@dataclass(frozen=True)
class Open:
    owner: str
    balance: int = 0


@dataclass(frozen=True)
class Gone:
    pass


Account: TypeAlias = Open | Gone | None
AccountEvent: TypeAlias = Opened | Deposited | Withdrawn | Closed


@stream("account", initial=None)
def accounts(state: Account, event: AccountEvent) -> Account:
    match state, event:
        case None, Opened(owner):
            return Open(owner)
        case Open(balance=balance), Deposited(amount):
            return replace(state, balance=balance + amount.cents)
        case Open(balance=balance), Withdrawn(amount):
            return replace(state, balance=balance - amount.cents)
        case Open(), Closed():
            return Gone()
    raise ValueError(f"{event} cannot happen to {state}")


# -- Commands: what decides. Plain functions of a transaction and their arguments --------------------------------------


class RefusedError(Exception):
    """The bank says no, and why."""


def open_account(tx: Transaction, id: AccountId, owner: str) -> None:
    account = tx.read(accounts(id.text))
    if account.state is not None:
        raise RefusedError(f"{id} was opened before")
    account.append(Opened(owner))


def balance(tx: Transaction, id: AccountId) -> int:
    return _opened(id, tx.read(accounts(id.text)).state).balance


def deposit(tx: Transaction, id: AccountId, amount: Money) -> int:
    account = tx.read(accounts(id.text))
    _opened(id, account.state)
    account.append(Deposited(amount))
    return _opened(id, account.state).balance  # the state already holds what this command appended


def withdraw(tx: Transaction, id: AccountId, amount: Money) -> int:
    account = tx.read(accounts(id.text))
    there = _opened(id, account.state).balance
    if there < amount.cents:
        raise RefusedError(f"{id} holds {in_euros(there)}, which is less than {amount}")
    account.append(Withdrawn(amount))
    return there - amount.cents


def transfer(tx: Transaction, source: AccountId, target: AccountId, amount: Money) -> int:
    """Commands are made of commands: both accounts change, or neither does."""
    if source == target:
        raise RefusedError(f"{source} cannot transfer to itself")
    left = tx.call(withdraw, source, amount)
    tx.call(deposit, target, amount)
    return left


def close(tx: Transaction, id: AccountId) -> None:
    account = tx.read(accounts(id.text))
    if there := _opened(id, account.state).balance:
        raise RefusedError(f"{id} still holds {in_euros(there)}")
    account.append(Closed())


def _opened(id: AccountId, state: Account) -> Open:
    if not isinstance(state, Open):
        raise RefusedError(f"{id} is not open")
    return state


# -- A day at the bank -------------------------------------------------------------------------------------------------


def main(url: str) -> None:
    alice, bob = AccountId("alice"), AccountId("bob")
    with Store(url) as store:
        store.execute(open_account, alice, "Alice Liddell")
        store.execute(open_account, bob, "Bob Cratchit")
        print("alice deposits 100 EUR and has", in_euros(store.execute(deposit, alice, Money(100_00)).result))

        receipt = store.execute(transfer, alice, bob, Money(30_00))
        print(f"alice transfers 30 EUR to bob and has {in_euros(receipt.result)}: up to position {receipt.position}")

        for what, attempt in (
            ("bob transfers 50 EUR to alice", lambda: store.execute(transfer, bob, alice, Money(50_00))),
            ("bob closes his account", lambda: store.execute(close, bob)),
            ("bob withdraws -5 EUR", lambda: store.execute(withdraw, bob, Money(-5_00))),
        ):
            try:
                attempt()
            except (RefusedError, ValueError) as refusal:
                print(f"{what}: refused, {refusal}")

        print("bob withdraws 30 EUR and has", in_euros(store.execute(withdraw, bob, Money(30_00)).result))
        store.execute(close, bob)
        print("bob closes his account\n\nThe log:")
        for recorded in store.log(types=accounts):
            print(f"{recorded.position:3}  {', '.join(recorded.streams):14}  {recorded.event}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory:")
