"""An AsyncStore never blocks its event loop, and lives in one loop at a time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Self

import pytest

from factfold import (
    AsyncStore,
    Store,
    Transaction,
    deciding,
    stream,
)
from factfold.loads import MAX_EVENTS
from factfold.storage.base import Storage
from tests.engines import EVERY_ENGINE
from tests.ledger import Deposited, accounts, deposit
from tests.opening import Opening
from tests.racing import within

ENGINES = EVERY_ENGINE


class Turns:
    """Counts the turns of the event loop in which other tasks can run."""

    def __init__(self) -> None:
        self._count = 0
        self.seen: list[int] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._turn())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _turn(self) -> None:
        while True:
            self._count += 1
            await asyncio.sleep(0)

    def mark(self) -> None:
        """Something is done on the loop."""
        self.seen.append(self._count)

    @property
    def most_at_once(self) -> int:
        """How often something was done, at most, before another task could run."""
        return max(self.seen.count(turn) for turn in set(self.seen))


@pytest.mark.parametrize("appending", [True, False])
async def test_a_hundred_slow_commands_leave_room_for_other_tasks(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, appending: bool
) -> None:
    monkeypatch.setattr(deciding, "MAX_SECONDS", 0.01)
    turns = Turns()

    def slow(tx: Transaction) -> None:
        turns.mark()
        end = time.monotonic() + 0.0025
        while time.monotonic() < end:
            pass
        account = tx.read(accounts("ann"))
        if appending:
            account.append(Deposited(1))

    async with AsyncStore(storage) as store:
        await store.state(accounts("ann"))
        async with turns:
            await within(asyncio.gather(*[store.execute(slow) for _ in range(100)]))

    assert len(turns.seen) == 100
    assert turns.most_at_once <= 4, "a batch ends after a hundredth of a second"


async def test_loading_a_long_stream_leaves_room_for_other_tasks(storage: Storage) -> None:
    turns = Turns()

    @stream("ledger", initial=0)
    def watched(state: int, event: Deposited) -> int:
        turns.mark()
        return state + event.amount

    with Store(storage) as rival:
        for _ in range(5):
            rival.execute(lambda tx: tx.read(accounts("ann")).append(*[Deposited(1)] * 2_000))
    async with AsyncStore(storage) as store, turns:
        assert await within(store.state(watched("ann"))) == 10_000

    assert len(turns.seen) == 10_000
    assert turns.most_at_once <= MAX_EVENTS


def test_a_store_for_each_event_loop_works_and_one_whose_loop_has_ended_can_be_closed(storage: Storage) -> None:
    opening = Opening(storage)
    stores = [AsyncStore(opening) for _ in range(3)]
    assert [asyncio.run(store.execute(deposit, "ann")).result for store in stores] == [1, 2, 3]
    for store in stores:
        asyncio.run(within(store.close()))
    assert opening.closed == 3
