"""The Valkey engine for an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TypeVar
from uuid import uuid4
from weakref import WeakSet

from factfold.errors import StorageError, StoreClosedError
from factfold.storage import _fork
from factfold.storage._valkey_log import Operations
from factfold.storage._valkey_place import Place
from factfold.storage._valkey_steps import Steps
from factfold.storage._valkey_tasks import AsyncConnections
from factfold.storage.base import (
    Append,
    Appended,
    Capabilities,
    Check,
    Conflict,
    Entry,
    Head,
    Load,
    Loaded,
    LogPage,
    News,
    Put,
    StoredEvent,
    StreamInfo,
    StreamPage,
    Swap,
)
from factfold.storage.valkey import Valkey

T = TypeVar("T")


class AsyncValkeyEngine:
    """Opened connections of one event loop."""

    def __init__(self, place: Place, connections: AsyncConnections) -> None:
        self._place = place
        self._connections = connections
        self._logs: WeakSet[AsyncValkeyLog] = WeakSet()

    @classmethod
    async def opened(cls, storage: Valkey) -> AsyncValkeyEngine:
        """Connects."""
        place = Place(storage)
        connections = AsyncConnections(place.server, storage.timeout, storage.connections)
        try:
            await connections.run(place.open())
        except BaseException:
            await connections.close()
            raise
        return cls(place, connections)

    @property
    def capabilities(self) -> Capabilities:
        return self._place.capabilities

    async def log(self, namespace: str) -> AsyncValkeyLog:
        """One namespace, which is made when it does not exist."""
        operations = await self._connections.run(self._place.operations(namespace))
        log = AsyncValkeyLog(operations, self._connections)
        self._logs.add(log)
        return log

    async def close(self) -> None:
        """Gives the locks back and closes the connections."""
        if not self._connections.closed:
            for log in list(self._logs):
                with suppress(StorageError, StoreClosedError):  # The lease ends it.
                    await log.close()
        await self._connections.close()


class AsyncValkeyLog:
    """One namespace: runs its operations.

    What writes goes on when its caller is cancelled: then it gives back the lock that it may have got.
    """

    def __init__(self, operations: Operations, connections: AsyncConnections) -> None:
        self.name = operations.name
        self._operations = operations
        self._connections = connections
        self._order = asyncio.Lock()
        _fork.register(self)

    async def head(self) -> Head:
        return await self._connections.run(self._operations.head())

    async def append(self, append: Append) -> Appended | Conflict:
        return await asyncio.shield(self._connections.start(self._in_order(self._operations.append(append))))

    async def check(self, check: Check) -> News:
        return await self._connections.run(self._operations.check(check))

    async def lock(self, check: Check) -> News:
        abandoned: list[bool] = []

        async def lock() -> News:
            async with self._order:
                news = await self._connections.run(self._operations.lock(check, uuid4().hex))
                if abandoned:
                    await self._connections.run(self._operations.unlock())
                return news

        work = self._connections.start(lock())
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            abandoned.append(True)
            if work.done():  # The lock came at the same moment.
                self._connections.start(self._in_order(self._operations.unlock()))
            raise

    async def unlock(self) -> None:
        await asyncio.shield(self._connections.start(self._in_order(self._operations.unlock())))

    async def close(self) -> None:
        """Gives the lock back; who waits for it waits no longer."""
        self._operations.closing = True
        await self.unlock()

    async def resolve(self, append: Append) -> Appended | None:
        return await asyncio.shield(self._connections.start(self._connections.run(self._operations.resolve(append))))

    async def load(self, load: Load) -> Loaded:
        return await self._connections.run(self._operations.load(load))

    async def read(self, page: LogPage) -> Sequence[StoredEvent]:
        return await self._connections.run(self._operations.read(page))

    async def read_stream(self, page: StreamPage) -> Sequence[StoredEvent]:
        return await self._connections.run(self._operations.read_stream(page))

    async def streams(self, category: str | None, after: str, limit: int) -> Sequence[StreamInfo]:
        return await self._connections.run(self._operations.streams(category, after, limit))

    async def wait(self, after: int, timeout: float) -> int:
        return await self._connections.run(self._operations.wait(after, timeout))

    async def get(self, place: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        return await self._connections.run(self._operations.values.get(place, keys))

    async def put(self, place: str, key: str, value: bytes | None) -> None:
        await self._connections.run(self._operations.values.put(Put(place, key, value)))

    async def swap(self, swap: Swap) -> bool:
        return await self._connections.run(self._operations.values.swap(swap))

    async def entries(self, place: str, after: str, limit: int) -> Sequence[Entry]:
        return await self._connections.run(self._operations.values.entries(place, after, limit))

    async def problems(self) -> Sequence[str]:
        return await self._connections.run(self._operations.problems())

    async def _in_order(self, steps: Steps[T]) -> T:
        """Runs what takes the lock or gives it back: one after another, as they know of one another's lock."""
        async with self._order:
            return await self._connections.run(steps)

    # -- Fork ------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None: ...
    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None:
        """The lock is the parent's, and so is whoever waits for it."""
        self._operations.forget()
        self._order = asyncio.Lock()
