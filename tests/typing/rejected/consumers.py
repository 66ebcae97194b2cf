"""Projections and reactions that the type checkers refuse: each marked line, and no other."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from factfold import (
    AsyncReactionContext,
    AsyncStore,
    Context,
    Projection,
    ProjectionContext,
    Reaction,
    ReactionContext,
    ReadModel,
    RecordedEvent,
    Store,
    Transaction,
)
from tests.typing.domain import Deposited, Opened, accounts


def deposit(tx: Transaction, id: str, amount: int) -> None:
    tx.read(accounts(id)).append(Deposited(amount))


def projections() -> None:
    projection = Projection("owners")
    Projection("owners", version="2")  # type: ignore[arg-type]
    Projection("owners", on_error="skip")  # type: ignore[arg-type]

    @projection.setup  # type: ignore[arg-type]
    def setup(model: int) -> None: ...

    @projection.on  # type: ignore[arg-type]
    def without_context(event: Opened) -> None: ...

    @projection.on  # type: ignore[arg-type]
    def with_the_context_of_something_else(event: Opened, context: ReactionContext) -> None: ...

    @projection.on
    def opened(event: Opened, context: ProjectionContext[sqlite3.Connection]) -> None:
        context.connection.executes("SELECT 1")  # type: ignore[attr-defined]
        print(event.amount)  # type: ignore[attr-defined]
        context.table(1)  # type: ignore[arg-type]

    @projection.on_batch  # type: ignore[arg-type]
    def of_one(event: Opened, model: ReadModel[sqlite3.Connection]) -> None: ...

    @projection.on_batch  # type: ignore[arg-type]
    def with_the_context_of_one(
        events: Sequence[RecordedEvent[Opened]], context: ProjectionContext[sqlite3.Connection]
    ) -> None: ...


def reactions() -> None:
    reaction = Reaction("ship", start="head")
    Reaction("ship")  # type: ignore[call-arg]
    Reaction("ship", start="now")  # type: ignore[arg-type]

    @reaction.on  # type: ignore[arg-type]
    def with_another_context(event: Opened, context: Context) -> None: ...

    @reaction.on
    def opened(event: Opened, context: ReactionContext) -> None:
        context.execute(deposit, "a")  # type: ignore[call-arg]
        context.execute(deposit, "a", "1")  # type: ignore[arg-type]
        context.state(accounts)  # type: ignore[arg-type]

    @reaction.on
    async def deposited(event: Deposited, context: AsyncReactionContext) -> None:
        await context.execute(deposit, 1, 1)  # type: ignore[arg-type]


def in_threads(store: Store, projection: Projection) -> None:
    store.run("owners")  # type: ignore[arg-type]
    store.wait_for(projection, "7")  # type: ignore[arg-type]
    store.replay(projection)  # type: ignore[call-arg]
    store.parked("owners")  # type: ignore[arg-type]


async def in_tasks(store: AsyncStore, projection: Projection) -> None:
    await store.wait_for(projection, 7, 1.0)  # type: ignore[call-arg]
    print((await store.health()).sound)  # type: ignore[attr-defined]
