"""What all benchmarks are about: accounts, a tally that everybody writes to, and an audit that nothing went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.harness import WrongDataError
from factfold import Store, Transaction, stream


@dataclass(frozen=True)
class Deposited:
    amount: int


@dataclass(frozen=True)
class Withdrawn:
    amount: int


@dataclass(frozen=True)
class Counted:
    pass


@stream("account", initial=0)
def accounts(state: int, event: Deposited | Withdrawn) -> int:
    return state + event.amount if isinstance(event, Deposited) else state - event.amount


@stream("tally", initial=0)
def tallies(state: int, event: Counted) -> int:
    return state + 1


def deposit(tx: Transaction, id: str, amount: int) -> int:
    account = tx.read(accounts(id))
    account.append(Deposited(amount))
    return account.state


def transfer(tx: Transaction, source: str, target: str, amount: int) -> int:
    src, dst = tx.read(accounts(source), accounts(target))
    if src.state < amount:
        raise WrongDataError(f"{source} holds {src.state}, and is to pay {amount}: no benchmark lets that happen")
    src.append(Withdrawn(amount))
    dst.append(Deposited(amount))
    return src.state


def count(tx: Transaction) -> int:
    tally = tx.read(tallies())
    tally.append(Counted())
    return tally.state


def fund(tx: Transaction, ids: Sequence[str], amount: int) -> None:
    """A deposit into each account. Afterwards all of them are cached."""
    for account in tx.read(map(accounts, ids)):
        account.append(Deposited(amount))


def total(tx: Transaction, ids: Sequence[str]) -> int:
    return sum(account.state for account in tx.read(map(accounts, ids)))


def names(number: int) -> list[str]:
    """The ids of so many accounts."""
    return [f"{index:04}" for index in range(number)]


def audit(store: Store, *, ids: Sequence[str], money: int, events: int, counted: int = 0) -> None:
    """Raises WrongDataError unless the log is whole, and holds what the commands that succeeded have written."""
    found = store.verify(accounts, tallies)
    balances = store.execute(total, ids).result
    tallied = store.state(tallies())
    if not found.ok or (found.events, balances, tallied) != (events, money, counted):
        raise WrongDataError(
            f"There are {found.events:,} events, and {events:,} were written; {balances:,} in the accounts, and it is "
            f"to be {money:,}; {tallied:,} on the tally, and it is to be {counted:,}. "
            f"Problems of the log: {'; '.join(found.problems) or 'none'}."
        )
