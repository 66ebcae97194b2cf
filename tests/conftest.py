"""The storages and stores that tests run on: every engine, from threads and from an event loop."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from factfold import AsyncStore, Store, deciding
from factfold.storage.base import Storage
from factfold.storage.memory import Memory
from factfold.storage.sqlite import SQLite
from factfold.storage.valkey import Valkey
from tests import watchdog
from tests.blocking import Blocking, blocking
from tests.engines import LOCAL
from tests.faults import Faulty
from tests.together import Loop, MakeTogether, Threads, Together

pytest_plugins = ["tests.servers.fixtures", "tests.servers.storages", "tests.servers.valkey_fixtures"]

MakeStore: TypeAlias = Callable[..., Store]
"""Opens a store on the test's storage, or on another one; takes the options of a store."""


def pytest_configure(config: pytest.Config) -> None:
    """No test may hang the run, and Ctrl-C is heard also where it was started in the background."""
    watchdog.set_on(config)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What is there before the first test stays to the end: no garbage collection need look at it again."""
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """On which engines a test runs: where `storage` is used, the module's `ENGINES` say it."""
    if "storage_engine" in metafunc.fixturenames:
        metafunc.parametrize("storage_engine", getattr(metafunc.module, "ENGINES", LOCAL))


@pytest.fixture
def storage(storage_engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """One database: all stores that are opened on it see the same log."""
    if storage_engine == "memory":
        return Memory()
    if storage_engine == "postgres":
        direct: Storage = request.getfixturevalue("direct")
        return direct
    if storage_engine == "valkey":
        valkey: Valkey = request.getfixturevalue("quick_valkey")
        return valkey
    return SQLite(tmp_path / "log.db", synchronous="normal")  # what survives a power failure is not asked here


@pytest.fixture
def faulty(storage: Storage) -> Faulty:
    """The test's storage, which can be told to wait and to fail."""
    return Faulty(storage)


@pytest.fixture(params=["threads", "loop"])
def make_store(request: pytest.FixtureRequest, storage: Storage) -> Iterator[MakeStore]:
    """Opens stores, Store or AsyncStore (behind the methods of a Store), and closes them at the end."""
    stores: list[Store | Blocking] = []

    def make(on: Storage = storage, **options: object) -> Store:
        if request.param == "threads":
            store = Store(on, **options)  # type: ignore[arg-type]  # whatever options a test gives
        else:
            store = blocking(AsyncStore(on, **options))  # type: ignore[arg-type]  # the same
        stores.append(store)
        return store

    yield make
    for store in stores:
        if isinstance(store, Blocking):
            store.end()
        else:
            store.close()


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    """A store on the test's storage."""
    return make_store()


@pytest.fixture
def other(make_store: MakeStore) -> Store:
    """Another store on the same storage, as if in another process."""
    return make_store()


@pytest.fixture(params=["threads", "loop"])
def make_together(request: pytest.FixtureRequest, storage: Storage) -> Iterator[MakeTogether]:
    """Makes stores whose commands can be put in one batch."""
    made: list[Threads | Loop] = []

    def make(**options: Any) -> Together:
        together = (Threads if request.param == "threads" else Loop)(Faulty(storage), **options)
        made.append(together)
        return together

    yield make
    for together in made:
        together.close()


@pytest.fixture
def together(make_together: MakeTogether) -> Together:
    """A store whose commands can be put in one batch."""
    return make_together()


@pytest.fixture
def rival(storage: Storage) -> Iterator[Store]:
    """Writes to the same log, as another process would. May be used from any thread."""
    with Store(storage) as store:
        yield store


@pytest.fixture(autouse=True)
def patient_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are as large as the test makes them, however slow the machine is."""
    monkeypatch.setattr(deciding, "MAX_SECONDS", 60.0)
