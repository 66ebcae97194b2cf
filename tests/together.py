"""Stores whose commands can be made to share a batch, in an order that the test decides."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeAlias

from factfold import AsyncStore, Receipt, Store, Transaction
from factfold.batch import Heart
from tests.blocking import Blocking
from tests.faults import PATIENCE, Faulty, Gate
from tests.racing import Started, eventually, start

Call: TypeAlias = tuple[Any, ...]
"""A command and its arguments."""

Outcome: TypeAlias = Receipt[Any] | BaseException


def results(outcomes: list[Outcome]) -> list[object]:
    """What each command returned, or the class of what it raised."""
    return [each.result if isinstance(each, Receipt) else type(each) for each in outcomes]


class Together(Protocol):
    """A store on a `Faulty` storage; `execute` has all calls in one batch, in this order, and gives their outcomes.

    `meanwhile` is called when the store has heard of all that was written before, and has not begun with the batch.
    """

    store: Store
    faulty: Faulty

    @property
    def heart(self) -> Heart: ...
    def execute(self, *calls: Call, meanwhile: Callable[[], object] = ...) -> list[Outcome]: ...


def nothing(tx: Transaction) -> None:
    """A command without effect."""


def heart_of(store: Store | AsyncStore) -> Heart:
    """The heart of a store that was opened."""
    heart = store._heart
    assert heart is not None
    return heart


def queued(store: Store) -> int:
    """How many commands wait for a leader."""
    return len(heart_of(store)._queue)


class Threads:
    """Each call has a thread; all wait until the leader of the batch before has been let through."""

    def __init__(self, faulty: Faulty, **options: Any) -> None:
        self.faulty = faulty
        self.store = Store(faulty, **options)
        self.store.execute(nothing)

    @property
    def heart(self) -> Heart:
        return heart_of(self.store)

    def execute(self, *calls: Call, meanwhile: Callable[[], object] = lambda: None) -> list[Outcome]:
        started = self.start(*calls, meanwhile=meanwhile)
        return [each.error() or each.result() for each in started]

    def start(self, *calls: Call, meanwhile: Callable[[], object] = lambda: None) -> list[Started[Receipt[Any]]]:
        """Starts the calls, so that they are one batch."""
        before = self.faulty.before.pop("check", None)
        self.faulty.after["check"] = gate = Gate()
        first = start(self.store.execute, nothing)
        assert gate.reached.wait(PATIENCE)
        del self.faulty.after["check"]
        started: list[Started[Receipt[Any]]] = []
        for number, (command, *args) in enumerate(calls, 1):
            call = partial(self.store.execute, command, *args)
            started.append(start(contextvars.copy_context().run, call))
            eventually(partial(self._has_queued, number))
        if before is not None:
            self.faulty.before["check"] = before
        meanwhile()
        gate.open()
        first.result()
        return started

    def _has_queued(self, count: int) -> bool:
        return queued(self.store) == count

    def close(self) -> None:
        self.store.close()


class Loop:
    """Each call has a task; all are queued before the store's leading task begins."""

    def __init__(self, faulty: Faulty, **options: Any) -> None:
        self.faulty = faulty
        self._store = AsyncStore(faulty, **options)
        self._runner = asyncio.Runner()
        self._blocking = Blocking(self._store, self._runner)
        self.store: Store = self._blocking  # type: ignore[assignment]  # it has the same methods
        self.store.execute(nothing)

    @property
    def heart(self) -> Heart:
        return heart_of(self._store)

    def execute(self, *calls: Call, meanwhile: Callable[[], object] = lambda: None) -> list[Outcome]:
        meanwhile()

        async def outcome(command: Any, *args: Any) -> Outcome:
            try:
                return await self._store.execute(command, *args)
            except BaseException as error:
                return error

        async def outcomes() -> list[Outcome]:
            return await asyncio.wait_for(asyncio.gather(*[outcome(*call) for call in calls]), PATIENCE)

        return self._runner.run(outcomes())

    def close(self) -> None:
        self._blocking.end()


MakeTogether: TypeAlias = Callable[..., Together]
"""Makes one with the options of a store."""
