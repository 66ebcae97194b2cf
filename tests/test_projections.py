"""Projections: each event once and in order, into tables that plain SQL reads; run, waited for, and told about."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from factfold import (
    AsyncStore,
    DefinitionError,
    NestedExecutionError,
    Projection,
    ProjectionContext,
    ReadModel,
    RecordedEvent,
    Store,
    UnsupportedError,
    stream,
)
from factfold.storage.base import Storage
from factfold.storage.memory import Memory
from tests.engines import EVERY_ENGINE
from tests.ledger import Deposited, Opened, accounts, deposit, open_account, withdraw
from tests.looping import store_of
from tests.read_models import balances, placed, recording

ENGINES = EVERY_ENGINE


@pytest.fixture
def storage(storage: Storage) -> Storage:
    """The test's storage, with read models of its own."""
    return placed(storage)


@pytest.fixture
def store(storage: Storage, flavour: str) -> Iterator[Store]:
    """A store, of threads or of a loop that runs in the background."""
    with store_of(flavour, storage) as store:
        yield store


# -- Each event once, in order -----------------------------------------------------------------------------------------


def test_it_is_given_what_is_there_and_then_what_comes(store: Store, rival: Store, flavour: str) -> None:
    seen: list[int] = []
    projection = recording(seen, flavour=flavour)
    rival.execute(open_account, "ann", "Ann")
    for _ in range(3):
        store.execute(deposit, "ann")
    store.start(projection)
    store.wait_for(projection, 4)
    assert seen == [2, 3, 4], "types without a handler are left out"
    rival.execute(deposit, "bob")
    receipt = store.execute(withdraw, "ann", 1)
    store.wait_for(projection, receipt)
    assert seen == [2, 3, 4, 5, 6]
    store.stop(projection)
    rival.execute(deposit, "bob")
    store.catch_up(projection)
    assert seen == [2, 3, 4, 5, 6, 7]


def test_a_long_log_is_caught_up_with_in_batches(
    storage: Storage, store: Store, rival: Store, flavour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factfold.handling.BATCH", 50)
    monkeypatch.setattr("factfold.feed.FIRST_PAGE", 33)

    def deposit_often(tx: Any) -> None:
        tx.read(accounts("ann")).append(*[Deposited(1)] * 400)

    for _ in range(3):
        rival.execute(deposit_often)
    seen: list[int] = []
    store.catch_up(recording(seen, flavour=flavour))
    assert seen == list(range(1, 1201))


def test_large_events_make_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factfold.consuming.BATCH_BYTES", 1000)
    sizes: list[int] = []
    projection = Projection("owners")

    @projection.on_batch
    def handle(events: Sequence[RecordedEvent[Opened]], model: ReadModel[object]) -> None:
        sizes.append(len(events))

    with Store("memory:") as store:
        for _ in range(20):
            store.execute(open_account, "ann", "x" * 300)
        store.catch_up(projection)
    assert sum(sizes) == 20
    assert max(sizes) == 4


def test_slow_handlers_are_given_few_events_at_a_time() -> None:
    """So that nobody waits long for the commit, nor for the end."""
    sizes: list[int] = []
    projection = Projection("slow")

    @projection.on_batch
    def handle(events: Sequence[RecordedEvent[Deposited]], model: ReadModel[object]) -> None:
        sizes.append(len(events))
        threading.Event().wait(0.01 * len(events))

    with Store("memory:") as store:
        for _ in range(30):
            store.execute(deposit, "ann")
        store.catch_up(projection)
    assert sizes[0] == 16
    assert max(sizes[1:]) <= 6


def test_only_events_of_a_category_when_it_is_asked_for(store: Store, flavour: str) -> None:
    @stream("other", initial=0)
    def others(state: int, event: Deposited) -> int:
        return state + 1

    def deposit_elsewhere(tx: Any) -> None:
        tx.read(others("x")).append(Deposited(100))

    seen: list[int] = []
    projection = recording(seen, flavour=flavour, category="ledger")
    store.execute(deposit, "ann")
    store.execute(deposit_elsewhere)
    store.execute(deposit, "ann")
    store.catch_up(projection)
    assert seen == [1, 3]


# -- What a handler is given, and what it may not ----------------------------------------------------------------------


def test_a_handler_knows_the_event_as_recorded(store: Store, flavour: str) -> None:
    found: list[Any] = []
    projection = recording([], flavour=flavour, hook=lambda event, recorded: found.append(recorded))
    receipt = store.execute(deposit, "ann", 5)
    store.catch_up(projection)
    assert found == list(receipt.events)


def test_there_is_no_connection_where_there_is_no_sql_database() -> None:
    projection = Projection("balances")
    errors: list[Exception] = []

    @projection.on
    def _(event: Deposited, context: ProjectionContext[sqlite3.Connection]) -> None:
        try:
            context.connection.execute("SELECT 1")
        except UnsupportedError as error:
            errors.append(error)

    with Store("memory:") as store:
        store.execute(deposit, "ann")
        store.catch_up(projection)
    assert "has no SQL database for a read model" in str(errors[0])


def test_setup_is_called_once_also_where_there_is_no_sql_database(flavour: str) -> None:
    calls: list[str] = []
    projection = Projection("index")

    @projection.setup
    def _(model: ReadModel[object]) -> None:
        calls.append("setup")

    @projection.on
    def _(event: Deposited, context: ProjectionContext[object]) -> None:
        calls.append("event")

    with store_of(flavour, Memory()) as store:
        store.execute(deposit, "ann")
        store.catch_up(projection)
        store.execute(deposit, "ann")
        store.catch_up(projection)
    assert calls == ["setup", "event", "event"]


def test_a_table_that_is_not_named_is_refused() -> None:
    projection = balances(tables=["balances", "owners"])
    assert projection.physical("owners", "default") == "owners_v1"
    with pytest.raises(DefinitionError, match="has no table 'other' but balances, owners"):
        projection.physical("other", "default")


def test_no_store_is_used_inside_of_a_handler(storage: Storage, store: Store, flavour: str) -> None:
    """It would wait for the transaction in which it is called."""
    raised: list[Exception] = []
    with Store(storage) as other:

        def use_stores(event: object, recorded: object) -> None:
            for call in (lambda: other.execute(deposit, "bob"), other.head, other.projections):
                try:
                    call()
                except NestedExecutionError as error:
                    raised.append(error)

        store.execute(deposit, "ann")
        store.catch_up(recording([], hook=use_stores, flavour=flavour))
        assert len(raised) == 3
        assert other.head() == 1, "outside it can be used"


# -- Definitions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": ""}, "cannot be the name of a projection"),
        ({"name": "a/b"}, "cannot be the name of a projection"),
        ({"name": "x" * 65}, "cannot be the name of a projection"),
        ({"name": "a", "version": 0}, "version is a whole number above 0"),
        ({"name": "a", "version": True}, "version is a whole number above 0"),
        ({"name": "a", "tables": ["a b"]}, "cannot be a table"),
        ({"name": "a", "on_error": "skip"}, "on_error is 'stop' or 'park'"),
        ({"name": "a", "on_trouble": asyncio.sleep}, "on_trouble .* cannot be `async def`"),
        ({"name": "a", "lease": 0}, "lease is a number of seconds above 0"),
        ({"name": "a", "patience": -1.0}, "patience is a number of seconds above 0"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Projection(**arguments)


def without_annotation(projection: Projection) -> None:
    on: Any = projection.on
    on(lambda event, context: None)


def overlapping(projection: Projection) -> None:
    @projection.on
    def _(event: Deposited | Opened, context: ProjectionContext[object]) -> None: ...

    @projection.on
    def _(event: Opened, context: ProjectionContext[object]) -> None: ...


def batch_beside_others(projection: Projection) -> None:
    @projection.on
    def _(event: Deposited, context: ProjectionContext[object]) -> None: ...

    @projection.on_batch
    def _(events: Sequence[RecordedEvent[Opened]], model: ReadModel[object]) -> None: ...


def others_beside_a_batch(projection: Projection) -> None:
    @projection.on_batch
    def _(events: Sequence[RecordedEvent[Opened]], model: ReadModel[object]) -> None: ...

    @projection.on
    def _(event: Deposited, context: ProjectionContext[object]) -> None: ...


def batch_of_one(projection: Projection) -> None:
    @projection.on_batch  # type: ignore[arg-type]  # that is what is to be refused
    def _(event: Deposited, model: ReadModel[object]) -> None: ...


def two_setups(projection: Projection) -> None:
    @projection.setup
    def _(model: ReadModel[object]) -> None: ...

    @projection.setup
    def _(model: ReadModel[object]) -> None: ...


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (without_annotation, "has no annotation"),
        (overlapping, "for Opened projection p .* has .* already"),
        (batch_beside_others, "the only one of its projection"),
        (others_beside_a_batch, "the only one of its projection"),
        (batch_of_one, "annotated as Sequence"),
        (two_setups, "is set up by .* already"),
    ],
)
def test_handlers_that_cannot_work_are_refused(define: Callable[[Projection], None], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        define(Projection("p"))


def test_a_projection_without_handlers_is_refused() -> None:
    with Store("memory:") as store, pytest.raises(DefinitionError, match="has no handler"):
        store.run(Projection("p"))


def test_async_functions_are_refused_by_a_store() -> None:
    handler = recording([], flavour="loop")
    setup = Projection("p")

    @setup.setup
    async def make(model: ReadModel[object]) -> None: ...

    @setup.on
    def _(event: Deposited, context: ProjectionContext[object]) -> None: ...

    with Store("memory:") as store:
        for projection in (handler, setup):
            with pytest.raises(DefinitionError, match="is `async def`"):
                store.run(projection)
        assert store.projections() == ()


async def test_async_projections_of_an_async_store(storage: Storage) -> None:
    """As a user writes it."""
    seen: list[int] = []
    projection = recording(seen, flavour="loop")
    async with AsyncStore(storage) as store:
        await store.start(projection)
        receipt = await store.execute(deposit, "ann")
        await store.wait_for(projection, receipt)
        assert seen == [1]
        assert [status.state for status in await store.projections()] == ["live"]
