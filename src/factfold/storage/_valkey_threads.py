"""Runs the operations of the Valkey engine for threads: a pool of blocking connections."""

from __future__ import annotations

import threading
import time
from collections import deque
from queue import Empty, SimpleQueue
from typing import TypeVar
from weakref import WeakSet

from redis.exceptions import BusyLoadingError, ResponseError

from factfold.errors import StoreClosedError, StoreUnavailableError
from factfold.storage import _fork
from factfold.storage._valkey_address import Server
from factfold.storage._valkey_connections import (
    DRIVER_ERRORS,
    Wire,
    lost,
    new_wire,
    packed,
    refusal,
)
from factfold.storage._valkey_steps import Pause, Replies, Request, Send, Steps
from factfold.storage._valkey_wire import Address, Reply

T = TypeVar("T")

IDLE = 1.0
"""Seconds after which a connection is tried before it is used: the server may have closed it."""


class Connections:
    """Connections to the servers of one storage, each used by one thread at a time.

    A child process forgets those of its parent: it neither uses nor closes them.
    """

    def __init__(self, server: Server, timeout: float, readers: int) -> None:
        self.name = server.name
        self.closed = False
        self._server = server
        self._timeout = timeout
        self._limit = readers
        self._inherited: list[Wire] = []
        self._reset()
        _fork.register(self)

    def _reset(self) -> None:
        # Weak: a connection that an interrupt has torn away from its user is closed by Python.
        self._used: WeakSet[Wire] = WeakSet()
        self._idle: dict[Address, deque[tuple[Wire, float]]] = {}
        self._lock = threading.Lock()
        self._permits: SimpleQueue[None] = SimpleQueue()
        for _ in range(self._limit):
            self._permits.put(None)

    def run(self, steps: Steps[T]) -> T:
        """Performs what an operation asks for, until it has its result."""
        try:
            request = next(steps)
            while True:
                try:
                    replies = self._perform(request)
                except Exception as error:  # noqa: BLE001 (the operation decides what it means)
                    request = steps.throw(error)
                else:
                    request = steps.send(replies)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()

    def close(self) -> None:
        """Closes all connections; those in use when their operations end, which they soon do."""
        with self._lock:
            self.closed = True
            idle = [wire for wires in self._idle.values() for wire, _ in wires]
            self._idle.clear()
        for wire in idle:
            wire.disconnect()

    def _perform(self, request: Request) -> Replies:
        self.check_open()
        match request:
            case Pause(seconds):
                time.sleep(seconds)
                return ()
            case Send(reading=True):
                held: list[None] = []
                try:
                    # One step, so that no interrupt comes between having a permit and knowing it.
                    held += map(self._permits.get, (True,), (self._timeout,))
                    return self._send(request)
                except Empty:
                    raise StoreUnavailableError(
                        f"{self.name}: all {self._limit} connections for reading were in use for {self._timeout} "
                        "seconds. Allow more of them: Valkey(..., connections=...)."
                    ) from None
                finally:
                    if held:
                        self._permits.put(None)
            case Send():
                return self._send(request)

    def _send(self, request: Send) -> Replies:
        wire = self._take(request.address)
        sent = False
        try:
            message = packed(request.commands)
            sent = True
            wire.send_packed_command(message, check_health=False)
            replies = [_reply(wire) for _ in request.commands]
        except DRIVER_ERRORS as error:
            self._discard(wire)
            self.check_open()
            raise lost(error, request.address, sent=sent) from error
        except BaseException:
            self._discard(wire)
            raise
        self._give(request.address, wire)
        return replies

    def _take(self, address: Address) -> Wire:
        while True:
            with self._lock:
                idle = self._idle.get(address)
                wire, since = idle.pop() if idle else (None, 0.0)
                if wire is not None:
                    self._used.add(wire)
            if wire is None:
                return self._connect(address)
            if time.monotonic() - since < IDLE or _answers(wire):
                return wire
            self._discard(wire)

    def _connect(self, address: Address) -> Wire:
        wire = new_wire(self._server, address, self._timeout)
        with self._lock:
            self._used.add(wire)
        try:
            wire.connect()
        except DRIVER_ERRORS as error:
            self._discard(wire)
            raise lost(error, address, sent=False) from error
        except BaseException:
            self._discard(wire)
            raise
        return wire

    def _give(self, address: Address, wire: Wire) -> None:
        with self._lock:
            if wire in self._used and not self.closed:
                self._used.discard(wire)
                self._idle.setdefault(address, deque()).append((wire, time.monotonic()))
                return
        self._discard(wire)

    def _discard(self, wire: Wire) -> None:
        """Closes a connection, unless it belongs to the parent process."""
        with self._lock:
            own = wire in self._used
            self._used.discard(wire)
        if own:
            wire.disconnect()

    def check_open(self) -> None:
        if self.closed:
            raise StoreClosedError(f"{self.name}: the store is closed")

    # -- Fork ------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def after_fork_in_child(self) -> None:
        self._inherited += self._used
        self._inherited += (wire for wires in self._idle.values() for wire, _ in wires)
        self._reset()


def _reply(wire: Wire) -> Reply:
    try:
        return wire.read_response(disable_decoding=True)
    except (ResponseError, BusyLoadingError) as error:
        return refusal(error)


def _answers(wire: Wire) -> bool:
    """Whether a connection is still good."""
    try:
        wire.send_packed_command(packed((("PING",),)), check_health=False)
        return _reply(wire) == b"PONG"
    except DRIVER_ERRORS:
        return False
