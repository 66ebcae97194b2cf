"""Transactions in PostgreSQL: a read model changes with its checkpoint or not at all, whatever happens in between."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import psycopg
import pytest
from psycopg import sql

from factfold.errors import (
    LockLostError,
    OutcomeUnknownError,
    StorageError,
    StoreClosedError,
    StoreUnavailableError,
)
from factfold.storage import _postgres_async_sessions, _postgres_sessions
from factfold.storage.base import AsyncTransactionalLog, Put, Swap, TransactionalLog
from factfold.storage.postgres import Postgres
from factfold.testing.contract.running import fresh_namespace, outcome_of
from tests.faults import PATIENCE
from tests.forking import in_child, wait_for
from tests.interrupting import InterruptAt
from tests.looping import log_of
from tests.postgres_faults import end_backends, settle, waiting_for_a_lock
from tests.racing import eventually, soon, start
from tests.servers.forgetting import ForgettingPooler
from tests.servers.postgres import ROLE, PostgresServer
from tests.servers.proxy import Direction, Proxy

MOST_POINTS = 5_000
INSERT = "INSERT INTO balances VALUES ('ann', 1)"


@contextmanager
def opened(flavour: str, storage: Postgres, namespace: str | None = None) -> Iterator[TransactionalLog]:
    with log_of(flavour, storage, namespace) as log:
        yield cast("TransactionalLog", log)  # it has all its methods, behind __getattr__ in a loop


@pytest.fixture(scope="module")
def postgres_schema(postgres_server: PostgresServer) -> Iterator[str]:
    """One for all tests of this file, which use namespaces of their own."""
    with postgres_server.fresh_schema() as schema:
        yield schema


@pytest.fixture
def read_model(direct: Postgres, postgres_server: PostgresServer, postgres_schema: str) -> Callable[[], int]:
    """Makes an empty table for a read model; how many rows it has, as others see it."""
    direct.open().close()
    name = sql.Identifier(postgres_schema, "balances")
    with postgres_server.connect() as connection:
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
        connection.execute(sql.SQL("CREATE TABLE {} (id text UNIQUE DEFERRABLE, balance int)").format(name))
        connection.execute(sql.SQL("GRANT ALL ON {} TO {}").format(name, sql.Identifier(ROLE)))

    def count() -> int:
        with postgres_server.connect() as connection:
            ((rows,),) = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(name)).fetchall()
            assert isinstance(rows, int)
            return rows

    return count


def working(
    storage: Postgres, *statements: str, between: Callable[[], object] | None = None
) -> Callable[[Any], object]:
    """A body that runs statements, on either kind of connection, and calls something before the last of them."""
    texts = [f"SET LOCAL search_path TO {storage.schema}", *statements]
    last = len(texts) - 1

    def body(connection: psycopg.Connection | psycopg.AsyncConnection) -> object:
        if isinstance(connection, psycopg.AsyncConnection):
            return in_a_loop(connection)
        for number, text in enumerate(texts):
            if number == last and between is not None:
                between()
            connection.execute(text.encode())
        return None

    async def in_a_loop(connection: psycopg.AsyncConnection) -> None:
        for number, text in enumerate(texts):
            if number == last and between is not None:
                between()
            await connection.execute(text.encode())

    return body


def swapping(expected: bytes | None, value: bytes | None, *, key: str = "a", exclusive: bool = False) -> Swap:
    return Swap(Put("consumers", key, value), expected, exclusive=exclusive)


def pid_of(connection: Any) -> int:
    pid: int = connection.info.backend_pid
    return pid


def test_a_read_model_and_its_checkpoint_change_together_or_not_at_all(
    flavour: str, direct: Postgres, read_model: Callable[[], int]
) -> None:
    def fail() -> None:
        assert read_model() == 0, "nobody else sees it yet"
        raise LookupError("of the handler")

    with opened(flavour, direct) as log:
        with pytest.raises(LookupError, match="of the handler"):
            log.transact(swapping(None, b"1"), working(direct, INSERT, INSERT, between=fail))
        assert (read_model(), log.get("consumers", ["a"])) == (0, {})
        assert log.transact(swapping(None, b"1"), working(direct, INSERT))
        assert (read_model(), log.get("consumers", ["a"])) == (1, {"a": b"1"})
        assert not log.transact(swapping(None, b"2"), working(direct, INSERT))
        assert read_model() == 1


def test_an_error_of_the_database_is_the_handlers_own(
    flavour: str, direct: Postgres, read_model: Callable[[], int]
) -> None:
    """In the middle, and at the end, where constraints are checked that wait for it."""
    with opened(flavour, direct) as log:
        with pytest.raises(psycopg.errors.UndefinedTable, match="nowhere"):
            log.transact(swapping(None, b"1"), working(direct, INSERT, "SELECT FROM nowhere"))
        with pytest.raises(psycopg.errors.UniqueViolation):
            log.transact(swapping(None, b"1"), working(direct, INSERT, INSERT))
        with pytest.raises(psycopg.errors.UniqueViolation, match="balances_id_key"):
            log.transact(swapping(None, b"1"), working(direct, "SET CONSTRAINTS ALL DEFERRED", INSERT, INSERT))
        assert (read_model(), log.get("consumers", ["a"])) == (0, {})
        assert log.transact(swapping(None, b"1"), working(direct, INSERT))


# -- What a handler may not do -----------------------------------------------------------------------------------------


def test_a_handler_can_neither_commit_nor_roll_back(
    flavour: str, direct: Postgres, read_model: Callable[[], int]
) -> None:
    """Nor close the connection: that would be taken for an outage, and the handler be called for ever."""

    def end(how: str, connection: psycopg.Connection) -> object:
        return getattr(connection, how)()

    with opened(flavour, direct) as log:
        for how in ("commit", "rollback", "close"):
            with pytest.raises(psycopg.ProgrammingError, match=r"A handler may not .*connection.transaction()"):
                log.transact(swapping(None, b"1"), cast("Callable[[object], object]", partial(end, how)))
        assert log.get("consumers", ["a"]) == {}


@pytest.mark.parametrize(
    ("statements", "kept"),
    [((INSERT, "COMMIT"), 1), ((INSERT, "ROLLBACK"), 0), ((INSERT, "COMMIT", "BEGIN", "DELETE FROM balances"), 1)],
)
def test_a_handler_that_ends_the_transaction_in_sql_is_found_out(
    flavour: str, direct: Postgres, read_model: Callable[[], int], statements: tuple[str, ...], kept: int
) -> None:
    """What it has committed is so, and nothing after it."""
    with opened(flavour, direct) as log:
        statements = tuple(text.replace("balances", f"{direct.schema}.balances") for text in statements)
        with pytest.raises(StorageError, match="has ended the transaction"):
            log.transact(swapping(None, b"1"), working(direct, *statements))
        assert read_model() == kept
        assert log.transact(swapping(b"1" if kept else None, b"2"), working(direct, "DELETE FROM balances"))


def test_a_statement_that_failed_is_not_swept_under_the_carpet(
    flavour: str, direct: Postgres, read_model: Callable[[], int]
) -> None:
    def careless(connection: psycopg.Connection | psycopg.AsyncConnection) -> object:
        if isinstance(connection, psycopg.AsyncConnection):
            return careless_in_a_loop(connection)
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT FROM nowhere")
        return None

    async def careless_in_a_loop(connection: psycopg.AsyncConnection) -> None:
        with pytest.raises(psycopg.Error):
            await connection.execute("SELECT FROM nowhere")

    with opened(flavour, direct) as log:
        with pytest.raises(StorageError, match="has failed, and the handler went on"):
            log.transact(swapping(None, b"1"), cast("Callable[[object], object]", careless))
        assert log.get("consumers", ["a"]) == {}


def test_a_handler_may_use_savepoints(direct: Postgres, read_model: Callable[[], int]) -> None:
    def body(connection: Any) -> None:
        connection.execute(f"SET LOCAL search_path TO {direct.schema}")
        with connection.transaction():
            connection.execute(INSERT)
        with pytest.raises(psycopg.errors.UniqueViolation), connection.transaction():
            connection.execute(INSERT)

    with opened("threads", direct) as log:
        assert log.transact(swapping(None, b"1"), body)
    assert read_model() == 1


# -- Beside each other -------------------------------------------------------------------------------------------------


def test_who_swaps_second_waits_and_loses(flavour: str, direct: Postgres, postgres_server: PostgresServer) -> None:
    """The row of a checkpoint is the fence: whatever a late runner does, it does not get past it."""
    namespace = fresh_namespace()
    with opened(flavour, direct, namespace) as log, opened("threads", direct, namespace) as other:
        assert log.swap(swapping(None, b"0"))
        for expected, value in ((b"0", b"1"), (b"1", None), (None, b"2")):
            late: list[Any] = []

            def meet() -> None:
                late.append(start(other.swap, swapping(expected, b"late")))  # noqa: B023 (called in this round)
                eventually(lambda: waiting_for_a_lock(postgres_server) == 1)

            assert log.transact(swapping(expected, value), working(direct, "SELECT 1", between=meet))
            assert late[0].result() is False
        assert other.get("consumers", ["a"]) == {"a": b"2"}


def test_several_transactions_of_one_log_go_on_at_once(
    flavour: str, direct: Postgres, read_model: Callable[[], int]
) -> None:
    with opened(flavour, direct) as log:
        inside = threading.Barrier(3)

        def meet(name: str) -> Callable[[Any], object]:
            insert = INSERT.replace("ann", name)
            if flavour == "threads":
                return working(direct, insert, between=partial(inside.wait, PATIENCE))
            return in_turn(working(direct, insert))

        arrived: list[None] = []

        def in_turn(body: Callable[[Any], object]) -> Callable[[Any], object]:
            async def call(connection: Any) -> None:
                arrived.append(None)
                while len(arrived) < 3:
                    await connection.execute("SELECT 1")
                await cast("Any", body(connection))

            return call

        calls = [start(log.transact, swapping(None, b"1", key=name), meet(name)) for name in "abc"]
        assert [each.result() for each in calls] == [True] * 3
    assert read_model() == 3


def test_a_connection_is_kept_and_made_anew_when_it_is_lost(
    flavour: str, direct: Postgres, postgres_server: PostgresServer
) -> None:
    used: list[int] = []
    with opened(flavour, direct) as log:
        for number in range(3):
            assert log.transact(
                swapping(None, b"1", key=f"{number}"), lambda connection: used.append(pid_of(connection))
            )
        assert len(set(used)) == 1
        postgres_server.sql("SELECT pg_terminate_backend(%s)", used[0])
        settle(postgres_server)
        eventually(lambda: outcome_of(lambda: log.transact(swapping(None, b"1"), lambda connection: None)) is True)


def test_prepared_statements_may_be_taken_away(flavour: str, direct: Postgres) -> None:
    """psycopg does so by itself, after a DROP, when it has prepared what a handler does often."""
    often = [*["SELECT 1"] * 10, "CREATE TEMP TABLE mine ()", "DROP TABLE mine", "SELECT 1"]
    with opened(flavour, direct) as log:
        for number, statements in enumerate([often, ["DEALLOCATE ALL"], often, ["DISCARD PLANS"]]):
            assert log.transact(swapping(None, b"1", key=f"{number}"), working(direct, *statements))


# -- When something breaks ---------------------------------------------------------------------------------------------


def has_ended(server: PostgresServer, pid: int) -> bool:
    return not server.sql("SELECT 1 FROM pg_stat_activity WHERE pid = %s", pid)


def end_of_backend(server: PostgresServer, pids: list[int]) -> Callable[[Any], None]:
    """Takes down which backend a connection has; ends it, and waits until it has ended."""

    def end(connection: Any) -> None:
        pids.append(pid_of(connection))
        server.sql("SELECT pg_terminate_backend(%s)", pids[-1])
        eventually(lambda: has_ended(server, pids[-1]))

    return end


@pytest.mark.parametrize("statements", [(), ("SELECT 1",)])
def test_a_connection_that_is_lost_meanwhile_leaves_nothing(
    flavour: str,
    direct: Postgres,
    postgres_server: PostgresServer,
    read_model: Callable[[], int],
    statements: tuple[str, ...],
) -> None:
    """Whether the handler hears of it, or whoever wants to commit."""
    end = end_of_backend(postgres_server, [])

    def body(connection: Any) -> object:
        if isinstance(connection, psycopg.AsyncConnection):
            return in_a_loop(connection)
        working(direct, INSERT)(connection)
        end(connection)
        return working(direct, *statements)(connection) if statements else None

    async def in_a_loop(connection: psycopg.AsyncConnection) -> None:
        await cast("Any", working(direct, INSERT)(connection))
        end(connection)
        if statements:
            await cast("Any", working(direct, *statements)(connection))

    with opened(flavour, direct) as log:
        # Where COMMIT was sent into the void, nobody can tell.
        with pytest.raises(StoreUnavailableError if statements else (StoreUnavailableError, OutcomeUnknownError)):
            log.transact(swapping(None, b"1"), body)
        assert (read_model(), log.get("consumers", ["a"])) == (0, {})
        assert log.transact(swapping(None, b"1"), working(direct, INSERT))


@pytest.mark.parametrize("statements", [(), ("SELECT 1",)])
def test_a_transaction_that_stands_still_is_ended_by_the_server(
    flavour: str,
    postgres_server: PostgresServer,
    read_model: Callable[[], int],
    postgres_schema: str,
    statements: tuple[str, ...],
) -> None:
    storage = Postgres(postgres_server.url, schema=postgres_schema, timeout=0.3)

    def stand_still(connection: Any) -> None:
        eventually(lambda: has_ended(postgres_server, pid_of(connection)))

    with opened(flavour, storage) as log:
        body = working(storage, INSERT, *statements)

        def slow(connection: Any) -> object:
            if isinstance(connection, psycopg.AsyncConnection):
                return slow_in_a_loop(connection)
            working(storage, INSERT)(connection)
            stand_still(connection)
            return working(storage, *statements)(connection) if statements else None

        async def slow_in_a_loop(connection: psycopg.AsyncConnection) -> None:
            await cast("Any", working(storage, INSERT)(connection))
            stand_still(connection)
            if statements:
                await cast("Any", working(storage, *statements)(connection))

        with pytest.raises(LockLostError, match="stood still for too long"):
            log.transact(swapping(None, b"1"), slow)
        assert (read_model(), log.get("consumers", ["a"])) == (0, {})
        assert log.transact(swapping(None, b"1"), body)


@pytest.mark.parametrize(
    ("direction", "text", "part"),
    [("requests", b"finish", 0.0), ("requests", b"finish", 1.0), ("answers", b"COMMIT", 0.0)],
)
def test_a_connection_that_is_cut_at_the_commit_leaves_all_or_nothing(
    flavour: str,
    proxy: Proxy,
    proxied: Postgres,
    postgres_server: PostgresServer,
    read_model: Callable[[], int],
    direction: Direction,
    text: bytes,
    part: float,
) -> None:
    with opened(flavour, proxied) as log:
        trap = proxy.trap(direction, text, part=part)
        with pytest.raises(OutcomeUnknownError, match="while something was written"):
            log.transact(swapping(None, b"1"), working(proxied, INSERT))
        trap.caught()
        settle(postgres_server)
        done = 0 if part == 0.0 and direction == "requests" else 1
        assert (read_model(), len(log.get("consumers", ["a"]))) == (done, done)


@pytest.mark.usefixtures("running_again")
def test_a_server_that_is_killed_meanwhile_leaves_nothing(
    direct: Postgres, postgres_server: PostgresServer, read_model: Callable[[], int]
) -> None:
    with opened("loop", direct) as log:
        with pytest.raises(StoreUnavailableError):
            log.transact(swapping(None, b"1"), working(direct, INSERT, "SELECT 1", between=postgres_server.kill))
        postgres_server.start()
        assert (read_model(), log.get("consumers", ["a"])) == (0, {})
        assert log.transact(swapping(None, b"1"), working(direct, INSERT))


def test_an_interrupt_ends_the_session_and_so_the_transaction(
    direct: Postgres, postgres_server: PostgresServer, read_model: Callable[[], int]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with opened("threads", direct) as log:
        with pytest.raises(KeyboardInterrupt):
            log.transact(swapping(None, b"1", exclusive=True), working(direct, INSERT, INSERT, between=interrupt))
        assert (read_model(), log.get("consumers", ["a"])) == (0, {})
        assert log.transact(swapping(None, b"1", exclusive=True), working(direct, INSERT))


def test_closing_waits_for_a_transaction_and_not_for_ever(
    direct: Postgres, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def in_a_loop() -> BaseException | bool:
        engine = await direct.open_async()
        log = cast("AsyncTransactionalLog", await engine.log("default"))

        async def sleep(connection: Any) -> None:
            await connection.execute("SELECT pg_sleep(60)")

        transacting = asyncio.create_task(log.transact(swapping(None, b"1"), sleep))
        await soon(lambda: sleeping(postgres_server))
        await engine.close()
        (outcome,) = await asyncio.gather(transacting, return_exceptions=True)
        return outcome

    monkeypatch.setattr(_postgres_sessions, "PATIENCE", 0.1)
    monkeypatch.setattr(_postgres_async_sessions, "PATIENCE", 0.1)
    engine = direct.open()
    log = cast("TransactionalLog", engine.log("default"))
    transacting = start(log.transact, swapping(None, b"1"), working(direct, "SELECT pg_sleep(60)"))
    eventually(lambda: sleeping(postgres_server))
    engine.close()
    assert isinstance(transacting.error(), StoreClosedError)
    end_backends(postgres_server)  # A server does not look whether anybody listens while it sleeps.
    eventually(lambda: not sleeping(postgres_server))
    assert isinstance(asyncio.run(in_a_loop()), StoreClosedError)
    end_backends(postgres_server)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # where a generator is thrown away
def test_an_interrupt_anywhere_leaves_all_or_nothing_and_no_lock(
    direct: Postgres, read_model: Callable[[], int]
) -> None:
    namespace = fresh_namespace()
    with opened("threads", direct, namespace) as log, opened("threads", direct, namespace) as other:
        kept: list[KeyboardInterrupt] = []  # and with them all that they have passed through
        for point in range(1, MOST_POINTS, 2):
            interruption = InterruptAt(point)
            swap = swapping(None, b"1", key=f"{point}", exclusive=True)
            before = read_model()
            try:
                with interruption:
                    log.transact(swap, working(direct, INSERT.replace("ann", f"{point}")))
            except KeyboardInterrupt as error:
                kept.append(error)
            assert other.transact(swapping(None, b"1", exclusive=True), lambda connection: None), interruption.where
            done = len(other.get("consumers", [f"{point}"]))
            assert read_model() == before + done, interruption.where
            assert other.swap(swapping(b"1", None))
            if not interruption.where:
                assert done
                assert point > 20
                kept.clear()
                return
    pytest.fail(f"after {MOST_POINTS} points there are still more")


def sleeping(server: PostgresServer) -> bool:
    return bool(server.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))


# -- Forks and poolers -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_process_has_connections_of_its_own(direct: Postgres, read_model: Callable[[], int]) -> None:
    used: list[int] = []
    with opened("threads", direct) as log:
        assert log.transact(swapping(None, b"1"), lambda connection: used.append(pid_of(connection)))

        def in_the_child() -> None:
            assert log.transact(swapping(b"1", b"2"), lambda connection: used.append(pid_of(connection)))
            assert used[0] != used[1]

        wait_for(in_child(in_the_child))
        assert log.transact(swapping(b"2", b"3"), lambda connection: used.append(pid_of(connection)))
        assert used[0] == used[1]


def test_transactions_work_behind_a_pooler(
    flavour: str, forgetting_pooler: ForgettingPooler, read_model: Callable[[], int], postgres_schema: str
) -> None:
    """Handlers, too, prepare nothing there, however often they come."""
    storage = Postgres(forgetting_pooler.url, schema=postgres_schema, pooler=True)
    with opened(flavour, storage) as log:
        for number in range(8):
            expected = b"%d" % number if number else None
            body = working(storage, f"INSERT INTO balances VALUES ('{number}', 1)")
            assert log.transact(swapping(expected, b"%d" % (number + 1)), body)
    assert read_model() == 8
