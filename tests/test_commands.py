"""Commands: what they read, what they append, and what becomes of their exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from factfold import (
    EncodingError,
    Store,
    Transaction,
    WrongEventError,
    WrongStreamsError,
    stream,
)
from tests.conftest import MakeStore
from tests.ledger import (
    Account,
    Deposited,
    InsufficientFundsError,
    Opened,
    Transferred,
    Withdrawn,
    accounts,
    balance,
    balances,
    deposit,
    deposits,
    open_account,
    owners,
    rename,
    transfer,
    withdraw,
)


def written(store: Store) -> list[object]:
    return [recorded.event for recorded in store.log(types=accounts)]


# -- Reading and appending ---------------------------------------------------------------------------------------------


def test_a_command_gives_its_result_its_position_and_its_events(store: Store) -> None:
    store.execute(open_account, "ann", "Ann")
    receipt = store.execute(deposit, "ann", amount=5)

    assert (receipt.result, receipt.position, receipt.attempts, receipt.repeated) == (5, 2, 1, False)
    (recorded,) = receipt.events
    assert (recorded.position, recorded.type, recorded.event) == (2, "Deposited", Deposited(5))
    assert dict(recorded.streams) == {"ledger:ann": 2}


def test_a_command_that_appends_nothing_has_no_position(store: Store) -> None:
    receipt = store.execute(balance, "ann")

    assert (receipt.result, receipt.position, receipt.events) == (0, None, ())
    assert store.head() == 0


def test_a_stream_that_was_never_written_has_the_initial_state(store: Store) -> None:
    assert store.state(accounts("nobody")) == Account()
    assert store.version(accounts("nobody")) == 0


def test_the_state_holds_what_the_command_has_appended(store: Store) -> None:
    def command(tx: Transaction) -> list[int]:
        account = tx.read(accounts("ann"))
        seen = [account.state.balance]
        account.append(Deposited(5), Deposited(6))
        seen.append(account.state.balance)
        account.append(Withdrawn(1))
        return [*seen, account.state.balance]

    assert store.execute(command).result == [0, 11, 10]
    assert store.state(accounts("ann")).balance == 10


def test_a_stream_that_is_read_twice_gives_the_same_view(store: Store) -> None:
    def command(tx: Transaction) -> bool:
        first = tx.read(accounts("ann"))
        return first is tx.read(accounts("ann")) and tx.read(accounts("ann"), accounts("ann")) == (first, first)

    assert store.execute(command).result is True


def test_a_stream_that_one_read_names_twice_is_loaded_and_the_command_takes_effect_once(store: Store) -> None:
    def command(tx: Transaction) -> None:
        first, second = tx.read(accounts("ann"), accounts("ann"))
        assert first is second
        first.append(Deposited(1))

    store.execute(command)

    assert written(store) == [Deposited(1)]


def test_several_streams_come_as_a_tuple_in_the_order_of_the_call(store: Store) -> None:
    store.execute(deposit, "ann", 1)
    store.execute(rename, "ben", "Ben")

    def command(tx: Transaction) -> tuple[int, str, int]:
        money, owner, count = tx.read(balances("ann"), owners("ben"), deposits("ann"))
        return money.state, owner.state, count.state

    assert store.execute(command).result == (1, "Ben", 1)


@pytest.mark.parametrize("ids", [[], ["ann"], ["ann", "ben", "cid"]])
def test_an_iterable_of_streams_gives_a_tuple_of_views(store: Store, ids: list[str]) -> None:
    def command(tx: Transaction) -> tuple[str, ...]:
        return tuple(view.stream.id for view in tx.read(accounts(id) for id in ids))

    assert store.execute(command).result == tuple(f"ledger:{id}" for id in ids)


@pytest.mark.parametrize("given", ["ledger:ann", accounts, None, 3, ["ledger:ann"]])
def test_only_streams_can_be_read(store: Store, given: object) -> None:
    with pytest.raises(TypeError, match=r"tx\.read\(\) reads streams"):
        store.execute(lambda tx: tx.read(given))  # type: ignore[call-overload]  # that is what is tested


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (({"a": accounts("ann")},), "Give its values"),
        (([accounts("ann")], [accounts("ben")]), "Give the streams one by one, or a single iterable of them"),
        ((accounts,), "It is a stream type: call it with an id"),
    ],
)
def test_what_to_read_instead_is_said(store: Store, given: tuple[Any, ...], advice: str) -> None:
    with pytest.raises(TypeError, match=advice):
        store.execute(lambda tx: tx.read(*given))


def test_reading_nothing_is_refused(store: Store) -> None:
    with pytest.raises(TypeError, match="needs a stream"):
        store.execute(lambda tx: tx.read())  # type: ignore[call-overload]  # that is what is tested


def test_appending_no_event_appends_nothing(store: Store) -> None:
    assert store.execute(lambda tx: tx.read(accounts("ann")).append()).position is None


def test_one_event_can_belong_to_two_streams(store: Store) -> None:
    store.execute(deposit, "ann", 10)
    receipt = store.execute(transfer, "ann", "ben", 4)

    assert [dict(recorded.streams) for recorded in receipt.events] == [{"ledger:ann": 2, "ledger:ben": 1}]
    assert (store.state(accounts("ann")).balance, store.state(accounts("ben")).balance) == (6, 4)


def test_two_views_of_one_stream_make_one_membership(store: Store) -> None:
    def command(tx: Transaction) -> tuple[int, int]:
        wide, narrow = tx.read(accounts("ann"), deposits("ann"))
        tx.append(Deposited(3), wide, narrow)
        return wide.state.balance, narrow.state

    receipt = store.execute(command)

    assert receipt.result == (3, 1)
    assert [dict(recorded.streams) for recorded in receipt.events] == [{"ledger:ann": 1}]


def test_what_one_fold_appends_is_seen_through_every_other_fold_of_the_stream(store: Store) -> None:
    def command(tx: Transaction) -> list[object]:
        wide, owner = tx.read(accounts("ann"), owners("ann"))
        wide.append(Opened("Ann"), Deposited(2))
        money = tx.read(balances("ann"))  # read only after the events
        return [wide.state, owner.state, money.state]

    assert store.execute(command).result == [Account("Ann", 2), "Ann", 2]
    assert store.state(owners("ann")) == "Ann"


def test_an_event_that_the_fold_does_not_list_is_refused(store: Store) -> None:
    with pytest.raises(WrongEventError, match=r"owners looks at Opened, Renamed, and not at Deposited"):
        store.execute(lambda tx: tx.read(owners("ann")).append(Deposited(1)))  # type: ignore[arg-type]  # that is it
    assert store.head() == 0


def test_an_event_must_be_listed_by_every_view_that_it_is_appended_to(store: Store) -> None:
    def command(tx: Transaction) -> None:
        wide, narrow = tx.read(accounts("ann"), owners("ben"))
        tx.append(Deposited(1), wide, narrow)  # type: ignore[misc]  # that is what is tested

    with pytest.raises(WrongEventError, match="ledger:ben"):
        store.execute(command)


def test_an_instance_of_a_subclass_of_an_event_is_refused(store: Store) -> None:
    @dataclass(frozen=True)
    class SpecialDeposit(Deposited):
        pass

    with pytest.raises(WrongEventError, match="SpecialDeposit"):
        store.execute(lambda tx: tx.read(accounts("ann")).append(SpecialDeposit(1)))


def test_an_event_whose_declared_streams_are_not_all_named_is_refused(store: Store) -> None:
    def command(tx: Transaction) -> None:
        tx.read(accounts("ann")).append(Transferred("ann", "ben", 1))

    with pytest.raises(WrongStreamsError, match="a stream of ledger is missing"):
        store.execute(command)


def test_an_event_with_a_value_of_the_wrong_type_is_refused_and_none_of_the_append_is_kept(store: Store) -> None:
    def command(tx: Transaction) -> int:
        account = tx.read(accounts("ann"))
        with pytest.raises(EncodingError, match=r"Deposited\.amount"):
            account.append(Deposited(1), Deposited("5"))  # type: ignore[arg-type]  # that is what is tested
        return account.state.balance

    assert store.execute(command).result == 0
    assert store.head() == 0


def test_folds_and_receipts_get_the_event_as_it_comes_back_from_its_bytes(store: Store) -> None:
    given = Deposited(1)
    receipt = store.execute(lambda tx: tx.read(accounts("ann")).append(given))

    assert receipt.events[0].event == given
    assert receipt.events[0].event is not given


def test_a_fold_that_changes_its_state_in_place_cannot_corrupt_what_is_cached(make_store: MakeStore) -> None:
    @stream("tally", initial={})
    def tallies(state: Mapping[str, int], event: Deposited) -> Mapping[str, int]:
        state[str(event.amount)] = len(state)  # type: ignore[index]  # that is what is tested
        return state

    def command(tx: Transaction, fail: bool) -> Mapping[str, int]:
        tally = tx.read(tallies("t"))
        tally.append(Deposited(len(tally.state) + 1))
        tally.state.clear()  # type: ignore[attr-defined]  # a dict all the same
        if fail:
            raise InsufficientFundsError
        return tx.read(tallies("t")).state

    store = make_store()
    store.execute(command, False)
    with pytest.raises(InsufficientFundsError):
        store.execute(command, True)
    store.execute(command, False)

    assert store.state(tallies("t")) == {"1": 0, "2": 1} == make_store().state(tallies("t"))
    assert tallies.initial == {}


# -- Exceptions --------------------------------------------------------------------------------------------------------


def test_a_command_that_raises_writes_nothing_and_its_exception_comes_unchanged(store: Store) -> None:
    raised = InsufficientFundsError("ann", 0, 5)

    def command(tx: Transaction) -> None:
        tx.read(accounts("ann")).append(Deposited(1))
        raise raised

    with pytest.raises(InsufficientFundsError) as caught:
        store.execute(command)

    assert caught.value is raised
    assert (raised.__cause__, raised.__context__) == (None, None)
    assert store.head() == 0
    assert store.state(accounts("ann")) == Account()


def test_a_command_may_catch_what_it_raised_itself(store: Store) -> None:
    def command(tx: Transaction) -> str:
        try:
            withdraw(tx, "ann", 5)
        except InsufficientFundsError:
            tx.read(accounts("ann")).append(Deposited(1))
            return "deposited instead"
        return "withdrawn"

    assert store.execute(command).result == "deposited instead"
    assert written(store) == [Deposited(1)]


def test_what_a_fold_raises_reaches_the_caller_unchanged(store: Store) -> None:
    @stream("ledger", initial=0)
    def strict(state: int, event: Deposited) -> int:
        if event.amount > 5:
            raise LookupError("too much for this fold")
        return state + event.amount

    store.execute(deposit, "ann", 10)

    for _ in range(2):  # cold, and with the stream in the cache
        with pytest.raises(LookupError, match="too much for this fold"):
            store.state(strict("ann"))
    assert store.state(accounts("ann")).balance == 10


def test_what_a_fold_raises_on_an_event_just_appended_reaches_the_caller_unchanged(store: Store) -> None:
    @stream("ledger", initial=0)
    def strict(state: int, event: Deposited) -> int:
        if event.amount > 5:
            raise LookupError("too much for this fold")
        return state + event.amount

    def command(tx: Transaction, swallow: bool) -> None:
        wide, view = tx.read(accounts("ann"), strict("ann"))
        try:
            wide.append(Deposited(6))
        except LookupError:
            if not swallow:
                raise

    for swallow in (False, True):
        with pytest.raises(LookupError, match="too much for this fold"):
            store.execute(command, swallow)
    assert store.head() == 0


def test_a_fold_that_fails_on_what_the_command_appended_before_reading_fails_the_command(store: Store) -> None:
    @stream("ledger", initial=0)
    def strict(state: int, event: Deposited) -> int:
        if event.amount > 5:
            raise LookupError("too much for this fold")
        return state + event.amount

    def command(tx: Transaction) -> int:
        tx.read(accounts("ann")).append(Deposited(6))
        for _ in range(2):
            try:
                return tx.read(strict("ann")).state
            except LookupError:
                pass
        return -1

    with pytest.raises(LookupError, match="too much for this fold"):
        store.execute(command)
    assert store.head() == 0
