"""An append to PostgreSQL is interrupted at one exact moment: what becomes of it, and what its caller is told."""

from __future__ import annotations

from functools import partial

import pytest

from factfold import FactfoldError, LogDivergedError, OutcomeUnknownError, Retry, StoreUnavailableError
from factfold.errors import LockLostError
from factfold.storage.base import Appended, Put, Swap
from factfold.storage.postgres import Postgres
from factfold.testing.contract.running import outcome_of
from factfold.testing.contract.scribe import appending, asking, new, selection
from tests.faults import PATIENCE
from tests.looping import log_of, store_of
from tests.outcomes import note, notes
from tests.postgres_faults import (
    appends_begun,
    end_backends,
    end_waiting_backends,
    lock_held,
    settle,
    tokens,
    waiting_for_a_lock,
)
from tests.racing import eventually, start
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import Direction, Proxy

# -- Before ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("running_again")
def test_a_command_for_a_server_that_is_away_fails_and_is_not_done_later(
    flavour: str, postgres_server: PostgresServer, postgres_schema: str
) -> None:
    storage = Postgres(postgres_server.url, schema=postgres_schema, timeout=0.5)
    with store_of(flavour, storage) as store:
        store.execute(note, "first", "a")
        postgres_server.kill()
        with pytest.raises(StoreUnavailableError):
            store.execute(note, "refused", "a")
        postgres_server.start()

        assert store.execute(note, "second", "a").result == (1,)

    assert tokens(postgres_server, postgres_schema) == ["first", "second"]


def test_half_a_request_is_as_good_as_none(
    flavour: str, postgres_server: PostgresServer, postgres_schema: str, proxy: Proxy, proxied: Postgres
) -> None:
    with store_of(flavour, proxied) as store:
        store.execute(note, "first", "a")
        trap = proxy.trap("requests", b"second", part=0.5)

        receipt = store.execute(note, "second", "a")

        trap.caught()
    assert (receipt.result, receipt.position, receipt.attempts) == ((1,), 2, 2)
    assert tokens(postgres_server, postgres_schema) == ["first", "second"]


# -- While it waits for the lock ---------------------------------------------------------------------------------------


def test_a_command_whose_connection_is_ended_while_it_waits_for_the_lock_is_done_once(
    flavour: str, postgres_server: PostgresServer, postgres_schema: str, direct: Postgres
) -> None:
    with store_of(flavour, direct) as store:
        store.execute(note, "first", "a")
        with lock_held(postgres_server, postgres_schema):
            executing = start(store.execute, note, "second", "a")
            eventually(lambda: waiting_for_a_lock(postgres_server) == 1)
            end_waiting_backends(postgres_server)
        receipt = executing.result()

    assert (receipt.result, receipt.position) == ((1,), 2)
    assert tokens(postgres_server, postgres_schema) == ["first", "second"]


def test_an_append_that_outlives_its_connection_is_found_by_its_caller(
    flavour: str, postgres_server: PostgresServer, postgres_schema: str, proxy: Proxy, proxied: Postgres
) -> None:
    """It waits for the lock, the caller is cut off, and it commits before the caller can ask: it is asked for, and is
    not written again."""
    with store_of(flavour, proxied) as store:
        store.execute(note, "first", "a")
        with lock_held(postgres_server, postgres_schema):
            executing = start(store.execute, note, "second", "a")
            eventually(lambda: waiting_for_a_lock(postgres_server) == 1)
            proxy.abandon()
            eventually(lambda: waiting_for_a_lock(postgres_server) == 2)  # the second one asks what became of the first
        receipt = executing.result()

    settle(postgres_server)
    assert (receipt.result, receipt.position, receipt.attempts) == ((1,), 2, 1)
    assert tokens(postgres_server, postgres_schema) == ["first", "second"]


def deliver_late(server: PostgresServer, proxy: Proxy) -> None:
    """Lets an append arrive that was held back, and returns when the server has dealt with it."""
    before = appends_begun(server)
    proxy.deliver_late()
    eventually(lambda: appends_begun(server) != before)
    settle(server)


def test_an_append_that_arrives_after_it_was_declared_void_is_refused(
    flavour: str, postgres_server: PostgresServer, proxy: Proxy, proxied: Postgres
) -> None:
    """Nothing but its id stands against it: nobody has written anything in between."""
    with log_of(flavour, proxied) as log:
        log.append(appending([new("a:1")], log.head()))
        before = log.head()
        append = appending([new("a:1"), new("a:1", "b:1")], before, selection("a:1"))
        sent = proxy.watch("requests", append.events[0].data)
        proxy.stall("requests")
        appending_it = start(log.append, append)
        assert sent.wait(PATIENCE)
        proxy.abandon()
        proxy.resume()
        assert isinstance(appending_it.error(), OutcomeUnknownError)
        # The first to ask may do so over a connection that was cut as well, and is told so.
        eventually(lambda: not isinstance(outcome_of(partial(log.resolve, append)), FactfoldError))
        assert log.resolve(append) is None

        deliver_late(postgres_server, proxy)

        assert log.head() == before
        assert log.resolve(append) is None


def test_a_command_that_arrives_after_it_was_done_anew_is_refused(
    flavour: str, postgres_server: PostgresServer, postgres_schema: str, proxy: Proxy, proxied: Postgres
) -> None:
    """It is on its way when its connection breaks; it turns out not to have happened, and is decided again."""
    with store_of(flavour, proxied) as store:
        store.execute(note, "first", "a")
        sent = proxy.watch("requests", b"second")
        proxy.stall("requests")
        executing = start(store.execute, note, "second", "a")
        assert sent.wait(PATIENCE)
        proxy.abandon()
        proxy.resume()
        receipt = executing.result()
        assert (receipt.result, receipt.position, receipt.attempts) == ((1,), 2, 2)

        deliver_late(postgres_server, proxy)

        assert tokens(postgres_server, postgres_schema) == ["first", "second"]
        assert store.execute(note, "third", "a").result == (2,)


def test_an_append_that_nobody_can_ask_for_is_of_unknown_outcome(
    flavour: str, postgres_server: PostgresServer, postgres_schema: str, proxy: Proxy, impatient: Postgres
) -> None:
    """Its caller is cut off and does not get through again. Here it happens all the same, as the next command sees."""
    with store_of(flavour, impatient, retry=Retry(max_attempts=2)) as store:
        store.execute(note, "first", "a")
        with lock_held(postgres_server, postgres_schema):
            executing = start(store.execute, note, "second", "a")
            eventually(lambda: waiting_for_a_lock(postgres_server) == 1)
            proxy.refuse()
            proxy.abandon()
        assert isinstance(executing.error(), OutcomeUnknownError)
        proxy.accept()

        assert store.execute(note, "third", "a").result == (2,)

    assert tokens(postgres_server, postgres_schema) == ["first", "second", "third"]


def test_a_command_that_never_gets_the_lock_fails_and_is_not_done_later(
    flavour: str, postgres_server: PostgresServer, postgres_schema: str, impatient: Postgres
) -> None:
    with store_of(flavour, impatient) as store:
        store.execute(note, "first", "a")
        with lock_held(postgres_server, postgres_schema), pytest.raises(StoreUnavailableError):
            store.execute(note, "refused", "a")
        settle(postgres_server)
        assert store.execute(note, "second", "a").result == (1,)

    assert tokens(postgres_server, postgres_schema) == ["first", "second"]


# -- While it holds the lock -------------------------------------------------------------------------------------------


def test_a_lock_that_is_lost_with_its_connection_is_free(
    flavour: str, postgres_server: PostgresServer, direct: Postgres
) -> None:
    with log_of(flavour, direct) as log:
        log.append(appending([new("a:1")], log.head()))
        log.lock(asking(log.head()))
        end_backends(postgres_server)

        with pytest.raises(LockLostError):
            log.append(appending([new("a:1")], log.head()))

        assert isinstance(log.append(appending([new("a:1")], log.head())), Appended)
        assert log.head().position == 2


def test_a_command_that_loses_the_lock_while_it_is_decided_is_decided_again(
    flavour: str, postgres_server: PostgresServer, postgres_schema: str, direct: Postgres
) -> None:
    with store_of(flavour, direct) as store, store_of("threads", direct) as rival:
        store.execute(note, "first", "a")
        rival.execute(note, "rival", "a")
        decided: list[int] = []

        def losing(tx: object) -> tuple[int, ...]:
            decided.append(1)
            if len(decided) == 2:
                end_backends(postgres_server)  # the second run is under the lock
            return note(tx, "second", "a")  # type: ignore[arg-type]  # it is a Transaction

        receipt = store.execute(losing)

    assert (receipt.result, receipt.position) == ((2,), 3)
    assert len(decided) == 3
    assert tokens(postgres_server, postgres_schema) == ["first", "rival", "second"]


# -- After -------------------------------------------------------------------------------------------------------------


def test_a_commit_whose_answer_is_lost_is_acknowledged(
    flavour: str, postgres_server: PostgresServer, postgres_schema: str, proxy: Proxy, proxied: Postgres
) -> None:
    with store_of(flavour, proxied) as store:
        store.execute(note, "first", "a")
        proxy.stall("answers")
        executing = start(store.execute, note, "second", "a")
        eventually(lambda: tokens(postgres_server, postgres_schema) == ["first", "second"])
        proxy.cut()
        proxy.resume()
        receipt = executing.result()

    assert (receipt.result, receipt.position, receipt.attempts) == ((1,), 2, 1)
    assert tokens(postgres_server, postgres_schema) == ["first", "second"]


@pytest.mark.usefixtures("running_again")
def test_a_commit_whose_server_is_killed_before_it_answers_is_acknowledged(
    flavour: str, postgres_server: PostgresServer, postgres_schema: str, proxy: Proxy, proxied: Postgres
) -> None:
    with store_of(flavour, proxied) as store:
        store.execute(note, "first", "a")
        proxy.stall("answers")
        executing = start(store.execute, note, "second", "a")
        eventually(lambda: tokens(postgres_server, postgres_schema) == ["first", "second"])
        postgres_server.kill()
        proxy.resume()
        postgres_server.start()
        receipt = executing.result()

    assert (receipt.result, receipt.position, receipt.attempts) == ((1,), 2, 1)
    assert tokens(postgres_server, postgres_schema) == ["first", "second"]


@pytest.mark.usefixtures("running_again")
def test_stores_go_on_by_themselves_when_the_server_comes_back(
    flavour: str, postgres_server: PostgresServer, direct: Postgres
) -> None:
    """Whichever of its connections a store uses next: all of them are dead, and nobody is told."""
    with store_of(flavour, direct) as store:
        reading = [start(store.state, notes(f"a-{number}")) for number in range(8)]
        assert [each.result() for each in reading] == [0] * 8
        for number in range(3):
            postgres_server.restart()
            assert store.state(notes("a")) == number
            assert store.execute(note, f"note-{number}", "a").result == (number,)
            reading = [start(store.state, notes(f"b-{number}-{each}")) for each in range(8)]
            assert [each.result() for each in reading] == [0] * 8


# -- When the past is another one --------------------------------------------------------------------------------------


def test_a_server_restored_from_an_older_backup_is_noticed_and_used(
    flavour: str, new_postgres_server: PostgresServer
) -> None:
    storage = Postgres(new_postgres_server.url, schema="restored")
    with store_of(flavour, storage) as store:
        store.execute(note, "first", "b")
        store.execute(note, "second", "a")
        backup = new_postgres_server.backup()
        for number in range(3):
            store.execute(note, f"lost-{number}", "a")

        new_postgres_server.restore(backup)
        with pytest.raises(LogDivergedError):
            store.execute(note, "refused", "a")

        assert store.execute(note, "new", "a").result == (1,)
        assert store.state(notes("b")) == 1

    assert tokens(new_postgres_server, "restored") == ["first", "second", "new"]


def test_a_restored_log_that_went_on_is_noticed_too(flavour: str, new_postgres_server: PostgresServer) -> None:
    """There are as many events as before, and more; they are others."""
    storage = Postgres(new_postgres_server.url, schema="restored")
    with store_of(flavour, storage) as store:
        store.execute(note, "first", "a")
        backup = new_postgres_server.backup()
        store.execute(note, "lost", "a")
        new_postgres_server.restore(backup)
        with store_of("threads", storage) as other:
            for number in range(3):
                other.execute(note, f"other-{number}", "b")

        with pytest.raises(LogDivergedError):
            store.execute(note, "refused", "a")

        assert store.execute(note, "new", "a").result == (1,)
    assert tokens(new_postgres_server, "restored") == ["first", "other-0", "other-1", "other-2", "new"]


# -- Swaps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("direction", "part"), [("requests", 0.5), ("requests", 1.0), ("answers", 0.5)])
def test_a_swap_whose_connection_is_cut_is_not_asked_for_again(
    flavour: str, proxy: Proxy, proxied: Postgres, postgres_server: PostgresServer, direction: Direction, part: float
) -> None:
    """It may have happened, and who is told that it lost believes that somebody else has won."""
    with log_of(flavour, proxied) as log:
        log.put("consumers", "other", b"")
        trap = proxy.trap(direction, b"swap" if direction == "requests" else b"", part=part)

        with pytest.raises(OutcomeUnknownError, match="while something was written"):
            log.swap(Swap(Put("consumers", "a", b"1"), None))

        trap.caught()
        settle(postgres_server)
        assert len(log.entries("consumers", "", 10)) == (1 if part == 0.5 and direction == "requests" else 2)
