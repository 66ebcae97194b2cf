"""Logs around other logs: every call comes by one method, in which a subclass does what it likes to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from factfold.storage.base import (
    Append,
    Appended,
    AsyncLog,
    AsyncTransactionalLog,
    Check,
    Conflict,
    Entry,
    Head,
    Inline,
    Load,
    Loaded,
    Log,
    LogPage,
    News,
    StoredEvent,
    StreamInfo,
    StreamPage,
    Swap,
    TransactionalLog,
)

R = TypeVar("R")


class AroundLog:
    """A log that passes everything on to another one, `log`."""

    def __init__(self, log: Log) -> None:
        self.log = log

    @property
    def name(self) -> str:
        return self.log.name

    def call(self, method: str, do: Callable[[], R], asked: object) -> R:
        """Makes the call of a method, by its name; `asked` are its arguments: the only one, or a tuple of them."""
        return do()

    def head(self) -> Head:
        return self.call("head", self.log.head, None)

    def append(self, append: Append) -> Appended | Conflict:
        return self.call("append", lambda: self.log.append(append), append)

    def check(self, check: Check) -> News:
        return self.call("check", lambda: self.log.check(check), check)

    def lock(self, check: Check) -> News:
        return self.call("lock", lambda: self.log.lock(check), check)

    def unlock(self) -> None:
        self.call("unlock", self.log.unlock, None)

    def resolve(self, append: Append) -> Appended | None:
        return self.call("resolve", lambda: self.log.resolve(append), append)

    def load(self, load: Load) -> Loaded:
        return self.call("load", lambda: self.log.load(load), load)

    def read(self, page: LogPage) -> Sequence[StoredEvent]:
        return self.call("read", lambda: self.log.read(page), page)

    def read_stream(self, page: StreamPage) -> Sequence[StoredEvent]:
        return self.call("read_stream", lambda: self.log.read_stream(page), page)

    def streams(self, category: str | None, after: str, limit: int) -> Sequence[StreamInfo]:
        return self.call("streams", lambda: self.log.streams(category, after, limit), (category, after, limit))

    def wait(self, after: int, timeout: float) -> int:
        return self.call("wait", lambda: self.log.wait(after, timeout), (after, timeout))

    def get(self, place: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        return self.call("get", lambda: self.log.get(place, keys), (place, keys))

    def put(self, place: str, key: str, value: bytes | None) -> None:
        self.call("put", lambda: self.log.put(place, key, value), (place, key, value))

    def swap(self, swap: Swap) -> bool:
        return self.call("swap", lambda: self.log.swap(swap), swap)

    def entries(self, place: str, after: str, limit: int) -> Sequence[Entry]:
        return self.call("entries", lambda: self.log.entries(place, after, limit), (place, after, limit))

    def problems(self) -> Iterator[str]:
        return self.call("problems", self.log.problems, None)


class AroundTransactions(AroundLog):
    """The same around a log that has transactions."""

    @property
    def transactional(self) -> TransactionalLog:
        """The log."""
        assert isinstance(self.log, TransactionalLog)
        return self.log

    def transact(self, swap: Swap, body: Callable[[object], object]) -> bool:
        return self.call("transact", lambda: self.transactional.transact(swap, body), swap)

    def accompany(self, inline: Inline | None) -> None:
        self.transactional.accompany(inline)


class AroundAsyncLog:
    """The same for an event loop."""

    def __init__(self, log: AsyncLog) -> None:
        self.log = log

    @property
    def name(self) -> str:
        return self.log.name

    async def call(self, method: str, do: Callable[[], Awaitable[R]], asked: object) -> R:
        """Makes the call of a method, by its name; `asked` are its arguments: the only one, or a tuple of them."""
        return await do()

    async def head(self) -> Head:
        return await self.call("head", self.log.head, None)

    async def append(self, append: Append) -> Appended | Conflict:
        return await self.call("append", lambda: self.log.append(append), append)

    async def check(self, check: Check) -> News:
        return await self.call("check", lambda: self.log.check(check), check)

    async def lock(self, check: Check) -> News:
        return await self.call("lock", lambda: self.log.lock(check), check)

    async def unlock(self) -> None:
        await self.call("unlock", self.log.unlock, None)

    async def resolve(self, append: Append) -> Appended | None:
        return await self.call("resolve", lambda: self.log.resolve(append), append)

    async def load(self, load: Load) -> Loaded:
        return await self.call("load", lambda: self.log.load(load), load)

    async def read(self, page: LogPage) -> Sequence[StoredEvent]:
        return await self.call("read", lambda: self.log.read(page), page)

    async def read_stream(self, page: StreamPage) -> Sequence[StoredEvent]:
        return await self.call("read_stream", lambda: self.log.read_stream(page), page)

    async def streams(self, category: str | None, after: str, limit: int) -> Sequence[StreamInfo]:
        return await self.call("streams", lambda: self.log.streams(category, after, limit), (category, after, limit))

    async def wait(self, after: int, timeout: float) -> int:
        return await self.call("wait", lambda: self.log.wait(after, timeout), (after, timeout))

    async def get(self, place: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        return await self.call("get", lambda: self.log.get(place, keys), (place, keys))

    async def put(self, place: str, key: str, value: bytes | None) -> None:
        await self.call("put", lambda: self.log.put(place, key, value), (place, key, value))

    async def swap(self, swap: Swap) -> bool:
        return await self.call("swap", lambda: self.log.swap(swap), swap)

    async def entries(self, place: str, after: str, limit: int) -> Sequence[Entry]:
        return await self.call("entries", lambda: self.log.entries(place, after, limit), (place, after, limit))

    async def problems(self) -> Sequence[str]:
        return await self.call("problems", self.log.problems, None)


class AroundAsyncTransactions(AroundAsyncLog):
    """The same around a log that has transactions, for an event loop."""

    @property
    def transactional(self) -> AsyncTransactionalLog:
        """The log."""
        assert isinstance(self.log, AsyncTransactionalLog)
        return self.log

    async def transact(self, swap: Swap, body: Callable[[object], object]) -> bool:
        return await self.call("transact", lambda: self.transactional.transact(swap, body), swap)

    async def accompany(self, inline: Inline | None) -> None:
        await self.transactional.accompany(inline)
