"""Saves snapshots behind the callers' backs, in a thread that ends when nothing waits any more."""

from __future__ import annotations

import threading

from factfold.snapshots import DRAIN, PLACE, Snapshot, Snapshots
from factfold.storage.base import Log


class Saver:
    """Writes what waits in `snapshots` into a log. `guard` is the heart's: it is held while the queue is touched."""

    def __init__(self, snapshots: Snapshots, log: Log, guard: threading.Lock) -> None:
        self._snapshots = snapshots
        self._log = log
        self._guard = guard
        self._thread: threading.Thread | None = None
        self._closed = False

    def save(self, snapshot: Snapshot) -> None:
        """Saves one now. Raises EncodingError, and what the storage raises."""
        self._log.put(PLACE, snapshot.key, self._snapshots.encode(snapshot))
        with self._guard:
            self._snapshots.saved += 1

    def wake(self) -> None:
        """Sees to it that what waits is saved. The guard is held."""
        if self._closed:
            self._snapshots.give_up()
        elif self._snapshots.waiting and (self._thread is None or not self._thread.is_alive()):
            thread = threading.Thread(target=self._run, name="factfold snapshots", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the process may have no more threads, or is ending
                self._snapshots.give_up()
            else:
                self._thread = thread

    def close(self) -> None:
        """Waits until what waits is saved, at most for `DRAIN` seconds. The rest is dropped."""
        with self._guard:
            self.wake()
            thread, self._closed = self._thread, True
        if thread is not None:
            thread.join(DRAIN)
        with self._guard:
            self._snapshots.give_up()

    def _run(self) -> None:
        while (snapshot := self._next()) is not None:
            try:
                self.save(snapshot)
            except Exception as error:  # noqa: BLE001 - whatever it is, no command waits for this
                self._snapshots.could_not_save(snapshot, error)

    def _next(self) -> Snapshot | None:
        with self._guard:
            snapshot = self._snapshots.next()
            if snapshot is None:
                self._thread = None  # this one ends: whoever adds something now starts another one
            return snapshot
