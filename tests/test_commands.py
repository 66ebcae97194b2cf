"""Commands: what they read, what they append, and what makes one run like another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from factfold import (
    EncodingError,
    ForeignViewError,
    ImpureCommandError,
    RecordedEvent,
    Store,
    Transaction,
    View,
    WrongEventError,
    WrongStreamsError,
    stream,
)
from factfold.storage.base import Storage
from tests.conftest import MakeStore
from tests.faults import Faulty, once
from tests.ledger import (
    Account,
    Deposited,
    InsufficientFundsError,
    Opened,
    Renamed,
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


# -- Commands inside commands ------------------------------------------------------------------------------------------


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


# -- The same in every run ---------------------------------------------------------------------------------------------


def test_time_and_ids_are_the_same_in_every_run(store: Store, other: Store) -> None:
    runs: list[tuple[datetime, UUID, UUID]] = []

    def command(tx: Transaction) -> None:
        first = tx.new_id()
        tx.read(accounts("ann"))  # has to be loaded
        other_id = tx.new_id()
        tx.read(accounts("ben"))
        runs.append((tx.now, first, other_id))
        if len(runs) == 1:
            deposit(tx, "ann", 1)

    store.execute(command)
    other.execute(deposit, "ann", 1)
    store.execute(deposit, "ben", 1)

    def raced(tx: Transaction) -> None:
        runs.append((tx.now, tx.new_id(), tx.new_id()))
        deposit(tx, "ann", 1)

    runs.clear()
    other.execute(deposit, "ann", 1)  # the store's state is stale: its command has to run twice
    assert store.execute(raced).attempts == 2
    assert len(runs) == 2
    assert runs[0] == runs[1]
    now, one, two = runs[0]
    assert now.tzinfo is UTC
    assert (one.version, two.version) == (7, 7)
    assert one != two


def test_ids_and_time_repeat_when_a_run_is_suspended(store: Store) -> None:
    seen: list[tuple[datetime, UUID]] = []

    def command(tx: Transaction) -> UUID:
        seen.append((tx.now, tx.new_id()))
        tx.read(accounts("ann"))
        tx.read(accounts("ben"))
        return tx.new_id()

    result = store.execute(command).result

    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert result != seen[0][1]


def test_two_executions_have_different_ids(store: Store) -> None:
    assert store.execute(lambda tx: tx.new_id()).result != store.execute(lambda tx: tx.new_id()).result


def test_the_clock_of_the_store_gives_the_time_in_utc(make_store: MakeStore) -> None:
    moment = datetime.fromisoformat("2024-05-06T07:08:09+02:00")
    store = make_store(clock=lambda: moment)

    now = store.execute(lambda tx: tx.now).result

    assert now == moment
    assert now.utcoffset() == timedelta(0)


def test_a_clock_without_time_zone_is_refused_where_it_is_used(make_store: MakeStore) -> None:
    store = make_store(clock=lambda: datetime(2024, 1, 1))  # noqa: DTZ001 - that is what is tested

    with pytest.raises(Exception, match="without a time zone"):
        store.execute(lambda tx: tx.now)
    assert store.execute(deposit, "ann", 1).result == 1


# -- Discovery ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Linked:
    target: str


@stream("link", initial=None)
def links(state: str | None, event: Linked) -> str | None:
    return event.target


def link(tx: Transaction, source: str, target: str) -> None:
    tx.read(links(source)).append(Linked(target))


def follow(tx: Transaction, start: str) -> str:
    """Follows the links to their end: which streams it reads is told by those that it has read."""
    while (target := tx.read(links(start)).state) is not None:
        start = target
    return start


def test_a_command_reads_further_streams_when_its_state_tells_it_to(make_store: MakeStore) -> None:
    writer = make_store()
    for number in range(30):
        writer.execute(link, str(number), str(number + 1))

    assert make_store().execute(follow, "0").result == "30"  # nothing is cached there
    assert make_store(cache_size=0).execute(follow, "0").result == "30"


def test_nothing_is_written_by_a_run_that_was_suspended(store: Store) -> None:
    def command(tx: Transaction) -> None:
        deposit(tx, "ann", 1)
        deposit(tx, "ben", 1)

    assert len(store.execute(command).events) == 2
    assert store.head() == 2


def test_a_command_that_reads_other_streams_in_each_run_is_told_so(store: Store) -> None:
    with pytest.raises(ImpureCommandError, match="ledger:.*in one run, and not in the next"):
        store.execute(lambda tx: deposit(tx, str(uuid4()), 1))
    assert store.head() == 0


def test_a_command_that_stops_reading_what_was_loaded_for_it_is_told_so(store: Store) -> None:
    runs: list[int] = []

    def fickle(tx: Transaction) -> str:
        runs.append(1)
        if len(runs) == 1:
            tx.read(accounts("ann"))
        return "done"

    with pytest.raises(ImpureCommandError, match="ledger:ann"):
        store.execute(fickle)


def test_a_command_that_reads_something_else_at_last_is_told_so(store: Store) -> None:
    runs: list[int] = []

    def fickle(tx: Transaction) -> None:
        runs.append(1)
        tx.read(accounts("ann"))
        tx.read(accounts(f"other-{len(runs)}"))

    with pytest.raises(ImpureCommandError, match="ledger:other-2"):
        store.execute(fickle)


def test_a_command_may_read_other_streams_when_the_states_have_changed(make_store: MakeStore, storage: Storage) -> None:
    faulty = Faulty(storage)
    store = make_store(faulty)
    with Store(storage) as other:
        other.execute(link, "start", "a")
        store.state(links("start"))
        faulty.before["load"] = once(lambda _: other.execute(link, "start", "b"))  # while a is being loaded

        def command(tx: Transaction) -> str | None:
            where = tx.read(links("start")).state
            tx.read(accounts(where or "nowhere")).append(Deposited(1))
            return where

        assert store.execute(command).result == "b"
    assert [dict(recorded.streams) for recorded in store.log(types=accounts)] == [{"ledger:b": 1}]


def test_states_that_cannot_be_compared_do_not_disturb_a_command(make_store: MakeStore, storage: Storage) -> None:
    @dataclass(frozen=True)
    class Moody:
        count: int

        def __eq__(self, other: object) -> bool:
            raise ArithmeticError("never compare me")

        def __hash__(self) -> int:
            return 1

    @stream("ledger", initial=Moody(0))
    def moods(state: Moody, event: Deposited) -> Moody:
        return Moody(state.count + 1)

    faulty = Faulty(storage)
    store = make_store(faulty)
    with Store(storage) as other:
        store.state(moods("ann"))
        faulty.before["load"] = once(lambda _: other.execute(deposit, "ann", 1))

        def command(tx: Transaction) -> int:
            mood = tx.read(moods("ann")).state
            return mood.count + tx.read(accounts("ben")).state.balance

        assert store.execute(command).result == 1


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
