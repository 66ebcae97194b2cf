"""PostgreSQL breaks under a load of commands: whatever each caller was told, that is what the log holds.

Every acknowledged command is in the log exactly once, every one reported as failed is not there and never will be, and
one of unknown outcome is there at most once.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from factfold import Retry
from factfold.storage.postgres import Postgres
from tests.outcomes import CALLERS, Callers, callers
from tests.postgres_faults import end_backends, settle
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import Proxy

Disturb = Callable[[PostgresServer, Proxy, Callers], None]
"""Breaks something while callers are at work, and mends it."""

APPEND = b"outcomes.noted"
"""A text that is in the request of every append, and in no other."""

RETRY = Retry(max_attempts=3, cap=0.1)
"""Gives up soon: callers are to be told that the server is away, and not only kept waiting."""


def connections_are_terminated(server: PostgresServer, proxy: Proxy, working: Callers) -> None:
    for _ in range(6):
        end_backends(server)
        working.go_on()


def the_server_is_killed(server: PostgresServer, proxy: Proxy, working: Callers) -> None:
    for _ in range(2):
        server.kill()
        server.start()
        working.go_on()


def the_server_stays_away_for_a_while(server: PostgresServer, proxy: Proxy, working: Callers) -> None:
    server.kill()
    working.get_in_trouble(CALLERS)
    server.start()


def the_server_is_restarted(server: PostgresServer, proxy: Proxy, working: Callers) -> None:
    for _ in range(2):
        server.restart()
        working.go_on()


def connections_are_cut(server: PostgresServer, proxy: Proxy, working: Callers) -> None:
    for _ in range(6):
        proxy.cut()
        working.go_on()


def connections_are_cut_and_the_server_does_not_hear_of_it(
    server: PostgresServer, proxy: Proxy, working: Callers
) -> None:
    for _ in range(4):
        proxy.abandon()
        working.go_on()


def requests_do_not_arrive(server: PostgresServer, proxy: Proxy, working: Callers) -> None:
    for _ in range(4):
        proxy.trap("requests", APPEND, part=0.0).caught()
        working.go_on()


def requests_are_halved(server: PostgresServer, proxy: Proxy, working: Callers) -> None:
    for _ in range(4):
        proxy.trap("requests", APPEND, part=0.5).caught()
        working.go_on()


def requests_arrive_and_then_the_connection_is_cut(server: PostgresServer, proxy: Proxy, working: Callers) -> None:
    for _ in range(4):
        proxy.trap("requests", APPEND, part=1.0).caught()
        working.go_on()


def answers_are_halved(server: PostgresServer, proxy: Proxy, working: Callers) -> None:
    for _ in range(6):
        proxy.trap("answers", b"", part=0.5).caught()
        working.go_on()


def answers_are_held_back_until_callers_give_up(server: PostgresServer, proxy: Proxy, working: Callers) -> None:
    proxy.stall("answers")
    working.get_in_trouble()
    proxy.resume()


def requests_are_held_back_and_arrive_late(server: PostgresServer, proxy: Proxy, working: Callers) -> None:
    for _ in range(2):
        sent = proxy.watch("requests", APPEND)
        proxy.stall("requests")
        working.wait(sent.is_set, "an append")
        proxy.abandon()
        proxy.resume()
        working.go_on()
        proxy.deliver_late()
        working.go_on()


def nobody_is_let_in_for_a_while(server: PostgresServer, proxy: Proxy, working: Callers) -> None:
    proxy.refuse()
    proxy.cut()
    working.get_in_trouble(CALLERS)
    proxy.accept()


@pytest.mark.parametrize(
    "disturb",
    [
        connections_are_terminated,
        the_server_is_killed,
        the_server_stays_away_for_a_while,
        the_server_is_restarted,
        connections_are_cut,
        connections_are_cut_and_the_server_does_not_hear_of_it,
        requests_do_not_arrive,
        requests_are_halved,
        requests_arrive_and_then_the_connection_is_cut,
        answers_are_halved,
        answers_are_held_back_until_callers_give_up,
        requests_are_held_back_and_arrive_late,
        nobody_is_let_in_for_a_while,
    ],
)
@pytest.mark.usefixtures("running_again")
def test_the_log_holds_what_callers_were_told(
    flavour: str, disturb: Disturb, postgres_server: PostgresServer, proxy: Proxy, impatient: Postgres, direct: Postgres
) -> None:
    with callers(flavour, impatient, retry=RETRY) as working:
        working.go_on()
        disturb(postgres_server, proxy, working)
        working.go_on()
    settle(postgres_server)
    working.told.check(direct)
