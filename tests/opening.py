"""A storage that counts how often it is opened and closed."""

from __future__ import annotations

from factfold.storage.base import AsyncEngine, Engine, Storage
from tests.faults import Faulty


class Opening:
    """A storage that counts how often it is opened and closed."""

    def __init__(self, storage: Storage) -> None:
        self.name = storage.name
        self.opened = 0
        self._faulty = Faulty(storage)

    @property
    def closed(self) -> int:
        return self._faulty.calls["close"]

    def open(self) -> Engine:
        self.opened += 1
        return self._faulty.open()

    async def open_async(self) -> AsyncEngine:
        self.opened += 1
        return await self._faulty.open_async()
