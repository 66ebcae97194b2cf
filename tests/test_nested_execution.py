"""No method of a store may be called inside a command."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from factfold import (
    AsyncStore,
    NestedExecutionError,
    Store,
    Transaction,
)
from factfold.storage.base import Storage
from tests.ledger import Deposited, accounts, deposit
from tests.uses import USES


@pytest.mark.parametrize(
    "use",
    [
        *USES,
        lambda store: store.events(accounts("ann")),
        lambda store: store.log(),
        lambda store: store.streams(),
        lambda store: store.stats(),
        lambda store: store.namespace("other"),
        lambda store: store.close(),
    ],
)
def test_every_method_of_a_store_is_refused_inside_a_command(use: Callable[[Store], object], storage: Storage) -> None:
    with Store(storage) as store, Store("memory:") as another:

        def command(tx: Transaction, used: Store) -> None:
            tx.read(accounts("ann")).append(Deposited(1))
            use(used)

        for used in (store, another):
            with pytest.raises(NestedExecutionError, match=r"tx\.call\(\)"):
                store.execute(command, used)
        assert store.execute(deposit, "ann", 1).result == 1


def test_a_store_is_refused_inside_a_command_of_an_async_store_too(storage: Storage) -> None:
    async def main() -> None:
        async with AsyncStore(storage) as store:
            with Store("memory:") as another:

                def command(tx: Transaction) -> None:
                    another.execute(deposit, "ann", 1)

                with pytest.raises(NestedExecutionError):
                    await store.execute(command)

    asyncio.run(main())


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.execute(deposit, "ann", 1),
        lambda store: store.execute_once("key", deposit, "ann", 1),
        lambda store: store.state(accounts("ann")),
        lambda store: store.version(accounts("ann")),
        lambda store: store.head(),
        lambda store: store.verify(),
        lambda store: store.close(),
        lambda store: store.__aenter__(),
        lambda store: anext(store.streams()),
    ],
)
def test_an_async_store_cannot_be_driven_from_inside_a_command(use: Callable[[AsyncStore], Any]) -> None:
    other = AsyncStore("memory:")

    def command(tx: Transaction) -> None:
        async def nested() -> None:
            await use(other)

        asyncio.run(nested())

    with Store("memory:") as store, pytest.raises(NestedExecutionError):
        store.execute(command)


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.events(accounts("ann")),
        lambda store: store.log(),
        lambda store: store.stats(),
        lambda store: store.namespace("x"),
    ],
)
def test_the_plain_methods_of_an_async_store_are_refused_inside_a_command(use: Callable[[AsyncStore], Any]) -> None:
    other = AsyncStore("memory:")
    with Store("memory:") as store, pytest.raises(NestedExecutionError):
        store.execute(lambda tx: use(other))


def test_after_a_command_the_store_can_be_used_by_the_same_thread(storage: Storage) -> None:
    with Store(storage) as store:

        def command(tx: Transaction) -> None:
            with contextlib.suppress(NestedExecutionError):
                store.head()
            deposit(tx, "ann", 1)

        store.execute(command)
        assert store.head() == 1
