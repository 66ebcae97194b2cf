"""A storage in memory that does everything right, made to be broken in one place."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeAlias, cast

from factfold.storage.base import (
    AsyncEngine,
    AsyncLog,
    Capabilities,
    Engine,
    Log,
)
from factfold.storage.memory import Memory
from factfold.storage.sqlite import SQLite
from factfold.storage.threads import open_in_thread
from factfold.testing.around import AroundLog, AroundTransactions


@dataclass
class Common:
    """What all logs of one broken storage share, for faults that need to know of each other."""

    holder: Log | None = None
    void: set[tuple[int, bytes]] = field(default_factory=set)
    process: int = field(default_factory=os.getpid)
    directory: Path = Path()


class Sound(AroundLog):
    """A log that passes everything on to one in memory. A fault is a subclass that does one thing wrong.

    `caught_by` are the tests of the contract whose asserts notice it; `raises_in` those that are ended by an error of
    the storage, at the latest when a writer has waited for the lock in vain. `caught_between_processes_by` are those
    that need a storage which several processes share.
    """

    caught_by: ClassVar[tuple[str, ...]] = ()
    raises_in: ClassVar[tuple[str, ...]] = ()
    caught_between_processes_by: ClassVar[tuple[str, ...]] = ()

    def __init__(self, log: Log, common: Common) -> None:
        super().__init__(log)
        self.common = common


class SoundTransactions(Sound, AroundTransactions):
    """The same for a log of a database, which has transactions."""


class SoundEngine:
    """An engine in memory whose logs are `kind`. A fault of engines is a subclass."""

    caught_by: ClassVar[tuple[str, ...]] = ()
    raises_in: ClassVar[tuple[str, ...]] = ()
    caught_between_processes_by: ClassVar[tuple[str, ...]] = ()

    def __init__(self, engine: Engine, kind: type[Sound], common: Common) -> None:
        self.engine = engine
        self.kind = kind
        self.common = common

    @property
    def capabilities(self) -> Capabilities:
        return self.engine.capabilities

    def log(self, namespace: str) -> Log:
        return self.kind(self.engine.log(namespace), self.common)

    def close(self) -> None:
        self.engine.close()


_ONE_AT_A_TIME = ("append", "lock", "unlock")


class SoundLoop:
    """Runs an engine's methods in threads, and gives a lock back whose caller was cancelled. A fault is a subclass."""

    caught_by: ClassVar[tuple[str, ...]] = ()
    raises_in: ClassVar[tuple[str, ...]] = ()
    caught_between_processes_by: ClassVar[tuple[str, ...]] = ()

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.late: dict[Log, asyncio.Future[object]] = {}

    @property
    def capabilities(self) -> Capabilities:
        return self.engine.capabilities

    async def log(self, namespace: str) -> AsyncLog:
        # It answers every method by __getattr__, which no type checker can see.
        return cast("AsyncLog", LoopLog(self, self.engine.log(namespace)))

    async def close(self) -> None:
        self.engine.close()

    async def call(self, log: Log, method: str, work: Callable[[], object]) -> object:
        if method in _ONE_AT_A_TIME and (late := self.late.get(log)) is not None:
            await asyncio.wait([late])
        running = asyncio.get_running_loop().run_in_executor(None, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if method == "lock":
                running.add_done_callback(lambda lock: None if lock.exception() else log.unlock())
                self.late[log] = running  # nobody else may lock or append over the same log before that has been done
            raise


class LoopLog:
    def __init__(self, loop: SoundLoop, log: Log) -> None:
        self.loop = loop
        self.log = log
        self.name = log.name

    def __getattr__(self, method: str) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            def work() -> object:
                answer: object = getattr(self.log, method)(*arguments)
                return list(answer) if isinstance(answer, Iterator) else answer

            return self.loop.call(self.log, method, work)

        return call


Fault: TypeAlias = type[Sound | SoundEngine | SoundLoop]


class Broken:
    """A storage with one fault, in its logs, in its engines, or in its asynchronous engines.

    It is one in memory, or one in a directory where several processes can meet, and where there are transactions.
    """

    name = "broken:"

    def __init__(self, fault: Fault = Sound, directory: Path | None = None) -> None:
        self.storage = SQLite(directory / "events.db", synchronous="normal") if directory else Memory()
        self.common = Common(directory=directory or Path())
        self.log = fault if issubclass(fault, Sound) else Sound
        self.engine = fault if issubclass(fault, SoundEngine) else SoundEngine
        self.loop = fault if issubclass(fault, SoundLoop) else SoundLoop

    def open(self) -> Engine:
        return self.engine(self.storage.open(), self.log, self.common)

    async def open_async(self) -> AsyncEngine:
        if issubclass(self.log, SoundTransactions):
            return await open_in_thread(self.open)  # bodies and handlers may have to be awaited
        return self.loop(self.open())
