"""Event loops in threads of their own: so that a test in threads can drive what belongs to a loop, from anywhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar, cast

from factfold import AsyncStore, Store
from factfold.storage.base import AsyncLog, Log, Storage
from factfold.testing.contract.running import PATIENCE, fresh_namespace, one_log

T = TypeVar("T")


class LoopThread:
    """An event loop that runs in a thread until it is closed; entered by `with`."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="loop", daemon=True)

    def __enter__(self) -> LoopThread:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.run(self._cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()

    def run(self, work: Coroutine[object, object, T], patience: float = PATIENCE) -> T:
        """Runs a coroutine in the loop to its end, beside the others that run there."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(patience)

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class LoopLog:
    """An `AsyncLog` behind the methods of a `Log`, which may be called from any thread."""

    def __init__(self, log: AsyncLog, loop: LoopThread) -> None:
        self._log = log
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._log, name)
        return lambda *args: self._loop.run(method(*args))


@contextmanager
def log_in_loop(storage: Storage, namespace: str | None = None) -> Generator[Log]:
    """One namespace, seen through one asynchronous engine."""
    with LoopThread() as loop:
        engine = loop.run(storage.open_async())
        try:
            log = loop.run(engine.log(namespace or fresh_namespace()))
            yield cast("Log", LoopLog(log, loop))  # by __getattr__ it has all methods of a Log
        finally:
            loop.run(engine.close())


class LoopStore:
    """An `AsyncStore` behind the methods of a `Store` that give no iterators; may be called from any thread."""

    def __init__(self, store: AsyncStore, loop: LoopThread) -> None:
        self._store = store
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await method(*args, **kwargs)

        return lambda *args, **kwargs: self._loop.run(call(*args, **kwargs))


@contextmanager
def store_in_loop(storage: Storage, **options: Any) -> Generator[Store]:
    """A store of an event loop."""
    with LoopThread() as loop:
        store = AsyncStore(storage, **options)
        try:
            yield cast("Store", LoopStore(store, loop))  # it has the methods that tests use
        finally:
            loop.run(store.close())


def store_of(flavour: str, storage: Storage, **options: Any) -> AbstractContextManager[Store]:
    """A store, to be entered: of "threads" or of a "loop"."""
    return Store(storage, **options) if flavour == "threads" else store_in_loop(storage, **options)


def log_of(flavour: str, storage: Storage, namespace: str | None = None) -> AbstractContextManager[Log]:
    """One namespace through one engine, to be entered: of "threads" or of a "loop"."""
    return (one_log if flavour == "threads" else log_in_loop)(storage, namespace)
