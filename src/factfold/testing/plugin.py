"""The pytest plugin: stores as fixtures, a log for each test, on the engines that the command line names."""

# pytest loads this in every run where factfold is installed: what a run does not use is not imported here.

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from msgspec import Struct

if TYPE_CHECKING:
    from factfold import Store
    from factfold.storage import Storage
    from factfold.testing.clock import Clock

OPTION = "--factfold-engine"
DEFAULT = "memory"
NAME_LIMIT = 64


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option that chooses the engines."""
    parser.getgroup("factfold").addoption(
        OPTION,
        action="append",
        dest="factfold_engines",
        metavar="ENGINE",
        help=(
            "the engine of the fixtures store and async_store: memory (the default), sqlite (a file for each test), "
            "or a url such as postgresql://localhost/test or valkey://localhost:6379/0 (a namespace for each test). "
            "Given several times, the tests run on each."
        ),
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuses at once what is no engine, and adds the fixture that needs pytest-asyncio where that is used."""
    for engine in _engines(config):
        if engine not in ("memory", "sqlite"):
            from factfold import FactfoldError
            from factfold.storage import open_storage

            try:
                open_storage(engine)
            except FactfoldError as error:
                raise pytest.UsageError(f"{OPTION}: {error} Besides, memory and sqlite need no url.") from error
    if config.pluginmanager.hasplugin("asyncio"):
        from factfold.testing import asyncio_fixture

        config.pluginmanager.register(asyncio_fixture)
    else:
        config.pluginmanager.register(_WithoutAsyncio())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test that uses a store on every engine."""
    if "factfold_engine" in metafunc.fixturenames:
        engines = _engines(metafunc.config)
        # The ids say which engine it is, and not with which password.
        ids = [engine.partition(":")[0] for engine in engines]
        metafunc.parametrize("factfold_engine", engines, ids=ids, scope="function")


def _engines(config: pytest.Config) -> list[str]:
    """Those that were asked for, each once."""
    asked: list[str] = config.getoption("factfold_engines") or [DEFAULT]
    return list(dict.fromkeys(asked))


class Place(Struct, frozen=True):
    """Where the log of one test is."""

    storage: Storage
    namespace: str


@pytest.fixture
def factfold_clock() -> Clock:
    """The clock of `store` and `async_store`: it stands still until the test says `factfold_clock.advance(seconds)`."""
    from factfold.testing.clock import Clock

    return Clock()


@pytest.fixture
def factfold_place(factfold_engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where the log of this test is: `store` and `async_store` are two stores on one log."""
    if factfold_engine == "memory":
        from factfold.storage.memory import Memory

        return Place(Memory(), "default")
    if factfold_engine == "sqlite":
        from factfold.storage.sqlite import SQLite

        # What survives a power failure is nothing that a test with this fixture could ask.
        return Place(SQLite(tmp_path / "factfold.db", synchronous="normal"), "default")
    from factfold.storage import open_storage

    name = "".join(char if char.isprintable() else "?" for char in str(request.node.name))
    return Place(open_storage(factfold_engine), f"{uuid4().hex[:12]} {name}"[:NAME_LIMIT].rstrip())


@pytest.fixture
def store(factfold_place: Place, factfold_clock: Clock) -> Generator[Store]:
    """A store on a log that this test alone uses, once for each engine; its clock is `factfold_clock`."""
    from factfold import Store

    with Store(factfold_place.storage, namespace=factfold_place.namespace, clock=factfold_clock) as opened:
        yield opened


class _WithoutAsyncio:
    """What there is of `async_store` where nothing runs `async def` tests."""

    @pytest.fixture
    def async_store(self) -> None:
        """Says what is missing."""
        raise pytest.UsageError("The fixture async_store needs pytest-asyncio: pip install 'factfold[test]'")
