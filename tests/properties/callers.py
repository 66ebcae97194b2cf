"""Many callers of several stores on one database: threads, or tasks of an event loop."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from factfold import AsyncStore, Receipt, Store
from factfold.storage.base import LogPage, Storage, StoredEvent
from factfold.storage.memory import Memory
from factfold.storage.postgres import Postgres
from factfold.storage.sqlite import SQLite
from tests.servers.postgres import PostgresServer

THREADS = 4
PATIENCE = 60.0

Command: TypeAlias = Callable[..., Any]


@dataclass
class Answer:
    """What came of a command, and where the head was before and after."""

    since: int
    until: int
    outcome: Receipt[Any] | Exception


Run: TypeAlias = Callable[[Storage, Sequence[int], Sequence[Command], Sequence[str | None]], list[Answer]]
"""Opens stores with caches of these sizes, and has them execute all commands: under a key where there is one."""


def with_threads(
    storage: Storage, sizes: Sequence[int], commands: Sequence[Command], keys: Sequence[str | None]
) -> list[Answer]:
    """Some threads, each with its share of the commands, on one of the stores."""
    answers: dict[int, Answer] = {}
    with ExitStack() as open_stores, _busy_switching():
        stores = [open_stores.enter_context(Store(storage, cache_size=size)) for size in sizes]
        barrier = threading.Barrier(THREADS)

        def call_one_after_another(number: int) -> None:
            store = stores[number % len(stores)]
            barrier.wait(PATIENCE)
            for index in range(number, len(commands), THREADS):
                since, key, command = store.head(), keys[index], commands[index]
                outcome: Receipt[Any] | Exception
                try:
                    outcome = store.execute(command) if key is None else store.execute_once(key, command)
                except Exception as error:
                    outcome = error
                answers[index] = Answer(since, store.head(), outcome)

        threads = [threading.Thread(target=call_one_after_another, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "nobody answers"
    return [answers[index] for index in range(len(commands))]


@contextmanager
def _busy_switching() -> Iterator[None]:
    """Threads are switched so often that what can come in between does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def with_tasks(
    storage: Storage, sizes: Sequence[int], commands: Sequence[Command], keys: Sequence[str | None]
) -> list[Answer]:
    """A task for each command, on one of the stores."""

    async def main() -> list[Answer]:
        async with AsyncExitStack() as open_stores:
            stores = [await open_stores.enter_async_context(AsyncStore(storage, cache_size=size)) for size in sizes]

            async def call(index: int) -> Answer:
                store = stores[index % len(stores)]
                since, key, command = await store.head(), keys[index], commands[index]
                outcome: Receipt[Any] | Exception
                try:
                    outcome = await (store.execute(command) if key is None else store.execute_once(key, command))
                except Exception as error:
                    outcome = error
                return Answer(since, await store.head(), outcome)

            return await asyncio.wait_for(asyncio.gather(*map(call, range(len(commands)))), PATIENCE)

    return asyncio.run(main())


NewStorage: TypeAlias = Callable[[], AbstractContextManager[Storage]]
"""Gives an empty database."""


@contextmanager
def new_memory() -> Iterator[Storage]:
    yield Memory()


@contextmanager
def new_postgres(server: PostgresServer) -> Iterator[Storage]:
    with server.fresh_schema() as schema:
        yield Postgres(server.url, schema=schema)


@contextmanager
def new_sqlite() -> Iterator[Storage]:
    with tempfile.TemporaryDirectory() as folder:
        yield SQLite(Path(folder) / "log.db", synchronous="normal")


def whole_log(storage: Storage) -> Sequence[StoredEvent]:
    """All that was written."""
    engine = storage.open()
    try:
        return engine.log("default").read(LogPage(0, 1_000_000, system=True))
    finally:
        engine.close()


callers = pytest.mark.parametrize("execute_all", [with_threads, with_tasks], ids=["threads", "tasks"])
