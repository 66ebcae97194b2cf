"""Errands: what the consumers' side asks of a storage, as values, and who runs them, in a thread or in a task.

A generator of errands does no I/O: it is written once, and runs under Store and under AsyncStore.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeAlias, TypeVar, cast

from msgspec import Struct

from factfold.requests import AskHead
from factfold.storage.base import (
    AsyncLog,
    AsyncTransactionalLog,
    Check,
    Log,
    LogPage,
    Swap,
    TransactionalLog,
)

R = TypeVar("R")


class ReadEntries(Struct, frozen=True):
    """List a place: up to `limit` entries above a key."""

    place: str
    after: str = ""
    limit: int = 1000


class ReadValues(Struct, frozen=True):
    """Get the values of a place under these keys."""

    place: str
    keys: tuple[str, ...]


class Transact(Struct, frozen=True):
    """Do a swap and what `body` does on a connection in one transaction. Answer: whether the swap could be done.

    A `Put` that `body` gives is written in it, too.
    """

    swap: Swap
    body: Callable[[object], object]


class Call(Struct, frozen=True):
    """Call something, and await what it returns, if that can be awaited."""

    body: Callable[[], object]


class Rest(Struct, frozen=True):
    """Rest until the hub has made another move than `moves` (None: whatever it does), for so many seconds at most.

    Also until whoever rests is to stop. Answer: whether it was woken.
    """

    moves: int | None
    seconds: float


Errand: TypeAlias = Check | LogPage | AskHead | ReadEntries | ReadValues | Swap | Transact | Call | Rest
Errands: TypeAlias = Generator[Errand, Any, R]


def run(errands: Errands[R], log: Log, rest: Callable[[Rest], bool]) -> R:
    """Runs errands one by one. What they raise is thrown in."""
    try:
        errand = next(errands)
        while True:
            try:
                answer = _do(errand, log, rest)
            except Exception as error:  # noqa: BLE001 - it is raised again where nobody wants it
                errand = errands.throw(error)
            else:
                errand = errands.send(answer)
    except StopIteration as end:
        result: R = end.value
        return result


async def run_async(errands: Errands[R], log: AsyncLog, rest: Callable[[Rest], Awaitable[bool]]) -> R:
    """Runs errands one by one, as a task."""
    try:
        errand = next(errands)
        while True:
            try:
                answer = _do(errand, log, rest)
                if isinstance(answer, Awaitable):
                    answer = await cast("Awaitable[object]", answer)  # whatever an errand is answered with
            except Exception as error:  # noqa: BLE001 - it is raised again where nobody wants it
                errand = errands.throw(error)
            else:
                errand = errands.send(answer)
    except StopIteration as end:
        result: R = end.value
        return result


def _do(errand: Errand, log: Log | AsyncLog, rest: Callable[[Rest], object]) -> object:
    match errand:
        case Check():
            return log.check(errand)
        case LogPage():
            return log.read(errand)
        case AskHead():
            return log.head()
        case ReadEntries(place, after, limit):
            return log.entries(place, after, limit)
        case ReadValues(place, keys):
            return log.get(place, keys)
        case Swap():
            return log.swap(errand)
        case Transact(swap, body):
            # Who sends it knows that the log has transactions.
            return cast("TransactionalLog | AsyncTransactionalLog", log).transact(swap, body)
        case Call(body):
            return body()
        case Rest():
            return rest(errand)
