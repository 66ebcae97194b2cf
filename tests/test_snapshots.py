"""Snapshots: loads go on from them where the log bears them out, and from nothing else; saving disturbs nobody."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, make_dataclass, replace
from typing import Any

import msgspec
import pydantic
import pytest

from factfold import (
    JSON,
    AsyncStore,
    DecodingError,
    DefinitionError,
    EncodingError,
    Store,
    StoreUnavailableError,
    StreamType,
    Transaction,
    event,
    snapshots,
    stream,
    upcast,
)
from factfold.aio_saver import AsyncSaver
from factfold.snapshots import PLACE, key_of
from factfold.storage.base import Append, Check, Log, NewEvent, Storage
from factfold.storage.memory import Memory
from tests.conftest import MakeStore
from tests.engines import EVERY_ENGINE
from tests.faults import PATIENCE, Faulty, Gate, once, raising
from tests.racing import eventually, soon, start, within
from tests.together import heart_of

ENGINES = EVERY_ENGINE

EVERY = 10


@dataclass(frozen=True)
class Added:
    amount: int


@dataclass(frozen=True)
class Noted:
    text: str


@dataclass(frozen=True)
class Sum:
    total: int = 0
    events: int = 0


def adder(category: str = "sum", every: int = EVERY, version: int = 1) -> tuple[StreamType[Sum, Added], list[int]]:
    """A stream type that keeps snapshots, and a list that gets what its fold is shown."""
    shown: list[int] = []

    @stream(category, initial=Sum(), snapshot_every=every, snapshot_version=version)
    def sums(state: Sum, event: Added) -> Sum:
        shown.append(event.amount)
        return Sum(state.total + event.amount, state.events + 1)

    return sums, shown


@stream("sum", initial=0)
def notes(state: int, event: Noted) -> int:
    return state + 1


@stream("sum", initial=0)
def plain(state: int, event: Added) -> int:
    return state + event.amount


def add(tx: Transaction, id: str, *amounts: int) -> None:
    tx.read(plain(id)).append(*map(Added, amounts))


def note(tx: Transaction, id: str) -> None:
    tx.read(notes(id)).append(Noted("x"))


def saved_in(storage: Storage, key: str) -> Mapping[str, Any] | None:
    """What is saved under a key, as plain JSON."""
    engine = storage.open()
    try:
        found = engine.log("default").get(PLACE, [key])
        return msgspec.json.decode(found[key]) if found else None
    finally:
        engine.close()


def put(storage: Storage, key: str, value: bytes) -> None:
    engine = storage.open()
    try:
        engine.log("default").put(PLACE, key, value)
    finally:
        engine.close()


# -- Loads go on from a snapshot ---------------------------------------------------------------------------------------


def test_a_long_load_saves_and_the_next_one_goes_on_from_there(storage: Storage, make_store: MakeStore) -> None:
    sums, shown = adder()
    writer = make_store()
    writer.execute(add, "a", *range(25))
    reader = make_store()
    assert reader.state(sums("a")) == Sum(300, 25)
    eventually(lambda: reader.head() and reader.stats().snapshots_saved == 1)
    writer.execute(add, "a", 25, 26)
    shown.clear()

    late = make_store()

    assert late.state(sums("a")) == Sum(351, 27)
    assert shown == [25, 26], "the rest was not folded again"
    assert late.stats().snapshots_used == 1
    saved = saved_in(storage, key_of(sums("a")))
    assert saved is not None
    assert (saved["version"], saved["position"], saved["state"]) == (25, 25, {"total": 300, "events": 25})


def test_a_short_load_saves_nothing(make_store: MakeStore, storage: Storage) -> None:
    sums, _ = adder()
    make_store().execute(add, "a", *range(EVERY))
    reader = make_store()
    assert reader.state(sums("a")).events == EVERY
    assert reader.stats().snapshots_saved == 0
    reader.close()
    assert saved_in(storage, key_of(sums("a"))) is None


def test_a_load_of_several_streams_gets_all_snapshots_at_once(storage: Storage) -> None:
    sums, shown = adder()
    faulty = Faulty(storage)
    ids = [f"s{number}" for number in range(20)]
    with Store(storage) as writer:
        for id in ids:
            writer.execute(add, id, *range(15))
            writer.snapshot(sums(id))
    shown.clear()

    def read_all(tx: Transaction) -> list[Sum]:
        return [view.state for view in tx.read(map(sums, ids))]

    with Store(faulty) as reader:
        assert reader.execute(read_all).result == [Sum(105, 15)] * 20
    assert faulty.calls["get"] == 1
    assert faulty.calls["load"] == 1
    assert shown == []


def test_what_the_fold_does_not_look_at_lies_between(make_store: MakeStore) -> None:
    """Versions have gaps then, for this fold; the stream's own are dense all the same."""
    sums, shown = adder()
    writer = make_store()
    for number in range(15):
        writer.execute(add, "a", number)
        writer.execute(note, "a")
    assert writer.snapshot(sums("a")) == 29
    writer.execute(note, "a")
    writer.execute(add, "a", 15)
    shown.clear()

    reader = make_store()
    reader.execute(add, "b", 1)
    assert reader.version(sums("a")) == 32
    assert reader.state(sums("a")) == Sum(120, 16)
    assert shown == [15]
    reader.execute(add, "a", 1)
    assert reader.state(sums("a")) == Sum(121, 17)
    assert reader.version(sums("a")) == 33


def test_a_stream_longer_than_a_load_is_saved_once_and_whole(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, storage: Storage
) -> None:
    monkeypatch.setattr("factfold.loads.MAX_EVENTS", 7)
    sums, shown = adder()
    writer = make_store()
    writer.execute(add, "a", *range(40))
    reader = make_store()
    assert reader.state(sums("a")).events == 40
    eventually(lambda: reader.head() and reader.stats().snapshots_saved == 1)
    writer.execute(add, "a", *range(20))
    shown.clear()
    again = make_store()
    assert again.state(sums("a")).events == 60
    assert len(shown) == 20
    saved = saved_in(storage, key_of(sums("a")))
    assert saved is not None
    eventually(lambda: again.head() and again.stats().snapshots_saved == 1)


def test_a_snapshot_for_which_a_load_has_no_room_is_used_by_the_next_one(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factfold.loads.MAX_EVENTS", 5)
    sums, shown = adder()
    writer = make_store()
    writer.execute(add, "long", *range(12))
    writer.execute(add, "a", *range(12))
    writer.snapshot(sums("a"))
    shown.clear()

    def read_both(tx: Transaction) -> list[int]:
        return [view.state.events for view in tx.read(sums("long"), sums("a"))]

    assert make_store().execute(read_both).result == [12, 12]
    assert len(shown) == 12


def test_a_command_decides_on_what_a_snapshot_gave(make_store: MakeStore) -> None:
    sums, shown = adder()
    make_store().execute(add, "a", *range(30))
    make_store().snapshot(sums("a"))
    shown.clear()

    def top_up(tx: Transaction) -> int:
        view = tx.read(sums("a"))
        view.append(Added(1000 - view.state.total))
        return view.state.total

    assert make_store().execute(top_up).result == 1000
    assert shown == [1000 - 435]


# -- What does not fit is ignored, and replaced ------------------------------------------------------------------------


def assert_replays(
    make_store: MakeStore, storage: Storage, sums: StreamType[Sum, Any], shown: list[int], events: int
) -> None:
    """A cold load folds everything, and replaces what was saved; the one after that goes on from it."""
    shown.clear()
    reader = make_store()
    assert reader.state(sums("a")).events == events
    assert len(shown) == events
    assert reader.stats().snapshots_used == 0
    assert reader.stats().snapshots_refused == 1
    eventually(lambda: (reader.head(), reader.stats().snapshots_saved)[1] == 1)  # asking lets an event loop go on
    shown.clear()
    again = make_store()
    assert again.state(sums("a")).events == events
    assert shown == []
    assert again.stats().snapshots_used == (1 if events else 0)
    assert again.stats().snapshots_refused == 0


def test_another_snapshot_version_replays(make_store: MakeStore, storage: Storage) -> None:
    before, _ = adder()
    after, shown = adder(version=2)
    writer = make_store()
    writer.execute(add, "a", *range(12))
    writer.snapshot(before("a"))
    writer.close()
    assert key_of(before("a")) == key_of(after("a"))
    assert_replays(make_store, storage, after, shown, 12)


def test_a_state_class_that_has_changed_replays(make_store: MakeStore, storage: Storage) -> None:
    def counted(*, more: bool) -> tuple[StreamType[Any, Added], list[int]]:
        shown: list[int] = []

        fields = [("events", int, 0), ("largest", int, 0)]
        count: type[Any] = make_dataclass("Count", fields if more else fields[:1], frozen=True)

        def fold(state: Any, event: Added) -> Any:
            shown.append(event.amount)
            return replace(state, events=state.events + 1)

        fold.__annotations__ |= {"state": count, "return": count}
        return stream("sum", initial=count(), snapshot_every=EVERY)(fold), shown

    before, _ = counted(more=False)
    after, shown = counted(more=True)
    writer = make_store()
    writer.execute(add, "a", *range(12))
    writer.snapshot(before("a"))
    writer.close()
    assert key_of(before("a")) == key_of(after("a"))
    assert_replays(make_store, storage, after, shown, 12)


def test_a_fold_that_looks_at_other_events_replays(make_store: MakeStore, storage: Storage) -> None:
    shown: list[int] = []

    def narrow(state: Sum, event: Added) -> Sum:
        return Sum(state.total, state.events + 1)

    def wide(state: Sum, event: Added | Noted) -> Sum:
        shown.append(0)
        return Sum(state.total, state.events + 1)

    wide.__qualname__ = narrow.__qualname__  # the same fold, changed
    before = stream("sum", initial=Sum(), snapshot_every=EVERY)(narrow)
    after = stream("sum", initial=Sum(), snapshot_every=EVERY)(wide)
    writer = make_store()
    writer.execute(note, "a")
    writer.execute(add, "a", *range(12))
    writer.snapshot(before("a"))
    writer.close()
    assert_replays(make_store, storage, after, shown, 13)


def test_an_event_class_of_another_version_replays(make_store: MakeStore, storage: Storage) -> None:
    shown: list[int] = []

    @event(name="Added", version=2)
    @dataclass(frozen=True)
    class AddedAgain:
        amount: int

    @upcast(AddedAgain, 1)
    def _(data: dict[str, JSON]) -> dict[str, JSON]:
        return data

    def old(state: Sum, event: Added) -> Sum:
        return Sum(state.total, state.events + 1)

    def new(state: Sum, event: AddedAgain) -> Sum:
        shown.append(event.amount)
        return Sum(state.total, state.events + 1)

    new.__qualname__ = old.__qualname__  # the same fold, changed
    before = stream("sum", initial=Sum(), snapshot_every=EVERY)(old)
    after = stream("sum", initial=Sum(), snapshot_every=EVERY)(new)
    writer = make_store()
    writer.execute(add, "a", *range(12))
    writer.snapshot(before("a"))
    writer.close()
    assert_replays(make_store, storage, after, shown, 12)


def corrupt(saved: dict[str, Any]) -> bytes:
    return msgspec.json.encode(saved)[:-9]


def garbage(saved: dict[str, Any]) -> bytes:
    return b"\xff\x00"


def wrong_state(saved: dict[str, Any]) -> bytes:
    return msgspec.json.encode({**saved, "state": {"total": "many"}})


def no_version(saved: dict[str, Any]) -> bytes:
    return msgspec.json.encode({**saved, "version": 0})


def ahead_of_the_log(saved: dict[str, Any]) -> bytes:
    return msgspec.json.encode({**saved, "version": 40, "position": 40})


def another_event(saved: dict[str, Any]) -> bytes:
    return msgspec.json.encode({**saved, "id": bytes(range(16))})


def another_version(saved: dict[str, Any]) -> bytes:
    return msgspec.json.encode({**saved, "version": 5})


def another_stream(saved: dict[str, Any]) -> bytes:
    return msgspec.json.encode({**saved, "fit": {**saved["fit"], "stream": "sum:b"}})


def another_category(saved: dict[str, Any]) -> bytes:
    return msgspec.json.encode({**saved, "fit": {**saved["fit"], "stream": "total:a"}})


def another_fingerprint(saved: dict[str, Any]) -> bytes:
    return msgspec.json.encode({**saved, "fit": {**saved["fit"], "fingerprint": "0" * 64}})


DAMAGES = [
    *(corrupt, garbage, wrong_state, no_version, ahead_of_the_log, another_event, another_version, another_stream),
    *(another_category, another_fingerprint),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_snapshot_replays(
    make_store: MakeStore, storage: Storage, damage: Callable[[dict[str, Any]], bytes]
) -> None:
    sums, shown = adder()
    writer = make_store()
    writer.execute(add, "a", *range(12))
    writer.snapshot(sums("a"))
    writer.close()
    key = key_of(sums("a"))
    saved = saved_in(storage, key)
    assert saved is not None
    put(storage, key, damage(dict(saved)))
    assert_replays(make_store, storage, sums, shown, 12)


def test_a_snapshot_ahead_of_a_restored_log_replays(make_store: MakeStore, storage: Storage) -> None:
    """The snapshot of a log that is gone, and other events at its versions."""
    sums, shown = adder()
    elsewhere = Memory()
    with Store(elsewhere) as lost:
        lost.execute(add, "a", *range(100, 115))
        lost.snapshot(sums("a"))
    saved = saved_in(elsewhere, key_of(sums("a")))
    make_store().execute(add, "a", *range(20))
    put(storage, key_of(sums("a")), msgspec.json.encode(saved))
    assert_replays(make_store, storage, sums, shown, 20)


def test_the_snapshot_of_a_stream_that_has_no_events_is_removed(make_store: MakeStore, storage: Storage) -> None:
    sums, shown = adder()
    elsewhere = Memory()
    with Store(elsewhere) as lost:
        lost.execute(add, "a", *range(100, 115))
        lost.snapshot(sums("a"))
    put(storage, key_of(sums("a")), msgspec.json.encode(saved_in(elsewhere, key_of(sums("a")))))
    assert_replays(make_store, storage, sums, shown, 0)
    assert saved_in(storage, key_of(sums("a"))) is None


def test_a_transform_is_used_for_snapshots_too(storage: Storage) -> None:
    class Reversing:
        def outgoing(self, data: bytes) -> bytes:
            return msgspec.json.encode({"secret": data[::-1]})

        def incoming(self, data: bytes) -> bytes:
            return bytes(msgspec.json.decode(data, type=dict[str, bytes])["secret"][::-1])

    sums, shown = adder()
    with Store(storage, transform=Reversing()) as store:
        store.execute(add, "a", *range(12))
        store.snapshot(sums("a"))
    saved = saved_in(storage, key_of(sums("a")))
    assert saved is not None
    assert list(saved["state"]) == ["secret"]
    shown.clear()
    with Store(storage, transform=Reversing()) as store:
        assert store.state(sums("a")).events == 12
    assert shown == []
    with Store(storage) as store, pytest.raises(DecodingError, match="Added"):
        store.state(sums("a"))


# -- store.snapshot ----------------------------------------------------------------------------------------------------


def test_a_snapshot_is_of_a_fresh_state(make_store: MakeStore, storage: Storage) -> None:
    sums, _ = adder()
    here, there = make_store(), make_store()
    here.execute(add, "a", 1)
    assert here.snapshot(sums("a")) == 1
    there.execute(add, "a", 2)
    assert here.snapshot(sums("a")) == 2
    saved = saved_in(storage, key_of(sums("a")))
    assert saved is not None
    assert saved["state"] == {"total": 3, "events": 2}


def test_the_snapshot_of_an_empty_stream_is_none(make_store: MakeStore, storage: Storage) -> None:
    sums, _ = adder()
    assert make_store().snapshot(sums("a")) == 0
    assert saved_in(storage, key_of(sums("a"))) is None


def test_a_stream_type_without_snapshots_refuses_to_save_one(store: Store) -> None:
    with pytest.raises(DefinitionError, match="snapshot_every"):
        store.snapshot(plain("a"))


def test_a_state_that_does_not_come_back_is_not_saved(store: Store, storage: Storage) -> None:
    @stream("sum", initial=Sum(), snapshot_every=EVERY)
    def careless(state: Sum, event: Added) -> Sum:
        return Sum(total="many")  # type: ignore[arg-type]  # on purpose

    store.execute(add, "a", 1)
    with pytest.raises(EncodingError, match="sum:a"):
        store.snapshot(careless("a"))
    assert saved_in(storage, key_of(careless("a"))) is None


# -- What is refused when the stream type is defined -------------------------------------------------------------------


def test_a_state_that_cannot_be_decoded_is_refused_at_definition() -> None:
    @dataclass(frozen=True)
    class Draft:
        pass

    @dataclass(frozen=True)
    class Final:
        pass

    def fold(state: Draft | Final, event: Added) -> Draft | Final:
        return Final()

    assert stream("sum", initial=Draft())(fold).initial == Draft(), "without snapshots it may be anything"
    with pytest.raises(DefinitionError, match=r"fold: the state: .*snapshot_every"):
        stream("sum", initial=Draft(), snapshot_every=5)(fold)

    def range_fold(state: range | None, event: Added) -> range | None:
        return range(event.amount)

    with pytest.raises(DefinitionError, match="range"):
        stream("sum", initial=None, snapshot_every=5)(range_fold)


def test_states_of_pydantic_are_saved(make_store: MakeStore) -> None:
    class Total(pydantic.BaseModel, frozen=True):
        value: int = 0

    shown: list[int] = []

    @stream("sum", initial=None, snapshot_every=EVERY)
    def totals(state: Total | None, event: Added) -> Total | None:
        shown.append(event.amount)
        return Total(value=event.amount + (state.value if state else 0))

    writer = make_store()
    writer.execute(add, "a", *range(12))
    writer.snapshot(totals("a"))
    shown.clear()
    assert make_store().state(totals("a")) == Total(value=66)
    assert shown == []


@pytest.mark.skipif(os.name != "posix", reason="starts Pythons with other hash seeds")
def test_a_fingerprint_is_the_same_in_every_process() -> None:
    import subprocess
    import sys

    program = """
from dataclasses import dataclass
from factfold import stream

@dataclass(frozen=True)
class Added:
    amount: int
@dataclass(frozen=True)
class Tags:
    tags: frozenset[str] = frozenset({"a", "b", "c", "d", "e"})
@stream("tags", initial=Tags(), snapshot_every=5)
def tags(state: Tags, event: Added) -> Tags:
    return state
print(tags.fold.codec.fingerprint)
"""
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(found) == 1


# -- Saving disturbs nobody --------------------------------------------------------------------------------------------


def test_a_failed_save_fails_no_command(
    storage: Storage, make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    sums, _ = adder()
    make_store().execute(add, "a", *range(12))
    faulty = Faulty(storage)
    faulty.before["put"] = raising(StoreUnavailableError("the disk is away"))
    reader = make_store(faulty)
    with caplog.at_level(logging.WARNING, "factfold"):
        assert reader.state(sums("a")).events == 12
        eventually(lambda: reader.head() and "the disk is away" in caplog.text)
    assert "sum:a" in caplog.text
    assert reader.stats().snapshots_failed == 1
    assert reader.stats().snapshots_saved == 0
    del faulty.before["put"]
    reader.execute(add, "a", 1)


def test_a_queue_that_is_full_drops_and_counts(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "QUEUE", 3)
    sums, _ = adder()
    with Store(storage) as writer:
        for number in range(8):
            writer.execute(add, f"s{number}", *range(12))
    faulty = Faulty(storage)
    gate = faulty.before["put"] = Gate()
    with Store(faulty) as reader:
        assert reader.state(sums("s0")).events == 12
        assert gate.reached.wait(PATIENCE)
        for number in range(1, 8):
            assert reader.state(sums(f"s{number}")).events == 12

        assert reader.stats().snapshots_dropped == 4
        gate.open()
        eventually(lambda: reader.stats().snapshots_saved == 4)


def test_closing_waits_for_what_is_being_saved(storage: Storage) -> None:
    sums, _ = adder()
    faulty = Faulty(storage)
    with Store(storage) as writer:
        for number in range(3):
            writer.execute(add, f"s{number}", *range(12))
    gate = faulty.before["put"] = Gate()
    store = Store(faulty)
    for number in range(3):
        store.state(sums(f"s{number}"))
    assert gate.reached.wait(PATIENCE)
    closing = start(store.close)
    eventually(lambda: store._closed)
    assert not closing.ended
    gate.open()
    closing.result()
    assert heart_of(store).snapshots.saved == 3
    assert all(saved_in(storage, key_of(sums(f"s{number}"))) for number in range(3))


async def test_closing_waits_for_what_is_being_saved_async(storage: Storage) -> None:
    sums, _ = adder()
    faulty = Faulty(storage)
    async with AsyncStore(storage) as writer:
        for id in "ab":
            await writer.execute(add, id, *range(12))
    gate = faulty.before["put"] = Gate()
    store = AsyncStore(faulty)
    reading = asyncio.create_task(store.execute(read_both, sums))  # the thread that saves is the one that checks
    await soon(gate.reached.is_set)
    closing = asyncio.create_task(store.close())
    await soon(lambda: store._closed)
    assert not closing.done()
    gate.open()
    await within(asyncio.gather(closing, reading))
    assert heart_of(store).snapshots.saved == 2
    assert all(saved_in(storage, key_of(sums(id))) for id in "ab")


def test_closing_does_not_wait_for_ever(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factfold.saver.DRAIN", 0.02)
    sums, _ = adder()
    with Store(storage) as writer:
        writer.execute(add, "a", *range(12))
        writer.execute(add, "b", *range(12))
    faulty = Faulty(storage)
    gate = faulty.before["put"] = Gate()
    reader = Store(faulty)
    reader.state(sums("a"))
    assert gate.reached.wait(PATIENCE)
    reader.state(sums("b"))
    closing = start(reader.close)
    eventually(lambda: heart_of(reader).snapshots.dropped == 1)
    gate.open()
    closing.result()


async def test_closing_does_not_wait_for_ever_async(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factfold.aio_saver.DRAIN", 0.02)
    sums, _ = adder()
    async with AsyncStore(storage) as writer:
        for id in "ab":
            await writer.execute(add, id, *range(12))
    faulty = Faulty(storage)
    reader = AsyncStore(faulty)
    saver = await opened_saver(reader)
    monkeypatch.setattr(saver, "save", never)
    await reader.execute(read_both, sums)
    await within(reader.close())
    assert heart_of(reader).snapshots.dropped == 1, "one was begun, and one still waited"


async def opened_saver(store: AsyncStore) -> AsyncSaver:
    await store.head()
    assert store._saver is not None
    return store._saver


async def never(snapshot: object) -> None:
    await asyncio.Event().wait()


def read_both(tx: Transaction, sums: StreamType[Sum, Added]) -> None:
    tx.read(sums("a"), sums("b"))


def test_an_interrupted_load_asks_for_its_snapshot_again(storage: Storage) -> None:
    sums, shown = adder()
    with Store(storage) as writer:
        writer.execute(add, "a", *range(12))
        writer.snapshot(sums("a"))
    faulty = Faulty(storage)
    faulty.before["load"] = once(raising(KeyboardInterrupt()))
    shown.clear()
    with Store(faulty) as store:
        with pytest.raises(KeyboardInterrupt):
            store.state(sums("a"))
        assert store.state(sums("a")).events == 12
    assert shown == []


def test_a_snapshot_from_before_a_restored_backup_is_not_mixed_with_what_came_after(storage: Storage) -> None:
    """Other events stand at positions that the snapshot has never seen: what was folded follows the log."""
    sums, shown = adder()
    with Store(storage) as store:
        store.execute(add, "a", *range(12))
        store.snapshot(sums("a"))
        key = key_of(sums("a"))
        saved = saved_in(storage, key)
    assert saved is not None
    fresh = Memory()
    engine = fresh.open()
    log = engine.log("default")
    for number in range(14):
        append_to(log, "sum:a", number + 50)
    engine.close()
    put(fresh, key, msgspec.json.encode(saved))
    shown.clear()
    with Store(fresh) as store:
        assert store.state(sums("a")).total == sum(range(50, 64))
    assert shown == list(range(50, 64))


def append_to(log: Log, id: str, amount: int) -> None:
    head = log.head()
    data = msgspec.json.encode({"amount": amount})
    log.append(Append((NewEvent(os.urandom(16), "Added", 1, data, b"{}", (id,)),), Check((), head, {})))
