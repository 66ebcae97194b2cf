"""Streams that are likely to be empty are taken for empty without a load; and what becomes of it where they are not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import pytest

from factfold import AsyncStore, ConflictError, Retry, Store, Transaction
from factfold.folds import Fold
from factfold.guessing import FIRST, IDLE, LAST, Guesses
from factfold.storage.base import Append, Storage
from tests.conftest import MakeStore
from tests.engines import EVERY_ENGINE
from tests.faults import Faulty
from tests.ledger import (
    Deposited,
    InsufficientFundsError,
    Opened,
    accounts,
    balance,
    balances,
    deposit,
    owners,
    withdraw,
)
from tests.racing import race, within
from tests.together import Together, results

ENGINES = EVERY_ENGINE


class ExistsError(Exception):
    """There is such an account."""


def open_account(tx: Transaction, id: str) -> str:
    account = tx.read(accounts(id))
    if account.version:
        raise ExistsError(id)
    account.append(Opened(id))
    return account.state.owner


def train(store: Store, command: Callable[..., object] = open_account) -> None:
    """From now on the store takes it that this command finds nothing."""
    for number in range(FIRST):
        store.execute(command, f"trained-{number}")


def loads(store: Store) -> int:
    return store.stats().loads


# -- Right guesses -----------------------------------------------------------------------------------------------------


def test_what_has_lately_been_empty_is_not_loaded_any_more(store: Store) -> None:
    train(store)
    before = loads(store)

    receipts = [store.execute(open_account, f"new-{number}") for number in range(20)]

    assert loads(store) == before == FIRST
    assert [receipt.result for receipt in receipts] == [f"new-{number}" for number in range(20)]
    assert {receipt.attempts for receipt in receipts} == {1}
    assert (store.stats().guesses, store.stats().wrong_guesses) == (20, 0)
    assert store.state(accounts("new-3")).owner == "new-3"
    assert store.verify(accounts).ok


def test_the_stream_is_cached_as_if_it_had_been_loaded(store: Store) -> None:
    train(store)
    store.execute(open_account, "new")
    before = loads(store)

    assert store.execute(deposit, "new", 5).result == 5
    assert (store.version(accounts("new")), loads(store)) == (2, before)


def test_until_then_it_is_loaded(store: Store) -> None:
    for number in range(FIRST):
        store.execute(open_account, f"new-{number}")
        assert loads(store) == number + 1


def test_one_stream_that_is_not_empty_begins_the_count_again(store: Store, rival: Store) -> None:
    rival.execute(open_account, "old")
    for number in range(FIRST - 1):
        store.execute(open_account, f"new-{number}")
    with pytest.raises(ExistsError):
        store.execute(open_account, "old")
    train(store)

    assert loads(store) == FIRST + FIRST
    store.execute(open_account, "new")
    assert loads(store) == FIRST + FIRST


def test_another_command_is_another_matter(store: Store) -> None:
    train(store)
    before = loads(store)

    store.execute(deposit, "new", 1)

    assert loads(store) == before + 1


async def test_tasks_do_not_load_it_either(storage: Storage) -> None:
    async with AsyncStore(storage) as store:
        for number in range(FIRST + 20):
            receipt = await within(store.execute(open_account, f"new-{number}"))
            assert (receipt.position, receipt.attempts) == (number + 1, 1)
        assert store.stats().loads == FIRST


def test_the_key_of_execute_once_is_not_loaded_whatever_the_command_reads(store: Store, rival: Store) -> None:
    store.execute(deposit, "hot", 1)
    for number in range(FIRST):
        store.execute_once(f"key-{number}", deposit, "hot", 1)
    before = loads(store)

    receipts = [store.execute_once(f"key-{number}", deposit, "hot", 1) for number in range(FIRST, FIRST + 5)]

    assert loads(store) == before
    assert [receipt.result for receipt in receipts] == [FIRST + 2 + number for number in range(5)]
    again = rival.execute_once(f"key-{FIRST}", deposit, "hot", 1)
    assert (again.repeated, again.result, again.position) == (True, FIRST + 2, receipts[0].position)


def test_a_key_that_is_used_up_is_found_out(store: Store, rival: Store) -> None:
    for number in range(FIRST):
        store.execute_once(f"key-{number}", deposit, "hot", 1)
    first = rival.execute_once("taken", deposit, "hot", 1)
    before = loads(store)

    again = store.execute_once("taken", deposit, "hot", 1)

    assert (again.repeated, again.result, again.position) == (True, first.result, first.position)
    assert loads(store) == before + 1
    assert store.state(accounts("hot")).balance == FIRST + 1


# -- Wrong ones --------------------------------------------------------------------------------------------------------


def test_a_wrong_guess_is_found_out_by_the_append_and_decided_again(store: Store, rival: Store) -> None:
    rival.execute(open_account, "old")
    train(store)
    head = store.head()

    with pytest.raises(ExistsError):
        store.execute(open_account, "old")

    assert store.head() == head
    assert (store.stats().conflicts, store.stats().wrong_guesses) == (1, 1)
    assert store.version(accounts("old")) == 1


def test_after_a_wrong_guess_it_is_loaded_until_it_was_empty_for_twice_as_long(store: Store, rival: Store) -> None:
    rival.execute(open_account, "old")
    train(store)
    with pytest.raises(ExistsError):
        store.execute(open_account, "old")
    before = loads(store)

    for number in range(2 * FIRST + 5):
        store.execute(open_account, f"new-{number}")

    assert loads(store) == before + 2 * FIRST


def test_events_of_other_types_make_a_stream_not_empty(store: Store, rival: Store) -> None:
    def first_deposit(tx: Transaction, id: str) -> int:
        view = tx.read(balances(id))
        view.append(Deposited(view.version + 1))
        return view.state

    rival.execute(open_account, "old")
    train(store, first_deposit)

    receipt = store.execute(first_deposit, "old")

    assert (receipt.result, receipt.attempts) == (1, 2)
    assert [event.streams for event in store.events(balances("old"))] == [{"ledger:old": 2}]


def test_one_wrong_guess_fails_nobody_of_its_batch(together: Together, rival: Store) -> None:
    rival.execute(open_account, "old")
    train(together.store)
    rival.execute(deposit, "rich", 5)

    openings = ((open_account, "new"), (open_account, "old"))
    outcomes = together.execute(*openings, (withdraw, "rich", 5), (withdraw, "rich", 1), (open_account, "new"))

    assert results(outcomes) == ["new", ExistsError, 0, InsufficientFundsError, ExistsError]
    assert together.store.verify(accounts).ok


def test_a_stream_that_was_only_read_is_checked_too(store: Store, rival: Store) -> None:
    def open_beside(tx: Transaction, id: str) -> bool:
        mine, others = tx.read(accounts(id), owners(f"{id}'s other"))
        mine.append(Opened(id))
        return others.state == ""

    rival.execute(open_account, "old's other")
    train(store, open_beside)
    before = loads(store)

    assert store.execute(open_beside, "new").result
    assert loads(store) == before
    assert not store.execute(open_beside, "old").result


def test_where_one_attempt_is_all_the_error_names_the_stream(make_store: MakeStore, rival: Store) -> None:
    store = make_store(retry=Retry(max_attempts=1))
    rival.execute(open_account, "old")
    train(store)

    with pytest.raises(ConflictError) as caught:
        store.execute(open_account, "old")

    assert (caught.value.streams, caught.value.attempts) == (("ledger:old",), 1)
    with pytest.raises(ExistsError):
        store.execute(open_account, "old")


# -- Where a guess is of no use ----------------------------------------------------------------------------------------


def test_a_command_that_appends_nothing_waits_for_the_log(store: Store, rival: Store) -> None:
    def open_or_look(tx: Transaction, id: str) -> str:
        account = tx.read(accounts(id))
        if id.startswith("look"):
            return account.state.owner
        account.append(Opened(id))
        return account.state.owner

    rival.execute(open_account, "look-1")
    train(store, open_or_look)

    assert store.execute(open_or_look, "look-1").result == "look-1"
    assert store.execute(open_or_look, "look-2").result == ""
    assert store.execute(open_or_look, "new").result == "new"
    assert store.stats().conflicts == 0


def test_a_command_that_raises_waits_for_the_log(store: Store, rival: Store) -> None:
    def open_rich(tx: Transaction, id: str, amount: int = 1) -> None:
        account = tx.read(accounts(id))
        if account.state.balance + amount <= 0:
            raise InsufficientFundsError(id, account.state.balance, amount)
        account.append(Deposited(amount))

    rival.execute(deposit, "rich", 5)
    train(store, open_rich)

    store.execute(open_rich, "rich", -4)
    with pytest.raises(InsufficientFundsError) as caught:
        store.execute(open_rich, "poor", -4)

    assert caught.value.args == ("poor", 0, -4)
    assert store.state(accounts("rich")).balance == 1


def test_a_run_never_sees_what_is_loaded_beside_what_is_taken_for_empty(store: Store, rival: Store) -> None:
    """An account and its twin get the same events in one append: whoever sees one of them alone sees what never was."""
    seen: list[tuple[int, int]] = []

    def both(tx: Transaction, id: str) -> None:
        first = tx.read(accounts(id))
        second = tx.read(accounts(f"{id}'s twin"))
        seen.append((first.state.balance, second.state.balance))
        tx.append(Deposited(1), first, second)

    train(store, both)
    rival.execute(both, "old")
    assert store.execute(balance, "old's twin").result == 1  # it is loaded, and the other one is not
    store.execute(both, "old")

    assert {first - second for first, second in seen} == {0}
    assert store.state(accounts("old")).balance == store.state(accounts("old's twin")).balance == 2


# -- Races -------------------------------------------------------------------------------------------------------------


def test_of_16_racers_that_take_a_stream_for_empty_one_wins(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factfold.guessing.LAST", FIRST)  # or the losers would guess no more
    guessed: list[str] = []

    def note(append: object) -> None:
        assert isinstance(append, Append)
        guessed.extend(append.empty)

    def attempt(store: Store, id: str) -> bool:
        try:
            return store.execute(open_account, id).result == id
        except ExistsError:
            return False

    with ExitStack() as closing:
        stores: list[Store] = []
        for _ in range(4):
            faulty = Faulty(storage)
            faulty.before["append"] = note
            stores.append(closing.enter_context(Store(faulty)))
        for round in range(10):
            for number, store in enumerate(stores):
                for each in range(FIRST):
                    store.execute(open_account, f"{round}-{number}-{each}")
            won = race([partial(attempt, stores[n % 4], f"round-{round}") for n in range(16)])
            assert (won.count(True), won.count(False)) == (1, 15), won
            assert stores[round % 4].version(accounts(f"round-{round}")) == 1
        assert len([stream for stream in guessed if stream.startswith("ledger:round-")]) > 10
        assert all(store.verify(accounts).ok for store in stores)


# -- The count itself --------------------------------------------------------------------------------------------------


def fold_of_accounts() -> Fold:
    return accounts.fold


def test_a_guess_that_was_of_no_use_costs_some_of_the_count() -> None:
    guesses, fold = Guesses(), fold_of_accounts()
    for _ in range(FIRST):
        guesses.loaded(open_account, fold, empty=True)
    assert guesses.expects_nothing(open_account, fold)

    guesses.idle(open_account, fold)

    assert not guesses.expects_nothing(open_account, fold)
    for _ in range(IDLE):
        guesses.loaded(open_account, fold, empty=True)
    assert guesses.expects_nothing(open_account, fold)


def test_where_guesses_are_of_use_now_and_then_one_may_be_of_none() -> None:
    guesses, fold = Guesses(), fold_of_accounts()
    for _ in range(FIRST):
        guesses.loaded(open_account, fold, empty=True)
    for _ in range(10 * FIRST):
        guesses.used(open_account, fold)

    for _ in range(FIRST):
        guesses.idle(open_account, fold)

    assert guesses.expects_nothing(open_account, fold)
    guesses.idle(open_account, fold)
    assert not guesses.expects_nothing(open_account, fold)


def test_however_often_it_was_wrong_it_is_guessed_again_some_day() -> None:
    guesses, fold = Guesses(), fold_of_accounts()
    for _ in range(50):
        guesses.wrong(open_account, fold)

    for _ in range(LAST):
        assert not guesses.expects_nothing(open_account, fold)
        guesses.loaded(open_account, fold, empty=True)
    assert guesses.expects_nothing(open_account, fold)


def test_methods_partials_and_objects_are_known_again() -> None:
    class Opening:
        def __call__(self, tx: Transaction, id: str) -> None: ...

        def open(self, tx: Transaction, id: str) -> None: ...

    guesses, fold = Guesses(), fold_of_accounts()
    makers: list[Callable[[], Callable[..., object]]] = [
        lambda: open_account,
        lambda: partial(withdraw, amount=1),
        Opening,
        lambda: Opening().open,
    ]
    for make in makers:
        for _ in range(FIRST):
            assert not guesses.expects_nothing(make(), fold)
            guesses.loaded(make(), fold, empty=True)
        assert guesses.expects_nothing(make(), fold)
