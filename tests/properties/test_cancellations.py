"""Tasks that are cancelled anywhere, callers' and the store's own: nobody else is disturbed, and answers hold."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

from hypothesis import given

from factfold import AsyncStore, Receipt
from factfold.storage.base import (
    Append,
    Appended,
    AsyncEngine,
    Capabilities,
    Check,
    Conflict,
    Head,
    Load,
    Loaded,
    News,
)
from factfold.storage.memory import Memory, MemoryLog
from tests.properties.chance import Chance, chances
from tests.properties.laws import Call, check_cache, check_calls, check_log, check_nothing_is_pinned, check_runs
from tests.properties.limits import Limits, cache_sizes, examples, limits
from tests.properties.programs import Program, programs

ENOUGH = 20_000


class Unhurried(Memory):
    """A storage whose answers take as many turns of the loop as chance will have it, before and after all is done."""

    def __init__(self, chance: Chance) -> None:
        super().__init__()
        self.chance = chance

    async def open_async(self) -> AsyncEngine:
        return _Engine(self)  # type: ignore[return-value]  # its logs do what commands need, and no more


class _Engine:
    capabilities = Capabilities(locks=True, durable=False, shared=False)

    def __init__(self, storage: Unhurried) -> None:
        self._storage = storage
        self._engine = storage.open()

    async def log(self, namespace: str) -> _Log:
        log = self._engine.log(namespace)
        assert isinstance(log, MemoryLog)
        return _Log(log, self._storage)

    async def close(self) -> None:
        self._engine.close()


class _Log:
    """Only what commands need."""

    def __init__(self, log: MemoryLog, storage: Unhurried) -> None:
        self.name = log.name
        self._log = log
        self._storage = storage

    @contextlib.asynccontextmanager
    async def _in_a_while(self, *, writes: bool = False) -> AsyncIterator[None]:
        for _ in range(self._storage.chance.below(4)):
            await asyncio.sleep(0)
        while writes and not self._log._held and self._storage.namespace("default").writers.locked():  # noqa: ASYNC110
            await asyncio.sleep(0)
        yield
        for _ in range(self._storage.chance.below(4)):
            await asyncio.sleep(0)

    async def head(self) -> Head:
        async with self._in_a_while():
            return self._log.head()

    async def append(self, append: Append) -> Appended | Conflict:
        async with self._in_a_while(writes=True):
            return self._log.append(append)

    async def check(self, check: Check) -> News:
        async with self._in_a_while():
            return self._log.check(check)

    async def lock(self, check: Check) -> News:
        async with self._in_a_while(writes=True):
            return self._log.lock(check)

    async def unlock(self) -> None:
        self._log.unlock()

    async def resolve(self, append: Append) -> Appended | None:
        async with self._in_a_while(writes=True):
            return self._log.resolve(append)

    async def load(self, load: Load) -> Loaded:
        async with self._in_a_while():
            return self._log.load(load)


async def execute_all(storage: Unhurried, sizes: Sequence[int], some: Sequence[Program]) -> list[Call]:
    """A task for each program. Whatever runs, chance may cancel it."""
    chance, stored = storage.chance, storage.namespace("default").events
    calls = [Call(program, 0) for program in some]
    async with AsyncExitStack() as open_stores:
        stores = [await open_stores.enter_async_context(AsyncStore(storage, cache_size=size)) for size in sizes]

        async def call_it(call: Call) -> None:
            for _ in range(chance.below(8)):
                await asyncio.sleep(0)
            call.since = len(stored)
            receipt: Receipt[str] | None = None
            try:
                receipt = await stores[call.program.number % len(stores)].execute(call.program)
            except Exception as error:
                call.error = error
            call.until = len(stored)
            if receipt is not None:
                call.result, call.events = receipt.result, receipt.events

        callers = [asyncio.create_task(call_it(call)) for call in calls]
        for _ in range(ENOUGH):
            if all(caller.done() for caller in callers):
                break
            await asyncio.sleep(0)
            if not chance.below(6) and not chance.is_over:
                own = [task for store in stores for task in (store._leader, *store._loaders) if task is not None]
                running = [*own, *own, *(caller for caller in callers if not caller.done())]
                if running:
                    chance.choose(running).cancel()
        assert all(caller.done() for caller in callers), "nobody answers"
        await asyncio.gather(*callers, return_exceptions=True)
        for store in stores:
            await store.head()
            await asyncio.wait_for(store.execute(lambda tx: None), 10)
            assert store._heart is not None
            check_cache(store._heart.cache, stored)
            check_nothing_is_pinned(store._heart.cache)
    return calls


@examples(2)
@given(programs=programs(), sizes=cache_sizes, limits=limits, chance=chances(300))
def test_whoever_is_cancelled_disturbs_nobody_else(
    programs: list[Program], sizes: list[int], limits: Limits, chance: Chance
) -> None:
    storage = Unhurried(chance)
    with limits.apply():
        calls = asyncio.run(execute_all(storage, sizes, programs))

    stored = storage.namespace("default").events
    check_log(stored)
    check_runs(programs, stored)
    check_calls(calls, stored, failures=())
