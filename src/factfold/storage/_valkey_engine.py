"""The Valkey engine for threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from uuid import uuid4
from weakref import WeakSet

from factfold.errors import FactfoldError, StorageError, StoreClosedError
from factfold.storage import _fork
from factfold.storage._valkey_log import Operations
from factfold.storage._valkey_place import Place
from factfold.storage._valkey_threads import Connections
from factfold.storage.base import (
    Append,
    Appended,
    Capabilities,
    Check,
    Conflict,
    Entry,
    Head,
    Load,
    Loaded,
    LogPage,
    News,
    Put,
    StoredEvent,
    StreamInfo,
    StreamPage,
    Swap,
)
from factfold.storage.valkey import Valkey


class ValkeyEngine:
    """Opened connections."""

    def __init__(self, place: Place, connections: Connections) -> None:
        self._place = place
        self._connections = connections
        self._logs: WeakSet[ValkeyLog] = WeakSet()

    @classmethod
    def opened(cls, storage: Valkey) -> ValkeyEngine:
        """Connects."""
        place = Place(storage)
        connections = Connections(place.server, storage.timeout, storage.connections)
        try:
            connections.run(place.open())
        except BaseException:
            connections.close()
            raise
        return cls(place, connections)

    @property
    def capabilities(self) -> Capabilities:
        return self._place.capabilities

    def log(self, namespace: str) -> ValkeyLog:
        """One namespace, which is made when it does not exist."""
        operations = self._connections.run(self._place.operations(namespace))
        log = ValkeyLog(operations, self._connections)
        self._logs.add(log)
        return log

    def close(self) -> None:
        """Gives the locks back and closes the connections."""
        if not self._connections.closed:
            for log in list(self._logs):
                with suppress(StorageError, StoreClosedError):  # The lease ends it.
                    log.close()
        self._connections.close()


class ValkeyLog:
    """One namespace: runs its operations."""

    def __init__(self, operations: Operations, connections: Connections) -> None:
        self.name = operations.name
        self._operations = operations
        self._connections = connections
        _fork.register(self)

    def head(self) -> Head:
        return self._connections.run(self._operations.head())

    def append(self, append: Append) -> Appended | Conflict:
        try:
            return self._connections.run(self._operations.append(append))
        except FactfoldError:
            raise
        except BaseException:  # An interrupt: it must not keep the lock.
            self.unlock()
            raise

    def check(self, check: Check) -> News:
        return self._connections.run(self._operations.check(check))

    def lock(self, check: Check) -> News:
        try:
            return self._connections.run(self._operations.lock(check, uuid4().hex))
        except FactfoldError:
            raise
        except BaseException:  # As above.
            self.unlock()
            raise

    def unlock(self) -> None:
        self._connections.run(self._operations.unlock())

    def close(self) -> None:
        """Gives the lock back; who waits for it waits no longer."""
        self._operations.closing = True
        self.unlock()

    def resolve(self, append: Append) -> Appended | None:
        return self._connections.run(self._operations.resolve(append))

    def load(self, load: Load) -> Loaded:
        return self._connections.run(self._operations.load(load))

    def read(self, page: LogPage) -> Sequence[StoredEvent]:
        return self._connections.run(self._operations.read(page))

    def read_stream(self, page: StreamPage) -> Sequence[StoredEvent]:
        return self._connections.run(self._operations.read_stream(page))

    def streams(self, category: str | None, after: str, limit: int) -> Sequence[StreamInfo]:
        return self._connections.run(self._operations.streams(category, after, limit))

    def wait(self, after: int, timeout: float) -> int:
        return self._connections.run(self._operations.wait(after, timeout))

    def get(self, place: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        return self._connections.run(self._operations.values.get(place, keys))

    def put(self, place: str, key: str, value: bytes | None) -> None:
        self._connections.run(self._operations.values.put(Put(place, key, value)))

    def swap(self, swap: Swap) -> bool:
        return self._connections.run(self._operations.values.swap(swap))

    def entries(self, place: str, after: str, limit: int) -> Sequence[Entry]:
        return self._connections.run(self._operations.values.entries(place, after, limit))

    def problems(self) -> Iterator[str]:
        return iter(self._connections.run(self._operations.problems()))

    # -- Fork ------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None: ...
    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None:
        """The lock is the parent's."""
        self._operations.forget()
