"""Saves snapshots behind the callers' backs, in a task that ends when nothing waits any more."""

from __future__ import annotations

import asyncio

from factfold.snapshots import DRAIN, PLACE, Snapshot, Snapshots
from factfold.storage.base import AsyncLog


class AsyncSaver:
    """Writes what waits in `snapshots` into a log."""

    def __init__(self, snapshots: Snapshots, log: AsyncLog) -> None:
        self._snapshots = snapshots
        self._log = log
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def save(self, snapshot: Snapshot) -> None:
        """Saves one now. Raises EncodingError, and what the storage raises."""
        await self._log.put(PLACE, snapshot.key, self._snapshots.encode(snapshot))
        self._snapshots.saved += 1

    def wake(self) -> None:
        """Sees to it that what waits is saved."""
        if self._closed:
            self._snapshots.give_up()
        elif self._snapshots.waiting and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Waits until what waits is saved, at most for `DRAIN` seconds. The rest is dropped."""
        self.wake()
        self._closed = True
        if self._task is not None:
            await asyncio.wait([self._task], timeout=DRAIN)
            self._task.cancel()
            await asyncio.wait([self._task])
        self._snapshots.give_up()

    async def _run(self) -> None:
        while (snapshot := self._snapshots.next()) is not None:
            try:
                await self.save(snapshot)
            except Exception as error:  # noqa: BLE001 - whatever it is, no command waits for this
                self._snapshots.could_not_save(snapshot, error)
