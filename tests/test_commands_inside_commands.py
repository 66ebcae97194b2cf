"""`tx.call`: a command inside another one, whose appends are undone when it raises."""

from __future__ import annotations

import pytest

from factfold import (
    Store,
    Transaction,
    stream,
)
from tests.ledger import (
    Account,
    Deposited,
    InsufficientFundsError,
    Opened,
    accounts,
    balance,
    deposit,
    deposits,
    open_account,
    owners,
    rename,
)


def written(store: Store) -> list[object]:
    return [recorded.event for recorded in store.log(types=accounts)]


def test_a_command_called_inside_another_one_is_part_of_it(store: Store) -> None:
    def command(tx: Transaction) -> int:
        tx.call(open_account, "ann", owner="Ann")
        return tx.call(deposit, "ann", 7)

    assert store.execute(command).result == 7
    assert written(store) == [Opened("Ann"), Deposited(7)]


def test_what_a_called_command_appended_is_undone_when_it_raises(store: Store) -> None:
    def part(tx: Transaction) -> None:
        tx.call(deposit, "ann", 100)
        tx.call(rename, "ann", "Anna")
        tx.call(deposit, "ben", 100)  # a stream that only this part reads
        raise InsufficientFundsError

    def command(tx: Transaction) -> list[object]:
        account, owner = tx.read(accounts("ann"), owners("ann"))
        account.append(Opened("Ann"), Deposited(1))
        with pytest.raises(InsufficientFundsError):
            tx.call(part)
        ben = tx.read(accounts("ben"))
        after = [account.state, owner.state, ben.state]
        ben.append(Deposited(3))
        account.append(Deposited(2))
        return [*after, account.state, ben.state]

    receipt = store.execute(command)

    assert receipt.result == [Account("Ann", 1), "Ann", Account(), Account("Ann", 3), Account("", 3)]
    assert written(store) == [Opened("Ann"), Deposited(1), Deposited(3), Deposited(2)]
    assert store.state(accounts("ann")) == Account("Ann", 3)
    assert store.state(owners("ann")) == "Ann"


def test_a_stream_first_read_by_a_part_that_was_undone_shows_what_the_whole_appended_before(store: Store) -> None:
    def part(tx: Transaction) -> None:
        tx.read(deposits("ann"))
        deposit(tx, "ann", 1)
        raise InsufficientFundsError

    def command(tx: Transaction) -> int:
        tx.read(accounts("ann")).append(Deposited(1))
        with pytest.raises(InsufficientFundsError):
            tx.call(part)
        return tx.read(deposits("ann")).state

    assert store.execute(command).result == 1


def test_undoing_goes_as_deep_as_the_calls_go(store: Store) -> None:
    def inner(tx: Transaction) -> None:
        deposit(tx, "ann", 10)
        raise InsufficientFundsError

    def outer(tx: Transaction) -> int:
        deposit(tx, "ann", 100)
        with pytest.raises(InsufficientFundsError):
            tx.call(inner)
        return balance(tx, "ann")

    def command(tx: Transaction) -> int:
        deposit(tx, "ann", 1)
        return tx.call(outer)

    assert store.execute(command).result == 101


class UnluckyError(Exception):
    """What a fold raises."""


@stream("ledger", initial=0)
def lucky(state: int, event: Deposited) -> int:
    if event.amount == 13:
        raise UnluckyError
    return state + event.amount


def test_a_called_command_fails_by_the_error_of_a_fold_that_an_event_of_several_streams_meets(store: Store) -> None:
    caught: list[Exception] = []

    def pay_both(tx: Transaction) -> None:
        tx.append(Deposited(13), *tx.read(lucky("ann"), lucky("ben")))

    def outer(tx: Transaction) -> None:
        try:
            tx.call(pay_both)
        except Exception as error:
            caught.append(error)

    with pytest.raises(UnluckyError) as raised:
        store.execute(outer)

    assert caught == [raised.value]  # and the run cannot count any more, even though the command has caught it
    assert store.head() == 0
