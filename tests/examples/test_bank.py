"""The bank refuses what it must, says why, and never makes or loses money, however many ask at once."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator

import pytest

from examples.bank import __main__ as day
from examples.bank.accounts import Account, Closed, Deposited, OverdraftAgreed, Status, Transferred, account, accounts
from examples.bank.commands import agree_overdraft, balance, close, deposit, open_account, transfer, withdraw
from examples.bank.errors import (
    AccountExistsError,
    AccountNotOpenError,
    BalanceLeftError,
    InsufficientFundsError,
    InvalidAccountIdError,
    InvalidAmountError,
    InvalidOwnerError,
    OverdraftInUseError,
    SameAccountError,
)
from examples.bank.money import AccountId, Money, in_euros
from examples.running import run
from factfold import AsyncStore, Store
from tests.examples.racers import RACERS, Race

ALICE, BOB, NOBODY = AccountId("alice"), AccountId("bob"), AccountId("nobody")


@pytest.fixture
def bank() -> Iterator[Store]:
    """Alice has 100 cents and Bob has none."""
    with Store("memory:") as store:
        open_both(store)
        yield store


def open_both(store: Store) -> None:
    store.execute(open_account, ALICE, "Alice Liddell")
    store.execute(open_account, BOB, "Bob Cratchit")
    store.execute(deposit, ALICE, Money(100))


def balances(store: Store) -> tuple[int, int]:
    return store.state(account(ALICE)).balance, store.state(account(BOB)).balance


# -- Small types -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "Alice", "1st", "a b", "ä", "a" * 41, "alice\n", None])
def test_an_account_id_that_breaks_the_rules_cannot_be_made(text: object) -> None:
    with pytest.raises(InvalidAccountIdError, match="is no account"):
        AccountId(text)  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize("cents", [0, -1, True, 1.5, "5", None, 10**12 + 1])
def test_an_amount_that_is_none_cannot_be_made(cents: object) -> None:
    with pytest.raises(InvalidAmountError, match="is no amount"):
        Money(cents)  # type: ignore[arg-type]  # the point of the test


def test_amounts_are_written_as_people_read_them() -> None:
    assert [in_euros(cents) for cents in (5, 123_456_78, -20_00, -5)] == [
        "0.05 EUR",
        "123,456.78 EUR",
        "-20.00 EUR",
        "-0.05 EUR",
    ]


# -- Rules -------------------------------------------------------------------------------------------------------------


def test_an_account_is_opened_once(bank: Store) -> None:
    with pytest.raises(AccountExistsError, match="alice was opened before, for Alice Liddell"):
        bank.execute(open_account, ALICE, "Alice Cooper")


def test_an_account_has_an_owner(bank: Store) -> None:
    with pytest.raises(InvalidOwnerError, match="name its owner"):
        bank.execute(open_account, NOBODY, " ")


def test_deposits_and_withdrawals_give_the_new_balance(bank: Store) -> None:
    assert bank.execute(deposit, ALICE, Money(20)).result == 120
    assert bank.execute(withdraw, ALICE, Money(120)).result == 0
    assert bank.execute(balance, ALICE).result == 0


def test_a_transfer_is_one_event_in_both_accounts(bank: Store) -> None:
    receipt = bank.execute(transfer, ALICE, BOB, Money(40), "lunch")
    (recorded,) = receipt.events
    assert receipt.result == 60
    assert recorded.event == Transferred(ALICE, BOB, Money(40), "lunch")
    assert dict(recorded.streams) == {"account:alice": 3, "account:bob": 2}
    assert balances(bank) == (60, 40)


def test_more_than_there_is_does_not_leave_an_account(bank: Store) -> None:
    attempts: tuple[Callable[[], object], ...] = (
        lambda: bank.execute(withdraw, ALICE, Money(101)),
        lambda: bank.execute(transfer, ALICE, BOB, Money(101)),
    )
    for attempt in attempts:
        with pytest.raises(InsufficientFundsError) as caught:
            attempt()
        assert (caught.value.account, caught.value.available, caught.value.amount) == ("alice", 100, 101)
    assert balances(bank) == (100, 0)


def test_a_transfer_needs_two_open_accounts(bank: Store) -> None:
    with pytest.raises(SameAccountError):
        bank.execute(transfer, ALICE, ALICE, Money(1))
    for source, target in ((ALICE, NOBODY), (NOBODY, BOB)):
        with pytest.raises(AccountNotOpenError, match="nobody is not known"):
            bank.execute(transfer, source, target, Money(1))
    assert balances(bank) == (100, 0)


def test_an_overdraft_is_available_to_the_last_cent(bank: Store) -> None:
    assert bank.execute(agree_overdraft, ALICE, 50).events[0].event == OverdraftAgreed(50)
    assert bank.execute(transfer, ALICE, BOB, Money(150)).result == -50
    with pytest.raises(InsufficientFundsError, match="0 are available"):
        bank.execute(withdraw, ALICE, Money(1))


def test_an_overdraft_in_use_is_not_taken_back(bank: Store) -> None:
    bank.execute(agree_overdraft, ALICE, 50)
    bank.execute(withdraw, ALICE, Money(130))
    with pytest.raises(OverdraftInUseError, match="10 have to be deposited first"):
        bank.execute(agree_overdraft, ALICE, 20)
    bank.execute(agree_overdraft, ALICE, 30)
    assert bank.execute(agree_overdraft, ALICE, 30).events == ()
    assert bank.state(account(ALICE)) == Account(Status.OPEN, "Alice Liddell", -30, 30)


@pytest.mark.parametrize("limit", [-1, True, 1.5])
def test_an_overdraft_is_a_number_of_cents(limit: int, bank: Store) -> None:
    with pytest.raises(InvalidAmountError, match="from 0 to"):
        bank.execute(agree_overdraft, ALICE, limit)


def test_an_account_with_money_or_debts_is_not_closed(bank: Store) -> None:
    with pytest.raises(BalanceLeftError, match="still holds 100 cents: withdraw them, or name the account"):
        bank.execute(close, ALICE)
    bank.execute(agree_overdraft, ALICE, 50)
    bank.execute(withdraw, ALICE, Money(110))
    with pytest.raises(BalanceLeftError, match="still owes 10 cents: deposit them first"):
        bank.execute(close, ALICE, BOB)
    assert bank.state(account(ALICE)).status is Status.OPEN


def test_what_is_left_goes_where_it_is_sent_when_an_account_is_closed(bank: Store) -> None:
    receipt = bank.execute(close, ALICE, BOB)
    assert receipt.result == 100
    assert [recorded.event for recorded in receipt.events] == [
        Transferred(ALICE, BOB, Money(100), "remainder"),
        Closed(),
    ]
    assert balances(bank) == (0, 100)


def test_an_account_stays_open_when_what_is_left_cannot_be_sent(bank: Store) -> None:
    with pytest.raises(AccountNotOpenError):
        bank.execute(close, ALICE, NOBODY)
    assert balances(bank) == (100, 0)
    assert bank.state(account(ALICE)).status is Status.OPEN


def test_a_closed_account_is_gone_for_ever(bank: Store) -> None:
    bank.execute(close, BOB)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: bank.execute(close, BOB),
        lambda: bank.execute(balance, BOB),
        lambda: bank.execute(agree_overdraft, BOB, 5),
        lambda: bank.execute(transfer, ALICE, BOB, Money(5)),
    )
    for attempt in attempts:
        with pytest.raises(AccountNotOpenError, match="bob is closed"):
            attempt()
    with pytest.raises(AccountExistsError):
        bank.execute(open_account, BOB, "Bob Cratchit")


def test_a_refusal_keeps_its_facts_on_the_way_to_another_process() -> None:
    refusal = pickle.loads(pickle.dumps(InsufficientFundsError("alice", 100, 101)))
    assert (str(refusal), refusal.available) == (str(InsufficientFundsError("alice", 100, 101)), 100)


def test_deposits_are_stored_in_cents(bank: Store) -> None:
    assert [recorded.event for recorded in bank.log(types=Deposited)] == [Deposited(Money(100))]
    assert [recorded.event for recorded in bank.log(category="account", after=2)] == [{"amount": {"cents": 100}}]


async def test_the_same_commands_run_in_an_event_loop() -> None:
    async with AsyncStore("memory:") as store:
        await store.execute(open_account, ALICE, "Alice Liddell")
        await store.execute(open_account, BOB, "Bob Cratchit")
        await store.execute(deposit, ALICE, Money(100))
        assert (await store.execute(transfer, ALICE, BOB, Money(30))).result == 70


# -- Races -------------------------------------------------------------------------------------------------------------


def test_no_more_leaves_an_account_than_it_has_however_many_ask_at_once(stores: tuple[Store, ...]) -> None:
    open_both(stores[0])
    stores[0].execute(agree_overdraft, ALICE, 20)
    race = Race(stores)
    for _ in range(RACERS):
        race.run(transfer, ALICE, BOB, Money(10))
    assert len(race.results(InsufficientFundsError)) == 12
    assert balances(stores[1]) == (-20, 120)


def test_transfers_in_both_directions_neither_block_each_other_nor_lose_anything(stores: tuple[Store, ...]) -> None:
    open_both(stores[0])
    stores[0].execute(deposit, BOB, Money(100))
    race = Race(stores)
    for number in range(RACERS):
        race.run(transfer, *((ALICE, BOB) if number % 4 < 2 else (BOB, ALICE)), Money(12))
    assert len(race.results()) == RACERS
    assert balances(stores[1]) == (100, 100)
    assert stores[2].verify(accounts).ok


def test_nothing_arrives_on_an_account_that_is_being_closed(stores: tuple[Store, ...]) -> None:
    open_both(stores[0])
    race = Race(stores)
    for number in range(RACERS):
        if number % 2:
            race.run(close, BOB, ALICE)
        else:
            race.run(transfer, ALICE, BOB, Money(10))
    done = race.results(AccountNotOpenError)
    assert sum(receipt.events[-1].event == Closed() for receipt in done) == 1
    assert stores[1].state(account(BOB)) == Account(Status.CLOSED, "Bob Cratchit")
    assert stores[1].state(account(ALICE)).balance == 100


def test_an_order_that_arrives_many_times_moves_money_once(stores: tuple[Store, ...]) -> None:
    open_both(stores[0])
    race = Race(stores)
    for _ in range(RACERS):
        race.once("order-4711", transfer, ALICE, BOB, Money(30))
    receipts = race.results()
    assert {receipt.position for receipt in receipts} == {receipts[0].position}
    assert sum(not receipt.repeated for receipt in receipts) == 1
    assert balances(stores[1]) == (70, 30)


def test_an_account_is_opened_by_one_of_many(stores: tuple[Store, ...]) -> None:
    race = Race(stores)
    for number in range(RACERS):
        race.run(open_account, ALICE, f"Alice {number}")
    assert len(race.results(AccountExistsError)) == 1


# -- The story ---------------------------------------------------------------------------------------------------------


def test_the_day_at_the_bank_is_told_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bank", day.main, "", []) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "alice deposits 100 EUR and has 100.00 EUR",
        "alice transfers 30 EUR to bob and has 70.00 EUR: up to position 5",
    ]
    assert sum("refused" in line for line in lines) == 3
    assert lines[-1] == "120.00 EUR were deposited, 120.00 EUR are there; problems: ()"
