"""Health: whether the storage answers, who has failed and why, and who does not get on."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from factfold import (
    AsyncStore,
    ConsumerStoppedError,
    Reaction,
    RecordedEvent,
    Retry,
    Store,
    StoreClosedError,
    StoreUnavailableError,
)
from factfold.checkpoints import LEASES
from factfold.storage.base import Storage
from factfold.storage.memory import Memory
from tests.faults import Faulty, Gate, raising
from tests.ledger import Opened, deposit, open_account
from tests.looping import store_of
from tests.racing import eventually
from tests.read_models import Money, recording


@pytest.fixture
def store(storage: Storage, flavour: str) -> Iterator[Store]:
    """A store, of threads or of a loop that runs in the background."""
    with store_of(flavour, storage) as store:
        yield store


def test_a_store_that_nobody_has_used_is_sound(store: Store) -> None:
    health = store.health()
    assert (health.ok, health.head, health.error, health.consumers) == (True, 0, "", ())
    assert health.durability
    assert health.storage.endswith("[default]")


def test_consumers_of_all_kinds_are_listed(store: Store, flavour: str) -> None:
    reaction = Reaction("watch", start="head")

    @reaction.on
    def _(event: Opened, context: Any) -> None: ...

    store.start(recording([], flavour=flavour), reaction)
    store.wait_for(reaction, store.execute(deposit, "ann"))
    health = store.health()
    assert health.ok
    assert [(one.kind, one.name) for one in health.consumers] == [("projection", "seen"), ("reaction", "watch")]


def test_a_storage_that_is_away_is_not_sound(storage: Storage, flavour: str) -> None:
    faulty = Faulty(storage)
    with store_of(flavour, faulty) as store:
        assert store.health().ok
        faulty.before["head"] = raising(StoreUnavailableError("the server is away"))
        health = store.health()
        assert (health.ok, health.head, health.error) == (False, None, "the server is away")
        faulty.before.clear()
        assert store.health().ok


class Away:
    """A storage that cannot be opened."""

    name = "away:"

    def open(self) -> Any:
        raise StoreUnavailableError("the server is away")

    async def open_async(self) -> Any:
        raise StoreUnavailableError("the server is away")


def test_a_storage_that_cannot_be_opened_is_not_sound() -> None:
    """It is no reason to raise: whoever asks for health wants to know just that."""
    store = Store(Away())
    health = store.health()
    assert (health.ok, health.storage, health.head, health.error) == (False, "away:", None, "the server is away")


async def test_a_storage_that_cannot_be_opened_in_a_loop_is_not_sound() -> None:
    health = await AsyncStore(Away()).health()
    assert (health.ok, health.storage, health.head, health.error) == (False, "away:", None, "the server is away")


async def test_a_closed_store_has_no_health(storage: Storage) -> None:
    store = Store(storage)
    store.close()
    with pytest.raises(StoreClosedError):
        store.health()
    async_store = AsyncStore(storage)
    await async_store.close()
    with pytest.raises(StoreClosedError):
        await async_store.health()


def test_one_that_has_failed_is_not_sound_until_it_runs_again(store: Store, flavour: str) -> None:
    def fail(event: Money, recorded: RecordedEvent[Any]) -> None:
        raise LookupError("bad luck")

    store.execute(deposit, "ann")
    with pytest.raises(ConsumerStoppedError):
        store.run(recording([], hook=fail, retry=Retry(max_attempts=1), flavour=flavour))
    health = store.health()
    assert not health.ok
    assert (health.head, health.error) == (1, ""), "the storage answers"
    (status,) = health.consumers
    assert status.state == "failed"
    assert "bad luck" in status.error
    store.catch_up(recording([], flavour=flavour))
    assert store.health().ok


def test_a_handler_that_hangs_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    """While the log's head moves on: in the status, in the program's log, and by a call."""
    gate, told = Gate(), list[str]()
    memory = Memory()

    def hang(event: Money, recorded: RecordedEvent[Any]) -> None:
        gate()

    slow = recording([], hook=hang, patience=0.1, on_trouble=told.append, flavour="threads")
    with Store(memory) as store:
        store.start(slow, recording([], "other"))
        store.wait_for(recording([], "other"), store.execute(deposit, "ann"))
        eventually(lambda: told)
        assert told[0].startswith("projection seen (version 1) of memory: [default] has not got on for")
        assert "it is at position 0" in told[0]
        assert told[0] in caplog.text
        health = store.health()
        assert not health.ok
        stalled = {one.name: one.stalled_for for one in health.consumers}
        assert stalled["seen"] >= 0.1
        assert stalled["other"] == 0.0
        gate.open()
        store.wait_for(slow, 1)
        eventually(lambda: store.health().ok)
        assert len(told) == 1, "it is said once"


def test_who_calls_sys_exit_in_trouble_ends_nobody_elses_lease(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    other = recording([], "other", lease=0.3)

    def lease() -> list[bytes]:
        return [one.value for one in memory.logs[0].entries(LEASES, "", 10) if one.key == other.key]

    memory = Faulty(Memory())
    with Store(memory) as store:
        store.execute(deposit, "ann")
        store.start(
            recording([], hook=lambda event, recorded: gate(), patience=0.01, on_trouble=lambda what: sys.exit(1)),
            other,
        )
        eventually(lambda: "on_trouble called sys.exit" in caplog.text)
        before = lease()
        eventually(lambda: lease() != before)
        gate.open()


async def test_a_task_that_waits_for_ever_is_noticed(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factfold.aio_workers.LEAVING", 0.05)
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    reaction = Reaction(
        "waits",
        start="beginning",
        patience=0.1,
        on_trouble=lambda what: loop.call_soon_threadsafe(told.set),
    )

    @reaction.on
    async def _(event: Opened, context: Any) -> None:
        await asyncio.Event().wait()

    async with AsyncStore(storage) as store:
        await store.start(reaction)
        await store.execute(open_account, "ann", "Ann")
        await asyncio.wait_for(told.wait(), 30)
        assert not (await store.health()).ok


def test_who_has_nothing_to_do_is_not_late(store: Store, flavour: str) -> None:
    told: list[str] = []
    store.start(recording([], patience=0.05, on_trouble=told.append, flavour=flavour))
    store.wait_for(recording([], flavour=flavour), store.execute(deposit, "ann"))
    for _ in range(4):
        store.execute(open_account, "ann", "Ann")  # of no concern
        threading.Event().wait(0.05)
    assert told == []
    assert store.health().ok


def test_a_long_outage_is_told(storage: Storage, flavour: str) -> None:
    """Of one that has something to do and cannot."""
    faulty, told = Faulty(storage), list[str]()
    with store_of(flavour, faulty) as store, Store(storage) as other:
        store.start(recording([], patience=0.1, on_trouble=told.append, flavour=flavour))
        store.wait_for(recording([], flavour=flavour), other.execute(deposit, "ann"))
        faulty.before["swap"] = raising(StoreUnavailableError("away"))
        other.execute(deposit, "ann")
        eventually(lambda: told)
        assert "(retrying)" in told[0]
        faulty.before.clear()
        store.wait_for(recording([], flavour=flavour), 2)
