"""Wallets whose events have changed over the years: names, versions, and what of all that stands in a log."""

from __future__ import annotations

from dataclasses import dataclass, replace

from factfold import JSON, Transaction, event, stream, upcast
from factfold.storage.base import Appended, NewEvent, Storage
from factfold.testing.contract.running import one_log
from factfold.testing.contract.scribe import appending, new


@dataclass(frozen=True)
class Money:
    value: int
    currency: str


@event(name="wallet.paid", version=3, was=["Paid"])
@dataclass(frozen=True)
class Paid:
    """Version 1 was {"cents": 5, "clerk": "ann"}, version 2 {"amount": 5}, then without currency."""

    amount: Money
    note: str = ""


@upcast(Paid, 1)
def named_amount(data: dict[str, JSON]) -> dict[str, JSON]:
    return {"amount": data["cents"]}


@upcast(Paid, 2)
def with_currency(data: dict[str, JSON]) -> dict[str, JSON]:
    data["amount"] = {"value": data["amount"], "currency": "EUR"}
    return data


@dataclass(frozen=True)
class Emptied:
    """Has never changed."""


@dataclass(frozen=True)
class Wallet:
    value: int = 0
    currencies: tuple[str, ...] = ()


@stream("wallet", initial=Wallet(), snapshot_every=100)
def wallets(state: Wallet, event: Paid | Emptied) -> Wallet:
    match event:
        case Paid(Money(value, currency)):
            return replace(state, value=state.value + value, currencies=(*state.currencies, currency))
        case Emptied():
            return Wallet()


def pay(tx: Transaction, id: str, value: int) -> int:
    """Gives what is in the wallet then."""
    wallet = tx.read(wallets(id))
    wallet.append(Paid(Money(value, "CHF")))
    return wallet.state.value


HISTORY = (
    new("wallet:ann", type="Paid", type_version=1, data=b'{"cents":1,"clerk":"cid"}'),
    new("wallet:ann", type="Paid", type_version=2, data=b'{"amount":2}'),
    new("wallet:bob", type="Emptied", data=b"{}"),
    new("wallet:ann", type="wallet.paid", type_version=2, data=b'{"amount":3,"note":"rent"}'),
    new("wallet:ann", type="wallet.paid", type_version=3, data=b'{"amount":{"value":4,"currency":"CHF"},"seen":true}'),
)
"""What three versions of this program have written."""

TODAY = (
    Paid(Money(1, "EUR")),
    Paid(Money(2, "EUR")),
    Emptied(),
    Paid(Money(3, "EUR"), "rent"),
    Paid(Money(4, "CHF")),
)
"""The same as events of today."""

PAID = tuple([event for event in TODAY if isinstance(event, Paid)])
"""Those of ann."""


def write(storage: Storage, *events: NewEvent) -> None:
    """Appends events as they are, as another version of the program would."""
    with one_log(storage, "default") as log:
        assert isinstance(log.append(appending(events, log.head())), Appended)
