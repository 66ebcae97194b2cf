"""PostgreSQL does not answer: every call ends in time with an error that says so, and works again afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest
from psycopg import sql

from factfold.errors import FactfoldError, OutcomeUnknownError, StoreUnavailableError
from factfold.storage.base import EMPTY, Head, LogPage, Put, StreamPage, Swap
from factfold.storage.postgres import Postgres
from factfold.testing.contract.running import Background, outcome_of
from factfold.testing.contract.scribe import appending, asking, loading, new, selection
from tests.looping import log_of, store_of
from tests.outcomes import note, notes
from tests.postgres_faults import end_backends
from tests.racing import eventually, start
from tests.servers.postgres import ROLE, PostgresServer
from tests.servers.proxy import Proxy

IN_TIME = 15.0
"""Seconds within which a call has to end. Its timeout is half a second, for each of several steps of a busy machine."""


def stalled(server: PostgresServer, proxy: Proxy) -> None:
    """Connections stand, and nothing comes through them."""
    proxy.stall()


def deaf(server: PostgresServer, proxy: Proxy) -> None:
    """Requests arrive, answers do not."""
    proxy.stall("answers")


def refused(server: PostgresServer, proxy: Proxy) -> None:
    """Connections are ended, and new ones refused."""
    proxy.refuse()
    proxy.cut()


def full(server: PostgresServer, proxy: Proxy) -> None:
    """Connections are ended, and the server has no place for new ones."""
    server.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT 0")
    end_backends(server)


def stopped(server: PostgresServer, proxy: Proxy) -> None:
    """There is no server, only something at its address that takes connections, and ends them."""
    server.stop()


@pytest.fixture
def break_it(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, proxy: Proxy, running_again: None
) -> Callable[[], None]:
    """Makes the server unavailable, in one way or another."""
    return lambda: request.param(postgres_server, proxy)


@pytest.fixture
def mend(postgres_server: PostgresServer, proxy: Proxy, running_again: None) -> Callable[[], None]:
    """Makes it available again."""

    def mend() -> None:
        if not postgres_server.runs:
            postgres_server.start()
        postgres_server.sql(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")
        proxy.accept()
        proxy.resume()

    return mend


def timed(work: Callable[[], object]) -> tuple[object, float]:
    """What came of it, and how long that took."""
    began = time.monotonic()
    return outcome_of(work), time.monotonic() - began


@pytest.mark.parametrize("break_it", [stalled, deaf, refused, full, stopped], indirect=True)
def test_no_call_hangs(
    flavour: str, break_it: Callable[[], None], mend: Callable[[], None], impatient: Postgres
) -> None:
    with log_of(flavour, impatient, "default") as log, log_of(flavour, impatient, "other") as other:
        log.append(appending([new("a:1")], log.head()))
        head = log.head()
        append, unsent = appending([new("a:1")], head), appending([new("a:1")], head)
        calls: list[Callable[[], object]] = [
            log.head,
            lambda: log.append(append),
            lambda: log.check(asking(head, selection("a:1"))),
            lambda: other.lock(asking(EMPTY)),
            lambda: log.resolve(unsent),
            lambda: log.load(loading(selection("a:1"))),
            lambda: log.read(LogPage(0, 10)),
            lambda: log.read_stream(StreamPage(selection("a:1"), 0, 10)),
            lambda: log.streams(None, "", 10),
            lambda: log.wait(1, 0.5),
            lambda: log.get("places", "key"),
            lambda: log.put("places", "key", b"value"),
            lambda: log.swap(Swap(Put("places", "swapped", b"value"), None)),
            lambda: log.entries("places", "", 10),
            lambda: list(log.problems()),
        ]
        break_it()

        for outcome, seconds in [each.result() for each in [Background(partial(timed, call)) for call in calls]]:
            assert isinstance(outcome, StoreUnavailableError | OutcomeUnknownError), outcome
            assert seconds < IN_TIME

        mend()
        eventually(lambda: not isinstance(outcome_of(log.head), FactfoldError))
        resolved = log.resolve(append)
        assert log.head().position == (1 if resolved is None else 2)
        for each in (log, other):
            each.lock(asking(each.head()))
            each.append(appending([new("a:1")], each.head()))


@pytest.mark.parametrize("break_it", [stalled, full, stopped], indirect=True)
def test_a_store_says_that_the_server_is_away_and_where_it_was_looked_for(
    flavour: str, break_it: Callable[[], None], mend: Callable[[], None], impatient: Postgres, proxy: Proxy
) -> None:
    with store_of(flavour, impatient) as store:
        assert store.execute(note, "first", "a").result == (0,)
        break_it()

        with pytest.raises(StoreUnavailableError) as caught:
            store.state(notes("b"))

        assert str(proxy.port) in str(caught.value)
        assert "secret" not in str(caught.value)
        mend()
        eventually(lambda: outcome_of(lambda: store.state(notes("b"))) == 0)
        assert store.execute(note, "second", "a").result == (1,)


@pytest.mark.parametrize("opened", ["refused", "stalled"])
def test_a_server_that_is_away_when_a_store_is_opened_is_reported_in_time(
    flavour: str, opened: str, mend: Callable[[], None], impatient: Postgres, proxy: Proxy
) -> None:
    if opened == "refused":
        proxy.refuse()
    else:
        proxy.stall()

    def head() -> Head:
        with log_of(flavour, impatient) as log:
            return log.head()

    outcome, seconds = timed(head)
    assert isinstance(outcome, StoreUnavailableError)
    assert seconds < IN_TIME

    mend()
    assert head() == EMPTY


def test_a_pool_that_is_exhausted_is_reported_in_time(
    flavour: str, postgres_server: PostgresServer, postgres_schema: str
) -> None:
    """All connections wait for a lock that somebody else holds on the tables; who finds none left does not hang."""
    storage = Postgres(postgres_server.url, schema=postgres_schema, timeout=0.5, pool_size=2)
    with log_of(flavour, storage) as log:
        log.append(appending([new("a:1")], log.head()))
        with postgres_server.connect() as connection, connection.transaction():
            for table in ("events", "memberships"):
                statement = sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE")
                connection.execute(statement.format(sql.Identifier(postgres_schema, table)))
            loading_it = [Background(lambda: timed(lambda: log.load(loading(selection("a:1"))))) for _ in range(6)]
            for outcome, seconds in [each.result() for each in loading_it]:
                assert isinstance(outcome, StoreUnavailableError), outcome
                assert seconds < IN_TIME

        assert log.load(loading(selection("a:1"))).slices[0].version == 1


# -- Waiting -----------------------------------------------------------------------------------------------------------


def cut(server: PostgresServer, proxy: Proxy) -> None:
    proxy.cut()


def ended(server: PostgresServer, proxy: Proxy) -> None:
    end_backends(server)


def restarted(server: PostgresServer, proxy: Proxy) -> None:
    server.restart()


@pytest.mark.parametrize("break_connections", [cut, ended, restarted])
@pytest.mark.usefixtures("running_again")
def test_who_waits_for_news_hears_of_them_after_the_connection_was_lost(
    flavour: str,
    break_connections: Callable[[PostgresServer, Proxy], None],
    postgres_server: PostgresServer,
    proxy: Proxy,
    proxied: Postgres,
    direct: Postgres,
) -> None:
    with log_of(flavour, proxied, "default") as waiting_log, log_of("threads", direct, "default") as log:
        for position in range(1, 4):
            waiting = start(waiting_log.wait, position - 1, 60.0)
            break_connections(postgres_server, proxy)
            log.append(appending([new("a:1")], log.head()))
            assert waiting.result() == position
