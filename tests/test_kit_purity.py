"""assert_pure: what a command may not do is found by running it twice."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from factfold import ImpureCommandError, InvalidCommandError, Transaction, stream
from factfold.testing import assert_pure, scenario
from tests.ledger import Deposited, Opened, accounts, deposit, transfer, withdraw

ANN = scenario().given(accounts("ann"), Opened("Ann"), Deposited(100)).given(accounts("ben"), Opened("Ben"))


@dataclass(frozen=True)
class Noted:
    id: UUID
    at: datetime


@stream("note", initial=())
def notes(state: tuple[Noted, ...], event: Noted) -> tuple[Noted, ...]:
    return (*state, event)


def note(tx: Transaction) -> datetime:
    tx.read(notes()).append(Noted(tx.new_id(), tx.now))
    return tx.now


def random_amount(tx: Transaction) -> None:
    tx.read(accounts("ann")).append(Deposited(random.randrange(10**12)))


def random_id(tx: Transaction) -> None:
    tx.read(notes()).append(Noted(uuid4(), tx.now))


def clock_on_the_wall(tx: Transaction) -> None:
    tx.read(notes()).append(Noted(tx.new_id(), datetime.now(UTC)))


def random_result(tx: Transaction) -> int:
    return random.randrange(10**12)


def random_error(tx: Transaction) -> None:
    raise ValueError(random.randrange(10**12))


def one_more_each_time() -> Callable[[Transaction], None]:
    """A command that reads what it has not read when it ran first."""
    runs: list[int] = []

    def reads_more(tx: Transaction) -> None:
        tx.read(accounts("ann"))
        if runs:
            tx.read(accounts("ben"))
        runs.append(1)

    return reads_more


def test_a_pure_command_passes() -> None:
    assert_pure(deposit, "ann", amount=5)
    assert_pure(ANN, withdraw, "ann", 30)
    assert_pure(ANN, withdraw, "ann", 300)
    assert_pure(ANN, transfer, "ann", "ben", 30)
    assert_pure(note)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (random_amount, "appended to ledger:ann:\n- Deposited(amount="),
        (random_id, "appended to note:"),
        (clock_on_the_wall, "appended to note:"),
        (random_result, "- returned "),
        (random_error, "- raised ValueError("),
        (one_more_each_time(), "  read ledger:ann\n+ read ledger:ben\n"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_impure_command_is_found_out(command: Callable[[Transaction], object], shown: str) -> None:
    with pytest.raises(AssertionError, match="is not pure: on equal states, it did other things") as caught:
        assert_pure(ANN, command)
    assert shown in str(caught.value)
    assert "A command takes the time from tx.now and ids from tx.new_id()" in str(caught.value)


def test_a_command_that_uses_up_its_arguments_is_found_out() -> None:
    def take(tx: Transaction, amounts: list[int]) -> None:
        account = tx.read(accounts("ann"))
        account.append(Deposited(amounts.pop()))

    with pytest.raises(AssertionError, match="is not pure"):
        assert_pure(take, [1, 2, 3, 4])


def test_where_it_appends_counts() -> None:
    targets = iter([0, 1])

    def wander(tx: Transaction) -> None:
        views = tx.read(accounts("ann"), accounts("ben"))
        views[next(targets)].append(Deposited(1))

    with pytest.raises(AssertionError, match=r"(?s)- appended to ledger:ann:.*\+ appended to ledger:ben:"):
        assert_pure(ANN, wander)


def test_a_command_that_the_store_finds_impure_is_told_of() -> None:
    def new_stream_each_time(tx: Transaction) -> None:
        tx.read(accounts(uuid4()))

    with pytest.raises(
        AssertionError, match=r"new_stream_each_time is not pure: .* read ledger:.* in one run"
    ) as caught:
        assert_pure(new_stream_each_time)
    assert isinstance(caught.value.__cause__, ImpureCommandError)


def test_what_is_no_command_is_refused() -> None:
    anything: Any = None
    with pytest.raises(InvalidCommandError, match="None is no command"):
        assert_pure(anything)
    with pytest.raises(InvalidCommandError, match="None is no command"):
        assert_pure(ANN, anything)
    with pytest.raises(TypeError, match=r"needs a command and its arguments, as in assert_pure\(scenario\(\)"):
        assert_pure(ANN)  # type: ignore[call-overload]
