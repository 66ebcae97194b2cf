"""Commands are strictly serializable: every decision rests on what the log holds, whoever else writes."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from factfold import AsyncStore, ConflictError, Retry, Store, Transaction, stream
from factfold.storage.base import Storage
from tests.conftest import MakeStore
from tests.engines import EVERY_ENGINE
from tests.faults import Faulty, once
from tests.ledger import (
    Account,
    Deposited,
    InsufficientFundsError,
    accounts,
    balance,
    balances,
    deposit,
    deposits,
    owners,
    rename,
    transfer,
    withdraw,
)
from tests.racing import race

ENGINES = EVERY_ENGINE


@pytest.fixture
def faulty(storage: Storage) -> Faulty:
    return Faulty(storage)


# -- Every stream that was read is checked -----------------------------------------------------------------------------


def test_a_decision_from_a_stale_cache_is_taken_again(store: Store, rival: Store) -> None:
    store.execute(deposit, "ann", 10)
    rival.execute(withdraw, "ann", 8)

    with pytest.raises(InsufficientFundsError) as caught:
        store.execute(withdraw, "ann", 8)

    assert caught.value.args == ("ann", 2, 8)
    assert store.state(accounts("ann")).balance == 2


def test_a_stream_that_was_only_read_is_checked(store: Store, rival: Store) -> None:
    def deposit_unless_named(tx: Transaction) -> str:
        owner, account = tx.read(owners("ann"), accounts("ben"))
        if not owner.state:
            account.append(Deposited(1))
        return owner.state

    store.state(owners("ann"))
    store.state(accounts("ben"))
    rival.execute(rename, "ann", "Ann")

    receipt = store.execute(deposit_unless_named)

    assert (receipt.result, receipt.position, receipt.attempts) == ("Ann", None, 2)


def test_a_command_that_appends_nothing_is_validated_against_the_log(store: Store, rival: Store) -> None:
    store.state(accounts("ann"))
    rival.execute(deposit, "ann", 5)

    receipt = store.execute(balance, "ann")

    assert (receipt.result, receipt.attempts) == (5, 2)


def test_a_command_that_raises_is_validated_against_the_log(store: Store, rival: Store) -> None:
    store.state(accounts("ann"))
    rival.execute(deposit, "ann", 5)

    assert store.execute(withdraw, "ann", 5).result == 0


def test_a_command_that_catches_what_a_part_raised_is_validated_on_what_that_part_read(
    store: Store, rival: Store
) -> None:
    def command(tx: Transaction) -> str:
        try:
            tx.call(withdraw, "ann", 5)
        except InsufficientFundsError:
            tx.read(accounts("ben")).append(Deposited(1))
            return "refused"
        return "withdrawn"

    store.state(accounts("ann"))
    store.state(accounts("ben"))
    rival.execute(deposit, "ann", 5)

    assert store.execute(command).result == "withdrawn"


def test_a_state_is_never_older_than_a_commit_acknowledged_before_the_call(store: Store, rival: Store) -> None:
    for amount in range(1, 20):
        rival.execute(deposit, "ann", 1)
        assert store.state(accounts("ann")).balance == amount
        assert store.version(accounts("ann")) == amount


def test_a_run_never_sees_a_mix_of_states_that_never_existed(store: Store, rival: Store) -> None:
    seen: list[tuple[int, int]] = []

    def both(tx: Transaction) -> tuple[int, int]:
        ann, ben = tx.read(accounts("ann"), accounts("ben"))
        seen.append((ann.state.balance, ben.state.balance))
        return seen[-1]

    rival.execute(deposit, "ann", 100)
    store.state(accounts("ann"))
    for number in range(1, 10):
        rival.execute(transfer, "ann", "ben", 10)
        if number == 3:
            store.state(accounts("ben"))  # loaded when the state of ann is old
        assert store.execute(both).result == (100 - 10 * number, 10 * number)

    assert {sum(pair) for pair in seen} == {100}


# -- What does not conflict --------------------------------------------------------------------------------------------


def test_an_event_that_the_fold_does_not_look_at_does_not_conflict(store: Store, rival: Store) -> None:
    def count(tx: Transaction) -> int:
        view = tx.read(deposits("ann"))
        view.append(Deposited(1))
        return view.state

    store.execute(count)
    rival.execute(rename, "ann", "Ann")

    receipt = store.execute(count)

    assert (receipt.result, receipt.attempts) == (2, 1)
    assert store.state(accounts("ann")) == Account("Ann", 2)
    assert [dict(each.streams) for each in store.log(types=accounts)] == [{"ledger:ann": n} for n in (1, 2, 3)]


def test_writers_of_other_streams_do_not_conflict(store: Store, rival: Store) -> None:
    for _ in range(5):
        assert store.execute(deposit, "ann", 1).attempts == 1
        assert rival.execute(deposit, "ben", 1).attempts == 1
    assert store.stats().conflicts == 0


# -- Attempts ----------------------------------------------------------------------------------------------------------


def test_the_second_attempt_is_decided_under_the_lock(make_store: MakeStore, faulty: Faulty, rival: Store) -> None:
    store = make_store(faulty)
    store.execute(deposit, "ann", 1)
    rival.execute(deposit, "ann", 1)
    faulty.calls.clear()

    receipt = store.execute(deposit, "ann", 1)

    assert (receipt.result, receipt.attempts) == (3, 2)
    assert (faulty.calls["append"], faulty.calls["lock"], faulty.calls["load"]) == (2, 1, 0)


def test_two_attempts_are_enough_whatever_the_rivals_do(make_store: MakeStore, faulty: Faulty, rival: Store) -> None:
    store = make_store(faulty)
    store.execute(deposit, "ann", 1)

    def disturb(_: object) -> None:
        faulty.before["append"] = lambda _: None
        rival.execute(deposit, "ann", 1)
        faulty.before["append"] = disturb

    faulty.before["append"] = disturb  # a rival is faster before each append...
    faulty.after["lock"] = lambda _: faulty.before.pop("append")  # ...that is not under the lock

    for _ in range(5):
        faulty.before["append"] = disturb
        assert store.execute(deposit, "ann", 1).attempts == 2
    assert store.state(accounts("ann")).balance == 11


def test_a_command_that_needs_more_under_the_lock_gives_it_back_and_loads(
    make_store: MakeStore, faulty: Faulty, rival: Store
) -> None:
    store = make_store(faulty)

    def command(tx: Transaction) -> int:
        owner = tx.read(owners("ann")).state
        other = tx.read(accounts(owner or "nobody"))
        other.append(Deposited(1))
        return other.state.balance

    store.execute(command)
    rival.execute(rename, "ann", "ben")
    rival.execute(deposit, "ben", 10)

    assert store.execute(command).result == 11
    assert faulty.calls["unlock"] >= 1
    assert rival.execute(deposit, "ben", 1).result == 12  # the lock is free


def test_a_command_that_finds_nothing_to_do_under_the_lock_gives_it_back(store: Store, rival: Store) -> None:
    def deposit_first(tx: Transaction) -> int:
        account = tx.read(accounts("ann"))
        if not account.state.balance:
            account.append(Deposited(1))
        return account.state.balance

    store.state(accounts("ann"))
    rival.execute(deposit, "ann", 5)

    receipt = store.execute(deposit_first)

    assert (receipt.result, receipt.position, receipt.attempts) == (5, None, 2)
    assert rival.execute(deposit, "ann", 1).result == 6


def test_where_attempts_are_exhausted_the_error_names_the_streams(make_store: MakeStore, rival: Store) -> None:
    store = make_store(retry=Retry(max_attempts=1))
    store.execute(deposit, "ann", 1)
    rival.execute(deposit, "ann", 1)

    with pytest.raises(ConflictError, match="ledger:ann") as caught:
        store.execute(deposit, "ann", 1)

    assert (caught.value.streams, caught.value.attempts) == (("ledger:ann",), 1)
    assert store.execute(deposit, "ann", 1).result == 3


def test_one_attempt_is_enough_for_a_command_that_only_reads(make_store: MakeStore, rival: Store) -> None:
    store = make_store(retry=Retry(max_attempts=1))
    store.state(accounts("ann"))
    rival.execute(deposit, "ann", 1)

    assert store.execute(balance, "ann").result == 1


def test_an_engine_without_lock_is_asked_again_until_it_succeeds(
    make_store: MakeStore, storage: Storage, rival: Store
) -> None:
    faulty = Faulty(storage, locks=False)
    store = make_store(faulty, retry=Retry(max_attempts=5, base=0.0))
    store.execute(deposit, "ann", 1)
    losses = 3

    def disturb(_: object) -> None:
        nonlocal losses
        if losses > 0:
            losses -= 1
            rival.execute(deposit, "ann", 1)

    faulty.before["append"] = disturb

    receipt = store.execute(deposit, "ann", 1)

    assert (receipt.result, receipt.attempts) == (5, 4)
    assert faulty.calls["lock"] == 0

    losses = 5
    with pytest.raises(ConflictError) as caught:
        store.execute(deposit, "ann", 1)
    assert caught.value.attempts == 5
    assert store.state(accounts("ann")).balance == 10


# -- Races -------------------------------------------------------------------------------------------------------------


@stream("seat", initial=0)
def seats(state: int, event: Deposited) -> int:
    return state + event.amount


def test_of_16_racers_for_one_place_one_wins(storage: Storage) -> None:
    def take(tx: Transaction, place: str) -> bool:
        seat = tx.read(seats(place))
        if seat.state == 0:
            seat.append(Deposited(1))
            return True
        return False

    def attempt(store: Store, place: str) -> bool:
        return store.execute(take, place).result

    stores = [Store(storage) for _ in range(4)]
    for round in range(30):
        place = f"round-{round}"
        won = race([partial(attempt, stores[n % 4], place) for n in range(16)])
        assert (won.count(True), won.count(False)) == (1, 15), won
        assert stores[round % 4].state(seats(place)) == 1
    for store in stores:
        store.close()


def test_write_skew_is_impossible(storage: Storage) -> None:
    """Each racer may go off duty only while the other is on duty; both streams are read, one is written."""

    def leave(tx: Transaction, me: str, round: str) -> bool:
        states = tx.read(seats(round, "a"), seats(round, "b"))
        mine = tx.read(seats(round, me))
        if mine.state == 0 and sum(view.state for view in states) == 0:
            mine.append(Deposited(1))
            return True
        return False

    def attempt(store: Store, me: str, round: str) -> bool:
        return store.execute(leave, me, round).result

    stores = [Store(storage) for _ in range(4)]
    for round in range(30):
        left = race([partial(attempt, stores[n % 4], "ab"[n // 8], str(round)) for n in range(16)])
        assert (left.count(True), left.count(False)) == (1, 15), left
    assert all(store.verify(seats).ok for store in stores)
    for store in stores:
        store.close()


def test_money_is_neither_made_nor_lost_by_racing_transfers_of_several_stores(storage: Storage) -> None:
    names = [f"a{number}" for number in range(5)]

    def moves(store: Store, first: int) -> int:
        done = 0
        for number in range(25):
            source, target = names[(first + number) % 5], names[(first + number * 3 + 1) % 5]
            if source == target:
                continue
            try:
                store.execute(transfer, source, target, 7)
            except InsufficientFundsError:
                continue
            done += 1
        return done

    stores = [Store(storage, cache_size=size) for size in (10_000, 1, 0)]
    for name in names:
        stores[0].execute(deposit, name, 20)
    done = race([partial(moves, stores[n % 3], n) for n in range(9)])

    counts = [each for each in done if isinstance(each, int)]
    assert len(counts) == 9, done
    for store in stores:
        found = [store.state(accounts(name)).balance for name in names]
        assert sum(found) == 100
        assert min(found) >= 0
        assert [store.state(balances(name)) for name in names] == found
    assert stores[0].head() == 5 + sum(counts)
    assert stores[0].verify(accounts).ok
    for store in stores:
        store.close()


async def test_tasks_of_several_stores_race_as_threads_do(storage: Storage) -> None:
    stores = [AsyncStore(storage, cache_size=size) for size in (10_000, 1)]

    async def add(store: AsyncStore) -> None:
        for _ in range(10):
            await store.execute(deposit, "ann", 1)

    await asyncio.gather(*(add(stores[n % 2]) for n in range(10)))

    for store in stores:
        assert (await store.state(accounts("ann"))).balance == 100
        assert await store.version(accounts("ann")) == 100
        await store.close()


def test_a_store_never_conflicts_with_itself(storage: Storage) -> None:
    with Store(storage) as store:
        race([lambda: [store.execute(deposit, "hot", 1) for _ in range(20)]] * 16)
        assert store.state(accounts("hot")).balance == 320
        assert store.stats().conflicts == 0


def test_stale_states_are_refreshed_from_the_answer_and_not_loaded_again(
    make_store: MakeStore, faulty: Faulty, rival: Store
) -> None:
    store = make_store(faulty)
    store.execute(deposit, "ann", 1)
    faulty.calls.clear()
    faulty.before["load"] = once(lambda _: pytest.fail("a load was sent"))
    for _ in range(3):
        rival.execute(deposit, "ann", 1)
        store.execute(deposit, "ann", 1)
    assert store.stats().conflicts == 3
