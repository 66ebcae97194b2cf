"""Live delivery: how long an event takes from another process to a subscriber, and what many subscriptions cost."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from benchmarks import valkey
from benchmarks.bank import accounts, deposit, names
from benchmarks.harness import (
    Budget,
    Measured,
    Promise,
    Row,
    Runs,
    Side,
    WrongDataError,
    alternate,
    at_most,
    latencies,
    percentile,
    processor,
)
from benchmarks.postgres import fresh_storage, running_server
from factfold import AsyncStore, Store
from factfold.storage.base import Storage
from factfold.storage.memory import Memory
from factfold.storage.sqlite import SQLite

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer

IDS = names(10)
LONGEST_PAUSE = 0.01
"""Seconds between two commands of the writer, at most; half of it on average."""
FAREWELL = 0.1
"""Seconds after which the writer closes its store: one that ends at once may take its last announcement along."""
BOUNDS = (0.5, 1, 2, 5, 10, 20, 50)
"""Milliseconds, of the histogram."""
TASKS = 16

# -- From another process ----------------------------------------------------------------------------------------------


def write(storage: Storage, namespace: str, events: int) -> None:
    """So many commands, with pauses between them."""
    chance = random.Random(events)
    with Store(storage, namespace=namespace) as store:
        for number in range(events):
            time.sleep(chance.uniform(0, LONGEST_PAUSE))
            store.execute(deposit, IDS[number % len(IDS)], 1)
        time.sleep(FAREWELL)


def in_a_thread(storage: Storage, writers: Callable[[], Executor], events: int) -> Measured:
    """A `Store` subscribes, and somebody else writes, in a namespace of their own."""
    waited: list[float] = []
    namespace = uuid4().hex
    with (
        Store(storage, namespace=namespace) as store,
        store.subscribe(types=accounts) as subscription,
        writers() as pool,
    ):
        began = time.perf_counter()
        writing = pool.submit(write, storage, namespace, events)
        for recorded in subscription:
            waited.append(time.time() - recorded.stored.recorded_at / 1e6)
            if recorded.position == events:
                break
        writing.result()
        took = time.perf_counter() - began
    return _counted(waited, events, took)


def in_a_task(storage: Storage, writers: Callable[[], Executor], events: int) -> Measured:
    """The same with an `AsyncStore`."""

    async def main() -> Measured:
        waited: list[float] = []
        namespace = uuid4().hex
        store = AsyncStore(storage, namespace=namespace)
        async with store, store.subscribe(types=accounts) as subscription:
            with writers() as pool:
                began = time.perf_counter()
                writing = asyncio.get_running_loop().run_in_executor(pool, write, storage, namespace, events)
                async for recorded in subscription:
                    waited.append(time.time() - recorded.stored.recorded_at / 1e6)
                    if recorded.position == events:
                        break
                await writing
                return _counted(waited, events, time.perf_counter() - began)

    return asyncio.run(main())


def _counted(waited: Sequence[float], events: int, took: float) -> Measured:
    if len(waited) != events:
        raise WrongDataError(f"{len(waited):,} events were handed over, and {events:,} were written")
    return Measured(events, took, waited)


def other_process() -> Executor:
    """Where another process writes."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def histogram(runs: Runs) -> str:
    """Which share was there within how many milliseconds."""
    found = latencies(runs)
    shares = [(bound, sum(1 for seconds in found if seconds * 1e3 <= bound) / len(found)) for bound in BOUNDS]
    return "within " + ", ".join(f"{bound} ms: {share:.1%}" for bound, share in shares)


# -- Many subscriptions ------------------------------------------------------------------------------------------------


async def many(subscriptions: int, events: int) -> Measured:
    """So many subscriptions of one store, which executes commands in some tasks."""
    async with AsyncStore("memory:") as store:
        await store.head()
        feeds = [await store.subscribe(types=accounts).__aenter__() for _ in range(subscriptions)]

        async def consume(number: int) -> int:
            money = 0
            async for recorded in feeds[number]:
                money += recorded.event.amount
                if recorded.position == events:
                    break
            return money

        async def execute(number: int) -> None:
            for index in range(number, events, TASKS):
                await store.execute(deposit, IDS[index % len(IDS)], 1)

        began, worked = time.perf_counter(), time.process_time()
        consumers = [asyncio.create_task(consume(number)) for number in range(subscriptions)]
        await asyncio.gather(*(execute(number) for number in range(TASKS)))
        counted = await asyncio.gather(*consumers)
        worked = time.process_time() - worked
        took = time.perf_counter() - began
    if any(money != events for money in counted):
        raise WrongDataError(f"{events:,} events of 1 were handed over as {counted}")
    return Measured(events, took, processor=worked)


def rows(budget: Budget, directory: Path | None) -> list[Row]:
    """Each engine, and 100 subscriptions beside one."""
    with running_server(directory) as postgres, valkey.server() as other:
        return [*_latencies(postgres, other.storage(), budget, directory), _many(budget, directory)]


def _latencies(server: PostgresServer, on_valkey: Storage, budget: Budget, directory: Path | None) -> list[Row]:
    events = budget.commands // 20

    def on_postgres(measure: Callable[[Storage, Callable[[], Executor], int], Measured], _: Path) -> Measured:
        with fresh_storage(server) as storage:
            return measure(storage, other_process, events)

    sides: dict[str, Side] = {
        "memory, from another store": lambda _: in_a_thread(Memory(), partial(ThreadPoolExecutor, 1), events),
        "SQLite": lambda empty: in_a_thread(SQLite(empty / "ours.db"), other_process, events),
        "PostgreSQL": partial(on_postgres, in_a_thread),
        "PostgreSQL, async": partial(on_postgres, in_a_task),
        "Valkey": lambda _: in_a_thread(on_valkey, other_process, events),
        "Valkey, async": lambda _: in_a_task(on_valkey, other_process, events),
    }
    runs = alternate(sides, budget.rounds, directory)
    found: list[Row] = []
    for title, mine in runs.items():
        promises: tuple[Promise, ...] = ()
        if title.startswith(("PostgreSQL", "Valkey")):
            promises = (at_most(10, percentile(latencies(mine), 99) * 1e3, "ms for 99 % of the events"),)
        found.append(Row(f"{title}, live delivery", mine, promises=promises, note=histogram(mine)))
    return found


def _many(budget: Budget, directory: Path | None) -> Row:
    events = budget.commands // 10
    counts = (0, 1, 100)
    sides = {str(count): lambda _, count=count: asyncio.run(many(count, events)) for count in counts}
    runs = alternate(sides, budget.rounds, directory)
    idle, one, hundred = (processor(runs[str(count)]) for count in counts)
    costs = max(hundred - idle, 0.0) / max(one - idle, 1e-9)
    promise = at_most(100, costs, "times the processor's time that one takes")
    return Row("memory, 100 subscriptions", runs["100"], runs["1"], (promise,))
