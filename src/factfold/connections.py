"""What sibling stores share: the engine, which is opened at the first use and closed after all of them."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar
from weakref import WeakSet, WeakValueDictionary

from factfold.errors import StoreClosedError
from factfold.storage import _fork
from factfold.storage.base import Engine, Storage

S = TypeVar("S")


class Connections(Generic[S]):
    """An engine that sibling stores share, opened at the first use. It keeps none of them alive."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._engine: Engine | None = None
        self._sharing: WeakSet[S] = WeakSet()
        self._by_namespace: WeakValueDictionary[str, S] = WeakValueDictionary()
        self._closed = False
        self._lock = threading.Lock()
        _fork.register(self)

    def engine(self) -> Engine:
        with self._lock:
            if self._closed:
                raise StoreClosedError(f"The store on {self._storage.name} is closed: open another one")
            if self._engine is None:
                self._engine = self._storage.open()
            return self._engine

    def of(self, namespace: str) -> S | None:
        """The open store of a namespace, if there is one."""
        with self._lock:
            return self._by_namespace.get(namespace)

    def share(self, store: S, namespace: str) -> S:
        """Notes a store, which has to be closed before the engine is. Gives the one that was faster, if one was."""
        with self._lock:
            self._sharing.add(store)
            return self._by_namespace.setdefault(namespace, store)

    def leave(self, store: S, namespace: str) -> None:
        """The store is being closed: whoever asks for its namespace gets another one."""
        with self._lock:
            if self._by_namespace.get(namespace) is store:
                del self._by_namespace[namespace]

    def sharing(self) -> list[S]:
        """The stores that somebody still has."""
        with self._lock:
            return list(self._sharing)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._engine is not None:
                self._engine.close()

    def before_fork(self) -> None:
        """Nothing to do: the engine sees to its connections."""

    def after_fork_in_parent(self) -> None:
        """Nothing to do."""

    def after_fork_in_child(self) -> None:
        """A lock that another thread held stays locked in the child."""
        self._lock = threading.Lock()
