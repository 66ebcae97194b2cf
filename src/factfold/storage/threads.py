"""Runs an engine whose driver is synchronous under asyncio, in threads of its own.

One thread does what writes, in the order it was asked for; a few others do what reads, so that no reader waits for a
writer. An asyncio lock is held from `lock` to `append` or `unlock`: the one thread that writes can then never wait for
a lock that only itself could give back. What was sent to a thread is done, whether or not its caller still waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast
from weakref import finalize

from factfold.errors import StoreClosedError, UnsupportedError
from factfold.storage import _fork
from factfold.storage.base import (
    Append,
    Appended,
    Body,
    Capabilities,
    Check,
    Conflict,
    Engine,
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

READERS = 4
"""How many threads read at the same time."""

POLL = 5e-3
LONGEST_POLL = 20e-3
"""Seconds between two looks at the head while `wait` waits: the first one, and what it grows to."""


class _Job(Generic[R]):
    """A call that a thread makes for a task.

    `settle` hears on the loop how it ended, whether or not the task still waits. When the loop is closed by then,
    `undo` is called in the thread.
    """

    __slots__ = ("answer", "call", "error", "future", "loop", "settle", "undo")

    def __init__(
        self,
        call: Callable[[], R],
        settle: Callable[[BaseException | None], None] | None = None,
        undo: Callable[[], None] | None = None,
    ) -> None:
        self.call = call
        self.settle = settle
        self.undo = undo
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[R] = self.loop.create_future()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Makes the call; in the thread."""
        try:
            self.answer = self.call()
        except BaseException as error:  # noqa: BLE001 (it is raised again where the task waits)
            self.error = error
        try:
            self.loop.call_soon_threadsafe(self._tell)
        except RuntimeError:
            if self.error is None and self.undo is not None:
                self.undo()

    def _tell(self) -> None:
        """Answers; on the loop."""
        error, self.error = self.error, None
        if self.settle is not None:
            self.settle(error)
        if self.future.cancelled():
            return
        if error is None:
            self.future.set_result(self.answer)
        else:
            self.future.set_exception(error)


class _Threads:
    """Threads that make calls in the order they come. They are started when they are needed, and end when told to."""

    def __init__(self, limit: int) -> None:
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._limit = limit
        self._started = 0
        self._finalizer = finalize(self, self._jobs.put, None)

    def start(self, job: _Job[R]) -> asyncio.Future[R]:
        """Has the call made, and gives the future of its answer."""
        self._jobs.put(job)
        if self._started < self._limit and self._jobs.qsize() > 0:
            self._started += 1
            threading.Thread(target=_work, args=(self._jobs,), name="factfold", daemon=True).start()
        return job.future

    def stop(self) -> None:
        """Lets the threads end when all that was started is done."""
        self._finalizer()


def _work(jobs: SimpleQueue[_Job[Any] | None]) -> None:
    while (job := jobs.get()) is not None:
        job.run()
        del job  # Nothing is kept alive while waiting for the next.
    jobs.put(None)  # The next thread is to end, too.


async def open_in_thread(open: Callable[[], Engine]) -> ThreadedEngine:
    """Opens an engine without blocking the loop. If the caller is cancelled meanwhile, it is closed again."""
    threads = _Threads(1)
    opened: list[Engine] = []

    def keep() -> Engine:
        opened.append(open())
        return opened[0]

    job = _Job(keep)
    try:
        return ThreadedEngine(await threads.start(job))
    except asyncio.CancelledError:
        threads.start(_Job(lambda: opened[0].close() if opened else None))
        raise
    finally:
        threads.stop()


class ThreadedEngine:
    """An engine in threads. It belongs to one event loop."""

    def __init__(self, engine: Engine) -> None:
        self.capabilities: Capabilities = engine.capabilities
        self._engine = engine
        self._closed = False
        self._reset()
        _fork.register(self)

    def _reset(self) -> None:
        self._turn = asyncio.Lock()
        self._writer = _Threads(1)
        self._readers = _Threads(READERS)

    async def log(self, namespace: str) -> ThreadedLog:
        return ThreadedLog(self, await self.write(partial(self._engine.log, namespace)))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        # Not in the thread that writes: it may wait for a lock, until the engine is closed.
        closer = _Threads(1)
        try:
            await closer.start(_Job(self._engine.close))
        finally:
            for threads in (closer, self._writer, self._readers):
                threads.stop()

    async def read(self, call: Callable[[], R]) -> R:
        """Has a call made by one of the threads that read."""
        self.check_open()
        return await self._readers.start(_Job(call))

    async def write(self, call: Callable[[], R]) -> R:
        """Has a call made that takes the writers' lock and gives it back."""
        return await self.end_turn(await self.take_turn(), call)

    async def take_turn(self) -> asyncio.Lock:
        """Waits until no other task writes, or holds the writers' lock."""
        turn = self._turn
        await turn.acquire()
        return turn

    async def end_turn(self, turn: asyncio.Lock, call: Callable[[], R]) -> R:
        """Has the last call of a turn made. Then the next task may write, even if this one was cancelled."""
        return await self.start(_Job(call, lambda error: turn.release()), turn)

    def start(self, job: _Job[R], turn: asyncio.Lock) -> asyncio.Future[R]:
        """Has a call made by the thread that writes; it must settle what becomes of the turn."""
        try:
            self.check_open()
        except StoreClosedError:
            turn.release()
            raise
        return self._writer.start(job)

    def check_open(self) -> None:
        if self._closed:
            raise StoreClosedError("The store is closed.")

    def before_fork(self) -> None: ...
    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None:
        """The threads are not in this process: others are started when they are needed."""
        self._reset()


class Bridge:
    """Calls something in a thread, and has what it returns awaited on the loop, if it can be."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._cancelled = False
        self._awaiting: Future[object] | None = None

    def call(self, body: Callable[..., object], *arguments: object) -> object:
        """In the thread: calls, and waits until what was returned has been awaited. Gives what came of it."""
        returned = body(*arguments)
        if not isinstance(returned, Awaitable):
            return returned
        waiting = self._awaiting = asyncio.run_coroutine_threadsafe(
            _await(cast("Awaitable[object]", returned)), self._loop
        )
        if self._cancelled:
            waiting.cancel()
        return waiting.result()

    def cancel(self) -> None:
        """On the loop: who waits for the call was cancelled. What it awaits is cancelled, too."""
        self._cancelled = True
        if self._awaiting is not None:
            self._awaiting.cancel()


async def _await(awaitable: Awaitable[object]) -> object:
    return await awaitable


class ThreadedLog:
    """One namespace of an engine in threads."""

    def __init__(self, engine: ThreadedEngine, log: Log) -> None:
        self.name = log.name
        self._engine = engine
        self._log = log
        self._held: asyncio.Lock | None = None
        self._bridge: Bridge | None = None  # Of the append that is being made, for what accompanies it.

    async def head(self) -> Head:
        return await self._engine.read(self._log.head)

    async def append(self, append: Append) -> Appended | Conflict:
        turn, self._held = self._held, None
        if turn is None:
            turn = await self._engine.take_turn()
        bridge = Bridge(asyncio.get_running_loop())
        try:
            return await self._engine.end_turn(turn, partial(self._append, append, bridge))
        except asyncio.CancelledError:
            bridge.cancel()
            raise

    def _append(self, append: Append, bridge: Bridge) -> Appended | Conflict:
        self._bridge = bridge
        return self._log.append(append)

    async def check(self, check: Check) -> News:
        return await self._engine.read(partial(self._log.check, check))

    async def lock(self, check: Check) -> News:
        turn = await self._engine.take_turn()

        def settle(error: BaseException | None) -> None:
            if error is not None:
                turn.release()
            elif future.cancelled():
                self._start_unlock(turn)
            else:
                self._held = turn

        future = self._engine.start(_Job(partial(self._log.lock, check), settle, self._log.unlock), turn)
        try:
            return await future
        except asyncio.CancelledError:
            if self._held is turn:  # The lock came at the same moment.
                self._held = None
                self._start_unlock(turn)
            raise

    async def unlock(self) -> None:
        turn, self._held = self._held, None
        if turn is not None:
            await self._start_unlock(turn)

    def _start_unlock(self, turn: asyncio.Lock) -> asyncio.Future[None]:
        return self._engine.start(_Job(self._log.unlock, lambda error: turn.release()), turn)

    async def resolve(self, append: Append) -> Appended | None:
        return await self._engine.write(partial(self._log.resolve, append))

    async def load(self, load: Load) -> Loaded:
        return await self._engine.read(partial(self._log.load, load))

    async def read(self, page: LogPage) -> Sequence[StoredEvent]:
        return await self._engine.read(partial(self._log.read, page))

    async def read_stream(self, page: StreamPage) -> Sequence[StoredEvent]:
        return await self._engine.read(partial(self._log.read_stream, page))

    async def streams(self, category: str | None, after: str, limit: int) -> Sequence[StreamInfo]:
        return await self._engine.read(partial(self._log.streams, category, after, limit))

    async def wait(self, after: int, timeout: float) -> int:
        """Looks, and sleeps on the loop between two looks: no thread is kept waiting."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        pause = POLL
        while True:
            position = await self._engine.read(partial(self._log.wait, after, 0.0))
            remaining = deadline - loop.time()
            if position > after or remaining <= 0:
                return position
            await asyncio.sleep(min(pause, remaining))
            pause = min(pause * 1.5, LONGEST_POLL)

    async def get(self, place: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        return await self._engine.read(partial(self._log.get, place, keys))

    async def put(self, place: str, key: str, value: bytes | None) -> None:
        await self._engine.write(partial(self._log.put, place, key, value))

    async def swap(self, swap: Swap) -> bool:
        return await self._engine.write(partial(self._log.swap, swap))

    async def entries(self, place: str, after: str, limit: int) -> Sequence[Entry]:
        return await self._engine.read(partial(self._log.entries, place, after, limit))

    async def transact(self, swap: Swap, body: Callable[[object], object]) -> bool:
        log = self._transactional("transact")
        bridge = Bridge(asyncio.get_running_loop())
        try:
            return await self._engine.write(partial(log.transact, swap, partial(bridge.call, body)))
        except asyncio.CancelledError:
            bridge.cancel()
            raise

    async def accompany(self, inline: Inline | None) -> None:
        log = self._transactional("accompany")
        log.accompany(None if inline is None else Inline(inline.names, partial(self._handle, inline.handle)))

    def _handle(self, handle: Body, connection: object, events: Sequence[StoredEvent]) -> None:
        assert self._bridge is not None  # It is called from within `_append`.
        self._bridge.call(handle, connection, events)

    def _transactional(self, what: str) -> TransactionalLog:
        if not isinstance(self._log, TransactionalLog):
            raise UnsupportedError(f"{self.name}: this storage has no transactions for read models ({what}).")
        return self._log

    async def problems(self) -> Sequence[str]:
        return await self._engine.read(lambda: list(self._log.problems()))
