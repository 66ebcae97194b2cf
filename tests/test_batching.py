"""Commands are batched: one append for many of them, each decided on what the earlier ones left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

import pytest

from factfold import (
    AppendRefusedError,
    AsyncStore,
    ConflictError,
    EncodingError,
    LogDivergedError,
    Receipt,
    Retry,
    StorageError,
    StorageFullError,
    Store,
    StoreUnavailableError,
    Transaction,
    batch,
    metadata,
    stream,
)
from factfold.events import uuid7
from factfold.storage.base import Append, Load, Storage
from tests.conftest import MakeStore
from tests.faults import PATIENCE, Faulty, Gate, once, raising
from tests.ledger import (
    Account,
    Deposited,
    InsufficientFundsError,
    Opened,
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
from tests.racing import eventually, soon, start, within
from tests.together import Call, MakeTogether, Outcome, Threads, Together, heart_of, nothing, queued


def results(outcomes: list[Outcome]) -> list[object]:
    return [each.result if isinstance(each, Receipt) else type(each) for each in outcomes]


@dataclass(frozen=True)
class Strict:
    total: int = 0


@stream("ledger", initial=Strict())
def strict(state: Strict, event: Deposited) -> Strict:
    if event.amount == 13:
        raise LookupError("this fold does not like 13")
    return Strict(state.total + event.amount)


# -- One append --------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine does not cut a batch short. Tests of that bound set it themselves."""
    monkeypatch.setattr("factfold.batch.MAX_SECONDS", 60.0)


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
    monkeypatch.setattr(batch, "MAX_COMMANDS", 3)
    together.store.state(accounts("ann"))
    sizes = sizes_of_appends(together)

    outcomes = together.execute(*[(deposit, "ann", 1)] * 8)

    assert results(outcomes) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert sizes == [3, 3, 2]


def test_a_batch_is_bounded_in_bytes(together: Together, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_BYTES", 100)
    together.store.state(owners("ann"))
    sizes = sizes_of_appends(together)

    together.execute(*[(rename, "ann", "x" * 60)] * 5)

    assert sizes == [2, 2, 1]


def test_a_batch_is_bounded_in_time(together: Together, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_SECONDS", 0.0)
    together.store.state(accounts("ann"))
    sizes = sizes_of_appends(together)

    together.execute(*[(deposit, "ann", 1)] * 3)

    assert sizes == [1, 1, 1]


# -- The lead ----------------------------------------------------------------------------------------------------------


def test_64_threads_get_the_lead_in_the_order_of_their_calls(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_COMMANDS", 1)
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
        threads = threading.active_count()
        for number in range(5):
            store.execute(deposit, f"cold-{number}", 1)
            store.execute(deposit, "hot", 1)
            store.state(accounts("hot"))

        assert threading.active_count() == threads
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


# -- Loads -------------------------------------------------------------------------------------------------------------


def loads_of(asked: object, id: str) -> bool:
    assert isinstance(asked, Load)
    return any(wanted.selection.stream == id for wanted in asked.wanted)


def holding(gate: Gate, id: str) -> Callable[[object], None]:
    """A hook before a load that holds those of one stream."""

    def hook(asked: object) -> None:
        if loads_of(asked, id):
            gate()

    return hook


def test_a_cold_stream_delays_nobody_else(storage: Storage, rival: Store) -> None:
    rival.execute(deposit, "slow", 1)
    faulty = Faulty(storage)
    gate = Gate()
    faulty.before["load"] = holding(gate, "ledger:slow")
    with Store(faulty) as store:
        slow = start(store.execute, balance, "slow")
        assert gate.reached.wait(PATIENCE)

        for number in range(3):
            assert store.execute(deposit, "hot", 1).result == number + 1
            assert store.execute(balance, f"cold-{number}").result == 0
        assert not slow.ended
        gate.open()
        assert slow.result().result == 1


async def test_a_cold_stream_delays_no_other_task(storage: Storage, rival: Store) -> None:
    rival.execute(deposit, "slow", 1)
    faulty = Faulty(storage)
    gate = Gate()
    faulty.before["load"] = holding(gate, "ledger:slow")
    async with AsyncStore(faulty) as store:
        slow = asyncio.create_task(store.execute(balance, "slow"))
        await soon(gate.reached.is_set)

        for number in range(3):
            assert (await within(store.execute(deposit, "hot", 1))).result == number + 1
            assert (await within(store.execute(balance, f"cold-{number}"))).result == 0
        assert not slow.done()
        gate.open()
        assert (await within(slow)).result == 1


def test_a_cold_command_does_not_wait_for_the_append_of_the_batch_that_it_left(
    together: Together, rival: Store
) -> None:
    rival.execute(deposit, "cold", 5)
    together.store.state(accounts("hot"))
    loading = Gate()
    together.faulty.before["load"] = lambda _: loading.open()
    together.faulty.before["append"] = lambda _: loading()  # goes on when the load has begun

    assert results(together.execute((deposit, "hot", 1), (balance, "cold"))) == [1, 5]


async def test_a_long_stream_does_not_delay_a_short_one_that_is_loaded_with_it(storage: Storage, rival: Store) -> None:
    def fill(tx: Transaction) -> None:
        tx.read(accounts("long")).append(*[Deposited(1)] * 9000)

    rival.execute(fill)
    rival.execute(deposit, "short", 7)
    faulty = Faulty(storage)
    gate = Gate()
    faulty.before["load"] = lambda _: gate() if faulty.calls["load"] > 3 else None
    async with AsyncStore(faulty) as store:
        long = asyncio.create_task(store.execute(balance, "long"))
        short = asyncio.create_task(store.execute(balance, "short"))
        await soon(gate.reached.is_set)

        assert (await within(short)).result == 7
        assert not long.done()
        gate.open()
        assert (await within(long)).result == 9000


def test_a_stream_is_loaded_once_however_many_threads_wait_for_it(storage: Storage, rival: Store) -> None:
    rival.execute(deposit, "cold", 5)
    faulty = Faulty(storage)
    gate = Gate()
    faulty.before["load"] = holding(gate, "ledger:cold")
    with Store(faulty) as store:
        started = [start(store.execute, balance, "cold")]
        assert gate.reached.wait(PATIENCE)
        started += [start(store.execute, balance, "cold") for _ in range(7)]
        eventually(lambda: len(next(iter(heart_of(store)._loading.values())).jobs) == 8)
        gate.open()

        assert [each.result().result for each in started] == [5] * 8
        assert faulty.calls["load"] == 1


async def test_a_stream_is_loaded_once_however_many_tasks_wait_for_it(storage: Storage, rival: Store) -> None:
    rival.execute(deposit, "cold", 5)
    faulty = Faulty(storage)
    gate = Gate()
    faulty.before["load"] = holding(gate, "ledger:cold")
    async with AsyncStore(faulty) as store:
        tasks = [asyncio.create_task(store.execute(balance, "cold"))]
        await soon(gate.reached.is_set)
        tasks += [asyncio.create_task(store.execute(balance, "cold")) for _ in range(7)]
        await soon(lambda: len(next(iter(heart_of(store)._loading.values())).jobs) == 8)
        gate.open()

        assert [(await within(each)).result for each in tasks] == [5] * 8
        assert faulty.calls["load"] == 1


async def test_a_shared_load_survives_the_cancellation_of_its_first_caller(storage: Storage, rival: Store) -> None:
    rival.execute(deposit, "cold", 5)
    faulty = Faulty(storage)
    gate = Gate()
    faulty.before["load"] = gate
    async with AsyncStore(faulty) as store:
        first = asyncio.create_task(store.execute(balance, "cold"))
        await soon(gate.reached.is_set)
        second = asyncio.create_task(store.execute(balance, "cold"))
        await soon(lambda: len(next(iter(heart_of(store)._loading.values())).jobs) == 2)
        first.cancel()
        gate.open()

        assert (await within(second)).result == 5
        assert first.cancelled()
        assert faulty.calls["load"] == 1


def test_all_streams_of_one_read_come_with_one_load(together: Together) -> None:
    def command(tx: Transaction) -> int:
        return sum(view.state for view in tx.read(balances(str(number)) for number in range(50)))

    together.faulty.calls.clear()
    together.store.execute(command)

    assert together.faulty.calls["load"] == 1


def test_a_stream_of_thousands_of_events_is_folded_whole(together: Together, rival: Store) -> None:
    def fill(tx: Transaction) -> None:
        tx.read(accounts("long")).append(*[Deposited(1)] * 4567)

    rival.execute(fill)
    rival.execute(rename, "long", "Long")

    assert together.store.state(accounts("long")) == Account("Long", 4567)
    assert together.store.version(accounts("long")) == 4568
    assert together.store.state(owners("long")) == "Long"


def test_more_streams_than_one_load_takes_are_loaded_all_the_same(together: Together, rival: Store) -> None:
    def fill(tx: Transaction) -> None:
        for view in tx.read(accounts(str(number)) for number in range(600)):
            view.append(Deposited(1))

    def total(tx: Transaction) -> int:
        return sum(view.state for view in tx.read(balances(str(number)) for number in range(600)))

    rival.execute(fill)

    assert together.store.execute(total).result == 600


@pytest.mark.parametrize("size", [0, 1, 2])
def test_what_was_loaded_for_a_command_is_kept_for_it_however_small_the_cache(
    make_together: MakeTogether, rival: Store, size: int
) -> None:
    together = make_together(cache_size=size)
    rival.execute(deposit, "0", 1)

    def one_by_one(tx: Transaction) -> int:
        return sum(tx.read(balances(str(number))).state for number in range(10))

    together.faulty.calls.clear()
    assert together.store.execute(one_by_one).result == 1
    assert together.faulty.calls["load"] == 10
    assert len(together.heart.cache) <= size


@pytest.mark.parametrize("size", [0, 1])
def test_commands_that_crowd_a_tiny_cache_all_come_to_an_end(make_together: MakeTogether, size: int) -> None:
    together = make_together(cache_size=size)

    def command(tx: Transaction, first: int) -> int:
        for number in range(5):
            deposit(tx, str((first + number) % 7), 1)
        return first

    assert results(together.execute(*[(command, number) for number in range(14)])) == list(range(14))
    assert sum(together.store.state(balances(str(number))) for number in range(7)) == 70
    assert len(together.heart.cache) <= size


# -- What is refused, and what fails -----------------------------------------------------------------------------------


def refusing(*amounts: int) -> Callable[[object], None]:
    """A hook before an append that refuses deposits of these amounts."""

    def hook(asked: object) -> None:
        assert isinstance(asked, Append)
        if any(f'"amount":{amount}}}'.encode() in event.data for event in asked.events for amount in amounts):
            raise AppendRefusedError("the storage does not like this amount")

    return hook


@pytest.mark.parametrize("poison", [[0], [3], [7], [2, 5], [0, 1, 2, 3], list(range(8))])
def test_a_payload_that_the_storage_refuses_fails_its_own_command_only(together: Together, poison: list[int]) -> None:
    for number in range(8):
        together.store.state(accounts(str(number)))
    amounts = [1000 + number for number in range(8)]
    together.faulty.before["append"] = refusing(*(amounts[number] for number in poison))

    outcomes = together.execute(*[(deposit, str(number), amounts[number]) for number in range(8)])

    for number, outcome in enumerate(outcomes):
        if number in poison:
            assert isinstance(outcome, AppendRefusedError)
        else:
            assert isinstance(outcome, Receipt)
            assert outcome.result == amounts[number]
    found = [together.store.state(accounts(str(number))).balance for number in range(8)]
    assert found == [0 if number in poison else amounts[number] for number in range(8)]
    assert together.store.head() == 8 - len(poison)


def test_who_decided_on_what_was_refused_decides_again(together: Together) -> None:
    together.store.execute(deposit, "ann", 1)
    together.faulty.before["append"] = refusing(1000)

    outcomes = together.execute(
        (withdraw, "ann", 500), (deposit, "ann", 1000), (withdraw, "ann", 500), (balance, "ann"), (deposit, "ann", 2)
    )

    assert results(outcomes) == [InsufficientFundsError, AppendRefusedError, InsufficientFundsError, 1, 3]
    assert together.store.state(accounts("ann")).balance == 3


def test_a_storage_that_is_full_tells_every_writer_and_disturbs_no_reader(together: Together) -> None:
    together.store.execute(deposit, "ann", 5)
    together.faulty.before["append"] = raising(StorageFullError("full"))

    outcomes = together.execute((deposit, "ann", 1), (balance, "ann"), (withdraw, "ann", 9), (deposit, "ann", 2))

    assert results(outcomes) == [StorageFullError, 5, InsufficientFundsError, StorageFullError]
    del together.faulty.before["append"]
    assert together.store.execute(deposit, "ann", 1).result == 6


def test_a_fold_that_raises_fails_only_the_commands_that_read_it(together: Together, rival: Store) -> None:
    rival.execute(deposit, "ann", 13)
    together.store.state(accounts("ann"))

    def read_strict(tx: Transaction) -> Strict:
        return tx.read(strict("ann")).state

    outcomes = together.execute((deposit, "ann", 1), (read_strict,), (read_strict,), (deposit, "ann", 2))

    assert results(outcomes) == [14, LookupError, LookupError, 16]
    with pytest.raises(LookupError):
        together.store.state(strict("ann"))
    assert together.store.execute(deposit, "ben", 1).result == 1


def test_a_fold_that_raises_on_what_the_batch_appended_fails_only_the_commands_that_read_it(
    together: Together,
) -> None:
    together.store.state(accounts("ann"))
    together.store.state(strict("ann"))

    def read_strict(tx: Transaction) -> Strict:
        return tx.read(strict("ann")).state

    outcomes = together.execute(
        (deposit, "ann", 1), (read_strict,), (deposit, "ann", 13), (read_strict,), (balance, "ann")
    )

    assert results(outcomes) == [1, Strict(1), 14, LookupError, 14]
    with pytest.raises(LookupError):
        together.store.state(strict("ann"))
    assert together.store.state(accounts("ann")).balance == 14


def test_a_cached_fold_that_raises_on_what_others_wrote_fails_only_those_that_read_it(
    together: Together, rival: Store
) -> None:
    together.store.state(accounts("ann"))
    together.store.state(strict("ann"))

    outcomes = together.execute(
        (deposit, "ann", 1), (balance, "ann"), meanwhile=lambda: rival.execute(deposit, "ann", 13)
    )

    assert results(outcomes) == [14, 14]
    with pytest.raises(LookupError):
        together.store.state(strict("ann"))


def test_a_transform_that_fails_on_an_event_fails_its_own_command_only(make_together: MakeTogether) -> None:
    class Picky:
        def outgoing(self, data: bytes) -> bytes:
            if b"13" in data:
                raise ArithmeticError("not this one")
            return data

        def incoming(self, data: bytes) -> bytes:
            return data

    together = make_together(transform=Picky())
    together.store.state(accounts("ann"))

    outcomes = together.execute((deposit, "ann", 1), (deposit, "ann", 13), (deposit, "ann", 2))

    assert results(outcomes) == [1, EncodingError, 3]


@pytest.mark.parametrize("error", [StoreUnavailableError("gone"), StorageError("odd"), RuntimeError("a bug")])
@pytest.mark.parametrize("method", ["append", "check", "lock", "load", "head"])
def test_when_the_storage_fails_everybody_is_told_and_the_store_goes_on(
    together: Together, rival: Store, method: str, error: Exception
) -> None:
    together.store.execute(deposit, "ann", 1)
    together.store.state(accounts("ben"))
    together.faulty.before[method] = raising(error)

    def meanwhile() -> None:
        if method == "lock":
            rival.execute(deposit, "ann", 1)  # so that it is needed
        if method == "head":
            together.heart.abandon()  # as if a leader had been interrupted

    calls: dict[str, list[Call]] = {
        "load": [(deposit, "cold", 1), (balance, "colder")],
        "check": [(balance, "ann"), (balance, "ben")],
    }
    writers: list[Call] = [(deposit, "ann", 1), (deposit, "ben", 1)]
    outcomes = together.execute(*calls.get(method, writers), meanwhile=meanwhile)

    assert results(outcomes) == [type(error)] * 2
    del together.faulty.before[method]
    before = rival.state(accounts("ann")).balance
    assert together.store.execute(deposit, "ann", 1).result == before + 1
    assert together.store.execute(deposit, "cold", 1).result == 1
    assert together.store.verify(accounts).ok


def test_a_storage_that_fails_to_append_disturbs_no_reader(together: Together) -> None:
    together.store.execute(deposit, "ann", 5)
    together.faulty.before["append"] = raising(StoreUnavailableError("locked for too long"))

    outcomes = together.execute((deposit, "ann", 1), (balance, "ann"), (withdraw, "ann", 7))

    assert results(outcomes) == [StoreUnavailableError, 5, InsufficientFundsError]


@pytest.mark.parametrize("method", ["append", "check", "load"])
def test_when_the_log_went_backwards_what_was_cached_is_dropped(together: Together, method: str) -> None:
    together.store.execute(deposit, "ann", 1)
    together.faulty.before[method] = once(raising(LogDivergedError("here", 1, uuid7(), None)))
    command = {"append": deposit, "check": balance, "load": deposit}[method]

    with pytest.raises(LogDivergedError, match="went backwards"):
        together.store.execute(command, "cold" if method == "load" else "ann", *([1] if command is deposit else []))

    loads = together.store.stats().loads
    assert together.store.execute(deposit, "ann", 1).result == 2
    assert together.store.stats().loads > loads  # from the log


def test_a_storage_that_never_comes_back_does_not_keep_a_reader_waiting(together: Together) -> None:
    together.store.execute(deposit, "ann", 5)
    together.faulty.before["check"] = raising(StoreUnavailableError("gone"))

    with pytest.raises(StoreUnavailableError, match="gone"):
        together.store.execute(balance, "ann")


def test_conflicts_that_exhaust_the_attempts_fail_the_writers_and_not_the_readers(
    make_together: MakeTogether, rival: Store
) -> None:
    together = make_together(retry=Retry(max_attempts=1))
    together.store.execute(deposit, "ann", 1)

    outcomes = together.execute(
        (deposit, "ann", 1), (balance, "ann"), meanwhile=lambda: rival.execute(deposit, "ann", 1)
    )

    assert results(outcomes) == [ConflictError, 2]


def test_a_store_counts_what_it_does(make_store: MakeStore) -> None:
    store = make_store()
    assert store.stats().commands == 0
    store.execute(open_account, "ann", "Ann")
    store.execute(deposit, "ann", 1)
    with pytest.raises(InsufficientFundsError):
        store.execute(withdraw, "ann", 5)

    stats = store.stats()
    assert (stats.commands, stats.conflicts, stats.loads, stats.cached) == (3, 0, 1, 1)
    assert stats.attempts == stats.batches >= 3
    assert Opened in accounts.event_types
