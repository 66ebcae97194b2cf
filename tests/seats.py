"""Seats beside the ledger: a log with streams of two categories, whose events are partly shared between folds."""

from __future__ import annotations

from dataclasses import dataclass

from factfold import Store, Transaction, event, stream
from tests.ledger import Deposited, deposit, open_account, rename, transfer, withdraw


@event(name="seat.taken")
@dataclass(frozen=True)
class Taken:
    row: int


@stream("seat", initial=0)
def seats(state: int, event: Taken | Deposited) -> int:
    return state + 1


def take(tx: Transaction, id: str) -> None:
    tx.read(seats(id)).append(Taken(7))


def fill(store: Store) -> None:
    """Seven events in four streams."""
    store.execute(open_account, "ann", "Ann")  # 1
    store.execute(deposit, "ann", 10)  # 2
    store.execute(take, "a")  # 3
    store.execute(transfer, "ann", "ben", 4)  # 4
    store.execute(withdraw, "ben", 1)  # 5
    store.execute(take, "b")  # 6
    store.execute(rename, "ann", "Anna")  # 7
