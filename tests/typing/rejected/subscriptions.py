"""Subscriptions and handlers that the type checkers refuse: each marked line, and no other."""

from __future__ import annotations

from factfold import AsyncStore, Context, Handlers, Store
from tests.typing.domain import Deposited, Enrolled, Opened, accounts


def in_a_thread(store: Store) -> None:
    store.subscribe(accounts)  # type: ignore[call-overload]
    store.subscribe(types=accounts, after="tail")  # type: ignore[call-overload]
    store.subscribe(category=accounts)  # type: ignore[call-overload]
    for deposited in store.subscribe(types=Deposited):
        print(deposited.event.owner)  # type: ignore[attr-defined]
    for plain in store.subscribe():
        print(plain.event.amount)  # type: ignore[attr-defined]
    for either in store.subscribe(streams=accounts("a")):
        print(either.event.amount)  # type: ignore[union-attr]
    store.state(accounts("a"), max_age="1")  # type: ignore[arg-type]
    store.snapshot(accounts)  # type: ignore[arg-type]


async def in_a_task(store: AsyncStore) -> None:
    for _ in store.subscribe(types=Deposited):  # type: ignore[attr-defined]
        pass
    async for deposited in store.subscribe(types=Deposited):
        print(deposited.event.owner)  # type: ignore[attr-defined]
    with store.subscribe():  # type: ignore[attr-defined]
        pass


def handlers(store: Store) -> None:
    handlers = Handlers()

    @handlers.on  # type: ignore[arg-type]
    def without_context(event: Deposited) -> None: ...

    @handlers.on  # type: ignore[arg-type]
    def with_another_context(event: Opened, context: int) -> None: ...

    @handlers.on  # type: ignore[arg-type]
    def with_a_result(event: Enrolled, context: Context) -> int:
        return 1

    handlers.dispatch(Deposited(1))  # type: ignore[arg-type]
