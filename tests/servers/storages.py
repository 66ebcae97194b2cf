"""Storages on the servers, as fixtures: each test has a schema of its own."""

from __future__ import annotations

import pytest

from factfold.storage.postgres import Postgres
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import Proxy


@pytest.fixture
def direct(postgres_server: PostgresServer, postgres_schema: str) -> Postgres:
    """A storage in a schema of its own."""
    return Postgres(postgres_server.url, schema=postgres_schema)


@pytest.fixture
def proxied(postgres_server: PostgresServer, postgres_schema: str, proxy: Proxy) -> Postgres:
    """The same storage by way of the proxy."""
    return Postgres(postgres_server.url_for(port=proxy.port), schema=postgres_schema)


@pytest.fixture
def impatient(postgres_server: PostgresServer, postgres_schema: str, proxy: Proxy) -> Postgres:
    """The same by way of the proxy, for tests in which time-outs are waited for."""
    return Postgres(postgres_server.url_for(port=proxy.port), schema=postgres_schema, timeout=0.5)


@pytest.fixture(params=["threads", "loop"])
def flavour(request: pytest.FixtureRequest) -> str:
    """Whether stores and logs are those of threads or of an event loop."""
    flavour: str = request.param
    return flavour
