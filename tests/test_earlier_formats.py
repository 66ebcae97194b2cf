"""A database that an earlier version of factfold made always opens: every version of every engine's format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from factfold import AppendRefusedError, Transaction, event, stream
from factfold.storage.base import Appended, LogPage, Storage
from factfold.testing.contract.running import one_log
from factfold.testing.contract.scribe import appending, new
from tests.conftest import MakeStore
from tests.earlier_formats import EVENTS, VERSIONS, VOID, put_back_postgres, put_back_sqlite, put_back_valkey
from tests.servers.postgres import PostgresServer
from tests.servers.valkey import ValkeyServer

WRITTEN = [(engine, version) for engine, newest in VERSIONS.items() for version in range(1, newest + 1)]


@pytest.fixture(params=WRITTEN, ids=[f"{engine}-{version}" for engine, version in WRITTEN])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """What this version of the engine's format wrote, for this test alone."""
    engine, version = request.param
    match engine:
        case "sqlite":
            yield put_back_sqlite(version, tmp_path / "log.db")
        case "postgres":
            postgres: PostgresServer = request.getfixturevalue("postgres_server")
            with postgres.fresh_database() as database:
                yield put_back_postgres(version, postgres.url_for(database=database))
        case _:
            valkey: ValkeyServer = request.getfixturevalue("quick_valkey_server")
            yield put_back_valkey(version, valkey, valkey.storage(durable=False))


def test_all_that_was_written_is_there_and_counts(storage: Storage) -> None:
    with one_log(storage, "default") as log:
        found = log.read(LogPage(0, 10))
        assert [(one.id, one.type, one.type_version) for one in found] == [
            (one.id, one.type, one.type_version) for one in EVENTS
        ]
        assert [(json.loads(one.data), json.loads(one.metadata)) for one in found] == [
            (json.loads(one.data), json.loads(one.metadata)) for one in EVENTS
        ]
        assert [dict(one.streams) for one in found] == [
            {"account:alice": 1},
            {"account:bob": 1},
            {"account:alice": 2, "account:bob": 2},
        ]
        assert log.get("snapshots", ["account:alice"]) == {"account:alice": b"\x00\x01"}
        assert list(log.problems()) == []
        void = msgspec.structs.replace(new("account:carol"), id=VOID)
        with pytest.raises(AppendRefusedError):
            log.append(appending([void], log.head()))
        assert isinstance(log.append(appending([new("account:alice")], log.head())), Appended)


@dataclass(frozen=True)
class Opened:
    owner: str


@event(version=2)
@dataclass(frozen=True)
class Moved:
    amount: Decimal


@dataclass(frozen=True)
class Account:
    owner: str = ""
    moved: Decimal = Decimal(0)


@stream("account", initial=Account())
def accounts(state: Account, event: Opened | Moved) -> Account:
    match event:
        case Opened(owner):
            return replace(state, owner=owner)
        case Moved(amount):
            return replace(state, moved=state.moved + amount)


def move(tx: Transaction, amount: Decimal) -> Decimal:
    alice, bob = tx.read(accounts("alice"), accounts("bob"))
    tx.append(Moved(amount), alice, bob)
    return alice.state.moved


def test_a_store_goes_on_with_it(make_store: MakeStore) -> None:
    store = make_store()
    assert store.state(accounts("alice")) == Account("Alíce", Decimal("1.50"))
    assert [recorded.metadata.actor for recorded in store.log()] == [None, "clerk", None]

    first = store.execute_once("key", move, Decimal("0.50"))
    assert (first.result, first.position) == (Decimal("2.00"), 4)

    another = make_store()
    assert another.execute_once("key", move, Decimal("0.50")).repeated
    assert another.state(accounts("bob")) == Account("Bob", Decimal("2.00"))
    assert another.verify(accounts).problems == ()
