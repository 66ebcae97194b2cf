"""Many writers on one PostgreSQL: none starves, a stalled one hides nothing, and what they wrote can be moved."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import median

import pytest
from psycopg import Connection

from factfold import AsyncStore, Receipt, Store
from factfold.storage.base import Appended
from factfold.storage.postgres import Postgres
from factfold.testing.contract.running import PATIENCE, SPAWN, Background, Barrier, Processes, fresh_namespace, one_log
from factfold.testing.contract.scribe import appending, asking, new, read_log
from factfold.testing.contract.workers import open_together, poll_everything, write_unrelated
from tests.ledger import accounts, deposit, transfer
from tests.outcomes import callers, note, notes
from tests.postgres_faults import lock_held, settle, tokens
from tests.servers.postgres import PostgresServer

# -- Nobody starves ----------------------------------------------------------------------------------------------------

PROCESSES = 8
TASKS = 8
SECONDS = 2.0
ACCOUNTS = 1_000
DEPOSIT = 1_000_000


Command = Callable[[AsyncStore, str, str], Awaitable[Receipt[object]]]
"""Executes one command: given the store, its process and task, and a token that is its own."""

Attempts = list[int]
"""What a process got done: how many attempts each of its commands took."""


async def on_one_hot_stream(store: AsyncStore, worker: str, token: str) -> Receipt[object]:
    return await store.execute(note, token, "hot")


async def transfers(store: AsyncStore, worker: str, token: str) -> Receipt[object]:
    source, target = random.sample(range(ACCOUNTS), 2)
    return await store.execute(transfer, str(source), str(target), 1)


async def mostly_on_private_streams(store: AsyncStore, worker: str, token: str) -> Receipt[object]:
    return await store.execute(note, token, "hot" if random.random() < 0.05 else worker)


LOADS: tuple[Command, ...] = (on_one_hot_stream, transfers, mostly_on_private_streams)


def work(storage: Postgres, process: int, barrier: Barrier) -> list[Attempts]:
    """One process: for each load so many tasks, each with one command after another until the time is over."""

    async def all_loads() -> list[Attempts]:
        return [await _work(storage, load, process, barrier) for load in LOADS]

    return asyncio.run(all_loads())


async def _work(storage: Postgres, load: Command, process: int, barrier: Barrier) -> Attempts:
    attempts: list[int] = []

    async def serve(task: int) -> None:
        number = 0
        while time.monotonic() < end:
            worker = f"{process}-{task}"
            receipt = await load(store, worker, f"{worker}-{number}")
            attempts.append(receipt.attempts)
            number += 1

    async with AsyncStore(storage, namespace=load.__name__) as store:
        await store.head()
        await asyncio.to_thread(barrier.wait, PATIENCE)
        end = time.monotonic() + SECONDS
        await asyncio.gather(*map(serve, range(TASKS)))
    return attempts


@pytest.fixture(scope="module")
def crowded(postgres_server: PostgresServer) -> Iterator[tuple[Postgres, dict[Command, list[Attempts]]]]:
    """A storage on which eight processes have worked, and what each of them got done under each load."""
    with postgres_server.fresh_schema() as schema:
        storage = Postgres(postgres_server.url, schema=schema)
        asyncio.run(_open_accounts(storage))
        barrier = SPAWN.Barrier(PROCESSES)
        with Processes(work, [(storage, process, barrier) for process in range(PROCESSES)]) as working:
            by_process = working.results()
        yield storage, dict(zip(LOADS, map(list, zip(*by_process, strict=True)), strict=True))


async def _open_accounts(storage: Postgres) -> None:
    async with AsyncStore(storage, namespace=transfers.__name__) as store:
        await asyncio.gather(*(store.execute(deposit, str(number), DEPOSIT) for number in range(ACCOUNTS)))


@pytest.mark.parametrize("load", LOADS)
def test_8_processes_with_8_tasks_each_get_fair_shares(
    load: Command, crowded: tuple[Postgres, dict[Command, list[Attempts]]]
) -> None:
    """Every command succeeds, half of them within two attempts; every process gets at least half of its share."""
    storage, shares = crowded
    done = [len(attempts) for attempts in shares[load]]
    attempts = sorted(each for attempts in shares[load] for each in attempts)
    assert min(done) >= sum(done) / PROCESSES / 2, done
    assert median(attempts) <= 2, attempts[:: len(attempts) // 20 + 1]
    with Store(storage, namespace=load.__name__) as store:
        if load is transfers:
            assert store.head() == ACCOUNTS + sum(done)
            assert sum(store.state(accounts(str(number))).balance for number in range(ACCOUNTS)) == ACCOUNTS * DEPOSIT
        else:
            assert store.head() == sum(done)
        assert store.verify(accounts, notes).ok


# -- Stalled writers neither hide nor reorder events -------------------------------------------------------------------


@contextmanager
def long_ago(server: PostgresServer, database: str = "factfold") -> Generator[Connection[tuple[object, ...]]]:
    """A transaction that has written something and stays open: nothing younger counts as old while it is."""
    with server.connect(database) as connection, connection.transaction():
        connection.execute("CREATE TEMPORARY TABLE unfinished (number int) ON COMMIT DROP")
        connection.execute("SELECT pg_current_xact_id()")
        yield connection


def follow_writers(storage: Postgres, namespace: str) -> None:
    """Three writers append at once while a reader follows: it gets every event once, in order, without waiting."""
    barrier = threading.Barrier(4)
    with one_log(storage, namespace) as log:
        before = read_log(log)

        def write(writer: int) -> list[bytes]:
            with one_log(storage, namespace) as own:
                barrier.wait(PATIENCE)
                return write_unrelated(own, writer, 50)

        writing = [Background(partial(write, writer)) for writer in range(3)]
        barrier.wait(PATIENCE)
        seen = poll_everything(log, lambda: all(each.ends_within(0) for each in writing))
        written = [each.result() for each in writing]
    assert sorted(one.id for one in seen[len(before) :]) == sorted(id for ids in written for id in ids)
    for number, ids in enumerate(written):
        assert [one.id for one in seen if f"writer:{number}" in one.streams] == ids


def test_a_transaction_begun_long_ago_hides_nothing(postgres_server: PostgresServer, direct: Postgres) -> None:
    namespace = fresh_namespace()
    with one_log(direct, namespace) as log:
        log.append(appending([new("a:1")], log.head()))
    with long_ago(postgres_server):
        follow_writers(direct, namespace)


def test_a_snapshot_taken_long_ago_hides_nothing(postgres_server: PostgresServer, direct: Postgres) -> None:
    with postgres_server.connect() as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM pg_class")
        follow_writers(direct, fresh_namespace())


def test_a_transaction_that_stays_open_in_another_database_hides_nothing(
    postgres_server: PostgresServer, direct: Postgres
) -> None:
    with long_ago(postgres_server, "postgres"):
        follow_writers(direct, fresh_namespace())


def test_a_writer_of_another_namespace_that_stays_open_hides_nothing(direct: Postgres) -> None:
    with one_log(direct) as stalled:
        stalled.lock(asking(stalled.head()))
        follow_writers(direct, fresh_namespace())
        assert isinstance(stalled.append(appending([new("a:1")], stalled.head())), Appended)


def test_a_writer_that_stalls_with_the_lock_comes_before_those_who_wait_for_it(direct: Postgres) -> None:
    """A reader sees nothing of those behind it before it sees the stalled one's own events."""
    namespace = fresh_namespace()
    with one_log(direct, namespace) as stalled, one_log(direct, namespace) as log:
        first = new("stalled:1")
        stalled.append(appending([first], stalled.head()))
        stalled.lock(asking(stalled.head()))
        barrier = threading.Barrier(5)

        def write(writer: int) -> bytes:
            with one_log(direct, namespace) as own:
                event, after = new(f"writer:{writer}"), own.head()
                barrier.wait(PATIENCE)
                own.append(appending([event], after))
                return event.id

        writing = [Background(partial(write, writer)) for writer in range(4)]
        barrier.wait(PATIENCE)
        following = Background(partial(poll_everything, log, lambda: all(each.ends_within(0) for each in writing)))
        assert not any(each.ends_within(0.05) for each in writing), "they wait for the lock"
        assert log.head().position == 1
        second = new("stalled:1")
        stalled.append(appending([second], stalled.head()))
        written = {each.result() for each in writing}
        seen = [stored.id for stored in following.result()]
    assert seen[:2] == [first.id, second.id]
    assert set(seen[2:]) == written
    assert len(seen) == 6


# -- Side by side, and elsewhere ---------------------------------------------------------------------------------------


def test_namespaces_do_not_wait_for_each_other(
    postgres_server: PostgresServer, postgres_schema: str, direct: Postgres
) -> None:
    with Store(direct, namespace="one") as one, Store(direct, namespace="two") as two:
        one.execute(note, "1", "a")
        two.execute(note, "2", "a")
        with lock_held(postgres_server, postgres_schema, "one"):
            assert two.execute(note, "3", "a").position == 2
        assert one.execute(note, "4", "a").position == 2
        assert [each.event.token for each in one.log(types=notes)] == ["1", "4"]
        assert [each.event.token for each in two.log(types=notes)] == ["2", "3"]


@pytest.mark.parametrize("source", ["postgres_server", "other_postgres_server"])
def test_a_dump_restored_into_a_fresh_cluster_goes_on(
    source: str, new_postgres_server: PostgresServer, request: pytest.FixtureRequest
) -> None:
    server: PostgresServer = request.getfixturevalue(source)
    with server.fresh_schema() as schema:
        with Store(Postgres(server.url, schema=schema)) as store:
            first = store.execute_once("key", note, "once", "a")
            store.execute(note, "second", "a", "b")
            store.namespace("other").execute(note, "elsewhere", "a")
        dump = server.program("pg_dump", f"--schema={schema}")
    new_postgres_server.program("psql", "--quiet", "--set=ON_ERROR_STOP=1", input=dump)

    with Store(Postgres(new_postgres_server.url, schema=schema)) as store:
        repeated = store.execute_once("key", note, "once", "a")
        assert (repeated.repeated, repeated.position, repeated.result) == (True, first.position, first.result)
        assert store.head() == 3
        assert store.execute(note, "third", "a", "b").result == (2, 1)
        assert store.namespace("other").execute(note, "fourth", "a").position == 2
        assert store.verify(notes).ok


def test_a_dump_taken_while_callers_write_is_a_whole_log(
    postgres_server: PostgresServer, postgres_schema: str, direct: Postgres, new_postgres_server: PostgresServer
) -> None:
    """It holds the log up to some position, without a gap, and every command wholly."""
    with callers("threads", direct) as working:
        working.go_on()
        dump = postgres_server.program("pg_dump", f"--schema={postgres_schema}")
        working.go_on()
    settle(postgres_server)
    new_postgres_server.program("psql", "--quiet", "--set=ON_ERROR_STOP=1", input=dump)

    restored = tokens(new_postgres_server, postgres_schema)
    assert restored == tokens(postgres_server, postgres_schema)[: len(restored)]
    with Store(Postgres(new_postgres_server.url, schema=postgres_schema)) as store:
        assert store.head() == len(restored) > 0
        assert store.execute(note, "new", "hot").position == len(restored) + 1
        assert store.verify(notes).ok


def test_16_processes_may_open_an_empty_database_at_once(postgres_server: PostgresServer) -> None:
    namespace, barrier = fresh_namespace(), SPAWN.Barrier(16)
    with postgres_server.fresh_database() as database:
        storage = Postgres(postgres_server.url_for(database=database))
        with Processes(open_together, [(storage, namespace, barrier, number) for number in range(16)]) as opening:
            opening.results()
        with one_log(storage, namespace) as log:
            assert [stored.position for stored in read_log(log)] == list(range(1, 17))
            assert list(log.problems()) == []
