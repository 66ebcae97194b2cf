"""Reading: the events of a stream, the log, and the streams, in pages, forwards and backwards."""

from __future__ import annotations

import gc
import itertools
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest

from factfold import (
    AsyncStore,
    DecodingError,
    DefinitionError,
    InvalidStreamIdError,
    RecordedEvent,
    Store,
    StoreClosedError,
    StreamInfo,
    event,
    reading,
)
from factfold.storage.base import LogPage, Storage, StreamPage
from factfold.storage.memory import Memory
from factfold.storage.sqlite import SQLite
from tests.conftest import MakeStore
from tests.engines import EVERY_ENGINE
from tests.faults import Faulty
from tests.ledger import (
    Deposited,
    Opened,
    Renamed,
    Transferred,
    Withdrawn,
    accounts,
    balances,
    deposit,
    deposits,
    owners,
    rename,
)
from tests.seats import Taken, fill, seats, take
from tests.sources import PRELUDE, run

ENGINES = EVERY_ENGINE


@pytest.fixture
def filled(make_store: MakeStore) -> Store:
    """Seven events in four streams."""
    store = make_store()
    fill(store)
    return store


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes pages small enough for several of them."""
    monkeypatch.setattr(reading, "PAGE", 3)


def positions(found: Iterable[RecordedEvent[Any]]) -> list[int]:
    return [recorded.position for recorded in found]


# -- Events of a stream ------------------------------------------------------------------------------------------------


def test_the_events_of_a_stream_are_those_that_its_fold_looks_at(filled: Store) -> None:
    assert [(each.position, each.event, dict(each.streams)) for each in filled.events(accounts("ann"))] == [
        (1, Opened("Ann"), {"ledger:ann": 1}),
        (2, Deposited(10), {"ledger:ann": 2}),
        (4, Transferred("ann", "ben", 4), {"ledger:ann": 3, "ledger:ben": 1}),
        (7, Renamed("Anna"), {"ledger:ann": 4}),
    ]
    assert positions(filled.events(owners("ann"))) == [1, 7]
    assert positions(filled.events(balances("ben"))) == [4, 5]
    assert positions(filled.events(accounts("nobody"))) == []


@pytest.mark.parametrize(
    ("after_version", "limit", "backwards", "expected"),
    [
        (0, None, False, [1, 2, 4, 7]),
        (2, None, False, [4, 7]),
        (4, None, False, []),
        (99, None, False, []),
        (0, 2, False, [1, 2]),
        (1, 2, False, [2, 4]),
        (0, 0, False, []),
        (0, 99, False, [1, 2, 4, 7]),
        (0, None, True, [7, 4, 2, 1]),
        (3, None, True, [2, 1]),
        (1, None, True, []),
        (99, 1, True, [7]),
        (4, 2, True, [4, 2]),
    ],
)
def test_the_events_of_a_stream_from_where_to_where(
    filled: Store, after_version: int, limit: int | None, backwards: bool, expected: list[int]
) -> None:
    found = filled.events(accounts("ann"), after_version=after_version, limit=limit, backwards=backwards)
    assert positions(found) == expected


def test_a_limit_counts_what_is_left_after_filtering(filled: Store) -> None:
    assert positions(filled.events(owners("ann"), limit=2)) == [1, 7]
    assert positions(filled.log(types=Taken, limit=2)) == [3, 6]
    assert positions(filled.log(category="seat", limit=1, backwards=True)) == [6]


# -- The log -----------------------------------------------------------------------------------------------------------


def test_the_log_comes_in_order_as_plain_json(filled: Store) -> None:
    found = list(filled.log())

    assert [(each.position, each.type) for each in found] == [
        (1, "Opened"),
        (2, "Deposited"),
        (3, "seat.taken"),
        (4, "Transferred"),
        (5, "Withdrawn"),
        (6, "seat.taken"),
        (7, "Renamed"),
    ]
    assert [each.event for each in found][:4] == [
        {"owner": "Ann"},
        {"amount": 10},
        {"row": 7},
        {"source": "ann", "target": "ben", "amount": 4},
    ]
    assert [each.recorded_at for each in found] == sorted(each.recorded_at for each in found)
    assert len({each.id for each in found}) == 7


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (Taken, [(3, Taken(7)), (6, Taken(7))]),
        (Opened | Renamed, [(1, Opened("Ann")), (7, Renamed("Anna"))]),
        (owners, [(1, Opened("Ann")), (7, Renamed("Anna"))]),
        (balances, [(2, Deposited(10)), (4, Transferred("ann", "ben", 4)), (5, Withdrawn(1))]),
        (seats, [(3, Taken(7)), (6, Taken(7))]),  # not the deposits into accounts
    ],
)
def test_with_types_the_log_is_decoded(filled: Store, types: type[object], expected: list[tuple[int, object]]) -> None:
    assert [(each.position, each.event) for each in filled.log(types=types)] == expected


@pytest.mark.parametrize("engine", ["memory", "sqlite"])  # the others go by their server's clock
def test_no_event_is_recorded_before_its_predecessor_when_the_clock_goes_back(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(Memory() if engine == "memory" else SQLite(tmp_path / "log.db")) as store:
        store.execute(deposit, "ann", 1)
        back = time.time_ns() - 3_600_000_000_000
        with monkeypatch.context() as patched:
            patched.setattr(time, "time_ns", lambda: back)
            store.execute(deposit, "ann", 1)
        store.execute(deposit, "ann", 1)
        first, second, third = [recorded.recorded_at for recorded in store.log()]
    assert first == second <= third


def test_the_log_of_a_category(filled: Store) -> None:
    assert positions(filled.log(category="ledger")) == [1, 2, 4, 5, 7]
    assert positions(filled.log(category="seat")) == [3, 6]
    assert positions(filled.log(category="sea")) == []
    assert positions(filled.log(category="ledger", types=Deposited | Taken)) == [2]


def test_the_log_of_a_stream_by_its_id(filled: Store) -> None:
    found = list(filled.log(stream="ledger:ben"))
    assert [(each.position, each.event) for each in found] == [
        (4, {"source": "ann", "target": "ben", "amount": 4}),
        (5, {"amount": 1}),
    ]
    assert positions(filled.log(stream="ledger:ann", backwards=True, limit=2)) == [7, 4]
    assert positions(filled.log(stream="ledger:nobody")) == []


@pytest.mark.parametrize("other", [{"types": Taken}, {"category": "seat"}, {"after": 3}])
def test_a_stream_id_goes_with_neither_types_nor_category_nor_after(filled: Store, other: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"store\.events"):
        filled.log(stream="ledger:ben", **other)  # type: ignore[call-overload]  # that is what is tested


@pytest.mark.parametrize(
    ("after", "limit", "backwards", "expected"),
    [
        (0, None, False, [1, 2, 3, 4, 5, 6, 7]),
        (5, None, False, [6, 7]),
        (7, None, False, []),
        (99, None, False, []),
        (2, 3, False, [3, 4, 5]),
        (0, 0, False, []),
        (0, None, True, [7, 6, 5, 4, 3, 2, 1]),
        (3, None, True, [2, 1]),
        (1, None, True, []),
        (0, 2, True, [7, 6]),
        (99, 2, True, [7, 6]),
    ],
)
@pytest.mark.parametrize("pages", ["one page", "small pages"])
def test_the_log_from_where_to_where(
    filled: Store,
    monkeypatch: pytest.MonkeyPatch,
    pages: str,
    after: int,
    limit: int | None,
    backwards: bool,
    expected: list[int],
) -> None:
    if pages == "small pages":
        monkeypatch.setattr(reading, "PAGE", 2)
    assert positions(filled.log(after=after, limit=limit, backwards=backwards)) == expected


@pytest.mark.parametrize("name", ["after", "limit"])
@pytest.mark.parametrize("value", [-1, 1.5, True, "3", 2**63])
def test_bounds_are_whole_numbers_from_0_on(filled: Store, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name}="):
        filled.log(**{name: value})  # type: ignore[call-overload]  # that is what is tested
    with pytest.raises(ValueError, match="after_version=|limit="):
        filled.events(accounts("ann"), **{"after_version" if name == "after" else name: value})  # type: ignore[arg-type]


def test_from_beyond_every_end_there_is_nothing(filled: Store) -> None:
    assert list(filled.log(after=2**63 - 1)) == list(filled.events(accounts("ann"), after_version=2**63 - 1)) == []
    assert len(list(filled.log(after=2**63 - 1, backwards=True, limit=2**63 - 1))) == filled.head()


@pytest.mark.parametrize("category", ["Seat", "", 3, seats, "seat:1"])
def test_what_is_no_category_is_refused(filled: Store, category: Any) -> None:
    for read in (lambda: filled.log(category=category), lambda: filled.streams(category)):
        with pytest.raises(InvalidStreamIdError, match="category"):
            read()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (seats, r"events\(\) reads streams, .* It is a stream type: call it with an id"),
        ("seat:1", r"events\(\) reads streams, such as accounts\('alice'\), and was given 'seat:1'"),
    ],
)
def test_what_is_no_stream_has_no_events(filled: Store, given: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        filled.events(given)


def test_a_stream_is_no_type(filled: Store) -> None:
    with pytest.raises(DefinitionError, match=r"<Stream seat:1 .*>: this is one stream, which events\(stream\) reads"):
        filled.log(types=seats("1"))


def test_types_stored_under_one_name_cannot_be_told_apart(filled: Store) -> None:
    @event(name="Deposited")
    @dataclass(frozen=True)
    class AlsoDeposited:
        amount: int

    with pytest.raises(ValueError, match="both stand for 'Deposited'"):
        filled.log(types=Deposited | AlsoDeposited)


OTHER_TAKEN = """
    @event_class(name="seat.taken")
    @frozen
    class Taken:
        row: {type}
    @stream({category!r}, initial=0)
    def others(state: int, event: Taken) -> int: return state + 1
"""


def another(category: str, type: str) -> ModuleType:
    """A module with an event class of its own that is stored under the name of `Taken`, and its stream type."""
    return run(PRELUDE + dedent(OTHER_TAKEN.format(category=category, type=type)))


@pytest.mark.parametrize(("type", "row"), [("str", "x"), ("int", 5)])
@pytest.mark.parametrize("size", [1, 1000])
def test_a_class_does_not_stand_for_those_of_its_name_in_other_categories(
    filled: Store, monkeypatch: pytest.MonkeyPatch, type: str, row: object, size: int
) -> None:
    monkeypatch.setattr(reading, "PAGE", size)
    module = another("door", type)
    for _ in range(3):
        filled.execute(lambda tx: tx.read(module.others("a")).append(module.Taken(row)))
    filled.execute(take, "c")

    assert positions(filled.log(types=Taken)) == [3, 6, 11]
    assert positions(filled.log(types=Taken, limit=3)) == [3, 6, 11]
    assert positions(filled.log(types=Taken, backwards=True, limit=2)) == [11, 6]
    assert [one.event for one in filled.log(types=module.Taken)] == [module.Taken(row)] * 3
    assert positions(filled.log(types=module.Taken)) == [8, 9, 10]


def test_an_event_that_a_class_without_stream_type_does_not_take_is_named_with_its_stream(filled: Store) -> None:
    module = another("gate", "str")
    filled.execute(lambda tx: tx.read(module.others("a")).append(module.Taken("x")))

    @event(name="seat.taken")
    @dataclass(frozen=True)
    class Elsewhere:
        row: int

    says = rf"position {filled.head()}, in gate:a: .* with category="
    with pytest.raises(DecodingError, match=says):
        list(filled.log(types=Elsewhere, after=filled.head() - 1))


@pytest.mark.usefixtures("small_pages")
def test_what_is_longer_than_a_page_is_read_whole_in_both_directions(make_store: MakeStore) -> None:
    store = make_store()
    for number in range(1, 12):
        store.execute(deposit if number % 2 else take, f"{number % 3}")
    everything = list(range(1, 12))

    assert positions(store.log()) == everything
    assert positions(store.log(backwards=True)) == everything[::-1]
    assert positions(store.log(types=Taken)) == [2, 4, 6, 8, 10]
    assert positions(store.log(limit=7)) == everything[:7]
    assert positions(store.events(accounts("1"))) == [1, 7]
    for number in range(10):
        store.execute(deposit, "long", number)
    assert [each.event.amount for each in store.events(deposits("long"))] == list(range(10))
    assert [each.event.amount for each in store.events(deposits("long"), backwards=True)] == list(range(10))[::-1]
    assert [each.event.amount for each in store.events(deposits("long"), limit=4, after_version=2)] == [2, 3, 4, 5]


def test_only_so_much_is_asked_for_as_is_needed(make_store: MakeStore, storage: Storage) -> None:
    faulty = Faulty(storage)
    store = make_store(faulty)
    for _ in range(5):
        store.execute(deposit, "ann", 1)
    limits: list[int] = []

    def note(page: object) -> None:
        assert isinstance(page, LogPage | StreamPage)
        limits.append(page.limit)

    faulty.before["read"] = faulty.before["read_stream"] = note

    assert positions(store.log(limit=2)) == [1, 2]
    assert positions(store.events(accounts("ann"), limit=3)) == [1, 2, 3]
    assert list(itertools.islice(store.log(), 1))
    assert limits[:2] == [2, 3]


def test_the_larger_the_events_are_the_fewer_are_read_at_once(
    make_store: MakeStore, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FIRST_PAGE", 2)
    monkeypatch.setattr(reading, "PAGE", 4)
    monkeypatch.setattr(reading, "PAGE_BYTES", 2000)
    faulty = Faulty(storage)
    store = make_store(faulty)
    for length in (1, 1, 1, 1, 1, 3000, 3000, 3000, 1, 1):
        store.execute(rename, "ann", "x" * length)
    limits: list[int] = []

    def note(page: object) -> None:
        assert isinstance(page, LogPage)
        limits.append(page.limit)

    faulty.before["read"] = note
    assert positions(store.log()) == list(range(1, 11))
    assert limits == [2, 4, 2, 1, 4]


@pytest.mark.usefixtures("small_pages")
def test_events_written_while_the_log_is_read_are_read_too(make_store: MakeStore, rival: Store) -> None:
    store = make_store()
    for _ in range(4):
        store.execute(deposit, "ann", 1)
    found: list[int] = []
    for recorded in store.log():
        found.append(recorded.position)
        if recorded.position <= 4:
            rival.execute(deposit, "ann", 1)
    assert found == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.usefixtures("small_pages")
def test_an_abandoned_iterator_holds_nothing(make_store: MakeStore, storage: Storage, tmp_path: Path) -> None:
    store = make_store()
    for _ in range(20):
        store.execute(deposit, "ann", 1)

    log, events, streams = store.log(), store.events(accounts("ann")), store.streams()
    assert (next(log).position, next(events).position, next(streams).id) == (1, 1, "ledger:ann")

    assert store.execute(deposit, "ann", 1).result == 21
    if isinstance(storage, SQLite):  # a snapshot that is still open would keep the log from being written back
        with closing(sqlite3.connect(storage.path)) as connection:
            busy, left, moved = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert (busy, left) == (0, moved)
    assert next(log).position == 2
    del log, events, streams
    gc.collect()
    store.close()


async def test_an_abandoned_async_iterator_holds_nothing(storage: Storage) -> None:
    async with AsyncStore(storage) as store:
        await store.execute(deposit, "ann", 1)
        async for _ in store.log():
            break
        assert (await store.execute(deposit, "ann", 1)).result == 2


def test_an_iterator_of_a_closed_store_says_so(make_store: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PAGE", 1)
    store = make_store()
    store.execute(deposit, "ann", 1)
    store.execute(deposit, "ann", 1)
    log = store.log()
    next(log)
    store.close()
    with pytest.raises(StoreClosedError):
        next(log)


# -- Streams and head --------------------------------------------------------------------------------------------------


def test_streams_come_with_version_and_last_position_in_order_of_their_ids(filled: Store) -> None:
    assert list(filled.streams()) == [
        StreamInfo("ledger:ann", 4, 7),
        StreamInfo("ledger:ben", 2, 5),
        StreamInfo("seat:a", 1, 3),
        StreamInfo("seat:b", 1, 6),
    ]
    assert [info.id for info in filled.streams("seat")] == ["seat:a", "seat:b"]
    assert list(filled.streams("sea")) == []


def test_streams_are_paged(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from factfold import aio_readers, readers

    monkeypatch.setattr(readers, "PAGE", 2)
    monkeypatch.setattr(aio_readers, "PAGE", 2)

    for number in range(5):
        filled.execute(take, f"ä{number}")

    ids = [info.id for info in filled.streams()]
    assert len(ids) == len(set(ids)) == 9
    assert ids == sorted(ids, key=str.encode)
    assert len(list(filled.streams("seat"))) == 7


def test_the_head_is_the_position_of_the_last_event(make_store: MakeStore, rival: Store) -> None:
    store = make_store()
    assert store.head() == 0
    store.execute(deposit, "ann", 1)
    rival.execute(deposit, "ann", 1)
    assert store.head() == 2
