"""Subscriptions while 16 writers write through several stores: no gap, no repetition, in order, wherever one begins."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from typing import Any

import pytest

from factfold import AsyncStore, Store, StoreClosedError, hub
from factfold.storage.base import Storage
from factfold.storage.memory import Memory
from tests.engines import EVERY_ENGINE
from tests.faults import PATIENCE
from tests.ledger import accounts, deposit
from tests.racing import Started, soon, start, within

ENGINES = EVERY_ENGINE

WRITERS = 16
EACH = 20
ALL = WRITERS * EACH


@pytest.fixture(params=[4096, 16], ids=["wide ring", "narrow ring"], autouse=True)
def ring(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How much stays in memory: a narrow one sends subscriptions to the log again and again."""
    monkeypatch.setattr(hub, "RING_EVENTS", request.param)
    monkeypatch.setattr(hub, "CHUNK", max(4, request.param // 16))
    return int(request.param)


def positions(subscription: Iterator[Any], count: int) -> list[int]:
    return [recorded.position for recorded in islice(subscription, count)]


def write(stores: list[Store], number: int, barrier: threading.Barrier) -> None:
    barrier.wait(PATIENCE)
    for index in range(EACH):
        stores[number % len(stores)].execute(deposit, f"a{(number + index) % 5}")


def test_threads(storage: Storage) -> None:
    with contextlib.ExitStack() as opened:
        stores = [opened.enter_context(Store(storage)) for _ in range(3)]
        barrier = threading.Barrier(WRITERS + 1)
        early = [store.subscribe(types=accounts) for store in stores for _ in range(2)]
        consumers = [start(positions, subscription, ALL) for subscription in early]
        writers = [start(write, stores, number, barrier) for number in range(WRITERS)]
        barrier.wait(PATIENCE)

        late: list[tuple[int, Started[list[int]]]] = []
        while not all(writer.ended for writer in writers):
            store = stores[len(late) % 3]
            after = store.head() // (1 + len(late) % 3)
            if len(late) < 12:
                late.append((after, start(positions, store.subscribe(types=accounts, after=after), ALL - after)))
        for writer in writers:
            writer.result()

        for consumer in consumers:
            assert consumer.result() == list(range(1, ALL + 1))
        for after, consumer in late:
            assert consumer.result() == list(range(after + 1, ALL + 1))


def test_processes(storage: Storage) -> None:
    if isinstance(storage, Memory):
        pytest.skip("memory: is for one process")
    with Store(storage) as store, ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        early = start(positions, store.subscribe(types=accounts, after=0), 3 * ALL)
        writing = [pool.submit(write_in_process, storage, number) for number in range(2)]
        for _ in range(ALL):
            store.execute(deposit, "mine")
        after = store.head()
        late = start(positions, store.subscribe(types=accounts, after=after), 3 * ALL - after)
        for each in writing:
            each.result(PATIENCE)
        assert early.result() == list(range(1, 3 * ALL + 1))
        assert late.result() == list(range(after + 1, 3 * ALL + 1))


def write_in_process(storage: Storage, number: int) -> None:
    with Store(storage) as store:
        for index in range(ALL):
            store.execute(deposit, f"a{(number + index) % 5}")


def test_a_live_subscription_begins_exactly_with_the_call(storage: Storage) -> None:
    """What was acknowledged before does not come; what is written later does."""
    with Store(storage) as store, Store(storage) as other:
        stop = threading.Event()

        def write_on() -> int:
            count = 0
            while not stop.is_set():
                other.execute(deposit, "busy")
                count += 1
            return count

        writer = start(write_on)
        for number in range(15):
            (store if number % 2 else other).execute(deposit, "before")
            before = store.head()
            subscription = store.subscribe(types=accounts)
            mine = (other if number % 3 else store).execute(deposit, "after").position
            assert mine is not None
            found = start(positions, subscription, 1).result()
            assert before < found[0] <= mine
            found += start(positions, subscription, mine - found[0]).result()
            assert found == list(range(found[0], mine + 1))
            subscription.close()
        stop.set()
        assert writer.result() > 0


async def test_tasks(storage: Storage) -> None:
    async with AsyncStore(storage) as one, AsyncStore(storage) as two, AsyncStore(storage) as three:
        stores = [one, two, three]

        async def consume(store: AsyncStore, after: int) -> list[int]:
            async with store.subscribe(types=accounts, after=after) as subscription:
                return [(await anext(subscription)).position for _ in range(ALL - after)]

        async def write(number: int) -> None:
            for index in range(EACH):
                await stores[number % 3].execute(deposit, f"a{(number + index) % 5}")

        consumers = [(0, asyncio.create_task(consume(store, 0))) for store in stores for _ in range(2)]
        writers = [asyncio.create_task(write(number)) for number in range(WRITERS)]
        while not all(writer.done() for writer in writers):
            if len(consumers) < 18:
                store = stores[len(consumers) % 3]
                after = await store.head() // (1 + len(consumers) % 3)
                consumers.append((after, asyncio.create_task(consume(store, after))))
            await asyncio.sleep(0)
        await asyncio.gather(*writers)
        for after, consumer in consumers:
            assert await within(consumer) == list(range(after + 1, ALL + 1))


async def test_a_consumer_that_is_cancelled_again_and_again_misses_nothing(storage: Storage) -> None:
    async with AsyncStore(storage) as store, AsyncStore(storage) as other:
        found: list[int] = []
        cancelled = 0

        async def write(writer: AsyncStore) -> None:
            for _ in range(100):
                await writer.execute(deposit, "ann")

        writers = asyncio.gather(write(store), write(other))
        async with store.subscribe(types=accounts, after=0) as subscription:

            async def consume() -> None:
                async for recorded in subscription:
                    found.append(recorded.position)
                    if recorded.position == 200:
                        return

            rounds = 0
            while not found or found[-1] < 200:
                consumer = asyncio.create_task(consume())
                for _ in range(rounds % 7):
                    await asyncio.sleep(0)
                if rounds % 50 == 49:
                    await asyncio.wait([consumer], timeout=0.02)
                consumer.cancel()
                await asyncio.wait([consumer])
                cancelled += consumer.cancelled()
                rounds += 1
        await writers
        assert cancelled
        assert found == list(range(1, 201))


async def test_what_the_same_store_executes_later_comes_without_entering(storage: Storage) -> None:
    async with AsyncStore(storage) as store:
        for number in range(20):
            await store.execute(deposit, "before")
            subscription = store.subscribe(types=accounts)
            receipts = await asyncio.gather(*[store.execute(deposit, "after", number) for _ in range(3)])
            found = [(await within(anext(subscription))).position for _ in range(3)]
            assert sorted(found) == found == sorted(receipt.position or 0 for receipt in receipts)
            subscription.close()


def our_tasks() -> set[str]:
    """What tasks there are for subscriptions: an engine may have some of its own."""
    names = {getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()}
    return {name for name in names if name.startswith(("AsyncPump", "AsyncStore"))}


async def test_no_task_is_left(storage: Storage) -> None:
    async with AsyncStore(storage) as store:
        await store.execute(deposit, "ann")
        subscription = store.subscribe(types=accounts, after=0)
        async for _ in subscription:
            break
        waiting = asyncio.create_task(within(anext(subscription)))
        await soon(lambda: "AsyncPump._run" in our_tasks())
        subscription.close()
        with pytest.raises(StopAsyncIteration):
            await waiting
        await soon(lambda: not our_tasks())
        unheard = store.subscribe(types=accounts, after=99)
        async with store.subscribe(types=accounts):
            assert "AsyncPump._run" in our_tasks()
        del unheard
        await soon(lambda: not our_tasks())
        left_open = store.subscribe(types=accounts)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    with pytest.raises(StoreClosedError):
        await anext(left_open)
