"""No method of a store may be called inside a command."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest

from factfold import (
    AsyncStore,
    NestedExecutionError,
    Projection,
    ProjectionContext,
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
        lambda store: store.stats(),
        lambda store: store.events(accounts("ann")),
        lambda store: store.log(),
        lambda store: store.streams(),
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


READS: list[Callable[[Any], Any]] = [
    lambda store: store.events(accounts("ann")),
    lambda store: store.log(),
    lambda store: store.streams(),
]


@pytest.mark.parametrize("read", READS)
def test_an_iterator_that_was_made_before_reads_no_page_inside_a_command(
    storage: Storage, read: Callable[[Any], Iterator[object]]
) -> None:
    with Store(storage) as store:
        store.execute(deposit, "ann", 1)
        fresh, begun = read(store), read(store)
        next(begun)
        for iterator in (fresh, begun):
            with pytest.raises(NestedExecutionError):
                store.execute(lambda tx, it: next(it), iterator)


@pytest.mark.parametrize("read", READS)
def test_nor_does_that_of_an_async_store(storage: Storage, read: Callable[[Any], AsyncGenerator[object]]) -> None:
    async def main() -> None:
        async with AsyncStore(storage) as store:
            await store.execute(deposit, "ann", 1)
            fresh, begun = read(store), read(store)
            await anext(begun)
            for iterator in (fresh, begun):
                with pytest.raises(NestedExecutionError):
                    await store.execute(lambda tx, it: it.asend(None).send(None), iterator)

    asyncio.run(main())


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


READ_MODEL: Projection = Projection("balances")


@READ_MODEL.on
def _(event: Deposited, context: ProjectionContext[object]) -> None:
    """Keeps nothing."""


FORK_HOOKS = {"before_fork", "after_fork_in_parent", "after_fork_in_child"}

CALLS: dict[str, Callable[[Store | AsyncStore], object]] = {
    "execute": lambda store: store.execute(deposit, "ann"),
    "execute_once": lambda store: store.execute_once("key", deposit, "ann"),
    "state": lambda store: store.state(accounts("ann")),
    "version": lambda store: store.version(accounts("ann")),
    "events": lambda store: store.events(accounts("ann")),
    "log": lambda store: store.log(),
    "streams": lambda store: store.streams(),
    "subscribe": lambda store: store.subscribe(),
    "snapshot": lambda store: store.snapshot(accounts("ann")),
    "head": lambda store: store.head(),
    "verify": lambda store: store.verify(accounts),
    "stats": lambda store: store.stats(),
    "run": lambda store: store.run(READ_MODEL),
    "catch_up": lambda store: store.catch_up(READ_MODEL),
    "start": lambda store: store.start(READ_MODEL),
    "stop": lambda store: store.stop(),
    "wait_for": lambda store: store.wait_for(READ_MODEL, 1),
    "projections": lambda store: store.projections(),
    "reactions": lambda store: store.reactions(),
    "parked": lambda store: store.parked(READ_MODEL),
    "replay": lambda store: store.replay(READ_MODEL, 1),
    "discard": lambda store: store.discard(READ_MODEL, 1),
    "withdraw": lambda store: store.withdraw(READ_MODEL),
    "health": lambda store: store.health(),
    "namespace": lambda store: store.namespace("other"),
    "close": lambda store: store.close(),
}
"""Every public method."""


def begin(made: object) -> None:
    """Runs what a method of an AsyncStore has given, as far as it goes without waiting."""
    assert inspect.iscoroutine(made)
    made.send(None)


@pytest.mark.parametrize("cls", [Store, AsyncStore])
def test_every_public_method_is_refused_inside_a_command(store: Store, cls: type[Store | AsyncStore]) -> None:
    methods = {name for name in dir(cls) if not name.startswith("_") and callable(getattr(cls, name))}
    assert methods - FORK_HOOKS == set(CALLS), "a new one stands here"
    inner = cls("memory:")

    def command(tx: Transaction) -> None:
        tx.read(accounts("ann")).append(Deposited(1))
        for call in CALLS.values():
            with pytest.raises(NestedExecutionError, match="called inside a command"):
                begin(call(inner))

    store.execute(command)

    assert store.head() == 1
    assert inner.stats().commands == 0
