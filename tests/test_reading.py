"""Reading: the log, streams, and what `verify` finds when somebody has meddled with them."""

from __future__ import annotations

import gc
import itertools
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from factfold import (
    AsyncStore,
    DecodingError,
    RecordedEvent,
    StorageFormatError,
    Store,
    StoreClosedError,
    StreamInfo,
    Transaction,
    event,
    reading,
    stream,
)
from factfold.storage.base import LogPage, Storage, StreamPage
from factfold.storage.sqlite import SQLite
from tests.conftest import MakeStore
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
    open_account,
    owners,
    rename,
    transfer,
    withdraw,
)


@event(name="seat.taken")
@dataclass(frozen=True)
class Taken:
    row: int


@stream("seat", initial=0)
def seats(state: int, event: Taken | Deposited) -> int:
    return state + 1


def take(tx: Transaction, id: str) -> None:
    tx.read(seats(id)).append(Taken(7))


@pytest.fixture
def filled(make_store: MakeStore) -> Store:
    """Seven events in four streams."""
    store = make_store()
    store.execute(open_account, "ann", "Ann")  # 1
    store.execute(deposit, "ann", 10)  # 2
    store.execute(take, "a")  # 3
    store.execute(transfer, "ann", "ben", 4)  # 4
    store.execute(withdraw, "ben", 1)  # 5
    store.execute(take, "b")  # 6
    store.execute(rename, "ann", "Anna")  # 7
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
@pytest.mark.parametrize("value", [-1, 1.5, True, "3"])
def test_bounds_are_whole_numbers_from_0_on(filled: Store, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name}="):
        filled.log(**{name: value})  # type: ignore[call-overload]  # that is what is tested
    with pytest.raises(ValueError, match="after_version=|limit="):
        filled.events(accounts("ann"), **{"after_version" if name == "after" else name: value})  # type: ignore[arg-type]


def test_types_stored_under_one_name_cannot_be_told_apart(filled: Store) -> None:
    @event(name="Deposited")
    @dataclass(frozen=True)
    class AlsoDeposited:
        amount: int

    with pytest.raises(ValueError, match="both stored as 'Deposited'"):
        filled.log(types=Deposited | AlsoDeposited)


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
    from factfold import aio, store

    monkeypatch.setattr(store, "PAGE", 2)
    monkeypatch.setattr(aio, "PAGE", 2)

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


# -- What cannot be decoded --------------------------------------------------------------------------------------------


def test_an_event_that_cannot_be_decoded_is_an_error_that_names_its_place(filled: Store) -> None:
    @event(name="seat.taken")
    @dataclass(frozen=True)
    class Stricter:
        row: int
        colour: str

    @stream("seat", initial=0)
    def stricter(state: int, event: Stricter) -> int:
        return state + event.row

    with pytest.raises(DecodingError, match=r"colour") as caught:
        list(filled.events(stricter("a")))
    error = caught.value
    assert (error.stream, error.version, error.position, error.type) == ("seat:a", 1, 3, "seat.taken")

    with pytest.raises(DecodingError) as caught:
        filled.state(stricter("a"))
    error = caught.value
    assert (error.stream, error.version, error.position, error.type) == ("seat:a", 1, 3, "seat.taken")

    with pytest.raises(DecodingError) as caught:
        list(filled.log(types=Stricter))
    error = caught.value
    assert (error.stream, error.version, error.position, error.type) == (None, None, 3, "seat.taken")


def test_the_events_before_one_that_cannot_be_decoded_are_read(filled: Store) -> None:
    @event(name="Withdrawn")
    @dataclass(frozen=True)
    class Wordy:
        amount: str

    log = filled.log(types=Deposited | Wordy)
    assert next(log).event == Deposited(10)
    with pytest.raises(DecodingError) as caught:
        next(log)
    assert caught.value.position == 5


def test_an_event_equals_itself_however_it_was_read(filled: Store) -> None:
    written = filled.execute(transfer, "ann", "ben", 1).events
    (from_log,) = filled.log(types=Transferred, after=7)
    *_, from_stream = filled.events(accounts("ben"))
    assert (from_log,) == (from_stream,) == written
    assert len({from_log, from_stream, *written}) == 1
    (other,) = filled.log(types=Transferred, limit=1)
    assert other != from_log


# -- Verification ------------------------------------------------------------------------------------------------------


def test_a_log_in_order_is_found_in_order(filled: Store) -> None:
    filled.execute_once("key", deposit, "cid", 1)
    for known in ((), (accounts, seats), (accounts,)):
        found = filled.verify(*known)
        assert (found.ok, found.problems) == (True, ())
        assert (found.events, found.streams) == (9, 6)


def test_an_empty_log_is_in_order(store: Store) -> None:
    found = store.verify(accounts)
    assert (found.ok, found.events, found.streams) == (True, 0, 0)


def test_types_that_no_fold_of_their_category_knows_are_reported(filled: Store) -> None:
    found = filled.verify(owners, deposits)  # nobody knows Transferred and Withdrawn; seats are not looked at

    assert not found.ok
    assert len(found.problems) == 2
    assert "1 event(s) of type 'Transferred'" not in found.problems[1]
    assert any("'Transferred'" in problem and "Was a class renamed?" in problem for problem in found.problems)
    assert any("1 event(s) of type 'Withdrawn'" in problem for problem in found.problems)


def test_events_that_do_not_decode_are_reported(filled: Store) -> None:
    @event(name="seat.taken")
    @dataclass(frozen=True)
    class Stricter:
        row: str

    @stream("seat", initial=0)
    def stricter(state: int, event: Stricter) -> int:
        return state

    found = filled.verify(stricter)

    assert len(found.problems) == 2
    assert all("seat.taken" in problem and "cannot be decoded" in problem for problem in found.problems)
    assert "position 3" in found.problems[0]


class TestTampered:
    """What `verify` finds after somebody wrote into the file with SQL."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        with Store(SQLite(tmp_path / "log.db", synchronous="normal")) as store:
            store.execute(open_account, "ann", "Ann")
            store.execute(deposit, "ann", 10)
            store.execute(transfer, "ann", "ben", 4)
            store.execute(deposit, "ben", 1)
            store.execute(deposit, "cid", 1)
            assert store.verify(accounts).ok
        return tmp_path / "log.db"

    def problems(self, path: Path, *statements: str) -> list[str]:
        with closing(sqlite3.connect(path)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()
        with Store(SQLite(path)) as store:
            found = store.verify(accounts)
        assert found.ok == (not found.problems)
        return list(found.problems)

    def found(self, path: Path, expected: str, *statements: str) -> None:
        problems = self.problems(path, *statements)
        assert any(expected in problem for problem in problems), problems

    def test_nothing(self, path: Path) -> None:
        assert self.problems(path) == []

    def test_a_gap_in_the_positions(self, path: Path) -> None:
        self.found(path, "position 4 follows on 2", "DELETE FROM events_1 WHERE position = 3")

    def test_an_event_missing_at_the_end(self, path: Path) -> None:
        self.found(path, "ledger:cid", "DELETE FROM events_1 WHERE position = 5")

    def test_a_membership_without_event(self, path: Path) -> None:
        self.found(
            path,
            "ledger:ann",
            "INSERT INTO memberships_1 (stream, version, position, type) VALUES ('ledger:ann', 4, 99, 'Deposited')",
        )

    def test_a_missing_membership(self, path: Path) -> None:
        self.found(path, "ledger:ben", "DELETE FROM memberships_1 WHERE stream = 'ledger:ben' AND version = 1")

    def test_a_stream_whose_memberships_are_all_gone(self, path: Path) -> None:
        self.found(path, "ledger:cid", "DELETE FROM memberships_1 WHERE stream = 'ledger:cid'")

    def test_a_membership_of_another_type_than_the_event(self, path: Path) -> None:
        self.found(
            path,
            "ledger:ann",
            "UPDATE memberships_1 SET type = 'Renamed' WHERE stream = 'ledger:ann' AND version = 2",
        )

    def test_a_membership_at_another_position(self, path: Path) -> None:
        self.found(path, "ledger:cid", "UPDATE memberships_1 SET position = 2 WHERE stream = 'ledger:cid'")

    def test_a_gap_in_the_versions(self, path: Path) -> None:
        self.found(
            path,
            "version 3 at position 4 follows on 1",
            """UPDATE events_1 SET streams = '{"ledger:ben":3}' WHERE position = 4""",
            "UPDATE memberships_1 SET version = 3 WHERE stream = 'ledger:ben' AND version = 2",
        )

    def test_an_event_of_no_stream(self, path: Path) -> None:
        self.found(path, "belongs to no stream", "UPDATE events_1 SET streams = '{}' WHERE position = 5")

    def test_an_event_that_does_not_decode(self, path: Path) -> None:
        self.found(path, "amount", """UPDATE events_1 SET data = '{"amount":"x"}' WHERE position = 2""")

    def test_an_event_that_is_no_json(self, path: Path) -> None:
        self.found(path, "position 2", "UPDATE events_1 SET data = '{' WHERE position = 2")
        with Store(SQLite(path)) as store, pytest.raises(DecodingError, match="is not JSON") as caught:
            list(store.log())
        assert caught.value.position == 2

    def test_streams_that_are_no_json(self, path: Path) -> None:
        self.found(path, "position 2", "UPDATE events_1 SET streams = '{' WHERE position = 2")
        with Store(SQLite(path)) as store:
            first, second, *_ = store.log()
            assert list(first.streams) == ["ledger:ann"]
            with pytest.raises(StorageFormatError, match="position 2"):
                _ = second.streams
            with pytest.raises(StorageFormatError, match="position 2"):
                store.state(accounts("ann"))

    def test_a_type_that_nobody_knows(self, path: Path) -> None:
        self.found(path, "'Payed'", "UPDATE events_1 SET type = 'Payed' WHERE position = 4")

    def test_a_damaged_page(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'memberships_1'").fetchone()
            (size,) = connection.execute("PRAGMA page_size").fetchone()
        with path.open("r+b") as file:
            file.seek((root - 1) * size + 8)
            file.write(b"\xff" * 200)
        with Store(SQLite(path)) as store:
            try:
                found = store.verify(accounts)
            except Exception as error:
                assert "damaged" in str(error)
            else:
                assert not found.ok
