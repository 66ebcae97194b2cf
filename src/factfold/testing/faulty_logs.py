"""The logs of a `Faulty` storage: what becomes of a call is written once, and driven with and without `await`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import TypeVar, cast

from msgspec import structs

from factfold.errors import OutcomeUnknownError, StoreUnavailableError
from factfold.storage.base import Append, AsyncLog, Check, Conflict, Load, Loaded, Log, News, Selection, Wanted
from factfold.testing.around import AroundAsyncLog, AroundAsyncTransactions, AroundLog, AroundTransactions
from factfold.testing.fates import Fate, Fates

R = TypeVar("R")

Steps = Generator[Callable[[], object], object, object]
"""Yields calls to be made, is sent what they give (once it was awaited), and returns the answer."""

SPARED = ("unlock",)
"""What no fault happens to: a lock that nobody gives back would be the test's fault and not the storage's."""


SWAPPING = ("swap", "transact")
"""Beside `append`, what may have happened or not when the connection breaks."""


class _Interference:
    """What a log has to know to inject faults that a storage could have had."""

    def __init__(self, log: Log | AsyncLog, fates: Fates, sleep: Callable[[float], object]) -> None:
        self._log = log
        self._fates = fates
        self._sleep = sleep
        self._locked = False
        self._unresolved: set[bytes] = set()

    def steps(self, method: str, do: Callable[[], object], asked: object) -> Steps:
        """What becomes of a call."""
        if method in SPARED:
            self._locked = False
            return (yield do)
        if isinstance(asked, Append):
            return (yield from (self._append if method == "append" else self._resolve)(do, asked))
        fate = self._fates.next(method)
        yield from self._delay(fate, method)
        if method in SWAPPING and fate.unknown:
            if fate.done:
                yield do
            self._fates.count("unknown")
            raise OutcomeUnknownError(f"{self._log.name}: the connection broke in {method}() (injected)")
        answer = yield do
        if method == "lock":
            self._locked = True
        return answer

    def _append(self, do: Callable[[], object], append: Append) -> Steps:
        # Nobody can have been faster while the lock is held, and where nothing was read there is nothing to lose.
        can_conflict = not self._locked and bool(append.check.selections)
        self._locked = False
        fate = self._fates.next("append")
        try:
            yield from self._delay(fate, "append")
        except BaseException:
            yield self._log.unlock  # whatever comes of an append, it ends a held lock
            raise
        if fate.conflict and can_conflict:
            news = yield partial(self._log.check, append.check)
            wanted = tuple(Wanted(Selection(stream, None), 0) for stream in append.empty)
            loaded = (yield partial(self._log.load, Load(wanted, None, 1))) if wanted else None
            self._fates.count("conflicts")
            return Conflict(_all_touched(append.check, news), _not_empty(append, loaded))
        if not fate.unknown:
            return (yield do)
        yield do if fate.done else self._log.unlock
        self._fates.count("unknown")
        if fate.unresolved:
            self._unresolved.add(append.id)
        raise OutcomeUnknownError(f"{self._log.name}: the connection broke while events were appended (injected)")

    def _resolve(self, do: Callable[[], object], append: Append) -> Steps:
        if append.id in self._unresolved:
            raise self._gone("resolve")
        yield from self._delay(self._fates.next("resolve"), "resolve")
        return (yield do)

    def _delay(self, fate: Fate, method: str) -> Generator[Callable[[], object], object, None]:
        if fate.latency:
            self._fates.count("latency")
            yield partial(self._sleep, fate.latency)
        if fate.lost:
            self._fates.count("lost")
            raise self._gone(method)

    def _gone(self, method: str) -> StoreUnavailableError:
        return StoreUnavailableError(f"{self._log.name}: the connection broke before {method}() was done (injected)")


def _all_touched(check: Check, news: object) -> News:
    """The news as a storage tells them that cannot tell for sure which of the selections others have touched."""
    assert isinstance(news, News)
    return news if news.touched else structs.replace(news, touched=frozenset(range(len(check.selections))))


def _not_empty(append: Append, loaded: object) -> frozenset[str]:
    """Those of the streams that must be empty in which the storage has found events."""
    if loaded is None:
        return frozenset()
    assert isinstance(loaded, Loaded)
    return frozenset(stream for stream, found in zip(append.empty, loaded.slices, strict=True) if found.version)


class FaultyLog(AroundLog):
    """A log with faults, for threads."""

    def __init__(self, log: Log, fates: Fates) -> None:
        super().__init__(log)
        self._interference = _Interference(log, fates, time.sleep)

    def call(self, method: str, do: Callable[[], R], asked: object) -> R:
        steps = self._interference.steps(method, do, asked)
        try:
            step = next(steps)
            while True:
                try:
                    answer = step()
                except BaseException as error:  # noqa: BLE001 (it goes to the steps, which let it through)
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return cast("R", end.value)  # the steps return what `do` gave, or what it could have given


class FaultyTransactions(FaultyLog, AroundTransactions):
    """The same around a log that has transactions."""


class FaultyAsyncLog(AroundAsyncLog):
    """A log with faults, for an event loop."""

    def __init__(self, log: AsyncLog, fates: Fates) -> None:
        super().__init__(log)
        self._interference = _Interference(log, fates, asyncio.sleep)

    async def call(self, method: str, do: Callable[[], Awaitable[R]], asked: object) -> R:
        steps = self._interference.steps(method, do, asked)
        try:
            step = next(steps)
            while True:
                try:
                    answer = await cast("Awaitable[object]", step())  # the methods of an AsyncLog, and asyncio.sleep
                except BaseException as error:  # noqa: BLE001 (as above)
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return cast("R", end.value)  # as above


class FaultyAsyncTransactions(FaultyAsyncLog, AroundAsyncTransactions):
    """The same around a log that has transactions."""
