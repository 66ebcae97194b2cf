"""Both web services, several processes each, asked by a real client: each order is carried out once, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from examples.bank.accounts import accounts
from factfold import Store
from tests.examples.web_serving import Server, balance_of, events_in, faulty, new_key, open_account, order
from tests.racing import eventually, race, start

FRAMEWORKS = ["fastapi", "flask"]

CLIENTS = 16


@pytest.fixture(scope="module", params=FRAMEWORKS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two processes, for all tests of this page."""
    with faulty(request.param, tmp_path_factory.mktemp("web") / "bank.db", patience=1.0, workers=2) as server:
        yield server


@pytest.fixture(params=FRAMEWORKS)
def lone_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """One process, for a test that breaks or ends it."""
    with faulty(request.param, tmp_path / "bank.db", patience=30.0) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx2.Client]:
    with server.client() as client:
        yield client


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Nobody else can write meanwhile."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA busy_timeout = 30000")
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def assert_problem(response: httpx2.Response, status: int, type: str, *says: str) -> None:
    """It is refused as it should be, and says why."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    problem = response.json()
    assert (problem["status"], problem["type"]) == (status, type)
    assert all(text in problem["detail"] for text in says), problem
    assert ("retry-after" in response.headers) == (status == 503)


# -- Orders ------------------------------------------------------------------------------------------------------------


def test_an_order_is_answered_with_the_balance_and_a_position(client: httpx2.Client) -> None:
    alice = open_account(client, 100)
    bob = open_account(client)
    answer = order(client, "/transfers", {"source": alice, "target": bob, "cents": 30, "reference": "lunch"})
    assert answer.status_code == 201
    assert answer.json()["balance"] == 70
    assert (balance_of(client, alice), balance_of(client, bob)) == (70, 30)


def test_an_order_that_is_repeated_is_answered_the_same_by_every_process(server: Server, client: httpx2.Client) -> None:
    alice, key = open_account(client), new_key()
    first = order(client, "/deposits", {"account": alice, "cents": 5}, key)
    assert "idempotent-replayed" not in first.headers
    asked = set[str]()

    def ask_again() -> bool:
        with server.client() as another:
            again = order(another, "/deposits", {"account": alice, "cents": 5}, key)
        assert (again.status_code, again.json()) == (201, first.json())
        assert again.headers["idempotent-replayed"] == "true"
        asked.add(again.headers["x-process"])
        return len(asked) == 2

    eventually(ask_again)
    assert balance_of(client, alice) == 5


def test_an_order_that_arrives_sixteen_times_at_once_is_carried_out_once(server: Server, client: httpx2.Client) -> None:
    alice, key = open_account(client), new_key()

    def send() -> httpx2.Response:
        with server.client() as another:
            return order(another, "/deposits", {"account": alice, "cents": 7}, key)

    answers = [answer for answer in race([send] * CLIENTS) if isinstance(answer, httpx2.Response)]
    assert [answer.status_code for answer in answers] == [201] * CLIENTS
    assert len({answer.text for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert balance_of(client, alice) == 7


def test_no_more_leaves_an_account_than_it_has_however_many_ask_at_once(server: Server, client: httpx2.Client) -> None:
    alice, bob = open_account(client, 100), open_account(client)

    def send() -> int:
        with server.client() as another:
            return order(another, "/transfers", {"source": alice, "target": bob, "cents": 30}).status_code

    assert sorted(map(str, race([send] * CLIENTS))) == ["201"] * 3 + ["409"] * (CLIENTS - 3)
    assert (balance_of(client, alice), balance_of(client, bob)) == (10, 90)


# -- What is refused ---------------------------------------------------------------------------------------------------


def test_what_the_bank_refuses_is_a_problem_that_says_why(client: httpx2.Client) -> None:
    alice = open_account(client, 100)
    refuse = partial(order, client)
    transfer = {"source": alice, "target": open_account(client), "cents": 101}
    assert_problem(refuse("/transfers", transfer), 409, "insufficient-funds", "100 are available")
    assert_problem(refuse("/transfers", transfer | {"target": "nobody"}), 404, "account-not-open", "nobody")
    assert_problem(refuse("/transfers", transfer | {"target": alice}), 422, "same-account", "two accounts")
    assert_problem(refuse("/transfers", transfer | {"cents": 0}), 422, "invalid-amount", "0 is no amount")
    assert_problem(refuse("/accounts", {"id": alice, "owner": "Bob"}), 409, "account-exists", "choose another one")
    assert_problem(refuse("/accounts", {"id": "Alice", "owner": "A"}), 422, "invalid-account-id", "a-z")
    assert_problem(client.get("/accounts/nobody"), 404, "account-not-open", "nobody is not known")
    assert balance_of(client, alice) == 100


@pytest.mark.parametrize(
    ("body", "status", "type"),
    [
        ("{", 400, "malformed-body"),
        ("[]", 422, "invalid-body"),
        ('{"source": "alice", "target": "bob"}', 422, "invalid-body"),
        ('{"source": "alice", "target": "bob", "cents": "many"}', 422, "invalid-body"),
        ('{"source": "alice", "target": "bob", "cents": 1e400}', 422, "invalid-body"),
        ('{"source": "alice", "target": "bob", "cents": 1%s}' % ("0" * 400), 422, "invalid-amount"),
    ],
)
def test_a_body_that_is_no_order_is_refused(client: httpx2.Client, body: str, status: int, type: str) -> None:
    headers = {"Idempotency-Key": new_key(), "Content-Type": "application/json"}
    assert_problem(client.post("/transfers", content=body, headers=headers), status, type, " is no ")


@pytest.mark.parametrize("reference", ["\\ud800", "\\udc00\\ud800"])
def test_a_text_that_is_none_is_refused(client: httpx2.Client, reference: str) -> None:
    body = f'{{"source": "alice", "target": "bob", "cents": 1, "reference": "{reference}"}}'
    headers = {"Idempotency-Key": new_key(), "Content-Type": "application/json"}
    answer = client.post("/transfers", content=body, headers=headers)
    assert answer.status_code in (400, 422)  # it depends on the framework if this is JSON at all
    assert "is no order of this kind" in answer.json()["detail"]


def test_what_is_not_there_is_a_problem_too(client: httpx2.Client) -> None:
    assert_problem(client.get("/loans"), 404, "about:blank")
    assert_problem(client.delete("/accounts"), 405, "about:blank")


@pytest.mark.parametrize("key", [None, "short", "a" * 65, "with space", "%00%00%00%00"])
def test_a_key_that_is_none_is_refused(client: httpx2.Client, key: str | None) -> None:
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = client.post("/accounts", json={"id": "carol", "owner": "Carol"}, headers=headers)
    assert_problem(answer, 400, "invalid-key", "Idempotency-Key")
    assert client.get("/accounts/carol").status_code == 404


def test_a_key_is_for_one_order(client: httpx2.Client) -> None:
    alice, bob, key = open_account(client, 100), open_account(client), new_key()
    assert order(client, "/deposits", {"account": alice, "cents": 1}, key).status_code == 201
    for where, other in (
        ("/deposits", {"account": alice, "cents": 2}),
        ("/transfers", {"source": alice, "target": bob, "cents": 1}),
    ):
        assert_problem(order(client, where, other, key), 422, "other-order", key, "make a new key")
    assert balance_of(client, alice) == 101


def test_a_refused_order_leaves_its_key_free(client: httpx2.Client) -> None:
    alice, bob, key = open_account(client), open_account(client), new_key()
    transfer = {"source": alice, "target": bob, "cents": 10}
    assert order(client, "/transfers", transfer, key).status_code == 409
    order(client, "/deposits", {"account": alice, "cents": 10})
    assert order(client, "/transfers", transfer, key).status_code == 201


def test_a_store_that_cannot_write_is_a_matter_of_time(server: Server, client: httpx2.Client) -> None:
    alice, key = open_account(client), new_key()
    with locked(server.path):
        refused = order(client, "/deposits", {"account": alice, "cents": 3}, key)
    assert_problem(refused, 503, "not-now", "the same Idempotency-Key")
    assert order(client, "/deposits", {"account": alice, "cents": 3}, key).json()["balance"] == 3


# -- The read model ----------------------------------------------------------------------------------------------------


def test_the_balances_show_what_was_written_once_they_are_asked_for_its_position(
    server: Server, client: httpx2.Client
) -> None:
    alice = open_account(client)
    for cents in range(1, 6):
        written = order(client, "/deposits", {"account": alice, "cents": cents}).json()
        with server.client() as another:
            read = another.get("/balances", params={"after": written["position"]}).json()
        assert read["position"] >= written["position"]
        assert {row["account"]: row["balance"] for row in read["accounts"]}[alice] == written["balance"]


@pytest.mark.parametrize(
    ("after", "status", "type"),
    [("soon", 400, "invalid-position"), ("-1", 400, "invalid-position"), ("1000000", 409, "unknown-position")],
)
def test_a_position_that_was_never_given_out_is_refused(
    client: httpx2.Client, after: str, status: int, type: str
) -> None:
    assert_problem(client.get("/balances", params={"after": after}), status, type, after)
    assert_problem(client.get("/events", params={"after": after}), status, type, after)
    assert_problem(client.get("/events", headers={"Last-Event-ID": after}), status, type, after)


def test_a_read_model_that_has_failed_is_told_by_health_and_to_those_who_wait_for_it(lone_server: Server) -> None:
    with lone_server.client() as client:
        alice = open_account(client, 1)
        position = order(client, "/deposits", {"account": alice, "cents": 1}).json()["position"]
        assert client.get("/balances", params={"after": position}).status_code == 200
        with closing(sqlite3.connect(lone_server.path)) as connection, connection:
            connection.execute("ALTER TABLE balances_v1 RENAME TO lost")
        position = order(client, "/deposits", {"account": alice, "cents": 1}).json()["position"]
        assert_problem(client.get("/balances", params={"after": position}), 503, "not-caught-up", "try again")
        health = client.get("/health")
        assert health.status_code == 503
        assert "balances_v1" in health.json()["consumers"][0]["error"]
        assert balance_of(client, alice) == 3  # orders and states do not need it


# -- A process that dies -----------------------------------------------------------------------------------------------


def test_a_process_that_is_killed_before_it_answers_has_carried_out_the_order(client: httpx2.Client) -> None:
    alice, key = open_account(client), new_key()
    deposit = {"account": alice, "cents": 9}
    with pytest.raises(httpx2.TransportError):
        order(client, "/deposits", deposit, key, {"x-die": "unanswered"})
    again = order(client, "/deposits", deposit, key)
    assert (again.status_code, again.json()["balance"]) == (201, 9)
    assert "idempotent-replayed" in again.headers
    assert balance_of(client, alice) == 9


# -- Events ------------------------------------------------------------------------------------------------------------


def test_a_stream_goes_on_where_it_broke_off_without_gap_or_repetition(server: Server, client: httpx2.Client) -> None:
    alice = open_account(client)
    start_at = order(client, "/deposits", {"account": alice, "cents": 1}).json()["position"]
    seen, last = list[int](), {"Last-Event-ID": str(start_at)}
    for _ in range(4):
        for _ in range(2):  # while nobody listens
            order(client, "/deposits", {"account": alice, "cents": 1})
        with server.client() as listener, listener.stream("GET", "/events", headers=last) as stream:
            lines = stream.iter_lines()
            seen += [int(event["id"]) for event in events_in(lines, 2)]
            order(client, "/deposits", {"account": alice, "cents": 1})
            seen += [int(event["id"]) for event in events_in(lines, 1)]
        last = {"Last-Event-ID": str(seen[-1])}
    with Store(f"sqlite:///{server.path}") as store:
        assert seen == [recorded.position for recorded in store.log(types=accounts, after=start_at)]


def test_an_event_tells_what_happened_to_whom(client: httpx2.Client) -> None:
    alice, bob = open_account(client, 50), open_account(client)
    answer = order(client, "/transfers", {"source": alice, "target": bob, "cents": 20}).json()
    with client.stream("GET", "/events", params={"after": answer["position"] - 1}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        (event,) = events_in(stream.iter_lines(), 1)
    assert (event["event"], event["id"]) == ("Transferred", str(answer["position"]))
    told = json.loads(event["data"])
    assert told["accounts"] == [alice, bob]
    assert told["event"]["amount"] == {"cents": 20}


# -- The end of a process ----------------------------------------------------------------------------------------------


def test_a_process_that_is_killed_while_it_writes_leaves_one_effect(
    server: Server, client: httpx2.Client, tmp_path: Path
) -> None:
    alice, key, begun = open_account(client), new_key(), tmp_path / "begun"
    deposit = {"account": alice, "cents": 11}
    with locked(server.path):
        sent = start(order, client, "/deposits", deposit, key, {"x-begun": str(begun)})
        eventually(begun.exists)
        os.kill(int(begun.read_text()), signal.SIGKILL)
        assert isinstance(sent.error(), httpx2.TransportError)
    with server.client() as another:
        again = order(another, "/deposits", deposit, key)
    assert (again.status_code, again.json()["balance"]) == (201, 11)


def test_a_server_that_is_told_to_end_answers_what_it_has_begun_and_ends_its_streams(
    lone_server: Server, tmp_path: Path
) -> None:
    begun = tmp_path / f"begun-{uuid4()}"
    with lone_server.client() as client, lone_server.client() as listener:
        alice = open_account(client)
        with listener.stream("GET", "/events", params={"after": 0}) as stream:
            lines = stream.iter_lines()
            assert [event["event"] for event in events_in(lines, 1)] == ["Opened"]
            with locked(lone_server.path):
                sent = start(order, client, "/deposits", {"account": alice, "cents": 13}, None, {"x-begun": str(begun)})
                eventually(begun.exists)
                lone_server.tell_to_end()
                rest = list(lines)  # the stream ends, and does not break
        assert sent.result().json()["balance"] == 13
        assert not any("Traceback" in line for line in lone_server.written), lone_server.written
    assert rest == []
    assert lone_server.exit_status() in (0, -signal.SIGTERM)
