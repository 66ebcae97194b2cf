"""States, events and the log are typed by the stream, the stream type or the class that is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime
from typing import TypeVar, assert_type
from uuid import UUID

from factfold import (
    AsyncStore,
    Metadata,
    RecordedEvent,
    Retry,
    Stats,
    Store,
    Stream,
    StreamInfo,
    StreamType,
    Verification,
    metadata,
)
from tests.typing.domain import Account, AccountEvent, Deposited, Enrolled, Opened, accounts, courses, students

S = TypeVar("S")
E = TypeVar("E")


def in_a_thread(store: Store) -> None:
    assert_type(store.state(accounts("a")), Account)
    assert_type(store.state(students("ann")), frozenset[str])
    assert_type(store.version(accounts("a")), int)
    assert_type(store.events(accounts("a")), Iterator[RecordedEvent[Opened | Deposited]])
    assert_type(
        store.events(students("ann"), after_version=3, limit=10, backwards=True), Iterator[RecordedEvent[Enrolled]]
    )
    assert_type(store.streams(), Iterator[StreamInfo])
    assert_type(store.streams("account"), Iterator[StreamInfo])
    assert_type(store.head(), int)
    assert_type(store.stats(), Stats)
    assert_type(store.verify(accounts, courses, students), Verification)
    assert_type(store.verify(), Verification)
    assert_type(store.namespace("other"), Store)


def the_log_in_a_thread(store: Store) -> None:
    assert_type(store.log(), Iterator[RecordedEvent[object]])
    assert_type(store.log(after=5, limit=3, backwards=True, system=True), Iterator[RecordedEvent[object]])
    assert_type(store.log(category="account"), Iterator[RecordedEvent[object]])
    assert_type(store.log(types=accounts), Iterator[RecordedEvent[Opened | Deposited]])
    assert_type(store.log(types=students, after=5), Iterator[RecordedEvent[Enrolled]])
    assert_type(store.log(types=Deposited), Iterator[RecordedEvent[Deposited]])
    assert_type(store.log(types=Deposited, category="account", limit=1), Iterator[RecordedEvent[Deposited]])
    # A union is taken as well. What its events are is `object` to mypy, and the union to pyright.
    unioned: Iterator[RecordedEvent[object]] = store.log(types=Opened | Deposited)
    aliased: Iterator[RecordedEvent[object]] = store.log(types=AccountEvent)
    for recorded in (*unioned, *aliased):
        assert isinstance(recorded.event, Opened | Deposited)
    for deposited in store.log(types=Deposited):
        assert_type(deposited.event.amount, int)


async def in_a_task(store: AsyncStore) -> None:
    assert_type(await store.state(accounts("a")), Account)
    assert_type(await store.version(accounts("a")), int)
    assert_type(store.events(accounts("a")), AsyncIterator[RecordedEvent[Opened | Deposited]])
    assert_type(store.streams("account"), AsyncIterator[StreamInfo])
    assert_type(await store.head(), int)
    assert_type(store.stats(), Stats)
    assert_type(await store.verify(accounts, courses), Verification)
    assert_type(store.namespace("other"), AsyncStore)
    assert_type([info.version async for info in store.streams()], list[int])
    assert_type([recorded.event async for recorded in store.events(students("ann"))], list[Enrolled])


async def the_log_in_a_task(store: AsyncStore) -> None:
    assert_type(store.log(), AsyncIterator[RecordedEvent[object]])
    assert_type(store.log(types=accounts), AsyncIterator[RecordedEvent[Opened | Deposited]])
    assert_type(store.log(types=Deposited, after=3, limit=1), AsyncIterator[RecordedEvent[Deposited]])
    unioned: AsyncIterator[RecordedEvent[object]] = store.log(types=Opened | Deposited)
    async for recorded in unioned:
        assert_type(recorded.position, int)
    async for deposited in store.log(types=Deposited):
        assert_type(deposited.event.amount, int)


def what_a_recorded_event_tells(recorded: RecordedEvent[Deposited]) -> None:
    assert_type(recorded.position, int)
    assert_type(recorded.id, UUID)
    assert_type(recorded.type, str)
    assert_type(recorded.event, Deposited)
    assert_type(recorded.streams, Mapping[str, int])
    assert_type(recorded.metadata, Metadata)
    assert_type(recorded.recorded_at, datetime)
    shown(recorded)


def shown(recorded: RecordedEvent[Opened | Deposited]) -> str:
    return recorded.event.owner if isinstance(recorded.event, Opened) else str(recorded.event.amount)


def helpers_over_any_stream(store: Store, kind: StreamType[S, E], id: str) -> tuple[S, list[E]]:
    stream = kind(id)
    assert_type(stream, Stream[S, E])
    return store.state(stream), [recorded.event for recorded in store.events(stream)]


def helpers_keep_the_types(store: Store) -> None:
    assert_type(helpers_over_any_stream(store, accounts, "a"), tuple[Account, list[Opened | Deposited]])


# -- Opening a store ---------------------------------------------------------------------------------------------------


def options() -> None:
    with Store("memory:", namespace="tenant", cache_size=5, retry=Retry(max_attempts=3)) as store:
        assert_type(store, Store)
    with metadata(actor="ann", correlation_id="1", extra={"tags": ["a", 1, None]}):
        pass


async def async_options() -> None:
    async with AsyncStore("memory:", namespace="tenant", cache_size=5) as store:
        assert_type(store, AsyncStore)


class Shop(Store):
    """Entering a subclass gives the subclass."""


def a_subclass() -> None:
    with Shop("memory:") as shop:
        assert_type(shop, Shop)
