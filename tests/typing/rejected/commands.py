"""Commands and calls of them that the type checkers refuse: each marked line, and no other."""

from __future__ import annotations

from dataclasses import dataclass

from factfold import AsyncStore, Receipt, Store, Transaction
from tests.typing.domain import Deposited, accounts


def deposit(tx: Transaction, id: str, amount: int = 1, *, note: str = "") -> int:
    account = tx.read(accounts(id))
    account.append(Deposited(amount))
    return account.state.balance


def without_transaction(id: str) -> None:
    pass


def with_a_store(store: Store, id: str) -> None:
    pass


def with_nothing() -> None:
    pass


@dataclass(frozen=True)
class Close:
    """A command that carries one of its arguments."""

    id: str

    def __call__(self, tx: Transaction, reason: str) -> bool:
        return reason != ""


def in_a_thread(store: Store) -> None:
    store.execute(deposit, "a", 5, note="rent")
    store.execute(deposit)  # type: ignore[call-arg]
    store.execute(deposit, 5)  # type: ignore[arg-type]
    store.execute(deposit, "a", "5")  # type: ignore[arg-type]
    store.execute(deposit, "a", 5, "rent")  # type: ignore[call-arg]
    store.execute(deposit, "a", amount="5")  # type: ignore[arg-type]
    store.execute(deposit, "a", sum=5)  # type: ignore[call-arg]
    store.execute(Close("a"))  # type: ignore[call-arg]
    store.execute(Close("a"), 7)  # type: ignore[arg-type]
    store.execute(Close, "a")  # type: ignore[arg-type,call-arg]
    store.execute(lambda tx: tx.read(7))  # type: ignore[call-overload]


def what_is_no_command(store: Store, tx: Transaction) -> None:
    store.execute(without_transaction, "a")  # type: ignore[arg-type,call-arg]
    store.execute(with_a_store, "a")  # type: ignore[arg-type]
    store.execute(with_nothing)  # type: ignore[arg-type]
    store.execute(deposit(tx, "a"))  # type: ignore[arg-type]
    store.execute("deposit", "a")  # type: ignore[arg-type]
    store.execute()  # type: ignore[call-arg]
    store.execute(command=deposit)  # type: ignore[call-arg]


def once_in_a_thread(store: Store) -> None:
    store.execute_once("key", deposit, "a", 5)
    store.execute_once(deposit, "a", 5)  # type: ignore[arg-type]
    store.execute_once(7, deposit, "a", 5)  # type: ignore[arg-type]
    store.execute_once("key", deposit)  # type: ignore[call-arg]
    store.execute_once("key", deposit, "a", "5")  # type: ignore[arg-type]
    store.execute_once("key", Close("a"), 7)  # type: ignore[arg-type]
    store.execute_once("key", without_transaction, "a")  # type: ignore[arg-type,call-arg]


def inside_a_command(tx: Transaction) -> str:
    tx.call(deposit, "a", 5)
    tx.call(deposit)  # type: ignore[call-arg]
    tx.call(deposit, "a", "5")  # type: ignore[arg-type]
    tx.call(deposit, "a", sum=5)  # type: ignore[call-arg]
    tx.call(Close("a"), 7)  # type: ignore[arg-type]
    tx.call(without_transaction, "a")  # type: ignore[arg-type,call-arg]
    tx.call(deposit, tx, "a")  # type: ignore[arg-type]
    return tx.call(deposit, "a")  # type: ignore[return-value]


async def in_a_task(store: AsyncStore) -> None:
    await store.execute(deposit, "a", 5, note="rent")
    await store.execute(deposit)  # type: ignore[call-arg]
    await store.execute(deposit, "a", "5")  # type: ignore[arg-type]
    await store.execute(Close("a"), 7)  # type: ignore[arg-type]
    await store.execute(without_transaction, "a")  # type: ignore[arg-type,call-arg]
    await store.execute_once("key", deposit, "a", "5")  # type: ignore[arg-type]
    await store.execute_once("key", deposit, "a", sum=5)  # type: ignore[call-arg]
    print(store.execute(deposit, "a").result)  # type: ignore[attr-defined]


def results_are_what_the_command_returns(store: Store) -> Receipt[str]:
    text: str = store.execute(deposit, "a").result  # type: ignore[assignment]
    once: str = store.execute_once("key", deposit, "a").result  # type: ignore[assignment]
    print(text, once, store.execute(deposit, "a").position + 1)  # type: ignore[operator]
    store.execute(deposit, "a").result = 5  # type: ignore[misc]
    return store.execute(deposit, "a")  # type: ignore[arg-type]
