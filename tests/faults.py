"""Faults as fixtures: a storage that does what another one does, and can be told to wait, to fail and to tell."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from factfold.storage.base import AsyncEngine, Capabilities, Engine, Log, Storage
from factfold.storage.threads import open_in_thread
from factfold.testing.around import AroundLog

R = TypeVar("R")
Hook = Callable[[object], object]
"""Is given what was asked (before) or what was answered (after). What it raises, the caller gets."""


class Faulty:
    """A storage around another one, which does what the test says. (That of `factfold.testing` draws lots.)

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


class _FaultyLog(AroundLog):
    def __init__(self, faulty: Faulty, log: Log) -> None:
        super().__init__(log)
        self._faulty = faulty

    def call(self, method: str, do: Callable[[], R], asked: object) -> R:
        return self._faulty.call(method, do, asked)


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
