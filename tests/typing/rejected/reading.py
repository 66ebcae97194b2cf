"""Questions to a store that the type checkers refuse: each marked line, and no other."""

from __future__ import annotations

from factfold import AsyncStore, RecordedEvent, Retry, Store
from tests.typing.domain import Deposited, Enrolled, Opened, accounts, students


def in_a_thread(store: Store) -> None:
    store.state(accounts)  # type: ignore[arg-type]
    store.state("account:alice")  # type: ignore[arg-type]
    store.version(accounts)  # type: ignore[arg-type]
    store.events("account:alice")  # type: ignore[arg-type]
    store.events(accounts("a"), after=3)  # type: ignore[call-arg]
    store.events(accounts("a"), 3)  # type: ignore[call-arg]
    store.verify(accounts("a"))  # type: ignore[arg-type]
    store.verify(Opened)  # type: ignore[arg-type]
    store.namespace(7)  # type: ignore[arg-type]


def what_comes_is_of_the_type_asked_for(store: Store) -> None:
    number: int = store.state(accounts("a"))  # type: ignore[assignment]
    for opened in store.events(accounts("a")):
        print(opened.event.owner)  # type: ignore[union-attr]
    for enrolled in store.events(students("ann")):
        print(enrolled.event.course, enrolled.event.amount)  # type: ignore[attr-defined]
    for deposited in store.log(types=Deposited):
        print(number, deposited.event.amount, deposited.event.owner)  # type: ignore[attr-defined]
    for anything in store.log(types=accounts):
        print(anything.event.amount)  # type: ignore[union-attr]
    for plain in store.log():
        print(plain.event.amount)  # type: ignore[attr-defined]
    listed: list[RecordedEvent[Enrolled]] = list(store.log(types=Opened))  # type: ignore[arg-type]
    print(listed)


def the_log(store: Store) -> None:
    store.log(accounts)  # type: ignore[call-overload]
    store.log(types=accounts, after="3")  # type: ignore[call-overload]
    store.log(category=accounts)  # type: ignore[call-overload]
    store.log(limit=1.5)  # type: ignore[call-overload]


async def in_a_task(store: AsyncStore) -> None:
    await store.state(accounts)  # type: ignore[arg-type]
    number: int = await store.state(accounts("a"))  # type: ignore[arg-type]
    print(number, store.head() + 1)  # type: ignore[operator]
    for _ in store.events(accounts("a")):  # type: ignore[attr-defined]
        pass
    async for opened in store.events(accounts("a")):
        print(opened.event.owner)  # type: ignore[union-attr]
    async for deposited in store.log(types=Deposited):
        print(deposited.event.owner)  # type: ignore[attr-defined]
    store.log(category=accounts)  # type: ignore[call-overload]
    await store.verify(Opened)  # type: ignore[arg-type]
    with store:  # type: ignore[attr-defined]
        pass


def options() -> None:
    Store()  # type: ignore[call-arg]
    Store(7)  # type: ignore[arg-type]
    Store("memory:", "tenant")  # type: ignore[call-arg]
    Store("memory:", cache_size="big")  # type: ignore[arg-type]
    Store("memory:", retry=3)  # type: ignore[arg-type]
    Store("memory:", clock=lambda: 5)  # type: ignore[arg-type,return-value]
    AsyncStore("memory:", retries=Retry())  # type: ignore[call-arg]
