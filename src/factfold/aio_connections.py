"""What sibling async stores share: the engine, which is opened at the first use and closed after all of them."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar
from weakref import WeakSet, WeakValueDictionary

from factfold.errors import StoreClosedError
from factfold.storage import _fork
from factfold.storage.base import AsyncEngine, Storage

S = TypeVar("S")


class AsyncConnections(Generic[S]):
    """An engine that sibling stores share, opened at the first use. It keeps none of them alive."""

    def __init__(self, storage: Storage) -> None:
        self.sharing: WeakSet[S] = WeakSet()
        self.by_namespace: WeakValueDictionary[str, S] = WeakValueDictionary()
        self._storage = storage
        self._engine: asyncio.Task[AsyncEngine] | None = None
        self._closed = False
        _fork.register(self)

    def share(self, store: S, namespace: str) -> None:
        """Notes a store, which has to be closed before the engine is."""
        self.sharing.add(store)
        self.by_namespace[namespace] = store

    def leave(self, store: S, namespace: str) -> None:
        """The store is being closed: whoever asks for its namespace gets another one."""
        if self.by_namespace.get(namespace) is store:
            del self.by_namespace[namespace]

    async def engine(self) -> AsyncEngine:
        if self._closed:
            raise StoreClosedError(f"The store on {self._storage.name} is closed: open another one")
        if self._engine is None:
            self._engine = asyncio.get_running_loop().create_task(self._storage.open_async())
        opening = self._engine
        try:
            return await asyncio.shield(opening)
        except Exception:
            if self._engine is opening:
                self._engine = None
            raise

    async def close(self) -> None:
        self._closed = True
        if self._engine is not None:
            await (await self._engine).close()

    def before_fork(self) -> None:
        """Nothing to do: the engine sees to its connections."""

    def after_fork_in_parent(self) -> None:
        """Nothing to do."""

    def after_fork_in_child(self) -> None:
        """The engine's loop and threads do not exist here."""
        self._engine = None
