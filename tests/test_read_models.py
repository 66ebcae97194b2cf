"""Read models in the store's own SQL database: tables, views, and one transaction with the checkpoint."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from factfold import (
    AsyncStore,
    ConsumerStoppedError,
    DefinitionError,
    FactfoldError,
    Projection,
    ProjectionContext,
    ReadModel,
    RecordedEvent,
    Retry,
    Store,
)
from factfold.storage.base import Storage
from factfold.storage.postgres import Postgres
from factfold.storage.sqlite import SQLite
from tests.ledger import Deposited, Withdrawn, accounts, deposit, transfer, withdraw
from tests.looping import store_of
from tests.read_models import (
    SQL_ENGINES,
    Money,
    balances,
    balances_in,
    create,
    folded,
    nothing,
    placed,
    raise_at,
    reading,
    result_of,
    status_of,
    upsert,
)

ENGINES = SQL_ENGINES

QUICK = Retry(max_attempts=3, base=1e-3, cap=2e-3)


@pytest.fixture
def storage(storage: Storage) -> Storage:
    """The test's storage, with read models of its own."""
    return placed(storage)


@pytest.fixture
def store(storage: Storage, flavour: str) -> Iterator[Store]:
    """A store, of threads or of a loop that runs in the background."""
    with store_of(flavour, storage) as store:
        yield store


# -- Tables ----------------------------------------------------------------------------------------------------------


def test_a_read_model_in_the_same_database(storage: Storage, store: Store, rival: Store, flavour: str) -> None:
    projection = balances(flavour=flavour)
    rival.execute(deposit, "ann", 10)
    store.start(projection)
    rival.execute(transfer, "ann", "bob", 4)
    receipt = store.execute(deposit, "cid", 7)
    store.wait_for(projection, receipt)
    assert balances_in(storage) == {"ann": 6, "bob": 4, "cid": 7} == folded(rival)
    assert balances_in(storage, "balances_v1") == balances_in(storage)


def test_a_handler_of_batches(storage: Storage, store: Store, flavour: str) -> None:
    projection = Projection("totals")

    def values(events: Sequence[RecordedEvent[Any]]) -> list[tuple[int, int]]:
        return [(each.position, each.event.amount) for each in events]

    if flavour == "threads":

        @projection.setup
        def _(model: ReadModel[Any]) -> None:
            model.connection.execute(f"CREATE TABLE {model.table('totals')} (position bigint, amount bigint)")

        @projection.on_batch
        def _(events: Sequence[RecordedEvent[Deposited | Withdrawn]], model: ReadModel[Any]) -> None:
            rows = ", ".join(map(str, values(events)))
            model.connection.execute(f"INSERT INTO {model.table('totals')} VALUES {rows}")
    else:

        @projection.setup
        async def _(model: ReadModel[Any]) -> None:
            table = model.table("totals")
            await result_of(model.connection.execute(f"CREATE TABLE {table} (position bigint, amount bigint)"))

        @projection.on_batch
        async def _(events: Sequence[RecordedEvent[Deposited | Withdrawn]], model: ReadModel[Any]) -> None:
            rows = ", ".join(map(str, values(events)))
            await result_of(model.connection.execute(f"INSERT INTO {model.table('totals')} VALUES {rows}"))

    for amount in range(1, 40):
        store.execute(deposit, "ann", amount)
    store.execute(withdraw, "ann", 5)
    store.catch_up(projection)
    with reading(storage) as ask:
        assert ask("SELECT count(*), sum(amount), max(position) FROM totals") == [(40, 785, 40)]


def test_namespaces_have_read_models_of_their_own(storage: Storage, flavour: str) -> None:
    projection = balances(flavour=flavour)
    with store_of(flavour, storage) as store, store_of(flavour, storage, namespace="tenant") as tenant:
        store.execute(deposit, "ann", 1)
        tenant.execute(deposit, "ann", 2)
        store.catch_up(projection)
        tenant.catch_up(projection)
    assert balances_in(storage) == {"ann": 1}
    assert balances_in(storage, "tenant_balances") == {"ann": 2}


# -- One transaction ---------------------------------------------------------------------------------------------------


def test_what_failed_has_left_nothing(storage: Storage, store: Store, flavour: str) -> None:
    """Neither for the event itself, nor for those before it in its batch, which are done again."""
    for _ in range(5):
        store.execute(deposit, "ann", 10)
    failing = balances(hook=raise_at(4), retry=QUICK, flavour=flavour)
    with pytest.raises(ConsumerStoppedError, match="the event at position 4"):
        store.catch_up(failing)
    assert balances_in(storage) == {"ann": 30}
    store.catch_up(balances(flavour=flavour))
    assert balances_in(storage) == {"ann": 50}


def test_a_parked_event_is_left_out_until_it_is_replayed(
    storage: Storage, store: Store, rival: Store, flavour: str
) -> None:
    for _ in range(5):
        store.execute(deposit, "ann", 10)
    store.catch_up(balances(hook=raise_at(2, 3), retry=QUICK, on_error="park", flavour=flavour))
    assert balances_in(storage) == {"ann": 30}
    mended = balances(flavour=flavour)
    assert [store.replay(mended, one.position) for one in store.parked(mended)] == [True, True]
    assert not store.replay(mended, 2)
    assert balances_in(storage) == {"ann": 50} == folded(rival)


def test_what_fails_in_a_batch_is_found(storage: Storage, store: Store, flavour: str) -> None:
    """A handler of batches is called with fewer and fewer events, until it is known which one it is."""
    projection = Projection("balances", retry=QUICK, on_error="park")

    def statements(events: Sequence[RecordedEvent[Any]], model: ReadModel[Any]) -> list[tuple[Any, tuple[Any, ...]]]:
        if any(each.position == 6 for each in events):
            raise LookupError("one of them")
        return [upsert(model, "all", each.event.amount) for each in events]

    if flavour == "threads":

        @projection.setup
        def make(model: ReadModel[Any]) -> None:
            model.connection.execute(create(model))

        @projection.on_batch
        def handle(events: Sequence[RecordedEvent[Deposited]], model: ReadModel[Any]) -> None:
            for statement in statements(events, model):
                model.connection.execute(*statement)
    else:

        @projection.setup
        async def make_async(model: ReadModel[Any]) -> None:
            await result_of(model.connection.execute(create(model)))

        @projection.on_batch
        async def handle_async(events: Sequence[RecordedEvent[Deposited]], model: ReadModel[Any]) -> None:
            for statement in statements(events, model):
                await result_of(model.connection.execute(*statement))

    for _ in range(11):
        store.execute(deposit, "ann", 1)
    store.catch_up(projection)
    assert [one.position for one in store.parked(projection)] == [6]
    assert balances_in(storage) == {"all": 10}


def test_an_error_of_the_database_is_one_of_the_handler(storage: Storage, store: Store, flavour: str) -> None:
    projection = balances(retry=QUICK, on_error="park", hook=nothing, flavour=flavour)
    store.execute(deposit, "ann", 10)
    store.execute(deposit, "ann", 2**63 - 5)
    store.execute(deposit, "ann", 10)
    with reading(storage) as ask:
        store.catch_up(projection)
        if isinstance(storage, SQLite):
            assert store.parked(projection) == ()  # it takes such a sum for a float
        else:
            assert [one.failure.error[:19] for one in store.parked(projection)] == ["NumericValueOutOfRa"]
            assert ask("SELECT balance FROM balances") == [(20,)]


# -- What handlers may not do ------------------------------------------------------------------------------------------

Forbidden = Callable[[Any], object]

FORBIDDEN: list[Forbidden] = [
    lambda connection: connection.commit(),
    lambda connection: connection.rollback(),
    lambda connection: connection.execute("ROLLBACK"),
]

STATEMENTS = [
    "COMMIT",
    "BEGIN",
    "DELETE FROM events_1",
    "UPDATE events_1 SET type = 'x'",
    "INSERT INTO voids_1 VALUES (x'00')",
    "DROP TABLE memberships_1",
    "ALTER TABLE places_1 RENAME TO p",
    "DELETE FROM namespaces",
    "CREATE TRIGGER t AFTER INSERT ON events_1 BEGIN SELECT 1; END",
    "ATTACH ':memory:' AS other",
]
"""What SQLite refuses before it is done. In PostgreSQL the rights of the role decide, and COMMIT is found out later."""


@pytest.mark.parametrize("index", range(len(FORBIDDEN)))
def test_a_handler_does_not_end_the_transaction(storage: Storage, index: int) -> None:
    assert_refused(storage, FORBIDDEN[index])


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_handler_does_not_write_to_the_log(tmp_path: Path, statement: str) -> None:
    assert_refused(SQLite(tmp_path / "log.db"), lambda connection: connection.execute(statement))


def test_a_transaction_that_a_handler_has_ended_unseen_is_missed(tmp_path: Path) -> None:
    """It stops the projection where it is, and says why."""

    def end(connection: Any) -> None:
        connection.execute("CREATE TABLE other (id int PRIMARY KEY)")
        connection.execute("INSERT INTO other VALUES (1)")
        with contextlib.suppress(sqlite3.IntegrityError):
            connection.execute("INSERT OR ROLLBACK INTO other VALUES (1)")

    assert_refused(SQLite(tmp_path / "log.db"), end)


def assert_refused(storage: Storage, forbidden: Forbidden) -> None:
    """It stops the projection, and nothing of the batch is there."""
    projection = Projection("balances", retry=Retry(max_attempts=1))

    @projection.setup
    def make(model: ReadModel[Any]) -> None:
        model.connection.execute(create(model))

    @projection.on
    def _(event: Money, context: ProjectionContext[Any]) -> None:
        context.connection.execute(*upsert(context, "ann", 1000))
        forbidden(context.connection)

    with Store(storage) as store:
        store.execute(deposit, "ann", 1)
        with pytest.raises(FactfoldError, match=r"may not|not authorized|has ended the transaction"):
            store.catch_up(projection)
        status = status_of(store, projection)
        assert (status.state, status.position) == ("failed", 0)
        assert balances_in(storage) == {}
        store.catch_up(balances())
        assert balances_in(storage) == {"ann": 1}
        assert list(store.verify(accounts).problems) == []


def test_how_a_handler_wants_its_rows_is_its_own_affair(storage: Storage) -> None:
    """Neither the store, nor another projection, gets dicts because of it."""
    first, second = Projection("first", tables=()), Projection("second", tables=())
    rows: list[object] = []

    @first.on
    def _(event: Deposited, context: ProjectionContext[Any]) -> None:
        if isinstance(context.connection, sqlite3.Connection):
            context.connection.row_factory = lambda cursor, row: {cursor.description[0][0]: row[0]}
            context.connection.text_factory = bytes
        else:
            context.connection.row_factory = dict_row
        rows.append(context.connection.execute("SELECT 1 AS one").fetchone())

    @second.on
    def _(event: Deposited, context: ProjectionContext[Any]) -> None:
        rows.append(context.connection.execute("SELECT 'a' AS one").fetchone())

    with Store(storage) as store:
        store.execute(deposit, "ann", 1)
        store.catch_up(first)
        store.catch_up(second)
        assert rows == [{"one": 1}, ("a",)]
        assert [store.execute(deposit, id, 1).position for id in ("ann", "bob", "cid")] == [2, 3, 4]


def test_what_fails_only_at_the_commit_is_found_and_parked(storage: Storage) -> None:
    """A constraint that PostgreSQL checks at the end of a transaction: the event that breaks it is left aside."""
    if not isinstance(storage, Postgres):
        pytest.skip("SQLite checks no deferred constraint, unless it is told to on the connection")
    owners = Projection("owners", on_error="park", retry=Retry(max_attempts=2, base=1e-3))

    @owners.setup
    def _(model: ReadModel[psycopg.Connection]) -> None:
        table = model.table("owners").encode()
        model.connection.execute(b"CREATE TABLE %s (amount int UNIQUE DEFERRABLE INITIALLY DEFERRED)" % table)

    @owners.on
    def _(event: Deposited, context: ProjectionContext[psycopg.Connection]) -> None:
        context.connection.execute(b"INSERT INTO %s VALUES (%%s)" % context.table("owners").encode(), [event.amount])

    with Store(storage) as store:
        for amount in (1, 2, 1, 3):
            store.execute(deposit, "ann", amount)
        store.catch_up(owners)
        assert [parked.position for parked in store.parked(owners)] == [3]
        assert "UniqueViolation" in store.parked(owners)[0].failure.error
    with reading(storage) as ask:
        assert sorted(ask("SELECT amount FROM owners")) == [(1,), (2,), (3,)]


def test_another_drivers_connection_is_refused(storage: Storage, flavour: str) -> None:
    """At once, and whatever the projection does about events that fail."""
    mine: Any = sqlite3.Connection if not isinstance(storage, SQLite) else psycopg.Connection
    for where in ("handler", "setup"):
        projection = Projection("balances", on_error="park")

        def handle(event: Deposited, context: Any) -> None: ...

        def make(model: Any) -> None: ...

        if where == "handler":
            handle.__annotations__["context"] = ProjectionContext[mine]
        else:
            make.__annotations__["model"] = ReadModel[mine]
        projection.on(handle)
        projection.setup(make)
        with store_of(flavour, storage) as store:
            store.execute(deposit, "ann")
            with pytest.raises(DefinitionError, match="wants a connection of the class .*, and the storage's is a"):
                store.catch_up(projection)
            assert store.parked(projection) == ()


async def test_a_plain_function_cannot_use_an_async_connection(direct: Postgres) -> None:
    projection = Projection("balances", on_error="park")

    @projection.on
    def _(event: Deposited, context: ProjectionContext[psycopg.AsyncConnection[Any]]) -> None: ...

    async with AsyncStore(direct) as store:
        await store.execute(deposit, "ann")
        with pytest.raises(DefinitionError, match="are to be awaited, and nothing awaits them in a plain `def`"):
            await store.catch_up(projection)


# -- Setting up --------------------------------------------------------------------------------------------------------


def test_a_setup_that_fails_has_left_nothing(storage: Storage, store: Store, flavour: str) -> None:
    projection = Projection("balances")
    fails = [True]

    def statements(model: ReadModel[Any]) -> list[str]:
        return [create(model), *(["CREATE TABLE nonsense"] if fails else [])]

    if flavour == "threads":

        @projection.setup
        def make(model: ReadModel[Any]) -> None:
            for statement in statements(model):
                model.connection.execute(statement)
    else:

        @projection.setup
        async def make_async(model: ReadModel[Any]) -> None:
            for statement in statements(model):
                await result_of(model.connection.execute(statement))

    @projection.on
    def _(event: Deposited, context: ProjectionContext[Any]) -> None: ...

    store.execute(deposit, "ann")
    with pytest.raises(ConsumerStoppedError, match="its tables could not be made .*Error"):
        store.run(projection)
    fails.clear()
    store.catch_up(projection)
    assert balances_in(storage) == {}


def test_a_table_that_was_not_made_is_missed_at_once(store: Store) -> None:
    """Not when the first event comes."""
    projection = Projection("balances", tables=["balances", "forgotten"])

    @projection.setup
    def make(model: ReadModel[Any]) -> Any:
        return model.connection.execute(create(model))

    @projection.on
    def handle(event: Deposited, context: ProjectionContext[Any]) -> None: ...

    with pytest.raises(ConsumerStoppedError, match="its tables could not be made .*forgotten_v1"):
        store.run(projection)


# -- Tasks -------------------------------------------------------------------------------------------------------------


async def test_many_projections_of_an_async_store_at_once(storage: Storage) -> None:
    """Each in a transaction of its own, while commands go on."""
    projections = [Projection(f"p{number}", tables=["counts"]) for number in range(5)]
    for projection in projections:
        define_counting(projection)
    async with AsyncStore(storage) as store:
        await store.start(*projections)
        await asyncio.gather(*[store.execute(deposit, f"a{number % 7}") for number in range(200)])
        for projection in projections:
            await store.wait_for(projection, 200)
        await store.execute(withdraw, "a0", 0)
    with reading(storage) as ask:
        for number in range(5):
            assert ask(f"SELECT sum(n) FROM counts_{number}") == [(200,)]


def define_counting(projection: Projection) -> None:
    """It counts deposits in a table that it has made by plain SQL."""
    table = f"counts_{projection.name[1:]}"
    projection.tables = ()

    @projection.setup
    async def _(model: ReadModel[Any]) -> None:
        await result_of(model.connection.execute(f"CREATE TABLE {table} (n int)"))

    @projection.on
    async def _(event: Deposited, context: ProjectionContext[Any]) -> None:
        await result_of(context.connection.execute(f"INSERT INTO {table} VALUES (1)"))
