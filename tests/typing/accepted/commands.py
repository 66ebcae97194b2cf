"""What a command takes is checked where it is executed, and a receipt has what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar, assert_type

from factfold import AsyncStore, Receipt, RecordedEvent, Store, Transaction
from tests.typing.domain import Deposited, Opened, accounts

P = ParamSpec("P")
R = TypeVar("R")


def open_account(tx: Transaction, id: str, owner: str) -> None:
    tx.read(accounts(id)).append(Opened(owner))


def deposit(tx: Transaction, id: str, amount: int = 1, *, note: str = "") -> int:
    account = tx.read(accounts(id))
    account.append(Deposited(amount))
    return account.state.balance


def total(tx: Transaction, *ids: str) -> tuple[int, str]:
    return sum(view.state.balance for view in tx.read(map(accounts, ids))), "EUR"


def find(tx: Transaction, id: str) -> str | None:
    return tx.read(accounts(id)).state.owner


def transfer(tx: Transaction, source: str, target: str, amount: int) -> int:
    assert_type(tx.call(open_account, target, owner="bob"), None)
    assert_type(tx.call(deposit, target, amount, note="rent"), int)
    assert_type(tx.call(total, source, target), tuple[int, str])
    assert_type(tx.call(Rename(source, "carol")), str | None)
    return tx.call(deposit, source, -amount)


@dataclass(frozen=True)
class Rename:
    """A command that carries its arguments."""

    id: str
    owner: str

    def __call__(self, tx: Transaction) -> str | None:
        return tx.call(find, self.id)


@dataclass(frozen=True)
class Raise:
    """A command that carries some of its arguments."""

    percent: int

    def __call__(self, tx: Transaction, id: str, *, at_most: int = 100) -> int:
        return min(self.percent, at_most)


class Bank:
    """Methods are commands."""

    def interest(self, tx: Transaction, id: str) -> float:
        return 0.0

    @staticmethod
    def audit(tx: Transaction) -> bool:
        return True


def in_a_thread(store: Store) -> None:
    assert_type(store.execute(open_account, "a", "ann"), Receipt[None])
    assert_type(store.execute(deposit, "a"), Receipt[int])
    assert_type(store.execute(deposit, "a", 5).result, int)
    assert_type(store.execute(deposit, id="a", amount=5, note="rent").result, int)
    assert_type(store.execute(total).result, tuple[int, str])
    assert_type(store.execute(total, "a", "b", "c").result, tuple[int, str])
    assert_type(store.execute(find, "a").result, str | None)
    assert_type(store.execute(Rename("a", "bob")).result, str | None)
    assert_type(store.execute(Raise(5), "a", at_most=7).result, int)
    assert_type(store.execute(Bank().interest, "a").result, float)
    assert_type(store.execute(Bank.audit).result, bool)
    assert_type(store.execute(lambda tx: tx.read(accounts("a")).state.balance).result, int)
    assert_type(store.execute(partial(deposit, id="a", amount=2)).result, int)


def once_in_a_thread(store: Store) -> None:
    assert_type(store.execute_once("key", open_account, "a", owner="ann"), Receipt[None])
    assert_type(store.execute_once("key", deposit, "a", 5, note="rent").result, int)
    assert_type(store.execute_once("key", Rename("a", "bob")).result, str | None)
    assert_type(store.execute_once("key", Raise(5), "a").result, int)


async def in_a_task(store: AsyncStore) -> None:
    assert_type(await store.execute(open_account, "a", "ann"), Receipt[None])
    assert_type((await store.execute(deposit, "a", 5, note="rent")).result, int)
    assert_type((await store.execute(transfer, "a", target="b", amount=1)).result, int)
    assert_type((await store.execute(Rename("a", "bob"))).result, str | None)
    assert_type((await store.execute(Raise(5), "a", at_most=7)).result, int)
    assert_type(await store.execute_once("key", deposit, "a", 5), Receipt[int])
    assert_type((await store.execute_once("key", Raise(5), "a")).result, int)


def what_a_receipt_tells(receipt: Receipt[int]) -> None:
    assert_type(receipt.result, int)
    assert_type(receipt.position, int | None)
    assert_type(receipt.events, tuple[RecordedEvent[object], ...])
    assert_type(receipt.attempts, int)
    assert_type(receipt.repeated, bool)
    told(receipt)


def told(receipt: Receipt[object]) -> str:
    return f"{receipt.result} at {receipt.position}"


def an_event_of_a_receipt_is_narrowed(receipt: Receipt[None]) -> None:
    match receipt.events[0].event:
        case Deposited() as deposited:
            assert_type(deposited.amount, int)
        case Opened(owner):
            assert_type(owner, str)
        case _:
            pass


def logged(command: Callable[P, R]) -> Callable[P, R]:
    """A decorator that keeps the types keeps them for the store."""
    return command


@logged
def withdraw(tx: Transaction, id: str, amount: int) -> int:
    return tx.call(deposit, id, -amount)


def a_decorated_command(store: Store) -> None:
    assert_type(store.execute(withdraw, "a", amount=3).result, int)
