"""What cannot be decoded is told of where it is read, and `verify` finds all that is wrong with a log."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from factfold import (
    DecodingError,
    StorageFormatError,
    Store,
    event,
    stream,
)
from factfold.storage.sqlite import SQLite
from tests.conftest import MakeStore
from tests.engines import EVERY_ENGINE
from tests.ledger import (
    Deposited,
    Transferred,
    accounts,
    deposit,
    deposits,
    open_account,
    owners,
    transfer,
)
from tests.seats import fill, seats

ENGINES = EVERY_ENGINE


@pytest.fixture
def filled(make_store: MakeStore) -> Store:
    """Seven events in four streams."""
    store = make_store()
    fill(store)
    return store


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
        assert (found.events, found.streams, found.system_events) == (8, 5, 1)


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
