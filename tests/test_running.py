"""How consumers are run, stopped, waited for and told about, in the foreground and in the background."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from factfold import Store, StoreClosedError
from factfold.storage.base import Storage
from tests.ledger import deposit, open_account
from tests.looping import store_of
from tests.racing import eventually, start
from tests.read_models import recording, status_of


@pytest.fixture
def store(storage: Storage, flavour: str) -> Iterator[Store]:
    """A store, of threads or of a loop that runs in the background."""
    with store_of(flavour, storage) as store:
        yield store


@pytest.fixture
def quick_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for its turn looks often."""
    monkeypatch.setattr("factfold.consuming.POLL", 0.02)


# -- Running -----------------------------------------------------------------------------------------------------------


def test_run_stays_until_it_is_stopped(store: Store, flavour: str) -> None:
    seen: list[int] = []
    projection = recording(seen, flavour=flavour)
    running = start(lambda: store.run(projection))
    receipt = store.execute(deposit, "ann")
    store.wait_for(projection, receipt)
    assert not running.ended
    store.stop(projection)
    assert running.error() is None
    assert seen == [1]


def test_run_ends_when_the_store_is_closed(storage: Storage) -> None:
    projection = recording([])
    stores = [Store(storage) for _ in range(10)]
    for store in stores:
        receipt = store.execute(deposit, "ann")
        running = start(store.run, projection)
        store.wait_for(projection, receipt)
        store.close()
        assert running.error() is None
    with pytest.raises(StoreClosedError):
        stores[0].start(projection)


def test_what_was_given_back_is_taken_over_at_once(storage: Storage, flavour: str) -> None:
    """A lease is not waited for when its owner has stopped in good order."""
    seen: list[int] = []
    projection = recording(seen, lease=1000.0, flavour=flavour)
    for number in range(1, 4):
        with store_of(flavour, storage) as store:
            receipt = store.execute(deposit, "ann")
            store.start(projection)
            store.wait_for(projection, receipt)
            assert seen == list(range(1, number + 1))


@pytest.mark.usefixtures("quick_polls")
def test_of_two_stores_one_runs_it_and_the_other_takes_over(storage: Storage, store: Store, flavour: str) -> None:
    seen: list[int] = []
    projection = recording(seen, flavour=flavour)
    with Store(storage) as other:
        running_here, running_there = recording(seen, flavour=flavour), recording(seen)
        store.start(running_here)
        store.wait_for(projection, store.execute(deposit, "ann"))
        other.start(running_there)
        eventually(lambda: status_of(other, running_there).state == "waiting")
        store.wait_for(projection, other.execute(deposit, "ann"))
        assert status_of(store, projection).state == "live"
        store.stop()
        other.wait_for(running_there, other.execute(deposit, "ann"))
        assert status_of(store, projection).state == "running"
    assert seen == [1, 2, 3]


@pytest.mark.usefixtures("quick_polls")
def test_catching_up_waits_for_whoever_runs_it(storage: Storage, store: Store, flavour: str) -> None:
    seen: list[int] = []
    with Store(storage) as other:
        other.start(recording(seen))
        other.wait_for(recording([]), other.execute(deposit, "ann"))
        store.execute(deposit, "ann")
        store.execute(open_account, "ann", "Ann")
        store.catch_up(recording(seen, flavour=flavour))
        assert seen == [1, 2]


def test_catching_up_comes_to_an_end_while_others_write_on(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    for bound in ("BATCH", "FIRST_BATCH"):
        monkeypatch.setattr(f"factfold.handling.{bound}", 1)
    stop = threading.Event()
    with Store(storage) as store, Store(storage) as other:
        store.catch_up(recording([]))

        def write() -> None:
            while not stop.wait(0.001):
                other.execute(deposit, "ann")

        writer = start(write)
        eventually(lambda: store.head() > 5)
        head = store.head()
        seen: list[int] = []
        # Slower than the writer, and so never at the end.
        slow = recording(seen, version=2, hook=lambda event, recorded: time.sleep(0.005))
        start(store.catch_up, slow).result()
        stop.set()
        writer.result()
        assert status_of(store, slow).serving, "it has come to where it was asked to"
    assert len(seen) >= head


def test_catching_up_reaches_what_others_have_written_before_the_call(
    storage: Storage, store: Store, flavour: str
) -> None:
    """Also when the store believes, from what it has heard, that it has come to the end."""
    seen: list[int] = []
    projection = recording(seen, flavour=flavour)
    with Store(storage) as other:
        store.start(recording([], "listens", flavour=flavour))
        for number in range(1, 20):
            other.execute(deposit, "ann")
            store.catch_up(projection)
            assert seen == list(range(1, number + 1))


def test_what_is_run_here_already_is_refused(store: Store, flavour: str) -> None:
    projection = recording([], flavour=flavour)
    store.start(projection)
    with pytest.raises(ValueError, match="is being run by this store already"):
        store.start(recording([], flavour=flavour))
    with pytest.raises(ValueError, match="is being run by this store already"):
        store.start(recording([], "twice", flavour=flavour), recording([], "twice", flavour=flavour))
    store.stop(projection)
    store.start(projection)


@pytest.mark.parametrize("wrong", [None, "balances", recording])
def test_what_is_no_consumer_is_refused(wrong: Any) -> None:
    with Store("memory:") as store:
        with pytest.raises(TypeError, match="neither a Projection nor a Reaction"):
            store.run(wrong)
        with pytest.raises(ValueError, match="Nothing to run"):
            store.run()


def test_many_consumers_of_one_store(storage: Storage, store: Store, flavour: str) -> None:
    """A hundred, each with what it is to get."""
    seen: list[list[int]] = [[] for _ in range(100)]
    projections = [recording(mine, f"p{number}", flavour=flavour) for number, mine in enumerate(seen)]
    store.start(*projections)
    for _ in range(5):
        store.execute(deposit, "ann")
    for projection in projections:
        store.wait_for(projection, 5)
    assert seen == [[1, 2, 3, 4, 5]] * 100
    store.stop()


# -- Waiting, and how they are -----------------------------------------------------------------------------------------


def test_waiting_for_a_position_that_another_process_brings(
    storage: Storage, store: Store, flavour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a projection does not handle need not be waited for: its checkpoint may pass it much later."""
    for seldom in ("POLL", "LOOK"):
        monkeypatch.setattr(f"factfold.consuming.{seldom}", 1000.0)
    seen: list[int] = []
    with Store(storage) as other:
        other.start(recording(seen))
        receipt = store.execute(deposit, "ann")
        store.wait_for(recording([], flavour=flavour), receipt)
        assert seen == [1]
        for _ in range(3):
            opened = store.execute(open_account, "ann", "Ann")
            store.wait_for(recording([], flavour=flavour), opened)


def test_waiting_is_over_only_when_the_event_was_handled(store: Store, rival: Store, flavour: str) -> None:
    for _ in range(50):
        rival.execute(deposit, "ann")
    seen: list[int] = []
    slow = recording(seen, hook=lambda event, recorded: time.sleep(1e-3), flavour=flavour)
    store.start(slow)
    for position in (3, 20, 50):
        store.wait_for(slow, position)
        assert len(seen) >= position


def test_what_is_not_there_yet_is_waited_for(store: Store, flavour: str) -> None:
    projection = recording([], flavour=flavour)
    store.execute(deposit, "ann")
    store.start(projection)
    store.wait_for(projection, 1)
    with pytest.raises(TimeoutError, match="has not come to position 2"):
        store.wait_for(projection, 2, timeout=0.05)


def test_what_nobody_runs_is_waited_for_in_vain(store: Store, flavour: str) -> None:
    projection = recording([], flavour=flavour)
    receipt = store.execute(deposit, "ann")
    with pytest.raises(TimeoutError, match=r"projection seen .* has not come to position 1 within 0.05 seconds"):
        store.wait_for(projection, receipt, timeout=0.05)
    store.wait_for(projection, None, timeout=0.05)
    store.wait_for(projection, 0, timeout=0.05)
    with pytest.raises(ValueError, match="position"):
        store.wait_for(projection, -1)


def test_statuses_tell_how_far_each_is(storage: Storage, store: Store, flavour: str) -> None:
    projection = recording([], flavour=flavour)
    assert store.projections() == ()
    store.execute(deposit, "ann")
    store.catch_up(projection)
    status = status_of(store, projection)
    assert (status.kind, status.name, status.version, status.state) == ("projection", "seen", 1, "stopped")
    assert (status.position, status.lag_events, status.lag_seconds, status.parked) == (1, 0, 0.0, 0)
    assert status.serving
    assert status.error == ""
    for _ in range(3):
        store.execute(deposit, "ann")
    eventually(lambda: status_of(store, projection).lag_seconds > 0.01)
    assert status_of(store, projection).lag_events == 3
    store.start(projection)
    store.wait_for(projection, 4)
    eventually(lambda: status_of(store, projection).state == "live")
    with Store(storage) as other:
        eventually(lambda: status_of(other, projection).position == 4)
        assert status_of(other, projection).state == "running"


def test_a_checkpoint_passes_over_what_is_not_for_its_projection(
    storage: Storage, store: Store, flavour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While others come all the time, too: or the lag would be nothing but an alarm without a reason."""
    monkeypatch.setattr("factfold.consuming.LOOK", 0.05)
    stop = threading.Event()
    projection = recording([], flavour=flavour)
    with Store(storage) as other:

        def write() -> None:
            while not stop.is_set():
                other.execute(open_account, "ann", "Ann")
                stop.wait(0.01)

        store.start(projection)
        writer = start(write)
        eventually(lambda: other.head() > 5)
        eventually(lambda: status_of(other, projection).position > 5)
        stop.set()
        writer.result()
