"""An `AsyncStore` behind the methods of a `Store`, so that one test can ask both for the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import copy_context
from typing import Any, TypeVar, cast

from factfold import AsyncStore, Store
from factfold.aio_subscriptions import AsyncSubscription
from tests.faults import PATIENCE

T = TypeVar("T")


class Blocking:
    """Runs the methods of an AsyncStore to their end, in an event loop of its own."""

    def __init__(self, store: AsyncStore, runner: asyncio.Runner | None = None) -> None:
        self._store = store
        self._runner = runner or asyncio.Runner()

    def execute(self, command: Callable[..., T], /, *args: Any, **kwargs: Any) -> Any:
        return self._run(self._store.execute, command, *args, **kwargs)

    def execute_once(self, key: str, command: Callable[..., T], /, *args: Any, **kwargs: Any) -> Any:
        return self._run(self._store.execute_once, key, command, *args, **kwargs)

    def state(self, stream: Any, **arguments: Any) -> Any:
        return self._run(self._store.state, stream, **arguments)

    def version(self, stream: Any) -> Any:
        return self._run(self._store.version, stream)

    def snapshot(self, stream: Any) -> Any:
        return self._run(self._store.snapshot, stream)

    def head(self) -> Any:
        return self._run(self._store.head)

    def verify(self, *stream_types: Any) -> Any:
        return self._run(self._store.verify, *stream_types)

    def close(self) -> None:
        self._run(self._store.close)

    def stats(self) -> Any:
        return self._store.stats()

    def events(self, stream: Any, **arguments: Any) -> Iterator[Any]:
        return self._iterate(self._store.events(stream, **arguments))

    def log(self, **arguments: Any) -> Iterator[Any]:
        return self._iterate(self._store.log(**arguments))

    def subscribe(self, **arguments: Any) -> BlockingSubscription:
        return BlockingSubscription(self._runner, self._store, arguments)

    def streams(self, category: str | None = None) -> Iterator[Any]:
        return self._iterate(self._store.streams(category))

    def namespace(self, name: str) -> Blocking:
        return Blocking(self._store.namespace(name), self._runner)

    def __enter__(self) -> Blocking:
        self._run(self._store.__aenter__)
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def end(self) -> None:
        """Closes the store and its loop."""
        self.close()
        self._runner.close()

    def _run(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            return await method(*args, **kwargs)

        return self._runner.run(call(), context=copy_context())

    def _iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        async def following() -> list[T]:
            try:
                return [await anext(items)]
            except StopAsyncIteration:
                return []

        while found := self._runner.run(following()):
            yield from found


class BlockingSubscription:
    """An AsyncSubscription, entered, behind the methods of a Subscription."""

    def __init__(self, runner: asyncio.Runner, store: AsyncStore, arguments: dict[str, Any]) -> None:
        async def enter() -> AsyncSubscription[object]:
            return await store.subscribe(**arguments).__aenter__()

        self._runner = runner
        self._subscription = runner.run(enter(), context=copy_context())

    def __iter__(self) -> BlockingSubscription:
        return self

    def __next__(self) -> Any:
        async def following() -> list[Any]:
            try:
                return [await asyncio.wait_for(anext(self._subscription), PATIENCE)]
            except StopAsyncIteration:
                return []

        for found in self._runner.run(following()):
            return found
        raise StopIteration

    def __enter__(self) -> BlockingSubscription:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def position(self) -> int:
        return self._subscription.position

    def close(self) -> None:
        async def close() -> None:
            self._subscription.close()

        self._runner.run(close())


def blocking(store: AsyncStore) -> Store:
    """The store, for tests that take a `Store`."""
    return cast("Store", Blocking(store))  # it has the same methods, and mypy sees to the types of `Store`
