"""A command may run again: it gets the same each time, reads on where its state leads it, and has to be pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from factfold import (
    ImpureCommandError,
    Store,
    Transaction,
    stream,
)
from factfold.storage.base import Storage
from tests.conftest import MakeStore
from tests.faults import Faulty, once
from tests.ledger import (
    Deposited,
    accounts,
    deposit,
)

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


@pytest.mark.parametrize(
    ("gives", "error", "says"),
    [
        (datetime(2024, 1, 1), ValueError, "without a time zone"),  # noqa: DTZ001 - that is what is tested
        (date(2024, 1, 1), TypeError, "tx.now is a datetime"),
        (1_700_000_000, TypeError, "tx.now is a datetime"),
    ],
)
def test_a_clock_that_gives_no_aware_time_is_refused_where_it_is_used(
    make_store: MakeStore, gives: object, error: type[Exception], says: str
) -> None:
    store = make_store(clock=lambda: gives)

    with pytest.raises(error, match=says):
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
