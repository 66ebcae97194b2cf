"""Orders as they come in a request: plain data that is a command, to be carried out once under the client's key."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeAlias

import msgspec

from examples.bank.commands import deposit, open_account, transfer
from examples.bank.money import AccountId, Money
from examples.web.errors import InvalidKeyError, OtherOrderError
from factfold import Receipt, Transaction


@dataclass(frozen=True, slots=True)
class Done:
    """What an order came to, as it is kept under its key; and a mark of the order, which a repetition must have too."""

    balance: int
    mark: str


@dataclass(frozen=True, slots=True)
class OpenAccount:
    id: str
    owner: str

    def __post_init__(self) -> None:
        _check_text(self.owner)

    def __call__(self, tx: Transaction) -> Done:
        open_account(tx, AccountId(self.id), self.owner)
        return Done(0, mark_of(self))


@dataclass(frozen=True, slots=True)
class Deposit:
    account: str
    cents: int

    def __call__(self, tx: Transaction) -> Done:
        return Done(deposit(tx, AccountId(self.account), Money(self.cents)), mark_of(self))


@dataclass(frozen=True, slots=True)
class Transfer:
    source: str
    target: str
    cents: int
    reference: str = ""

    def __post_init__(self) -> None:
        _check_text(self.reference)

    def __call__(self, tx: Transaction) -> Done:
        source, target = AccountId(self.source), AccountId(self.target)
        return Done(transfer(tx, source, target, Money(self.cents), self.reference), mark_of(self))


Order: TypeAlias = OpenAccount | Deposit | Transfer


@dataclass(frozen=True, slots=True)
class Answer:
    """The new balance in cents, and the position that GET /balances?after= is to wait for."""

    balance: int
    position: int | None


def _check_text(text: str) -> None:
    """Raises ValueError, which both frameworks tell the client, for what JSON can hold and no text is."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{text!r} is no text: half of a surrogate pair at {error.start}") from None


_PREFIX = "order:"


def mark_of(order: Order) -> str:
    """The same for the same order. The order itself need not be kept a second time."""
    return sha256(msgspec.json.encode(order)).hexdigest()


def checked_key(key: str | None) -> str:
    """The client's key. Raises InvalidKeyError when it is none."""
    if key is None or not re.fullmatch(r"[\w-]{8,64}", key, re.ASCII):
        raise InvalidKeyError(key)
    return key


def stored_key(key: str) -> str:
    """The key as the store knows it, apart from keys that do not come from clients."""
    return f"{_PREFIX}{key}"


def client_key(stored: str) -> str:
    """The key as the client knows it."""
    return stored.removeprefix(_PREFIX)


def answer_to(order: Order, key: str, receipt: Receipt[Done]) -> Answer:
    """What the client is told, each time the same. Raises OtherOrderError when the key was for another order.

    The store tells commands apart by their names; that a transfer has other arguments now is for the service to see.
    """
    if receipt.result.mark != mark_of(order):
        raise OtherOrderError(key)
    return Answer(receipt.result.balance, receipt.position)
