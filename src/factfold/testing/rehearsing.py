"""Projections and reactions as a scenario runs them: on a store or, if they are `async def`, in a loop of their own."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

from factfold.checkpoints import ParkedEvent
from factfold.consumers import Consumer, Place
from factfold.events import RecordedEvent
from factfold.projections import Projection
from factfold.retry import Retry
from factfold.store import Store
from factfold.testing.noting import AsyncNotingStore, Notes, NotingStore, settings_of
from factfold.testing.setting import Given

R = TypeVar("R")
C = TypeVar("C", bound=Consumer[Any])

AnyConsumer: TypeAlias = Consumer[Any]

LEASE = 999_999.0
"""Seconds that nobody takes it over, so that there is nothing to be renewed."""


def rehearsed(consumer: C) -> C:
    """The same handlers as they run in a scenario, where nobody else runs them.

    There are no pauses between attempts, nobody is called in trouble, and whoever looks around in a debugger has time.
    """
    copied = copy.copy(consumer)
    copied.retry = Retry(max_attempts=consumer.retry.max_attempts, base=0, cap=0)
    copied.on_trouble = None
    copied.lease = LEASE
    return copied


class Threads:
    """Runs consumers whose handlers are plain functions."""

    def __init__(self, beside: Store, notes: Notes) -> None:
        self._store = NotingStore(beside, notes)

    def __enter__(self) -> Self:
        self._store.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._store.close()

    def give(self, given: Given) -> None:
        """Appends what happened before."""
        self._store.give(given)

    def catch_up(self, consumer: AnyConsumer) -> None:
        """Has everything handled that is in the log. Raises ConsumerStoppedError."""
        self._store.catch_up(consumer)

    def parked(self, consumer: AnyConsumer) -> Sequence[ParkedEvent]:
        """What could not be handled."""
        return self._store.parked(consumer)

    def handle(self, consumer: AnyConsumer, recorded: RecordedEvent[object]) -> None:
        """Has one event handled, outside of its order. Raises HandlerFailedError."""
        consumer.work((recorded,), Place(None, self._store, settings_of(self._store).namespace))


class Loop:
    """Runs consumers whose handlers are `async def`: in an event loop in a thread of its own, while this is entered.

    So a scenario is a plain function, also where it is called inside of another event loop.
    """

    def __init__(self, beside: Store, notes: Notes) -> None:
        self._beside = beside
        self._notes = notes

    def __enter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, "factfold scenario")
        self._runner = asyncio.Runner()
        self._store = AsyncNotingStore(self._beside, self._notes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._thread:
            try:
                self._run(self._store.close())
            finally:
                self._thread.submit(self._runner.close).result()

    def give(self, given: Given) -> None:
        """Appends what happened before."""
        self._run(self._store.give(given))

    def catch_up(self, consumer: AnyConsumer) -> None:
        """Has everything handled that is in the log. Raises ConsumerStoppedError."""
        self._run(self._store.catch_up(consumer))

    def parked(self, consumer: AnyConsumer) -> Sequence[ParkedEvent]:
        """What could not be handled."""
        return self._run(self._store.parked(consumer))

    def handle(self, consumer: AnyConsumer, recorded: RecordedEvent[object]) -> None:
        """Has one event handled, outside of its order. Raises HandlerFailedError."""
        self._run(self._handle(consumer, recorded))

    async def _handle(self, consumer: AnyConsumer, recorded: RecordedEvent[object]) -> None:
        done = consumer.work((recorded,), Place(None, self._store, settings_of(self._beside).namespace))
        if isinstance(done, Awaitable):
            await done

    def _run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        return self._thread.submit(self._runner.run, coroutine, context=copy_context()).result()


Rehearsal: TypeAlias = Threads | Loop


def rehearsal(consumer: AnyConsumer, beside: Store, notes: Notes) -> Rehearsal:
    """What runs a consumer on the log of this store."""
    setup = setup_of(consumer) if isinstance(consumer, Projection) else None
    return Loop(beside, notes) if consumer.is_async or iscoroutinefunction(setup) else Threads(beside, notes)


def setup_of(projection: Projection) -> object:
    """The function that makes its tables, or None."""
    return projection._setup  # pyright: ignore[reportPrivateUsage]  # nobody else has to know
