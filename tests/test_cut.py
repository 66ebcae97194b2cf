"""Every run sees one cut of the log, whatever others write meanwhile, and never a mix of states."""

from __future__ import annotations

import pytest

from factfold import LockLostError, Store, Transaction
from factfold.storage.base import NEWS_LIMIT, Check, Storage
from tests.conftest import MakeStore
from tests.engines import EVERY_ENGINE
from tests.faults import PATIENCE, Faulty, Gate
from tests.ledger import (
    Account,
    Deposited,
    Renamed,
    accounts,
    balances,
    deposit,
    deposits,
    owners,
    rename,
)
from tests.racing import eventually, start
from tests.together import heart_of

ENGINES = EVERY_ENGINE


@pytest.fixture
def faulty(storage: Storage) -> Faulty:
    return Faulty(storage)


def test_when_others_wrote_more_than_an_answer_can_tell_the_right_states_come_out(store: Store, rival: Store) -> None:
    store.execute(rename, "ann", "Ann")
    store.execute(deposit, "ben", 1)
    store.state(owners("ann"))

    def many(tx: Transaction) -> None:
        ann, ben = tx.read(accounts("ann"), accounts("ben"))
        for _ in range(NEWS_LIMIT // 2):
            ann.append(Deposited(1))
            ben.append(Deposited(1))
        ben.append(Deposited(1))

    rival.execute(many)

    def append_name(tx: Transaction) -> str:
        owner = tx.read(owners("ann"))
        owner.append(Renamed(owner.state + "!"))
        return owner.state

    receipt = store.execute(append_name)
    assert (receipt.result, receipt.attempts) == ("Ann!", 1)
    assert store.state(owners("ann")) == "Ann!"
    assert store.execute(deposit, "ben", 1).result == NEWS_LIMIT // 2 + 3
    assert store.state(accounts("ann")) == Account("Ann!", NEWS_LIMIT // 2)
    assert store.version(accounts("ann")) == NEWS_LIMIT // 2 + 2
    assert rival.state(accounts("ann")) == store.state(accounts("ann"))


def test_when_others_wrote_too_much_a_conflict_is_resolved_all_the_same(store: Store, rival: Store) -> None:
    store.execute(deposit, "ann", 1)

    def many(tx: Transaction) -> None:
        account = tx.read(accounts("ann"))
        account.append(*[Deposited(1)] * (NEWS_LIMIT + 1))

    rival.execute(many)

    assert store.execute(deposit, "ann", 1).result == NEWS_LIMIT + 3


def test_the_version_within_a_batch_holds_after_too_much_news(store: Store, rival: Store) -> None:
    def versions(tx: Transaction) -> int:
        view = tx.read(deposits("ann"))
        view.append(Deposited(1))
        return view.version

    store.execute(versions)

    def many(tx: Transaction) -> None:
        tx.read(owners("ann")).append(*[Renamed("Ann")] * (NEWS_LIMIT + 1))

    rival.execute(many)

    assert store.execute(versions).result == 1
    assert store.execute(versions).result == NEWS_LIMIT + 3


def test_every_fold_of_a_stream_moves_on_with_own_and_with_foreign_events(store: Store, rival: Store) -> None:
    for each in (accounts("ann"), balances("ann"), deposits("ann"), owners("ann")):
        store.state(each)
    store.execute(deposit, "ann", 1)
    rival.execute(rename, "ann", "Ann")
    rival.execute(deposit, "ann", 2)
    store.execute(deposit, "ben", 1)  # brings the news
    loads = store.stats().loads

    assert [store.state(each) for each in (accounts("ann"), balances("ann"), deposits("ann"), owners("ann"))] == [
        Account("Ann", 3),
        3,
        2,
        "Ann",
    ]
    assert store.stats().loads == loads


def test_news_that_come_with_a_load_do_not_hide_a_foreign_event(store: Store, rival: Store) -> None:
    store.state(accounts("ann"))
    rival.execute(deposit, "ann", 1)
    store.state(accounts("ben"))  # loads, and hears of ann

    assert store.execute(deposit, "ann", 1).attempts == 1
    assert store.state(accounts("ann")).balance == 2


def test_the_check_names_the_versions_that_the_streams_have(
    make_store: MakeStore, faulty: Faulty, rival: Store
) -> None:
    store = make_store(faulty)
    checks: list[Check] = []
    faulty.before["append"] = lambda asked: checks.append(asked.check)  # type: ignore[attr-defined]  # an Append

    for _ in range(3):
        store.execute(deposit, "ann", 1)
        rival.execute(rename, "ann", "Ann")
        store.execute(rename, "ben", "Ben")

    for check in checks:
        events = list(rival.log(types=accounts))[: check.after.position]
        for id, version in check.versions.items():
            assert version == sum(id in each.streams for each in events)
    assert any(check.versions.get("ledger:ann") for check in checks)


def test_a_caller_that_joins_a_load_sees_what_was_committed_before_its_call(faulty: Faulty, rival: Store) -> None:
    with Store(faulty) as store:
        gate = Gate()
        faulty.after["load"] = gate  # the load has been answered, and its answer is on the way
        first = start(store.state, accounts("ann"))
        assert gate.reached.wait(PATIENCE)
        rival.execute(deposit, "ann", 5)
        second = start(store.state, accounts("ann"))
        eventually(lambda: len(next(iter(heart_of(store).missing.loadings.values())).jobs) == 2)
        gate.open()

        assert second.result().balance == 5
        assert first.result().balance in (0, 5)


def test_a_load_that_comes_back_late_is_brought_up_to_the_cut(faulty: Faulty, rival: Store) -> None:
    with Store(faulty) as store:
        store.state(owners("ann"))
        gate = Gate()
        faulty.after["load"] = gate
        late = start(store.execute, deposit, "ann", 100)
        assert gate.reached.wait(PATIENCE)
        store.execute(rename, "ann", "Ann")  # the stream moves on here,
        rival.execute(deposit, "ann", 5)  # and there
        store.execute(rename, "ann", "Anna")
        gate.open()

        assert late.result().result == 105
        assert store.state(accounts("ann")) == Account("Anna", 105)
        assert faulty.calls["load"] == 2


def test_a_lock_that_was_taken_away_is_taken_again(make_store: MakeStore, faulty: Faulty, rival: Store) -> None:
    store = make_store(faulty)
    store.execute(deposit, "ann", 1)

    def lose_the_lock(_: object) -> None:
        if faulty.calls["lock"] == 1:
            faulty.logs[0].unlock()
            raise LockLostError("taken away")

    rival.execute(deposit, "ann", 1)
    faulty.before["append"] = lose_the_lock

    receipt = store.execute(deposit, "ann", 1)

    assert (receipt.result, receipt.attempts) == (3, 3)
    assert rival.execute(deposit, "ann", 1).result == 4
