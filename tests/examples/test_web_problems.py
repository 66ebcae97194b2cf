"""What is hard to bring about in a running service: conflicts without an end, too many streams, no process."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from examples.bank.commands import deposit, open_account
from examples.bank.money import AccountId, Money
from examples.web.errors import EndingError, TooManyStreamsError
from examples.web.problems import problem_of
from examples.web.serving import options_of
from examples.web.streams import OpenStreams
from examples.web_fastapi.app import make_app as make_fastapi
from examples.web_flask.app import make_app as make_flask
from factfold import AsyncStore, ConflictError, OutcomeUnknownError, Retry, Store, StoreUnavailableError
from factfold.storage.sqlite import SQLite

ONCE = Retry(max_attempts=1)

ALICE, BOB = AccountId("alice"), AccountId("bob")

TRANSFER = {"source": "alice", "target": "bob", "cents": 1}

TOO_MUCH = TRANSFER | {"cents": 2}
"""Is refused, and so leaves its key free, and the service with what it has read."""

KEY = {"Idempotency-Key": "rent-2026-05"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Alice and Bob have accounts in this file, and Alice has a cent."""
    with Store(SQLite(tmp_path / "bank.db")) as store:
        store.execute(open_account, ALICE, "Alice Liddell")
        store.execute(open_account, BOB, "Bob Cratchit")
        store.execute(deposit, ALICE, Money(1))
    return tmp_path / "bank.db"


def deposit_elsewhere(path: Path) -> None:
    """Another process writes to the account, which the service does not hear of."""
    with Store(SQLite(path)) as rival:
        rival.execute(deposit, ALICE, Money(1))


async def test_a_conflict_that_does_not_end_is_a_matter_of_time_with_fastapi(path: Path) -> None:
    async with AsyncStore(SQLite(path), retry=ONCE) as store:
        transport = httpx2.ASGITransport(make_fastapi(store, path))
        async with httpx2.AsyncClient(transport=transport, base_url="http://bank") as client:
            assert (await client.post("/transfers", json=TOO_MUCH, headers=KEY)).status_code == 409
            deposit_elsewhere(path)
            late = await client.post("/transfers", json=TRANSFER, headers=KEY)
            again = await client.post("/transfers", json=TRANSFER, headers=KEY)
    assert (late.status_code, late.headers["retry-after"]) == (503, "1")
    assert again.status_code == 201


def test_a_conflict_that_does_not_end_is_a_matter_of_time_with_flask(path: Path) -> None:
    with Store(SQLite(path), retry=ONCE) as store:
        client = make_flask(store, path).test_client()
        assert client.post("/transfers", json=TOO_MUCH, headers=KEY).status_code == 409
        deposit_elsewhere(path)
        late = client.post("/transfers", json=TRANSFER, headers=KEY)
        again = client.post("/transfers", json=TRANSFER, headers=KEY)
    assert (late.status_code, late.headers["retry-after"]) == (503, "1")
    assert again.status_code == 201


@pytest.mark.parametrize(
    "error",
    [
        ConflictError(["account:alice"], 10),
        OutcomeUnknownError("sqlite:////home/bank/secret.db was lost"),
        StoreUnavailableError("sqlite:////home/bank/secret.db is locked"),
        TimeoutError("projection balances is behind"),
    ],
)
def test_what_the_store_cannot_is_told_without_its_secrets(error: Exception) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.headers) == (503, {"Retry-After": "1"})
    assert str(error) not in problem.detail


class Subscription:
    closed = False

    def close(self) -> None:
        self.closed = True


def test_streams_are_limited_and_end_together() -> None:
    streams, one, two, three = OpenStreams(most=1), *(Subscription() for _ in range(3))
    streams.add(one)
    with pytest.raises(TooManyStreamsError, match="1 streams are open"):
        streams.add(two)
    streams.remove(one)
    with streams.holding(two):
        streams.end()
        assert two.closed
    with pytest.raises(EndingError):
        streams.add(three)
    assert (one.closed, three.closed) == (True, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bank.db", "--workers", "0"], "at least one process has to do the work"),
        (["/nowhere/at/all/bank.db"], "there is no such directory"),
    ],
)
def test_a_service_that_cannot_be_is_refused(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        options_of("web_flask", arguments)
    assert caught.value.code == 2
    assert says in capsys.readouterr().err
