"""Runs the operations of the Valkey engine for the tasks of one event loop: a pool of asynchronous connections."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from typing import TypeVar

from redis.exceptions import BusyLoadingError, ResponseError

from factfold.errors import StoreClosedError, StoreUnavailableError
from factfold.storage import _fork
from factfold.storage._valkey_address import Server
from factfold.storage._valkey_connections import (
    DRIVER_ERRORS,
    AsyncWire,
    lost,
    new_async_wire,
    packed,
    refusal,
)
from factfold.storage._valkey_steps import Pause, Replies, Request, Send, Steps
from factfold.storage._valkey_wire import Address, Reply

T = TypeVar("T")

_inherited: list[AsyncWire] = []
"""Connections of the parent process: kept, so that Python does not close them."""

IDLE = 1.0
"""Seconds after which a connection is tried before it is used: the server may have closed it."""


class AsyncConnections:
    """Connections to the servers of one storage, each used by one task at a time.

    A child process forgets those of its parent: it neither uses nor closes them.
    """

    def __init__(self, server: Server, timeout: float, readers: int) -> None:
        self.name = server.name
        self.closed = False
        self._server = server
        self._timeout = timeout
        self._limit = readers
        self._reset()
        _fork.register(self)

    def _reset(self) -> None:
        self._used: set[AsyncWire] = set()
        self._idle: dict[Address, deque[tuple[AsyncWire, float]]] = {}
        self._readers = asyncio.Semaphore(self._limit)
        self._finishing: set[asyncio.Task[object]] = set()

    async def run(self, steps: Steps[T]) -> T:
        """Performs what an operation asks for, until it has its result."""
        try:
            request = next(steps)
            while True:
                try:
                    replies = await self._perform(request)
                except Exception as error:  # noqa: BLE001 (the operation decides what it means)
                    request = steps.throw(error)
                else:
                    request = steps.send(replies)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()

    def start(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Does work to its end, whether or not who asked for it still waits: it may have to be undone."""
        task = asyncio.create_task(work)
        self._finishing.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[object]) -> None:
        self._finishing.discard(task)
        if not task.cancelled():
            task.exception()  # Somebody has heard of it, or nobody waits any more.

    async def close(self) -> None:
        """Closes all connections, once what goes on has ended, which it soon does."""
        self.closed = True
        while self._finishing:
            await asyncio.wait(self._finishing)
        idle = [wire for wires in self._idle.values() for wire, _ in wires]
        self._idle.clear()
        for wire in idle:
            await wire.disconnect(nowait=True)

    async def _perform(self, request: Request) -> Replies:
        self.check_open()
        match request:
            case Pause(seconds):
                await asyncio.sleep(seconds)
                return ()
            case Send(reading=True):
                try:
                    async with asyncio.timeout(self._timeout):
                        await self._readers.acquire()
                except TimeoutError:
                    raise StoreUnavailableError(
                        f"{self.name}: all {self._limit} connections for reading were in use for {self._timeout} "
                        "seconds. Allow more of them: Valkey(..., connections=...)."
                    ) from None
                try:
                    return await self._send(request)
                finally:
                    self._readers.release()
            case Send():
                return await self._send(request)

    async def _send(self, request: Send) -> Replies:
        wire = await self._take(request.address)
        self._used.add(wire)
        sent = False
        try:
            message = packed(request.commands)
            sent = True
            async with asyncio.timeout(self._timeout):
                await wire.send_packed_command(message, check_health=False)
                replies = [await _reply(wire) for _ in request.commands]
        except DRIVER_ERRORS as error:
            await wire.disconnect(nowait=True)
            self.check_open()
            raise lost(error, request.address, sent=sent) from error
        except BaseException:
            await wire.disconnect(nowait=True)
            raise
        finally:
            self._used.discard(wire)
        if self.closed:
            await wire.disconnect(nowait=True)
        else:
            self._idle.setdefault(request.address, deque()).append((wire, time.monotonic()))
        return replies

    async def _take(self, address: Address) -> AsyncWire:
        idle = self._idle.get(address)
        while idle:
            wire, since = idle.pop()
            if time.monotonic() - since < IDLE or await self._answers(wire):
                return wire
            await wire.disconnect(nowait=True)
        wire = new_async_wire(self._server, address)
        try:
            async with asyncio.timeout(self._timeout):
                await wire.connect()
        except DRIVER_ERRORS as error:
            await wire.disconnect(nowait=True)
            raise lost(error, address, sent=False) from error
        except BaseException:
            await wire.disconnect(nowait=True)
            raise
        return wire

    async def _answers(self, wire: AsyncWire) -> bool:
        """Whether a connection is still good."""
        try:
            async with asyncio.timeout(self._timeout):
                await wire.send_packed_command(packed((("PING",),)), check_health=False)
                return await _reply(wire) == b"PONG"
        except DRIVER_ERRORS:
            return False
        except BaseException:
            await wire.disconnect(nowait=True)
            raise

    def check_open(self) -> None:
        if self.closed:
            raise StoreClosedError(f"{self.name}: the store is closed")

    # -- Fork ------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None: ...
    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None:
        _inherited.extend(self._used)
        _inherited.extend(wire for wires in self._idle.values() for wire, _ in wires)
        self._reset()


async def _reply(wire: AsyncWire) -> Reply:
    try:
        return await wire.read_response(disable_decoding=True)
    except (ResponseError, BusyLoadingError) as error:
        return refusal(error)
