"""What a subscription gives is typed by what was asked for, and handlers by their annotations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TypeVar, assert_type

from factfold import (
    AsyncStore,
    AsyncSubscription,
    Context,
    Handlers,
    RecordedEvent,
    Store,
    Stream,
    Subscription,
)
from tests.typing.domain import Account, Deposited, Enrolled, Opened, accounts, students

S = TypeVar("S")
E = TypeVar("E")


def in_a_thread(store: Store) -> None:
    assert_type(store.subscribe(), Subscription[object])
    assert_type(store.subscribe(after=5, category="account"), Subscription[object])
    assert_type(store.subscribe(types=accounts), Subscription[Opened | Deposited])
    assert_type(store.subscribe(types=accounts, after="head"), Subscription[Opened | Deposited])
    assert_type(store.subscribe(types=Deposited, category="account", after=0), Subscription[Deposited])
    assert_type(store.subscribe(streams=accounts("a")), Subscription[Opened | Deposited])
    assert_type(store.subscribe(streams=[students("ann"), students("bo")], after=3), Subscription[Enrolled])
    assert_type(store.subscribe(types=Deposited, streams=accounts("a")), Subscription[Deposited])
    unioned: Subscription[object] = store.subscribe(types=Opened | Deposited)
    with store.subscribe(types=accounts) as subscription:
        assert_type(subscription, Subscription[Opened | Deposited])
        assert_type(subscription.position, int)
        assert_type(next(subscription), RecordedEvent[Opened | Deposited])
    for deposited in store.subscribe(types=Deposited):
        assert_type(deposited.event.amount, int)
    iterator: Iterator[RecordedEvent[object]] = unioned
    iterator = store.subscribe(types=Deposited)
    print(iterator)


async def in_a_task(store: AsyncStore) -> None:
    assert_type(store.subscribe(), AsyncSubscription[object])
    assert_type(store.subscribe(types=accounts), AsyncSubscription[Opened | Deposited])
    assert_type(store.subscribe(streams=[students("ann")]), AsyncSubscription[Enrolled])
    async with store.subscribe(types=Deposited, after=0) as subscription:
        assert_type(subscription, AsyncSubscription[Deposited])
        assert_type(await anext(subscription), RecordedEvent[Deposited])
        async for deposited in subscription:
            assert_type(deposited.event.amount, int)
    iterator: AsyncIterator[RecordedEvent[object]] = store.subscribe(types=Deposited)
    print(iterator)


def helpers_over_any_stream(store: Store, stream: Stream[S, E]) -> Subscription[E]:
    return store.subscribe(streams=stream)


def handlers_in_a_thread(store: Store) -> None:
    handlers = Handlers()

    @handlers.on
    def deposited(event: Deposited, context: Context) -> None:
        print(event.amount, context.recorded.position)

    @handlers.on
    def _(event: Opened | Enrolled, context: Context) -> None:
        assert_type(context.recorded, RecordedEvent[object])

    with store.subscribe(types=handlers, after=0) as subscription:
        for recorded in subscription:
            assert_type(recorded, RecordedEvent[object])
            handlers.dispatch(recorded)
    assert_type(handlers.types, tuple[type, ...])
    deposited(Deposited(1), Context(next(store.log())))


async def handlers_in_a_task(store: AsyncStore) -> None:
    handlers = Handlers()

    @handlers.on
    async def _(event: Deposited | Opened, context: Context) -> None:
        assert_type(await store.state(accounts("a")), Account)

    async with store.subscribe(types=handlers) as subscription:
        async for recorded in subscription:
            await handlers.dispatch_async(recorded)


def how_old_a_state_may_be(store: Store) -> None:
    assert_type(store.state(accounts("a"), max_age=1.5), Account)
    assert_type(store.snapshot(accounts("a")), int)


async def how_old_a_state_may_be_in_a_task(store: AsyncStore) -> None:
    assert_type(await store.state(accounts("a"), max_age=2), Account)
    assert_type(await store.snapshot(accounts("a")), int)
