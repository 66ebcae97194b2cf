"""What the heart asks a driver to do, and which method of a log does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import TypeAlias, overload

from msgspec import Struct

from factfold.notices import warn
from factfold.snapshots import PLACE
from factfold.storage.base import Append, Appended, AsyncLog, Check, Conflict, Head, Load, Loaded, Log, News


class Lock(Struct, frozen=True):
    """Take the writers' lock, and tell what the check would; the next append ends it."""

    check: Check


class Unlock(Struct, frozen=True):
    """Give the writers' lock back."""


class Resolve(Struct, frozen=True):
    """Find out what became of an append."""

    append: Append


class Sleep(Struct, frozen=True):
    """Wait for so many seconds."""

    seconds: float


class AskHead(Struct, frozen=True):
    """Tell the log's head."""


class Recall(Struct, frozen=True):
    """Get the snapshots under these keys."""

    keys: Sequence[str]


Request: TypeAlias = Append | Check | Lock | Unlock | Resolve | Sleep | AskHead | Load | Recall
Answer: TypeAlias = Appended | Conflict | News | Head | Loaded | Mapping[str, bytes] | None
Steps: TypeAlias = Generator[Request, Answer, None]


@overload
def perform(request: Request, log: Log, sleep: Callable[[float], None]) -> Answer: ...
@overload
def perform(request: Request, log: AsyncLog, sleep: Callable[[float], Awaitable[None]]) -> Awaitable[Answer]: ...


def perform(
    request: Request, log: Log | AsyncLog, sleep: Callable[[float], None] | Callable[[float], Awaitable[None]]
) -> Answer | Awaitable[Answer]:
    """Does what is asked; with an `AsyncLog`, gives what is to be awaited."""
    match request:
        case Append():
            return log.append(request)
        case Check():
            return log.check(request)
        case Lock(check):
            return log.lock(check)
        case Unlock():
            return log.unlock()
        case Resolve(append):
            warn("An append to %s was cut off. It is asked whether the events were written.", log.name)
            return log.resolve(append)
        case Sleep(seconds):
            return sleep(seconds)
        case AskHead():
            return log.head()
        case Load():
            return log.load(request)
        case Recall(keys):
            return log.get(PLACE, keys)
