"""Stores: opened late, closed in order, shared by threads, each AsyncStore in its own loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from factfold import (
    AsyncStore,
    InvalidNamespaceError,
    InvalidUrlError,
    MissingDriverError,
    Receipt,
    Retry,
    Store,
    StoreClosedError,
    StoreUnavailableError,
)
from factfold.storage.base import Storage
from factfold.storage.memory import Memory
from factfold.storage.sqlite import SQLite
from tests.conftest import MakeStore
from tests.engines import EVERY_ENGINE
from tests.faults import PATIENCE, Faulty, Gate
from tests.ledger import accounts, deposit
from tests.racing import eventually, soon, start, within
from tests.together import heart_of, queued
from tests.uses import USES

ENGINES = EVERY_ENGINE


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    """Closing a store ends the threads that it started."""
    before = set(threading.enumerate())
    yield
    eventually(lambda: {thread for thread in threading.enumerate() if thread.name == "factfold"} <= before)


# -- Opening -----------------------------------------------------------------------------------------------------------


def test_a_store_opens_at_its_first_use(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = Store(f"sqlite:///{path}")
    assert not path.exists()

    assert store.execute(deposit, "ann", 1).result == 1
    assert path.exists()
    store.close()


def test_a_store_opens_when_it_is_entered(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with Store(f"sqlite:///{path}"):
        assert path.exists()


async def test_an_async_store_opens_at_its_first_use_or_when_it_is_entered(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = AsyncStore(f"sqlite:///{path}")
    assert not path.exists()
    assert await store.head() == 0
    assert path.exists()
    await store.close()
    async with AsyncStore(f"sqlite:///{tmp_path / 'other.db'}"):
        assert (tmp_path / "other.db").exists()


def test_what_is_wrong_with_the_storage_shows_when_it_is_entered(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="there is no directory"), Store(SQLite(tmp_path / "no" / "log.db")):
        pass


def test_a_store_that_could_not_be_opened_opens_at_the_next_use(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(SQLite(tmp_path / "later" / "log.db"))
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            store.execute(deposit, "ann", 1)
    (tmp_path / "later").mkdir()
    assert store.execute(deposit, "ann", 1).result == 1


def test_many_threads_open_one_store_together(storage: Storage) -> None:
    for _ in range(5):
        with Store(storage) as probe:
            before = probe.state(accounts("ann")).balance
        store = Store(storage)
        started = [start(store.execute, deposit, "ann", 1) for _ in range(8)]
        assert {each.result().result for each in started} == set(range(before + 1, before + 9))
        store.close()


@pytest.mark.parametrize("url", ["bank.db", "mysql://x/y", "", "sqlite://bank.db", "memory:x"])
def test_a_url_that_cannot_be_used_is_refused_at_once(url: str) -> None:
    for kind in (Store, AsyncStore):
        with pytest.raises((InvalidUrlError, MissingDriverError)):
            kind(url)


@pytest.mark.parametrize("namespace", ["", "x" * 65, "a\nb", 3, None])
def test_a_namespace_that_cannot_be_one_is_refused_at_once(namespace: Any) -> None:
    for kind in (Store, AsyncStore):
        with pytest.raises(InvalidNamespaceError):
            kind("memory:", namespace=namespace)
    with Store("memory:") as store, pytest.raises(InvalidNamespaceError):
        store.namespace(namespace)


@pytest.mark.parametrize("size", [-1, 1.5, "10", True])
def test_a_cache_size_that_is_no_number_is_refused_at_once(size: Any) -> None:
    with pytest.raises(ValueError, match="cache_size"):
        Store("memory:", cache_size=size)


@pytest.mark.parametrize(
    "option", [{"retry": 3}, {"retry": None}, {"clock": 3}, {"clock": None}, {"transform": 3}, {"transform": Store}]
)
def test_an_option_of_another_type_is_refused_at_once(option: Any) -> None:
    (name,) = option
    for kind in (Store, AsyncStore):
        with pytest.raises(TypeError, match=f"{name}="):
            kind("memory:", **option)


@pytest.mark.parametrize("options", [{"max_attempts": 0}, {"base": -1.0}, {"cap": -0.1}])
def test_a_retry_that_cannot_be_one_is_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="Retry"):
        Retry(**options)


# -- Closing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("opened", [False, True])
def test_a_closed_store_refuses_everything(make_store: MakeStore, use: Callable[[Store], object], opened: bool) -> None:
    store = make_store()
    if opened:
        store.execute(deposit, "ann", 1)
    store.close()
    with pytest.raises(StoreClosedError, match="closed"):
        use(store)


def test_a_store_can_be_closed_twice(store: Store) -> None:
    store.execute(deposit, "ann", 1)
    store.close()
    store.close()


def test_what_was_acknowledged_is_there_when_the_store_is_opened_again(make_store: MakeStore, storage: Storage) -> None:
    for number in range(1, 4):
        store = make_store()
        assert store.execute(deposit, "ann", 1).result == number
        store.close()


def _more_than(count: int, acknowledged: list[int]) -> bool:
    return sum(acknowledged) > count


def test_closing_a_busy_store_finishes_what_was_begun(storage: Storage) -> None:
    for _ in range(5):
        store = Store(storage)
        before = store.state(accounts("ann")).balance
        acknowledged = [0] * 8

        def work(number: int, store: Store = store, acknowledged: list[int] = acknowledged) -> None:
            while True:
                store.execute(deposit, "ann", 1)
                acknowledged[number] += 1

        started = [start(work, number) for number in range(8)]
        eventually(partial(_more_than, 40, acknowledged))
        store.close()

        assert {type(each.error()) for each in started} == {StoreClosedError}
        with Store(storage) as again:
            assert again.state(accounts("ann")).balance == before + sum(acknowledged)
            assert again.verify(accounts).ok


def test_closing_waits_for_the_append_that_is_on_its_way(storage: Storage) -> None:
    faulty = Faulty(storage)
    store = Store(faulty)
    store.state(accounts("ann"))
    faulty.before["append"] = gate = Gate()
    first = start(store.execute, deposit, "ann", 1)
    assert gate.reached.wait(PATIENCE)
    second = start(store.execute, deposit, "ann", 1)
    eventually(lambda: queued(store) == 1)
    closing_it = start(store.close)
    eventually(lambda: queued(store) == 2)

    assert not closing_it.ended
    gate.open()
    closing_it.result()
    assert (first.result().result, second.result().result) == (1, 2)


def test_closing_does_not_wait_for_a_command_that_was_not_begun(storage: Storage) -> None:
    faulty = Faulty(storage)
    store = Store(faulty)
    store.state(accounts("ann"))
    gate = Gate()
    faulty.before["load"] = gate
    loading = start(store.execute, deposit, "cold", 1)
    assert gate.reached.wait(PATIENCE)
    waiting = start(store.execute, deposit, "cold", 1)
    eventually(lambda: len(next(iter(heart_of(store).missing.loadings.values())).jobs) == 2)

    start(store.close).result()
    assert isinstance(waiting.error(), StoreClosedError)
    gate.open()
    assert isinstance(loading.error(), StoreClosedError)


async def test_closing_a_busy_async_store_finishes_what_was_begun(storage: Storage) -> None:
    for _ in range(3):
        store = AsyncStore(storage)
        before = (await store.state(accounts("ann"))).balance
        acknowledged = [0]

        async def work(store: AsyncStore = store, acknowledged: list[int] = acknowledged) -> None:
            while True:
                await store.execute(deposit, "ann", 1)
                acknowledged[0] += 1

        tasks = [asyncio.create_task(work()) for _ in range(16)]
        await soon(partial(_more_than, 40, acknowledged))
        await within(store.close())
        found = await within(asyncio.gather(*tasks, return_exceptions=True))

        assert {type(each) for each in found} == {StoreClosedError}
        async with AsyncStore(storage) as again:
            assert (await again.state(accounts("ann"))).balance == before + acknowledged[0]
    assert len(asyncio.all_tasks()) == 1


# -- Event loops -------------------------------------------------------------------------------------------------------


def test_an_async_store_belongs_to_the_loop_in_which_it_was_opened(storage: Storage) -> None:
    store = AsyncStore(storage)
    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(store.execute(deposit, "ann", 1))
        for use in (
            lambda: store.execute(deposit, "ann", 1),
            lambda: store.head(),
            lambda: anext(store.log()),
            lambda: anext(store.streams()),
        ):

            async def call(use: Callable[[], Any] = use) -> None:
                await use()

            with pytest.raises(StoreClosedError, match="belongs to the event loop"):
                second.run(call())
        assert first.run(store.execute(deposit, "ann", 1)).result == 2
        first.run(store.close())


async def test_an_async_store_leaves_no_task_behind(storage: Storage) -> None:
    async with AsyncStore(storage) as store:
        await asyncio.gather(*(store.execute(deposit, f"{number}", 1) for number in range(20)))
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_slow_storage_does_not_block_the_loop(storage: Storage) -> None:
    faulty = Faulty(storage)
    async with AsyncStore(faulty) as store:
        await store.head()
        gates = [Gate() for _ in range(3)]
        faulty.before["append"], faulty.before["load"], faulty.before["read"] = gates
        work = [
            asyncio.create_task(store.execute(deposit, "ann", 1)),
            asyncio.create_task(_all(store)),
        ]
        ticks = 0
        while not (gates[1].reached.is_set() and gates[2].reached.is_set()):
            await asyncio.sleep(0)
            ticks += 1
        for _ in range(100):
            await asyncio.sleep(0)
        for gate in gates:
            gate.open()
        await within(asyncio.gather(*work))


async def _all(store: AsyncStore) -> list[object]:
    return [recorded async for recorded in store.log()]


# -- Sharing -----------------------------------------------------------------------------------------------------------


def test_a_url_of_memory_makes_a_log_of_its_own_each_time() -> None:
    with Store("memory:") as one, Store("memory:") as other:
        one.execute(deposit, "ann", 1)
        assert other.head() == 0


def test_stores_on_one_memory_share_its_log() -> None:
    memory = Memory()
    with Store(memory) as one:
        one.execute(deposit, "ann", 1)
    with Store(memory) as other:
        assert other.state(accounts("ann")).balance == 1


def test_a_receipt_reads_well(store: Store) -> None:
    receipt = store.execute(deposit, "ann", 1)
    assert isinstance(receipt, Receipt)
    assert repr(receipt) == "Receipt(result=1, position=1, attempts=1)"
