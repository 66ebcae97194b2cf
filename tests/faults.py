"""Faults as fixtures: a storage that does what another one does, and can be told to wait, to fail and to tell."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from factfold.storage.base import (
    Append,
    Appended,
    AsyncEngine,
    Capabilities,
    Check,
    Conflict,
    Engine,
    Entry,
    Head,
    Load,
    Loaded,
    Log,
    LogPage,
    News,
    Storage,
    StoredEvent,
    StreamInfo,
    StreamPage,
    Swap,
)
from factfold.storage.threads import open_in_thread

R = TypeVar("R")
Hook = Callable[[object], object]
"""Is given what was asked (before) or what was answered (after). What it raises, the caller gets."""


class Faulty:
    """A storage around another one.

    `before` and `after` map the name of a method of a log to what is called before and after it. `calls` counts the
    calls of each method, `threads` tells which threads called it, in order. `logs` are the other storage's own logs.
    """

    def __init__(self, storage: Storage, *, locks: bool = True) -> None:
        self.name = storage.name
        self.before: dict[str, Hook] = {}
        self.after: dict[str, Hook] = {}
        self.calls: Counter[str] = Counter()
        self.threads: dict[str, list[int]] = {}
        self.logs: list[Log] = []
        self._storage = storage
        self._locks = locks

    def open(self) -> Engine:
        return _FaultyEngine(self, self._storage.open(), self._locks)

    async def open_async(self) -> AsyncEngine:
        return await open_in_thread(self.open)

    def call(self, name: str, method: Callable[[], R], asked: object) -> R:
        self.calls[name] += 1
        self.threads.setdefault(name, []).append(threading.get_ident())
        if (before := self.before.get(name)) is not None:
            before(asked)
        answer = method()
        if (after := self.after.get(name)) is not None:
            after(answer)
        return answer


class _FaultyEngine:
    def __init__(self, faulty: Faulty, engine: Engine, locks: bool) -> None:
        self._faulty = faulty
        self._engine = engine
        given = engine.capabilities
        self.capabilities = Capabilities(locks=locks and given.locks, durable=given.durable, shared=given.shared)

    def log(self, namespace: str) -> Log:
        self._faulty.logs.append(self._engine.log(namespace))
        return _FaultyLog(self._faulty, self._faulty.logs[-1])

    def close(self) -> None:
        self._faulty.call("close", self._engine.close, None)


class _FaultyLog:
    def __init__(self, faulty: Faulty, log: Log) -> None:
        self.name = log.name
        self._call = faulty.call
        self._log = log

    def head(self) -> Head:
        return self._call("head", self._log.head, None)

    def append(self, append: Append) -> Appended | Conflict:
        return self._call("append", lambda: self._log.append(append), append)

    def check(self, check: Check) -> News:
        return self._call("check", lambda: self._log.check(check), check)

    def lock(self, check: Check) -> News:
        return self._call("lock", lambda: self._log.lock(check), check)

    def unlock(self) -> None:
        self._call("unlock", self._log.unlock, None)

    def resolve(self, append: Append) -> Appended | None:
        return self._call("resolve", lambda: self._log.resolve(append), append)

    def load(self, load: Load) -> Loaded:
        return self._call("load", lambda: self._log.load(load), load)

    def read(self, page: LogPage) -> Sequence[StoredEvent]:
        return self._call("read", lambda: self._log.read(page), page)

    def read_stream(self, page: StreamPage) -> Sequence[StoredEvent]:
        return self._call("read_stream", lambda: self._log.read_stream(page), page)

    def streams(self, category: str | None, after: str, limit: int) -> Sequence[StreamInfo]:
        return self._call("streams", lambda: self._log.streams(category, after, limit), (category, after, limit))

    def wait(self, after: int, timeout: float) -> int:
        return self._call("wait", lambda: self._log.wait(after, timeout), (after, timeout))

    def get(self, place: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        return self._call("get", lambda: self._log.get(place, keys), (place, keys))

    def put(self, place: str, key: str, value: bytes | None) -> None:
        self._call("put", lambda: self._log.put(place, key, value), (place, key, value))

    def swap(self, swap: Swap) -> bool:
        return self._call("swap", lambda: self._log.swap(swap), swap)

    def entries(self, place: str, after: str, limit: int) -> Sequence[Entry]:
        return self._call("entries", lambda: self._log.entries(place, after, limit), (place, after, limit))

    def problems(self) -> Iterator[str]:
        return self._log.problems()


def once(hook: Hook) -> Hook:
    """The hook, the first time that it is called; nothing afterwards."""
    hooks = [hook]

    def call(given: object) -> None:
        if hooks:
            hooks.pop()(given)

    return call


def raising(error: BaseException) -> Hook:
    """A hook that raises the error."""

    def call(given: object) -> None:
        raise error

    return call


class Gate:
    """A hook that holds its first caller until it is opened; `reached` is set when that one stands before it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def __call__(self, given: object = None) -> None:
        if not self.reached.is_set():
            self.reached.set()
            if not self._open.wait(PATIENCE):
                raise TimeoutError("nobody opened the gate")

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    def open(self) -> None:
        self._open.set()


PATIENCE = 60.0
"""Seconds after which a test that waits gives up: far more than a slow machine needs."""
