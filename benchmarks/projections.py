"""Projections: how fast a read model in the same database catches up, and what it costs to keep it up to date."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import psycopg

from benchmarks.bank import Deposited, Withdrawn, accounts, deposit, names
from benchmarks.harness import Budget, Measured, Promise, Row, Side, WrongDataError, alternate, at_least
from benchmarks.postgres import fresh_storage, running_server
from factfold import AsyncStore, Projection, ProjectionContext, ReadModel, RecordedEvent, Store, Transaction
from factfold.storage.base import Storage
from factfold.storage.sqlite import SQLite

IDS = names(1000)
CHUNK = 1000
TABLE = "CREATE TABLE {} (account text PRIMARY KEY, balance bigint NOT NULL)"
ADD = "INSERT INTO {} (account, balance) VALUES (?, ?) ON CONFLICT (account) DO UPDATE SET balance = {}.balance + ?"


class Connection(Protocol):
    """What both drivers have."""

    def execute(self, sql: str, parameters: Sequence[object] = (), /) -> object: ...


def fill(storage: Storage, namespace: str, events: int) -> None:
    """A log of deposits of 1."""

    def several(tx: Transaction, first: int, last: int) -> None:
        for number in range(first, last):
            tx.read(accounts(IDS[number % len(IDS)])).append(Deposited(1))

    with Store(storage, namespace=namespace) as store:
        for first in range(0, events, CHUNK):
            store.execute(several, first, min(first + CHUNK, events))


def change(event: Deposited | Withdrawn) -> int:
    return event.amount if isinstance(event, Deposited) else -event.amount


# -- The read model, written in several ways ---------------------------------------------------------------------------


def in_sqlite(name: str) -> Projection:
    """One statement for each event."""
    balances = Projection(name)

    @balances.setup
    def _(model: ReadModel[sqlite3.Connection]) -> None:
        model.connection.execute(TABLE.format(model.table(name)))

    @balances.on
    def _(event: Deposited | Withdrawn, context: ProjectionContext[sqlite3.Connection]) -> None:
        table = context.table(name)
        (stream,) = context.recorded.streams
        amount = change(event)
        context.connection.execute(ADD.format(table, table), (stream, amount, amount))

    return balances


def one_by_one(name: str) -> Projection:
    """One statement and one round trip for each event."""
    balances = Projection(name)

    @balances.setup
    def _(model: ReadModel[psycopg.Connection]) -> None:
        model.connection.execute(TABLE.format(model.table(name)).encode())

    @balances.on
    def _(event: Deposited | Withdrawn, context: ProjectionContext[psycopg.Connection]) -> None:
        table = context.table(name)
        (stream,) = context.recorded.streams
        amount = change(event)
        sql = ADD.format(table, table).replace("?", "%s").encode()
        context.connection.execute(sql, (stream, amount, amount))

    return balances


MERGE = """
    INSERT INTO {0} (account, balance) SELECT * FROM unnest(%s::text[], %s::bigint[])
    ON CONFLICT (account) DO UPDATE SET balance = {0}.balance + excluded.balance
"""


def summed(events: Sequence[RecordedEvent[Deposited | Withdrawn]]) -> tuple[list[str], list[int]]:
    sums: Counter[str] = Counter()
    for recorded in events:
        for stream in recorded.streams:
            sums[stream] += change(recorded.event)
    return list(sums), list(sums.values())


def in_batches(name: str) -> Projection:
    """One statement for each batch."""
    balances = Projection(name)

    @balances.setup
    def _(model: ReadModel[psycopg.Connection]) -> None:
        model.connection.execute(TABLE.format(model.table(name)).encode())

    @balances.on_batch
    def _(events: Sequence[RecordedEvent[Deposited | Withdrawn]], model: ReadModel[psycopg.Connection]) -> None:
        model.connection.execute(MERGE.format(model.table(name)).encode(), summed(events))

    return balances


def in_async_batches(name: str) -> Projection:
    """The same for an AsyncStore."""
    balances = Projection(name)

    @balances.setup
    async def _(model: ReadModel[psycopg.AsyncConnection]) -> None:
        await model.connection.execute(TABLE.format(model.table(name)).encode())

    @balances.on_batch
    async def _(
        events: Sequence[RecordedEvent[Deposited | Withdrawn]], model: ReadModel[psycopg.AsyncConnection]
    ) -> None:
        await model.connection.execute(MERGE.format(model.table(name)).encode(), summed(events))

    return balances


# -- Catching up -------------------------------------------------------------------------------------------------------


def caught_up(storage: Storage, projection: Projection, events: int, money: Callable[[], int]) -> Measured:
    """A read model that is built from the whole log."""
    fill(storage, "default", events)
    with Store(storage) as store:
        store.head()
        began = time.perf_counter()
        store.catch_up(projection)
        return checked(events, time.perf_counter() - began, money())


def caught_up_in_a_task(storage: Storage, projection: Projection, events: int, money: Callable[[], int]) -> Measured:
    """The same with an AsyncStore."""
    fill(storage, "default", events)

    async def main() -> float:
        async with AsyncStore(storage) as store:
            await store.head()
            began = time.perf_counter()
            await store.catch_up(projection)
            return time.perf_counter() - began

    return checked(events, asyncio.run(main()), money())


def checked(events: int, took: float, money: int) -> Measured:
    if money != events:
        raise WrongDataError(f"{events:,} events of 1 were projected as {money:,}")
    return Measured(events, took)


def on_sqlite(events: int, directory: Path) -> Measured:
    path = directory / "ours.db"

    def money() -> int:
        with sqlite3.connect(path) as connection:
            return int(connection.execute("SELECT sum(balance) FROM balances").fetchone()[0])

    return caught_up(SQLite(path), in_sqlite("balances"), events, money)


# -- Inline ------------------------------------------------------------------------------------------------------------


def written(inline: bool, commands: int, directory: Path) -> Measured:
    """Commands of one thread, with and without a read model that is never behind."""
    projections = [in_sqlite("balances")] if inline else []
    with Store(SQLite(directory / "ours.db"), inline=projections) as store:
        store.execute(deposit, IDS[0], 1)
        began, worked = time.perf_counter(), time.process_time()
        for _ in range(commands):
            store.execute(deposit, IDS[0], 1)
        return Measured(commands, time.perf_counter() - began, processor=time.process_time() - worked)


def rows(budget: Budget, directory: Path | None) -> list[Row]:
    """Each database and each way to write."""
    events = budget.events // 3
    with running_server(directory) as server:

        def on_postgres(
            run: Callable[[Storage, Projection, int, Callable[[], int]], Measured],
            projection: Callable[[str], Projection],
            events: int,
            _: Path,
        ) -> Measured:
            name = f"balances_{uuid4().hex[:8]}"  # the tables of all rounds stand in one schema
            with fresh_storage(server) as storage:

                def money() -> int:
                    with psycopg.connect(storage.url) as connection:
                        row = connection.execute(f"SELECT sum(balance) FROM {name}".encode()).fetchone()
                    return 0 if row is None else int(row[0])

                return run(storage, projection(name), events, money)

        sides: dict[str, Side] = {
            "SQLite, one statement an event": partial(on_sqlite, events),
            "PostgreSQL, batches": partial(on_postgres, caught_up, in_batches, events),
            "PostgreSQL, async, batches": partial(on_postgres, caught_up_in_a_task, in_async_batches, events),
            "PostgreSQL, one round trip an event": partial(on_postgres, caught_up, one_by_one, events // 10),
        }
        runs = alternate(sides, budget.rounds, directory)
    found: list[Row] = []
    for title, mine in runs.items():
        promises: tuple[Promise, ...] = ()
        if "round trip" not in title:
            promises = (at_least(50_000, [one.rate for one in mine], "events/s"),)
        found.append(Row(f"{title}, catching up", mine, promises=promises))
    commands = budget.commands // 4
    both = alternate(
        {"plain": partial(written, False, commands), "inline": partial(written, True, commands)},
        budget.rounds,
        directory,
    )
    return [*found, Row("SQLite, one thread, inline projection", both["inline"], both["plain"])]
