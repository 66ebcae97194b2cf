"""Views: one for each stream of a run, with its state and its version, and of no use outside of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC

import pytest

from factfold import (
    ForeignViewError,
    RecordedEvent,
    Store,
    Transaction,
    View,
)
from tests.conftest import MakeStore
from tests.ledger import (
    Account,
    Deposited,
    Renamed,
    accounts,
    deposit,
    deposits,
    open_account,
    owners,
    rename,
)

# -- Views -------------------------------------------------------------------------------------------------------------


def test_a_view_kept_from_an_earlier_execution_cannot_be_appended_to(store: Store) -> None:
    kept: list[View[Account, Deposited]] = []

    def keep(tx: Transaction) -> None:
        kept.append(tx.read(accounts("ann")))

    store.execute(keep)

    with pytest.raises(ForeignViewError, match="inside the command"):
        kept[-1].append(Deposited(1))
    with pytest.raises(ForeignViewError):
        store.execute(lambda tx: tx.append(Deposited(1), kept[-1]))
    with pytest.raises(ForeignViewError):
        kept[-1].version  # noqa: B018 - it does something
    assert store.head() == 0


def test_a_view_of_the_run_before_cannot_be_appended_to(store: Store) -> None:
    kept: list[View[Account, Deposited]] = []

    def command(tx: Transaction) -> None:
        kept.append(tx.read(accounts("ann")))
        tx.read(accounts("ben"))  # suspends the first run
        tx.append(Deposited(1), kept[0])

    with pytest.raises(ForeignViewError):
        store.execute(command)
    assert store.head() == 0


def test_a_transaction_cannot_be_used_after_its_run(store: Store) -> None:
    kept: list[Transaction] = []
    store.execute(kept.append)

    uses: list[Callable[[Transaction], object]] = [
        lambda tx: tx.read(accounts("ann")),
        lambda tx: tx.read(accounts("ann"), accounts("ben")),
        lambda tx: tx.call(deposit, "ann", 1),
    ]
    for use in uses:
        with pytest.raises(ForeignViewError):
            use(kept[0])


def test_something_that_is_no_view_cannot_be_appended_to(store: Store) -> None:
    with pytest.raises(TypeError, match="needs the views"):
        store.execute(lambda tx: tx.append(Deposited(1), accounts("ann")))  # type: ignore[arg-type]  # that is it


# -- Versions ----------------------------------------------------------------------------------------------------------


def test_the_version_is_that_of_the_last_event_that_the_fold_looks_at(make_store: MakeStore) -> None:
    store = make_store()
    store.execute(open_account, "ann", "Ann")
    store.execute(deposit, "ann", 1)
    store.execute(deposit, "ann", 1)
    store.execute(rename, "ann", "Anna")
    store.execute(deposit, "ann", 1)

    for each in (store, make_store(), make_store(cache_size=0)):
        assert each.version(accounts("ann")) == 5
        assert each.version(owners("ann")) == 4
        assert each.version(deposits("ann")) == 5
        assert each.version(accounts("ben")) == 0


def test_the_version_of_a_view_is_as_it_was_read(store: Store) -> None:
    store.execute(deposit, "ann", 1)

    def command(tx: Transaction) -> tuple[int, int]:
        account = tx.read(accounts("ann"))
        before = account.version
        account.append(Deposited(1), Deposited(1))
        return before, account.version

    assert store.execute(command).result == (1, 1)
    assert store.version(accounts("ann")) == 3


def test_a_command_can_be_a_frozen_dataclass(store: Store) -> None:
    @dataclass(frozen=True)
    class Deposit:
        account: str
        amount: int

        def __call__(self, tx: Transaction) -> int:
            return deposit(tx, self.account, self.amount)

    assert store.execute(Deposit("ann", 4)).result == 4
    assert store.execute(replace(Deposit("ann", 4), amount=5)).result == 9


def test_recorded_events_of_a_receipt_are_those_of_the_log(store: Store) -> None:
    receipt = store.execute(deposit, "ann", 4)

    found: list[RecordedEvent[object]] = list(store.log(types=accounts))
    assert list(receipt.events) == found
    assert found[0].recorded_at.tzinfo is UTC
    assert Renamed not in {type(recorded.event) for recorded in found}
