"""PostgreSQL beyond the contract: its schema, the rights that it needs, what it refuses, and plans that do not rot."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from typer.testing import CliRunner

from factfold import Store, Transaction
from factfold.cli.app import app
from factfold.errors import (
    AppendRefusedError,
    FactfoldError,
    InvalidUrlError,
    MissingDriverError,
    StorageError,
    StorageFormatError,
    StorageReadOnlyError,
    StoreUnavailableError,
)
from factfold.storage._postgres_migrations import VERSION
from factfold.storage._postgres_schema import check_server
from factfold.storage._postgres_wire import Question, Script, Statement
from factfold.storage.base import (
    EMPTY,
    NEWS_BYTES,
    NEWS_LIMIT,
    Append,
    Appended,
    Check,
    Log,
    LogPage,
    NewEvent,
    Put,
    Storage,
    StreamPage,
    Swap,
    Wanted,
)
from factfold.storage.postgres import Postgres
from factfold.testing.contract.pages import PageContract
from factfold.testing.contract.scribe import (
    Scribe,
    appending,
    asking,
    facts,
    loading,
    new,
    read_log,
    selection,
    several,
)
from tests.ledger import Renamed, accounts, deposit, owners
from tests.racing import eventually, soon, start
from tests.servers.postgres import ROLE, PostgresServer


@contextmanager
def opened(storage: Postgres, namespace: str = "default") -> Iterator[Log]:
    engine = storage.open()
    try:
        yield engine.log(namespace)
    finally:
        engine.close()


class Schema:
    """A schema as somebody sees it who has no factfold: by plain SQL, as the role that owns it."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server = server
        self.name = name

    def run(self, statement: LiteralString, *values: object) -> list[tuple[object, ...]]:
        """Runs a statement, in which `{}` stands for the schema."""
        text = sql.SQL(statement).format(sql.Identifier(self.name))
        with psycopg.connect(self.server.url, autocommit=True) as connection:
            cursor = connection.execute(text, values or None)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def schema(postgres_server: PostgresServer, postgres_schema: str) -> Schema:
    return Schema(postgres_server, postgres_schema)


# -- The schema --------------------------------------------------------------------------------------------------------


def test_opening_makes_the_schema(direct: Postgres, schema: Schema) -> None:
    with opened(direct):
        pass
    assert schema.run("SELECT max(version) FROM {}.migrations") == [(VERSION,)]
    tables = schema.run("SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY 1", schema.name)
    assert tables == [(name,) for name in ("events", "memberships", "migrations", "namespaces", "places", "voids")]


def test_sixteen_may_open_an_empty_database_at_once(direct: Postgres, schema: Schema) -> None:
    with ThreadPoolExecutor(16) as threads:
        engines = list(threads.map(lambda _: direct.open(), range(16)))
        logs = list(threads.map(lambda engine: engine.log("default"), engines))
        assert [log.head() for log in logs] == [EMPTY] * 16
        for engine in engines:
            engine.close()
    assert schema.run("SELECT version FROM {}.migrations ORDER BY 1") == [(each + 1,) for each in range(VERSION)]


def test_its_namespaces_are_told_and_none_is_made(direct: Postgres, schema: Schema) -> None:
    assert direct.namespaces() == []
    assert schema.run("SELECT count(*) FROM pg_namespace WHERE nspname = %s", schema.name) == [(0,)]
    with Store(direct) as store:
        store.namespace("tenant é").head()
        store.head()
    assert direct.namespaces() == ["default", "tenant é"]


def test_the_command_line_looks_into_no_namespace_that_is_not_there(postgres_server: PostgresServer) -> None:
    result = CliRunner().invoke(app, ["log", postgres_server.url, "--namespace", "nowhere"])
    assert result.exit_code == 2
    assert "no namespace 'nowhere'" in result.stderr
    assert "nowhere" not in Postgres(postgres_server.url).namespaces()


def test_people_see_the_log_in_a_view(direct: Postgres, schema: Schema) -> None:
    with Store(direct, namespace="shop") as store:
        store.execute(deposit, "ann", 5)
        (recorded,) = store.log()
    rows = schema.run(
        "SELECT namespace, position, type, data, streams, metadata, recorded_at, id FROM {}.log"
        " WHERE namespace = 'shop'"
    )
    assert rows == [
        ("shop", 1, "Deposited", {"amount": 5}, {"ledger:ann": 1}, {}, recorded.recorded_at, recorded.id),
    ]
    assert schema.run("SELECT sum((data ->> 'amount')::int) FROM {}.log WHERE streams ? 'ledger:ann'") == [(5,)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {}.events SET data = '{{}}'",
        "DELETE FROM {}.events",
        "TRUNCATE {}.events",
        "UPDATE {}.memberships SET version = 7",
        "DELETE FROM {}.memberships WHERE false",
        "TRUNCATE {}.memberships",
        "DELETE FROM {}.namespaces",
        "UPDATE {}.namespaces SET name = 'other'",
    ],
)
def test_the_log_cannot_be_changed_by_mistake(direct: Postgres, schema: Schema, statement: LiteralString) -> None:
    with opened(direct) as log:
        scribe = Scribe(log)
        scribe.write(new("a:1"))
        with pytest.raises(psycopg.errors.RestrictViolation, match="is refused: a log only grows"):
            schema.run(statement)
        scribe.assert_unchanged()


def test_a_schema_of_another_application_is_left_alone(direct: Postgres, schema: Schema) -> None:
    schema.run("CREATE SCHEMA {}")
    schema.run("CREATE TABLE {}.customers (name text)")
    with pytest.raises(StorageFormatError, match="holds 1 tables and is not factfold's. Nothing was changed"):
        direct.open()
    assert schema.run("SELECT tablename FROM pg_tables WHERE schemaname = %s", schema.name) == [("customers",)]


def test_a_schema_that_was_made_empty_is_used(direct: Postgres, schema: Schema) -> None:
    schema.run("CREATE SCHEMA {}")
    with opened(direct) as log:
        Scribe(log).write(new("a:1"))


def test_a_newer_schema_is_refused(direct: Postgres, schema: Schema) -> None:
    with opened(direct):
        pass
    schema.run("INSERT INTO {}.migrations (version) VALUES (%s)", VERSION + 1)
    with pytest.raises(StorageFormatError, match=f"has version {VERSION + 1}.*Use a newer factfold"):
        direct.open()


def test_a_process_whose_schema_was_migrated_by_a_newer_factfold_is_told(direct: Postgres, schema: Schema) -> None:
    """A migration drops the functions that it replaces: who does not know of the new ones must not write."""
    with Store(direct) as store:
        store.execute(deposit, "ann", 1)
        schema.run("ALTER FUNCTION {}.append RENAME TO append_of_tomorrow")
        schema.run("INSERT INTO {}.migrations (version) VALUES (%s)", VERSION + 1)
        with pytest.raises(StorageFormatError, match="function of the schema is missing.*newer factfold may have"):
            store.execute(deposit, "ann", 1)
        assert store.state(accounts("ann")).balance == 1
    with pytest.raises(StorageFormatError, match="Use a newer factfold"):
        direct.open()


def test_a_schema_that_is_dropped_meanwhile_is_told(direct: Postgres, schema: Schema) -> None:
    with opened(direct) as log:
        append = appending([new("a:1")], log.head())
        schema.run("DROP SCHEMA {} CASCADE")
        with pytest.raises(StorageError):
            log.append(append)
        with pytest.raises(StorageError):
            log.head()


@pytest.mark.parametrize(
    ("version", "is_enough"), [(120_022, False), (130_018, False), (140_000, True), (180_001, True)]
)
def test_a_server_that_is_too_old_is_refused(version: int, is_enough: bool) -> None:
    if is_enough:
        check_server(version, "postgresql://db/bank")
    else:
        with pytest.raises(StorageError, match=f"PostgreSQL {version // 10_000}, and factfold needs 14 or later"):
            check_server(version, "postgresql://db/bank")


def test_the_bounds_of_the_news_are_those_of_the_contract(direct: Postgres) -> None:
    assert f"upto - above > {NEWS_LIMIT} " in direct.sql()
    assert f"size > {NEWS_BYTES};" in direct.sql()


# -- Rights ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def application(postgres_server: PostgresServer, schema: Schema) -> Iterator[Postgres]:
    """The same schema, as a role that may make nothing."""
    postgres_server.sql("CREATE ROLE application LOGIN PASSWORD 'secret'")
    yield Postgres(postgres_server.url_for(role="application", password="secret"), schema=schema.name)
    postgres_server.sql("DROP OWNED BY application")
    postgres_server.sql("DROP ROLE application")


def test_a_role_that_may_not_make_the_schema_is_told_what_to_do(application: Postgres) -> None:
    with pytest.raises(StorageError, match=r"this role may not make it .*Run `factfold migrate URL`"):
        application.open()


def test_the_printed_sql_and_rights_are_all_that_is_needed(application: Postgres, schema: Schema) -> None:
    script = application.sql()
    grants = re.findall(r"^-- (GRANT .*?;)", script, re.MULTILINE)
    assert len(grants) == 4
    with psycopg.connect(schema.server.url, autocommit=True) as connection:
        connection.execute(script.encode())
        for grant in grants:
            connection.execute(grant.encode())
    with Store(application) as store:
        store.execute(deposit, "ann", 5)
        assert store.state(accounts("ann")).balance == 5
        assert store.verify(accounts).ok
    with opened(application) as log:
        log.put("snapshots", "a", b"x")
        log.put("snapshots", "a", b"y")
        log.put("snapshots", "a", None)
        assert log.swap(Swap(Put("consumers", "a", b"1"), None, (Put("parked", "b", b"2"),)))
        assert log.swap(Swap(Put("consumers", "a", None), b"1", (Put("parked", "b", None),)))
        assert log.entries("parked", "", 10) == []
        assert log.resolve(appending([new("a:1")], log.head())) is None
        log.lock(asking(log.head()))
        log.unlock()
        assert list(log.problems()) == []


def test_a_missing_right_is_told(application: Postgres, schema: Schema) -> None:
    with opened(Postgres(schema.server.url, schema=schema.name)) as log:
        Scribe(log).write(new("a:1"))
    schema.run("GRANT USAGE ON SCHEMA {} TO application")
    schema.run("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO application")
    with opened(application) as log:
        assert log.head().position == 1, "reading is allowed"
        with pytest.raises(StorageError, match="the role lacks a right.*UPDATE on namespaces"):
            log.append(appending([new("a:1")], log.head()))


def test_a_server_that_can_only_be_read_is_told(postgres_server: PostgresServer, schema: Schema) -> None:
    with opened(Postgres(postgres_server.url, schema=schema.name)) as log:
        Scribe(log).write(new("a:1"))
    reading = f"{postgres_server.url}?options=-c%20default_transaction_read_only%3Don"
    with opened(Postgres(reading, schema=schema.name)) as log:
        assert log.head().position == 1
        with pytest.raises(StorageReadOnlyError, match="can only be read"):
            log.append(appending([new("a:1")], log.head()))


def test_another_isolation_level_is_refused(postgres_server: PostgresServer, schema: Schema) -> None:
    url = f"{postgres_server.url}?options=-c%20default_transaction_isolation%3Dserializable"
    with opened(Postgres(url, schema=schema.name)) as log:
        with pytest.raises(StorageError, match="the isolation level is serializable.*READ COMMITTED"):
            log.append(appending([new("a:1")], log.head()))
        assert log.head() == EMPTY


def test_the_sql_of_the_documentation_runs(postgres_server: PostgresServer) -> None:
    page = (Path(__file__).parent.parent / "docs" / "how-to" / "postgresql.md").read_text("utf-8")
    blocks = re.findall(r"^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    with postgres_server.fresh_database() as database:
        with Store(Postgres(postgres_server.url_for(database=database))) as store:
            store.execute(deposit, "ann", 5)
        with psycopg.connect(postgres_server.admin(database)) as connection:
            connection.execute("CREATE ROLE application")
            for block in blocks:
                connection.execute(block.encode())
            connection.rollback()


# -- Where it cannot connect -------------------------------------------------------------------------------------------


def test_a_wrong_password_is_told_and_not_repeated(postgres_server: PostgresServer) -> None:
    with pytest.raises(StoreUnavailableError, match="password authentication failed") as refused:
        Postgres(postgres_server.url_for(password="hunter2")).open()
    assert "hunter2" not in str(refused.value)
    assert f"postgresql://{ROLE}@127.0.0.1" in str(refused.value)


def test_a_missing_database_is_told(postgres_server: PostgresServer) -> None:
    with pytest.raises(StoreUnavailableError, match='database "nowhere" does not exist'):
        Postgres(postgres_server.url_for(database="nowhere")).open()


def test_an_option_that_libpq_does_not_know_is_told(postgres_server: PostgresServer) -> None:
    with pytest.raises(InvalidUrlError, match="cannot be read"):
        Postgres(f"{postgres_server.url}?colour=red").open()


def test_a_database_in_another_encoding_is_refused(postgres_server: PostgresServer) -> None:
    postgres_server.sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0", database="postgres")
    try:
        with pytest.raises(StorageFormatError, match="encoding is LATIN1, and factfold needs UTF8"):
            Postgres(postgres_server.url_for(database="latin")).open()
    finally:
        postgres_server.sql("DROP DATABASE latin WITH (FORCE)", database="postgres")


def test_a_missing_driver_is_named_with_its_extra(tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("raise ModuleNotFoundError('No module named psycopg', name='psycopg')")
    program = "from factfold import Store\nStore('postgresql://localhost/bank').__enter__()"
    path = [str(tmp_path), *filter(None, sys.path)]
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}\n{program}"]
    said = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert f"{MissingDriverError.__name__}: postgresql://localhost/bank" in said.stderr
    assert "pip install 'factfold[postgres]'" in said.stderr


def test_a_pooler_that_was_not_told_of_is_guessed(direct: Postgres) -> None:
    with opened(direct) as log:
        scribe = Scribe(log)
        scribe.write(new("a:1"))
        inside: Any = log
        inside._writing._session.ask(Script(b"DEALLOCATE ALL"))  # as another client of a pooler would
        with pytest.raises(StorageError, match="pooler=true"):
            log.append(appending([new("a:1")], scribe.head))
        scribe.assert_unchanged()


# -- Odd and large payloads --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b'"x\\u0000y"',
        b'{"\\u0000":1}',
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"1e200000",
        b"NaN",
        b"{",
        b"",
    ],
)
def test_what_jsonb_cannot_hold_is_refused_before_anything_is_written(direct: Postgres, data: bytes) -> None:
    with opened(direct) as log:
        scribe = Scribe(log)
        scribe.write(new("a:1"))
        for events in ([new("a:1"), bad(data=data)], [bad(metadata=data)]):
            append = appending(events, scribe.head, selection("a:1"))
            with pytest.raises(AppendRefusedError, match="nothing was written"):
                log.append(append)
            log.lock(append.check)
            with pytest.raises(AppendRefusedError, match="nothing was written"):
                log.append(append)
        scribe.assert_unchanged()
        scribe.write(new("a:1"))
        scribe.assert_unchanged()


def bad(*, data: bytes = b"{}", metadata: bytes = b"{}") -> NewEvent:
    return NewEvent(new().id, "Noted", 1, data, metadata, ("b:1",))


def test_a_lone_surrogate_in_a_name_is_refused(direct: Postgres) -> None:
    with opened(direct) as log:
        for event in (new("a:\ud800"), new("a:1", type="\udfff")):
            with pytest.raises(AppendRefusedError):
                log.append(appending([event], EMPTY))
        assert log.head() == EMPTY


@pytest.mark.parametrize(
    "number", [2**53 + 1, 2**63, -(2**64), 2**64 - 1, 10**40, -(10**130)], ids=lambda number: f"{number:.0e}"
)
def test_integers_keep_all_their_digits(direct: Postgres, number: int) -> None:
    with opened(direct) as log:
        log.append(appending([new("a:1", data=json.dumps({"n": number}).encode())], EMPTY))
        (stored,) = log.read(LogPage(0, 10))
    assert json.loads(stored.data) == {"n": number}


def test_one_bad_payload_fails_none_of_its_neighbours(direct: Postgres) -> None:
    with Store(direct) as store:
        with ThreadPoolExecutor(8) as threads:
            names = ["ann", "ben", "cat", "dan", "eve", "fay"]
            given = [(name, "x\x00y" if name == "cat" else "fine") for name in names]
            outcomes = list(threads.map(lambda each: outcome(lambda: store.execute(rename, *each)), given))
        assert [isinstance(each, AppendRefusedError) for each in outcomes] == [name == "cat" for name in names]
        assert store.head() == len(names) - 1


def rename(tx: Transaction, id: str, owner: str) -> None:
    tx.read(owners(id)).append(Renamed(owner))


def outcome(work: Callable[[], object]) -> object:
    try:
        return work()
    except FactfoldError as error:
        return error


def test_large_events_and_large_appends(direct: Postgres) -> None:
    with opened(direct) as log:
        scribe = Scribe(log)
        scribe.write(new("a:1", data=json.dumps("x" * 10_000_000).encode()))
        scribe.write(*(new("a:1", data=json.dumps("y" * 1_000_000).encode()) for _ in range(10)))
        scribe.write(*several(5_000, "a:1"))
        scribe.write(*(new(f"b:{number}") for number in range(10_000)))
        assert facts(read_log(log)) == facts(scribe.events)


def test_an_append_that_the_server_would_not_take_is_refused(direct: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factfold.storage._postgres_log.LARGEST_MESSAGE", 10_000)
    with opened(direct) as log:
        scribe = Scribe(log)
        scribe.write(new("a:1"))
        for held in (False, True):
            if held:
                log.lock(asking(scribe.head))
            with pytest.raises(AppendRefusedError, match="PostgreSQL takes at most 10,000 at once"):
                log.append(appending([new("a:1", data=json.dumps("x" * 10_000).encode())], scribe.head))
        scribe.write(new("a:1"))
        scribe.assert_unchanged()


# -- Long logs ---------------------------------------------------------------------------------------------------------


class TestShortReach(PageContract):
    """What is rare in a long log is looked for in several steps, and pages are as full as ever."""

    @pytest.fixture(params=[1, 7])
    def storage(self, request: pytest.FixtureRequest, direct: Postgres, monkeypatch: pytest.MonkeyPatch) -> Storage:
        monkeypatch.setattr("factfold.storage._postgres_log.REACH", request.param)
        return direct


# -- Namespaces --------------------------------------------------------------------------------------------------------


def test_namespaces_with_odd_names_stand_side_by_side(direct: Postgres, schema: Schema) -> None:
    names = ["shop", "Shop", "shop ", "'; DROP TABLE events; --", '"', "{}", "日本", "é", "e\u0301", "x" * 200]
    engine = direct.open()
    try:
        for number, name in enumerate(names, 1):
            Scribe(engine.log(name)).write(*several(number, "a:1"))
        for number, name in enumerate(names, 1):
            assert engine.log(name).head().position == number
    finally:
        engine.close()
    counted = schema.run("SELECT namespace, count(*) FROM {}.log GROUP BY 1 ORDER BY 2")
    assert counted == [(name, number) for number, name in enumerate(names, 1)]


def test_a_writer_holds_up_its_own_namespace_only(direct: Postgres) -> None:
    with opened(direct, "one") as one, opened(direct, "other") as other:
        one.lock(asking(EMPTY))
        Scribe(other).write(new("a:1"))
        one.unlock()


# -- Announcements -----------------------------------------------------------------------------------------------------


@pytest.fixture
def nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who listens does not look by himself while the test lasts."""
    for module in ("_postgres_news", "_postgres_async_news"):
        monkeypatch.setattr(f"factfold.storage.{module}.POLL", 60.0)


@pytest.mark.usefixtures("nobody_looks")
def test_who_waits_is_told_of_each_append(direct: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of the last one of many, which are announced together."""
    monkeypatch.setattr("factfold.storage._postgres_news.INTERVAL", 0.2)
    with opened(direct) as log, opened(direct) as other:
        waiting = start(log.wait, 0, 30.0)
        for number in range(1, 6):
            eventually(lambda: log._listener._session is not None)  # type: ignore[attr-defined]  # it listens by now
            other.append(appending([new("a:1")], other.head()))
            if number == 1:
                assert waiting.result() == 1
                waiting = start(log.wait, 4, 30.0)
        assert waiting.result() == 5


@pytest.mark.usefixtures("nobody_looks")
async def test_a_task_that_waits_is_told_of_each_append(direct: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factfold.storage._postgres_async_news.INTERVAL", 0.2)
    engine, elsewhere = await direct.open_async(), await direct.open_async()
    log, other = await engine.log("default"), await elsewhere.log("default")
    waiting = asyncio.create_task(log.wait(0, 30.0))
    await soon(lambda: log._listener._session is not None)  # type: ignore[attr-defined]  # it listens by now
    async with asyncio.timeout(20):
        for number in range(1, 6):
            await other.append(appending([new("a:1")], await other.head()))
            if number == 1:
                assert await waiting == 1
                waiting = asyncio.create_task(log.wait(4, 30.0))
        assert await waiting == 5
    await engine.close()
    await elsewhere.close()


def test_nothing_is_announced_within_an_append(direct: Postgres) -> None:
    """NOTIFY would let the whole server commit one transaction at a time, if it were."""
    assert "notify" not in direct.sql().lower()


# -- What is damaged ---------------------------------------------------------------------------------------------------


def test_damage_is_found(direct: Postgres, schema: Schema) -> None:
    with opened(direct) as log:
        Scribe(log).write(new("a:1"), new("a:1", "b:1"), *several(3, "c:1"))
        as_damage = "SET session_replication_role = replica; "
        with psycopg.connect(schema.server.admin(), autocommit=True) as admin:
            for statement in (
                "DELETE FROM {}.memberships WHERE stream = 'b:1'",
                "UPDATE {}.memberships SET position = 99 WHERE stream = 'c:1' AND version = 1",
                "UPDATE {}.memberships SET position = 1 WHERE stream = 'c:1' AND version = 2",
            ):
                text = f"{as_damage}{statement.format(sql.Identifier(schema.name).as_string())}"
                admin.execute(text.encode())
        problems = list(log.problems())
    assert [said.partition("]: ")[2] for said in problems] == [
        "the event at position 2 is version 1 of b:1, and the index of streams says otherwise",
        "the event at position 3 is version 1 of c:1, and the index of streams says otherwise",
        "the event at position 4 is version 2 of c:1, and the index of streams says otherwise",
        "version 1 of c:1 is to be at position 99: nothing is there",
        "version 2 of c:1 is to be at position 1, and the event there says otherwise",
    ]


# -- Plans -------------------------------------------------------------------------------------------------------------


def test_plans_made_on_an_empty_schema_stay_right(direct: Postgres, schema: Schema) -> None:
    """100,000 events through the connections that were there first: what an operation looks at stays the same."""
    with opened(direct) as log:
        for table in (
            "events",
            "memberships",
            "namespaces",
            "voids",
            "places",
        ):  # nobody tells the planner how they grow
            schema.run(f"ALTER TABLE {{}}.{table} SET (autovacuum_enabled = off)")
        early = _pages_looked_at(log)
        for table in ("events", "memberships", "places"):  # what it was told when they were small is all that it knows
            schema.run(f"ANALYZE {{}}.{table}")
        for _ in range(10):
            early = _pages_looked_at(log)
        versions = {"hot:1": 20}
        for batch in range(50):
            after = log.head()
            events = tuple(new("hot:1" if number % 2 else f"cold:{batch}/{number}") for number in range(2_000))
            assert isinstance(log.append(Append(events, Check((), after, versions))), Appended)
        assert log.head().position > 100_000
        schema.run(
            "INSERT INTO {}.places SELECT 1, 'snapshots', 'hot:' || n, '', now() FROM generate_series(1, 20000) AS n"
        )
        looked = [_pages_looked_at(log) for _ in range(3)]  # the first may plan anew, and read catalogs for it
    late = {name: min(pages[name] for pages in looked) for name in early}
    # The indexes have become a level or two deeper; what scans a table of 100,000 events looks at a thousand pages.
    assert {name for name in early if late[name] > early[name] + 50} == set(), f"at first {early}, and then {late}"


def _pages_looked_at(log: Any) -> dict[str, int]:
    """How many pages of tables and indexes each operation looks at, in the sessions that the log has anyway."""
    found: dict[str, int] = {}
    before = log.head()
    log.append(appending([new("hot:1")], before))
    after = log.head()
    hot = selection("hot:1")
    questions = log._questions
    writer = log._writing._session
    moved = appending([new("hot:1")], before, selection("other:1"), selection("hot:1", "Rare"), empty=["never:1"])
    found["append"] = _explained(writer, questions.append(appending([new("hot:1")], after, hot), None, held=False))
    found["append after others"] = _explained(writer, questions.append(moved, None, held=False))
    asked: dict[str, Question[object]] = {
        "head": questions.head(),
        "check": questions.check(asking(after, hot, selection("hot:1", "Rare"))),
        "load": questions.load(loading(Wanted(hot, max(0, _version(log) - 3)), after=after)),
        "read": next(questions.read(LogPage(max(0, after.position - 3), 3))),
        "read backwards": next(questions.read(LogPage(None, 3, backwards=True))),
        "read_stream": questions.read_stream(StreamPage(hot, max(0, _version(log) - 3), 3)),
        "read_stream backwards": questions.read_stream(StreamPage(hot, None, 3, backwards=True)),
        "resolve": questions.resolve(moved),
        "get": questions.get("snapshots", ["a"]),
        "put": questions.put("snapshots", "a", b"1"),
        "swap": questions.swap(Swap(Put("snapshots", "a", b"2"), b"1", (Put("snapshots", "a", b"1"),))),
        "entries": questions.entries("snapshots", "", 3),
    }
    for name, question in asked.items():
        loan = log._sessions.lend()
        found[name] = _explained(log._sessions.session_for(loan), question)
        loan.end()
    return found


def _version(log: Log) -> int:
    return log.load(loading(Wanted(selection("hot:1"), 2**40))).slices[0].version


def _explained(session: Any, question: Question[object]) -> int:
    explain = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "
    statement = Statement(
        b"explain " + question.statement.name, explain + question.statement.sql, question.statement.formats
    )
    ((told,),) = session.ask(Question(statement, question.parameters, lambda rows: rows))
    plan = told[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
