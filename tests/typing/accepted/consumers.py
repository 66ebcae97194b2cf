"""Handlers of projections and reactions are typed by their annotations, and so is what they are given."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import assert_type

import psycopg

from factfold import (
    AsyncReactionContext,
    AsyncStore,
    ConsumerStatus,
    Health,
    ParkedEvent,
    Projection,
    ProjectionContext,
    Reaction,
    ReactionContext,
    ReadModel,
    Receipt,
    RecordedEvent,
    Store,
    Transaction,
)
from tests.typing.domain import Account, Deposited, Enrolled, Opened, accounts


def open_account(tx: Transaction, id: str, *, owner: str) -> str:
    tx.read(accounts(id)).append(Opened(owner))
    return owner


def projections() -> Projection:
    projection = Projection("owners", version=2, tables=["owners"], on_error="park", category="account")

    @projection.setup
    def setup(model: ReadModel[sqlite3.Connection]) -> None:
        assert_type(model.connection, sqlite3.Connection)
        assert_type(model.table("owners"), str)
        model.connection.execute(f"CREATE TABLE {model.table('owners')} (owner text)")

    @projection.on
    def opened(event: Opened, context: ProjectionContext[sqlite3.Connection]) -> None:
        assert_type(context.recorded, RecordedEvent[object])
        context.connection.execute(f"INSERT INTO {context.table('owners')} VALUES (?)", (event.owner,))

    @projection.on
    def several(event: Deposited | Enrolled, context: ProjectionContext[object]) -> None:
        assert_type(context.connection, object)

    return projection


def projections_of_tasks() -> Projection:
    projection = Projection("owners")

    @projection.setup
    async def setup(model: ReadModel[psycopg.AsyncConnection]) -> None:
        await model.connection.execute("CREATE TABLE owners_v1 (owner text)")

    @projection.on
    async def opened(event: Opened, context: ProjectionContext[psycopg.AsyncConnection]) -> None:
        await context.connection.execute("INSERT INTO owners_v1 VALUES (%s)", (event.owner,))

    return projection


def projections_of_batches() -> Projection:
    projection = Projection("owners")

    @projection.on_batch
    def opened(events: Sequence[RecordedEvent[Opened]], model: ReadModel[psycopg.Connection]) -> None:
        rows = [(each.position, each.event.owner) for each in events]
        model.connection.cursor().executemany("INSERT INTO owners_v1 VALUES (%s, %s)", rows)

    return projection


def reactions() -> Reaction:
    reaction = Reaction("ship", start="head", lease=5.0, patience=10, on_trouble=print)

    @reaction.on
    def opened(event: Opened, context: ReactionContext) -> None:
        receipt = context.execute(open_account, "b", owner=event.owner)
        assert_type(receipt, Receipt[str])
        assert_type(context.execute_as("key", open_account, "b", owner="x"), Receipt[str])
        assert_type(context.state(accounts("b")), Account)
        assert_type(context.store, Store)

    return reaction


def reactions_of_tasks() -> Reaction:
    reaction = Reaction("ship", start="beginning")

    @reaction.on
    async def opened(event: Opened | Deposited, context: AsyncReactionContext) -> None:
        assert_type(await context.execute(open_account, "b", owner="x"), Receipt[str])
        assert_type(await context.state(accounts("b")), Account)
        assert_type(context.store, AsyncStore)

    return reaction


def in_threads(store: Store, receipt: Receipt[str]) -> None:
    projection, reaction = projections(), reactions()
    store.start(projection, reaction)
    store.wait_for(projection, receipt, timeout=1.0)
    store.wait_for(reaction, 7)
    store.wait_for(projection, receipt.position)
    store.catch_up(projection)
    store.run(projection, reaction)
    store.stop()
    assert_type(store.projections(), tuple[ConsumerStatus, ...])
    assert_type(store.reactions(), tuple[ConsumerStatus, ...])
    assert_type(store.parked(projection), tuple[ParkedEvent, ...])
    assert_type(store.replay(projection, 3), bool)
    assert_type(store.discard(reaction, 3), bool)
    assert_type(store.health(), Health)


async def in_tasks(store: AsyncStore, receipt: Receipt[None]) -> None:
    projection = projections_of_tasks()
    await store.start(projection)
    await store.wait_for(projection, receipt)
    await store.stop(projection)
    assert_type(await store.projections(), tuple[ConsumerStatus, ...])
    assert_type(await store.health(), Health)
