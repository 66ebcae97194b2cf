"""Projections that tests run, what they write into SQL tables, and how others see that by plain SQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg

from factfold import ConsumerStatus, Projection, ProjectionContext, ReadModel, RecordedEvent, Store
from factfold.storage.base import Storage
from factfold.storage.postgres import Postgres
from factfold.storage.sqlite import SQLite
from tests.ledger import Deposited, Transferred, Withdrawn, accounts

SQL_ENGINES = ("sqlite", "postgres")
"""Engines in whose database read models can live."""

Money = Deposited | Withdrawn | Transferred

Hook = Callable[[Money, RecordedEvent[Any]], object]
"""Is called by a handler before it writes: what it raises, the handler raises."""


def nothing(event: Money, recorded: RecordedEvent[Any]) -> None:
    """Lets the handler do its work."""


def raise_at(*positions: int) -> Hook:
    """A hook that raises at the events of these positions."""

    def hook(event: Money, recorded: RecordedEvent[Any]) -> None:
        if recorded.position in positions:
            raise LookupError("bad luck")

    return hook


def changes(event: Money, recorded: RecordedEvent[Any]) -> list[tuple[str, int]]:
    """What an event does to the balances of accounts."""
    if isinstance(event, Transferred):
        return [(event.source, -event.amount), (event.target, event.amount)]
    (account,) = accounts.of(recorded)
    return [(account.parts[0], event.amount if isinstance(event, Deposited) else -event.amount)]


def folded(store: Store) -> dict[str, int]:
    """The balances as the log has them."""
    found: dict[str, int] = {}
    for recorded in store.log(types=accounts):
        if isinstance(recorded.event, Money):
            for id, amount in changes(recorded.event, recorded):
                found[id] = found.get(id, 0) + amount
    return found


def recording(
    seen: list[int], name: str = "seen", *, hook: Hook = nothing, flavour: str = "threads", **options: Any
) -> Projection:
    """A projection that notes the position of each event that it was given, once the hook has let it pass."""
    projection = Projection(name, **options)
    if flavour == "threads":

        @projection.on
        def _(event: Money, context: ProjectionContext[object]) -> None:
            hook(event, context.recorded)
            seen.append(context.recorded.position)
    else:

        @projection.on
        async def _(event: Money, context: ProjectionContext[object]) -> None:
            hook(event, context.recorded)
            seen.append(context.recorded.position)

    return projection


def balances(
    version: int = 1, *, flavour: str = "threads", hook: Hook = nothing, factor: int = 1, **options: Any
) -> Projection:
    """A projection that keeps the balance of each account in a table; `factor` times of it."""
    projection = Projection("balances", version=version, **options)
    if flavour == "threads":

        @projection.setup
        def _(model: ReadModel[Any]) -> None:
            model.connection.execute(create(model))

        @projection.on
        def _(event: Money, context: ProjectionContext[Any]) -> None:
            hook(event, context.recorded)
            for change in changes(event, context.recorded):
                context.connection.execute(*upsert(context, *change, factor))
    else:

        @projection.setup
        async def _(model: ReadModel[Any]) -> None:
            await result_of(model.connection.execute(create(model)))

        @projection.on
        async def _(event: Money, context: ProjectionContext[Any]) -> None:
            hook(event, context.recorded)
            for change in changes(event, context.recorded):
                await result_of(context.connection.execute(*upsert(context, *change, factor)))

    return projection


def create(model: ReadModel[Any]) -> str:
    """The statement that makes the table of balances."""
    return f"CREATE TABLE {model.table('balances')} (id text PRIMARY KEY, balance bigint)"


def upsert(model: ReadModel[Any], id: str, amount: int, factor: int = 1) -> tuple[Any, tuple[Any, ...]]:
    """The statement that adds to a balance, and its values, for whichever driver."""
    mark = "?" if isinstance(model.connection, sqlite3.Connection) else "%s"
    statement = (
        f"INSERT INTO {model.table('balances')} AS old VALUES ({mark}, {mark}) "
        "ON CONFLICT (id) DO UPDATE SET balance = old.balance + excluded.balance"
    )
    return statement, (id, factor * amount)


async def result_of(executed: Any) -> Any:
    """What a driver's `execute` gives, awaited where it has to be: never with SQLite."""
    return executed if isinstance(executed, sqlite3.Cursor) else await executed


def status_of(store: Store, projection: Projection) -> ConsumerStatus:
    """How a version of a projection is."""
    (found,) = (one for one in store.projections() if (one.name, one.version) == (projection.name, projection.version))
    return found


# -- As others see it --------------------------------------------------------------------------------------------------


def placed(storage: Storage) -> Storage:
    """The same storage, with read models of its own: in PostgreSQL they are where the search path says."""
    if isinstance(storage, Postgres):
        return replace(storage, url=f"{storage.url}?options=-c%20search_path%3D{storage.schema}")
    return storage


@contextmanager
def reading(storage: Storage) -> Iterator[Callable[[str], list[Any]]]:
    """Asks the database by plain SQL, over a connection of its own."""
    connection: Any
    if isinstance(storage, SQLite):
        connection = sqlite3.connect(storage.path, isolation_level=None, timeout=60)
    else:
        assert isinstance(storage, Postgres)
        connection = psycopg.connect(storage.url, autocommit=True)
    try:
        yield lambda statement: connection.execute(statement).fetchall()
    finally:
        connection.close()


def balances_in(storage: Storage, table: str = "balances") -> Mapping[str, int]:
    """What a table or view of balances shows."""
    with reading(storage) as ask:
        rows: list[tuple[str, int]] = ask(f'SELECT id, balance FROM "{table}"')
        return dict(rows)
