"""What is no command is refused, and a run that was suspended never counts, whatever the command caught."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from factfold import (
    InvalidCommandError,
    Store,
    Transaction,
    commands,
)
from tests.ledger import Deposited, InsufficientFundsError, accounts, deposit
from tests.sources import run

# -- What is no command ------------------------------------------------------------------------------------------------


async def coroutine_command(tx: Transaction) -> None: ...
async def async_generator_command(tx: Transaction) -> Any:
    yield 1


def generator_command(tx: Transaction) -> Any:
    yield 1


class CoroutineCallable:
    async def __call__(self, tx: Transaction) -> None: ...


@dataclass(frozen=True)
class NoParameter:
    def __call__(self) -> None: ...


class Methods:
    async def coroutine(self, tx: Transaction) -> None: ...
    def none(self) -> None: ...
    def works(self, tx: Transaction, id: str) -> int:
        return deposit(tx, id, 1)


@dataclass(frozen=True)
class Close:
    """A command, once it is made."""

    id: str

    def __call__(self, tx: Transaction) -> int:
        return deposit(tx, self.id, 1)


def no_parameter() -> None: ...
def only_keywords(*, tx: Transaction) -> None: ...


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (coroutine_command, "is an async function"),
        (async_generator_command, "is an async function"),
        (generator_command, "is a generator function"),
        (CoroutineCallable(), "is an async function"),
        (Methods().coroutine, "is an async function"),
        (no_parameter, "first parameter is a Transaction"),
        (only_keywords, "first parameter is a Transaction"),
        (Methods().none, "first parameter is a Transaction"),
        (NoParameter(), "first parameter is a Transaction"),
        (lambda: 1, "first parameter is a Transaction"),
        (Close, r"Close is a class, .* execute\(Close\(\.\.\.\)\)"),
        (partial(Close, "ann"), "Close is a class"),
        (print, "is no command"),
        (5, "is no command"),
        (None, "is no command"),
        ("deposit", "is no command"),
    ],
)
def test_what_cannot_be_a_command_is_refused_with_the_reason(store: Store, command: Any, reason: str) -> None:
    with pytest.raises(InvalidCommandError, match=reason):
        store.execute(command)
    assert store.head() == 0


@pytest.mark.parametrize(
    "command",
    [
        lambda tx: coroutine_command(tx),
        lambda tx: generator_command(tx),
    ],
)
def test_a_command_that_returns_a_coroutine_or_a_generator_is_refused(store: Store, command: Any) -> None:
    with pytest.raises(InvalidCommandError, match="returned a coroutine or a generator"):
        store.execute(command)


def test_a_refusal_says_what_to_do_instead(store: Store) -> None:
    with pytest.raises(InvalidCommandError, match="before execute\\(\\) and pass it as an argument"):
        store.execute(coroutine_command)


def test_everything_that_takes_a_transaction_is_a_command(store: Store) -> None:
    def flexible(*args: Any, **kwargs: Any) -> int:
        return deposit(*args, **kwargs)

    assert store.execute(Methods().works, "ann").result == 1
    assert store.execute(partial(deposit, id="ann"), amount=2).result == 3
    assert store.execute(partial(Methods().works, id="ann")).result == 4
    assert store.execute(flexible, "ann", amount=1).result == 5
    assert store.execute(lambda tx: deposit(tx, "ann")).result == 6


def test_what_was_executed_before_makes_no_command_of_what_is_none(store: Store) -> None:
    for before, none in ((Methods.none, Methods().none), (partial(no_parameter), no_parameter)):
        with contextlib.suppress(TypeError):
            store.execute(before)  # type: ignore[arg-type]  # that is what is tested
        with pytest.raises(InvalidCommandError, match="takes no positional parameter"):
            store.execute(none)  # type: ignore[arg-type]  # the same


def test_commands_that_are_made_without_end_are_not_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_REMEMBERED", 3)
    for number in range(10):
        assert store.execute(run(f"def command(tx): return {number}").command).result == number
    assert len(commands._checked) <= 3


def test_wrong_arguments_are_the_callers_error(store: Store) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'sum'"):
        store.execute(deposit, "ann", sum=1)  # type: ignore[call-arg]  # that is what is tested
    assert store.head() == 0


# -- Swallowed suspensions ---------------------------------------------------------------------------------------------


def swallow_with_except(tx: Transaction) -> str:
    try:
        tx.read(accounts("ann"))
    except BaseException:
        return "swallowed"
    return "read"


def swallow_with_suppress(tx: Transaction) -> str:
    with contextlib.suppress(BaseException):
        tx.read(accounts("ann"))
        return "read"
    return "swallowed"


def swallow_with_finally(tx: Transaction) -> str:
    found = "swallowed"
    try:
        tx.read(accounts("ann"))
        found = "read"
    finally:
        return found  # noqa: B012 - that is what is tested


def swallow_in_a_part(tx: Transaction) -> str:
    try:
        tx.call(deposit, "ann", 0)
    except BaseException:
        return "swallowed"
    return "read"


def swallow_and_read_on(tx: Transaction) -> str:
    for id in ("ann", "ben"):
        try:
            tx.read(accounts(id))
        except BaseException:
            with contextlib.suppress(BaseException):
                tx.read(accounts("cid")).append(Deposited(100))
            return "swallowed"
    return "read"


def swallow_and_raise(tx: Transaction) -> str:
    try:
        tx.read(accounts("ann"))
    except BaseException:
        raise InsufficientFundsError from None
    return "read"


def swallow_in_a_version(tx: Transaction) -> str:
    account = tx.read(accounts("ann"))
    try:
        account.version  # noqa: B018 - it may suspend
    except BaseException:
        return "swallowed"
    return "read"


@pytest.mark.filterwarnings("ignore:'return' in a 'finally' block:SyntaxWarning")
@pytest.mark.parametrize(
    "command",
    [
        swallow_with_except,
        swallow_with_suppress,
        swallow_with_finally,
        swallow_in_a_part,
        swallow_and_read_on,
        swallow_and_raise,
        swallow_in_a_version,
    ],
)
def test_a_run_that_was_suspended_never_counts_whatever_the_command_caught(
    store: Store, command: Callable[[Transaction], str]
) -> None:
    assert store.execute(command).result == "read"
    assert store.state(accounts("cid")).balance == 0
