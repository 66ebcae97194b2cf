"""Commands are batched: one append for many of them, each decided on what the earlier ones left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar

import pytest

from factfold import (
    AsyncStore,
    Receipt,
    Store,
    Transaction,
    deciding,
    metadata,
)
from factfold.storage.base import Append, Storage
from tests.faults import PATIENCE, Faulty, Gate
from tests.ledger import (
    Account,
    Deposited,
    InsufficientFundsError,
    Renamed,
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
from tests.racing import eventually, start
from tests.together import Threads, Together, nothing, queued, results

# -- One append --------------------------------------------------------------------------------------------------------


def test_many_commands_become_one_append(together: Together) -> None:
    together.store.state(accounts("ann"))
    together.store.state(accounts("ben"))
    together.faulty.calls.clear()
    appends: list[Append] = []
    together.faulty.before["append"] = appends.append  # type: ignore[assignment]  # it is given appends only

    outcomes = together.execute(
        (deposit, "ann", 1), (deposit, "ben", 2), (deposit, "ann", 3), (rename_known, "ann", "Ann"), (balance, "ben")
    )

    assert results(outcomes) == [1, 2, 4, None, 2]
    assert len(appends) == 1
    assert [each.streams for each in appends[0].events] == [("ledger:ann",), ("ledger:ben",), *[("ledger:ann",)] * 2]
    assert {each.stream for each in appends[0].check.selections} == {"ledger:ann", "ledger:ben"}
    assert together.faulty.calls["check"] == isinstance(together, Threads)  # of the command before


def rename_known(tx: Transaction, id: str, owner: str) -> None:
    tx.read(accounts(id)).append(Renamed(owner))


def test_each_receipt_tells_of_its_own_events(together: Together) -> None:
    together.store.state(accounts("ann"))
    before = together.store.head()

    first, second, third = together.execute((deposit, "ann", 1), (two_deposits, "ann"), (deposit, "ann", 4))

    assert isinstance(first, Receipt) and isinstance(second, Receipt) and isinstance(third, Receipt)
    assert [first.position, second.position, third.position] == [before + 1, before + 3, before + 4]
    assert [each.event for each in second.events] == [Deposited(2), Deposited(3)]
    assert [dict(each.streams) for each in (*first.events, *second.events, *third.events)] == [
        {"ledger:ann": version} for version in (1, 2, 3, 4)
    ]
    assert list(together.store.log(types=accounts)) == [*first.events, *second.events, *third.events]


def two_deposits(tx: Transaction, id: str) -> None:
    tx.read(accounts(id)).append(Deposited(2), Deposited(3))


def test_what_a_batch_appends_is_seen_by_its_later_commands_through_whichever_fold(together: Together) -> None:
    for each in (accounts("ann"), balances("ann"), owners("ann"), deposits("ben"), balances("ben"), accounts("ben")):
        together.store.state(each)

    def look(tx: Transaction) -> list[object]:
        views = tx.read(accounts("ann"), balances("ann"), owners("ann"), balances("ben"), deposits("ben"))
        return [view.state for view in views]

    outcomes = together.execute(
        (open_account, "ann", "Ann"),
        (deposit, "ann", 9),
        (look,),
        (transfer, "ann", "ben", 4),
        (rename, "ann", "A"),
        (look,),
    )

    assert results(outcomes) == [None, 9, [Account("Ann", 9), 9, "Ann", 0, 0], 5, None, [Account("A", 5), 5, "A", 4, 0]]
    assert together.store.execute(look).result == [Account("A", 5), 5, "A", 4, 0]
    assert together.faulty.calls["append"] == 1


def test_what_a_raising_command_appended_is_not_seen_by_the_next(together: Together) -> None:
    together.store.state(accounts("ann"))

    def deposit_and_raise(tx: Transaction) -> None:
        deposit(tx, "ann", 100)
        raise InsufficientFundsError

    outcomes = together.execute((deposit, "ann", 1), (deposit_and_raise,), (deposit, "ann", 2))

    assert results(outcomes) == [1, InsufficientFundsError, 3]


def test_the_versions_that_a_batch_sees_count_its_own_events(together: Together) -> None:
    together.store.execute(open_account, "ann", "Ann")
    for each in (deposits("ann"), owners("ann")):
        together.store.state(each)

    def versions(tx: Transaction) -> tuple[int, int]:
        count, owner = tx.read(deposits("ann"), owners("ann"))
        return count.version, owner.version

    outcomes = together.execute((versions,), (deposit, "ann", 1), (versions,), (rename, "ann", "A"), (versions,))

    assert results(outcomes) == [(0, 1), 1, (2, 1), None, (2, 3)]


def test_a_version_that_rests_on_the_own_batch_conflicts_with_any_event_of_the_stream(
    together: Together, rival: Store
) -> None:
    together.store.state(deposits("ann"))
    seen: list[int] = []

    def count(tx: Transaction) -> None:
        tx.read(deposits("ann")).append(Deposited(1))

    def version(tx: Transaction) -> int:
        seen.append(tx.read(deposits("ann")).version)
        return seen[-1]

    first, second = together.execute(
        (count,),
        (version,),
        meanwhile=lambda: rival.execute(rename, "ann", "Ann"),  # which the fold does not look at
    )

    assert isinstance(first, Receipt) and isinstance(second, Receipt)
    assert seen == [1, 2]
    assert (second.result, second.attempts) == (2, 2)
    assert dict(first.events[0].streams) == {"ledger:ann": 2}


def test_a_batch_without_events_is_validated_without_the_writers_lock(together: Together) -> None:
    together.store.state(accounts("ann"))
    together.faulty.calls.clear()

    outcomes = together.execute((balance, "ann"), (withdraw, "ann", 5), (balance, "ann"))

    assert results(outcomes) == [0, InsufficientFundsError, 0]
    assert together.faulty.calls["check"] == (2 if isinstance(together, Threads) else 1)
    assert together.faulty.calls["append"] + together.faulty.calls["lock"] == 0


def test_a_batch_that_lost_a_race_is_run_again_as_a_whole(together: Together, rival: Store) -> None:
    together.store.execute(deposit, "ann", 10)
    together.store.state(accounts("ben"))

    outcomes = together.execute(
        (deposit, "ben", 1),
        (withdraw, "ann", 5),
        (deposit, "ann", 1),
        (balance, "ben"),
        meanwhile=lambda: rival.execute(withdraw, "ann", 8),
    )

    assert results(outcomes) == [1, InsufficientFundsError, 3, 1]
    assert together.faulty.calls["lock"] == 1
    assert rival.state(accounts("ann")).balance == 3
    assert rival.state(accounts("ben")).balance == 1


def test_the_answer_of_a_command_that_raises_is_given_after_what_it_read_is_committed(storage: Storage) -> None:
    together = Threads(Faulty(storage))
    together.store.state(accounts("ann"))
    together.faulty.before["append"] = gate = Gate()

    wrote, raised, looked = together.start((deposit, "ann", 1), (withdraw, "ann", 5), (balance, "ann"))
    assert gate.reached.wait(PATIENCE)

    assert not (wrote.ended or raised.ended or looked.ended)
    gate.open()
    assert (wrote.result().result, looked.result().result) == (1, 1)
    error = raised.error()
    assert isinstance(error, InsufficientFundsError)
    assert error.args == ("ann", 1, 5)
    together.close()


def test_a_rejection_that_rested_on_a_stale_state_is_not_given(together: Together, rival: Store) -> None:
    together.store.state(accounts("ann"))
    together.store.state(accounts("ben"))

    outcomes = together.execute(
        (deposit, "ben", 1), (withdraw, "ann", 5), meanwhile=lambda: rival.execute(deposit, "ann", 5)
    )

    assert results(outcomes) == [1, 0]


def test_a_state_that_only_a_suspended_run_has_seen_still_hears_what_others_appended(
    together: Together, rival: Store
) -> None:
    together.store.state(accounts("ann"))
    together.store.state(deposits("ann"))

    def looks_further(tx: Transaction) -> str:
        owner = tx.read(accounts("ann")).state.owner
        tx.read(accounts("cold"))
        return owner

    def count(tx: Transaction) -> None:
        tx.read(deposits("ann")).append(Deposited(1))

    outcomes = together.execute(
        (looks_further,),
        (count,),
        meanwhile=lambda: rival.execute(rename, "ann", "Ann"),  # no conflict for the count
    )

    assert results(outcomes) == ["Ann", None]
    assert together.store.state(accounts("ann")) == Account("Ann", 1)
    assert together.store.execute(deposit, "ann", 1).result == 2


def test_every_command_runs_in_the_context_of_its_caller(together: Together) -> None:
    together.store.state(accounts("ann"))
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    def command(tx: Transaction) -> str:
        deposit(tx, "ann", 1)
        found = variable.get()
        variable.set("set by a command")
        return found

    def call(name: str) -> Callable[[Transaction], str]:
        return lambda tx: f"{name}: {command(tx)}"

    assert results(together.execute((call("a"),), (call("b"),))) == ["a: unset", "b: unset"]


def test_every_event_of_a_batch_has_the_metadata_of_its_own_caller(storage: Storage) -> None:
    together = Threads(Faulty(storage))
    together.store.state(accounts("ann"))
    together.faulty.before["check"] = gate = Gate()

    def deposit_as(actor: str) -> Receipt[int]:
        with metadata(actor=actor):
            return together.store.execute(deposit, "ann", 1)

    first = start(together.store.execute, nothing)
    assert gate.reached.wait(PATIENCE)
    started = [start(deposit_as, actor) for actor in ("ann", "ben", "cid")]
    eventually(lambda: queued(together.store) == 3)
    gate.open()
    first.result()

    assert [each.result().events[0].metadata.actor for each in started] == ["ann", "ben", "cid"]
    assert sorted(each.metadata.actor or "" for each in together.store.log()) == ["ann", "ben", "cid"]
    assert together.faulty.calls["append"] == 1
    together.close()


def test_a_decision_from_the_cache_is_validated_in_the_round_trip_of_its_append(together: Together) -> None:
    together.store.state(accounts("ann"))
    together.faulty.calls.clear()

    together.store.execute(deposit, "ann", 1)
    together.store.execute(deposit, "ann", 1)

    assert together.faulty.calls == {"append": 2}


# -- Bounds ------------------------------------------------------------------------------------------------------------


def sizes_of_appends(together: Together) -> list[int]:
    sizes: list[int] = []
    together.faulty.before["append"] = lambda asked: sizes.append(len(asked.events))  # type: ignore[attr-defined]  # an Append
    return sizes


def test_a_batch_is_bounded_in_commands(together: Together, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "MAX_COMMANDS", 3)
    together.store.state(accounts("ann"))
    sizes = sizes_of_appends(together)

    outcomes = together.execute(*[(deposit, "ann", 1)] * 8)

    assert results(outcomes) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert sizes == [3, 3, 2]


def test_a_batch_is_bounded_in_bytes(together: Together, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "MAX_BYTES", 100)
    together.store.state(owners("ann"))
    sizes = sizes_of_appends(together)

    together.execute(*[(rename, "ann", "x" * 60)] * 5)

    assert sizes == [2, 2, 1]


def test_a_batch_is_bounded_in_time(together: Together, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "MAX_SECONDS", 0.0)
    together.store.state(accounts("ann"))
    sizes = sizes_of_appends(together)

    together.execute(*[(deposit, "ann", 1)] * 3)

    assert sizes == [1, 1, 1]


# -- The lead ----------------------------------------------------------------------------------------------------------


def test_64_threads_get_the_lead_in_the_order_of_their_calls(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "MAX_COMMANDS", 1)
    together = Threads(Faulty(storage))
    together.store.state(accounts("hot"))
    together.faulty.threads.clear()

    started = together.start(*[(deposit, "hot", 1)] * 64)

    assert [each.result().result for each in started] == list(range(1, 65))
    assert together.faulty.threads["append"] == [each.thread.ident for each in started]
    together.close()


def test_one_leader_serves_all_who_wait(storage: Storage) -> None:
    together = Threads(Faulty(storage))
    together.store.state(accounts("hot"))
    together.faulty.threads.clear()

    started = together.start(*[(deposit, "hot", 1)] * 64)

    assert [each.result().result for each in started] == list(range(1, 65))
    assert together.faulty.threads["append"] == [started[0].thread.ident]
    together.close()


def test_a_lone_thread_does_everything_itself_and_waits_for_nobody(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = Faulty(storage)
    with Store(faulty) as store:
        monkeypatch.setattr(Store, "_sleep", lambda *_: pytest.fail("a lone thread went to sleep"))
        threads = threading.enumerate()
        for number in range(5):
            store.execute(deposit, f"cold-{number}", 1)
            store.execute(deposit, "hot", 1)
            store.state(accounts("hot"))

        # PostgreSQL announces appends in a thread of its own, which nobody waits for.
        begun = {each.name for each in set(threading.enumerate()) - set(threads)}
        assert begun <= {"factfold-announcer"}
        assert {each for calls in faulty.threads.values() for each in calls} == {threading.get_ident()}


def test_async_commands_run_on_the_loop_and_never_wait_there(storage: Storage) -> None:
    faulty = Faulty(storage)
    ran: list[int] = []

    def command(tx: Transaction) -> None:
        ran.append(threading.get_ident())
        deposit(tx, "ann", 1)

    async def main() -> None:
        async with AsyncStore(faulty) as store:
            await asyncio.gather(*(store.execute(command) for _ in range(10)))

    asyncio.run(main())

    assert set(ran) == {threading.get_ident()}
    assert threading.get_ident() not in {each for calls in faulty.threads.values() for each in calls}
