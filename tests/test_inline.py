"""Inline projections: read models that every append writes in its own transaction, and that no writer can leave out."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from factfold import (
    ConsumerStoppedError,
    DefinitionError,
    InlineProjectionsError,
    Projection,
    ProjectionContext,
    ReadModel,
    RecordedEvent,
    Store,
    Transaction,
    UnsupportedError,
    errands,
)
from factfold.storage.base import Storage
from factfold.storage.memory import Memory
from factfold.storage.sqlite import SQLite
from tests.ledger import Deposited, accounts, deposit, open_account, transfer
from tests.looping import store_of
from tests.racing import eventually, race, start
from tests.read_models import SQL_ENGINES, balances, balances_in, folded, placed, raise_at, status_of
from tests.runners import children, write_inline

ENGINES = SQL_ENGINES


@pytest.fixture
def storage(storage: Storage) -> Storage:
    """The test's storage, with read models of its own."""
    return placed(storage)


@pytest.fixture
def store(storage: Storage, flavour: str) -> Iterator[Store]:
    """A store that writes the balances inline, of threads or of a loop that runs in the background."""
    with store_of(flavour, storage, inline=[balances(flavour=flavour)]) as store:
        yield store


def test_the_read_model_is_never_behind(storage: Storage, store: Store) -> None:
    for amount in range(1, 20):
        store.execute(deposit, "ann", amount)
        assert balances_in(storage) == {"ann": amount * (amount + 1) // 2}
    store.execute(transfer, "ann", "bob", 90)
    assert balances_in(storage) == {"ann": 100, "bob": 90}


def test_it_begins_with_what_was_there(storage: Storage, flavour: str) -> None:
    with Store(storage) as plain:
        for _ in range(30):
            plain.execute(deposit, "ann", 1)
    with store_of(flavour, storage, inline=[balances(flavour=flavour)]) as store:
        store.execute(deposit, "ann", 1)
        assert balances_in(storage) == {"ann": 31}
        status = status_of(store, balances())
        assert (status.state, status.position, status.lag_events, status.serving) == ("inline", 31, 0, True)
        store.wait_for(balances(flavour=flavour), 31)


def test_a_writer_that_lacks_it_cannot_append_and_can_read(storage: Storage, store: Store) -> None:
    with Store(storage) as lacking:
        lacking.execute(lambda tx: tx.read(accounts("ann")).state)
        store.execute(deposit, "ann", 1)
        for _ in range(3):
            with pytest.raises(
                InlineProjectionsError, match=r"asks every writer to run balances:1 inline, and this .* no proj"
            ):
                lacking.execute(deposit, "ann", 5)
        assert lacking.state(accounts("ann")).balance == 1
        with pytest.raises(InlineProjectionsError, match="runs sums:1. Nothing was changed"):
            Store(storage, inline=[sums()]).__enter__()
    assert balances_in(storage) == {"ann": 1}
    assert store.head() == 1


def sums(version: int = 1) -> Projection:
    """A projection that keeps nothing."""
    projection = Projection("sums", version=version, tables=())

    @projection.on
    def _(event: Deposited, context: ProjectionContext[object]) -> None:
        """Keeps nothing."""

    return projection


def test_a_handler_of_batches_is_not_called_for_what_is_not_for_it(storage: Storage, flavour: str) -> None:
    """Neither when it begins, behind a log that has nothing for it, nor by appends that have nothing."""
    seen: list[list[int]] = []
    projection = Projection("batches", tables=())
    if flavour == "threads":

        @projection.on_batch
        def _(events: Sequence[RecordedEvent[Deposited]], model: ReadModel[object]) -> None:
            seen.append([recorded.position for recorded in events])
    else:

        @projection.on_batch
        async def _(events: Sequence[RecordedEvent[Deposited]], model: ReadModel[object]) -> None:
            seen.append([recorded.position for recorded in events])

    with Store(storage) as plain:
        plain.execute(open_account, "ann", "Ann")
    with store_of(flavour, storage, inline=[projection]) as store:
        store.execute(open_account, "bob", "Bob")
        assert seen == []
        store.execute(deposit, "bob", 1)
        store.execute(deposit, "ann", 1)
    assert seen == [[3], [4]]


def test_what_a_handler_refuses_is_refused_and_its_neighbours_are_not(storage: Storage, flavour: str) -> None:
    """Of commands of one batch, the one whose event fails is told why; nothing of it is there."""

    def hook(event: object, recorded: object) -> None:
        if isinstance(event, Deposited) and event.amount == 13:
            raise ValueError("an unlucky number")

    with store_of(flavour, storage, inline=[balances(hook=hook, flavour=flavour)]) as store:
        store.execute(deposit, "ann", 1)

        def pay(number: int) -> object:
            return store.execute(deposit, f"a{number}", number)

        results = race([partial(pay, number) for number in range(8, 24)])
        refused = [result for result in results if isinstance(result, InlineProjectionsError)]
        assert len(refused) == 1
        assert isinstance(refused[0].__cause__, ValueError)
        assert "an unlucky number" in str(refused[0])
        assert store.head() == 16
        assert (
            balances_in(storage)
            == folded(Store(storage))
            == {"ann": 1} | {f"a{number}": number for number in range(8, 24) if number != 13}
        )


def test_sixteen_writers_keep_it_while_others_conflict(storage: Storage) -> None:
    """Several stores on the same accounts: appends are decided again, and each is written with its rows, or not."""
    stores = [Store(storage, inline=[balances()]) for _ in range(4)]
    for store in stores:
        store.head()

    def move(number: int) -> None:
        chance = random.Random(number)
        for _ in range(15):
            stores[number % 4].execute(deposit, f"a{chance.randrange(3)}", chance.randrange(1, 50))

    assert race([partial(move, number) for number in range(16)]) == [None] * 16
    assert balances_in(storage) == folded(stores[0])
    assert stores[0].head() == 240
    for store in stores:
        store.close()


def test_it_begins_while_others_write_and_misses_nothing(storage: Storage, flavour: str) -> None:
    """Writers without it are refused from one append to the next; what they appended before is there."""
    stop = threading.Event()

    def write() -> int:
        written = 0
        with Store(storage) as plain:
            while not stop.is_set():
                try:
                    plain.execute(deposit, "ann", 1)
                except InlineProjectionsError:
                    break
                written += 1
        return written

    writers = [start(write) for _ in range(3)]
    with Store(storage) as looking:
        eventually(lambda: looking.head() > 20)
    with store_of(flavour, storage, inline=[balances(flavour=flavour)]) as store:
        store.execute(deposit, "ann", 1)
        written = sum(writer.result() for writer in writers)
        assert balances_in(storage) == {"ann": written + 1}
        assert store.head() == written + 1
    stop.set()


def test_several_begin_at_once(storage: Storage) -> None:
    with Store(storage) as plain:
        for _ in range(20):
            plain.execute(deposit, "ann", 1)

    def begin(number: int) -> None:
        with Store(storage, inline=[balances()]) as store:
            store.execute(deposit, f"b{number}", 1)

    assert race([partial(begin, number) for number in range(6)]) == [None] * 6
    assert balances_in(storage) == {"ann": 20} | {f"b{number}": 1 for number in range(6)}


def test_it_is_withdrawn_and_goes_on_in_the_background(storage: Storage, store: Store, flavour: str) -> None:
    store.execute(deposit, "ann", 1)
    store.withdraw("balances")
    store.execute(deposit, "ann", 1)
    with Store(storage) as plain:
        plain.execute(deposit, "ann", 1)
    assert balances_in(storage) == {"ann": 1}
    store.catch_up(balances(flavour=flavour))
    assert balances_in(storage) == {"ann": 3}
    with pytest.raises(LookupError, match="'balances' does not run inline"):
        store.withdraw(balances())


def test_it_is_withdrawn_however_others_write(
    storage: Storage, store: Store, flavour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody is always faster: what he appends meanwhile is in the rows once, like all that comes after."""
    with Store(storage, inline=[balances()]) as rival:

        def overtaken(errand: errands.Errand, *arguments: Any) -> object:
            if isinstance(errand, errands.Transact):
                rival.execute(deposit, "ann", 1)
            return do(errand, *arguments)

        do = errands._do  # the moment before a transaction
        rival.execute(deposit, "ann", 1)
        monkeypatch.setattr(errands, "_do", overtaken)
        store.withdraw("balances")
        monkeypatch.undo()
    assert balances_in(storage) == {"ann": 2}
    assert status_of(store, balances()).position == 2
    store.execute(deposit, "ann", 1)
    store.catch_up(balances(flavour=flavour))
    assert balances_in(storage) == {"ann": 3}


def test_it_is_not_run_by_anybody_else(store: Store, flavour: str) -> None:
    store.execute(deposit, "ann", 1)
    with pytest.raises(DefinitionError, match="runs inline, within every append"):
        store.run(balances(flavour=flavour))


def test_a_higher_version_takes_over_and_writers_of_older_ones_fail(
    storage: Storage, store: Store, flavour: str
) -> None:
    store.execute(deposit, "ann", 1)
    with store_of(flavour, storage, inline=[balances(2, factor=10, flavour=flavour)]) as newer:
        newer.execute(deposit, "ann", 1)
        assert balances_in(storage) == {"ann": 20}
        with pytest.raises(InlineProjectionsError, match="run balances:2 inline, and this store runs balances:1"):
            store.execute(deposit, "ann", 1)
        with pytest.raises(InlineProjectionsError, match="balances:2 inline"):
            Store(storage, inline=[balances()]).__enter__()
        former = status_of(newer, balances())
        assert (former.state, former.position, former.lag_events, former.serving) == ("superseded", 1, 1, False)
        with pytest.raises(ConsumerStoppedError, match="version 2 serves, and this one is not kept up to date"):
            newer.wait_for(balances(flavour=flavour), 2)
        newer.catch_up(balances(flavour=flavour))  # it ends at once
    assert balances_in(storage, "balances_v1") == {"ann": 1}


def test_a_history_that_it_cannot_handle_is_told_when_the_store_is_opened(storage: Storage) -> None:
    """And nobody is kept from writing."""
    with Store(storage) as plain:
        for _ in range(3):
            plain.execute(deposit, "ann", 1)
        with pytest.raises(Exception, match="the event at position 2"):
            Store(storage, inline=[balances(hook=raise_at(2))]).__enter__()
        plain.execute(deposit, "ann", 1)
        with Store(storage, inline=[balances()]) as store:
            store.execute(deposit, "ann", 1)
    assert balances_in(storage) == {"ann": 5}


def test_siblings_of_other_namespaces_have_tables_of_their_own(storage: Storage) -> None:
    with Store(storage, inline=[balances()]) as store:
        tenant = store.namespace("tenant")
        store.execute(deposit, "ann", 1)
        tenant.execute(deposit, "ann", 2)
        assert balances_in(storage) == {"ann": 1}
        assert balances_in(storage, "tenant_balances") == {"ann": 2}


def test_what_cannot_run_inline_is_refused(storage: Storage) -> None:
    for wrong, said in ((sums, "is no Projection"), (None, "is no Projection")):
        with pytest.raises(DefinitionError, match=said):
            Store(storage, inline=[wrong]).__enter__()  # type: ignore[list-item]  # what it is about
    with pytest.raises(DefinitionError, match="and another version of it"):
        Store(storage, inline=[sums(), sums(2)]).__enter__()
    with pytest.raises(DefinitionError, match="async def"):
        Store(storage, inline=[balances(flavour="loop")]).__enter__()
    with pytest.raises(UnsupportedError, match="no transactions for read models"):
        Store(Memory(), inline=[sums()]).__enter__()


def test_commands_that_append_nothing_need_it_not(storage: Storage, store: Store) -> None:
    def look(tx: Transaction) -> int:
        return tx.read(accounts("ann")).state.balance

    store.execute(deposit, "ann", 1)
    with Store(storage) as lacking:
        assert lacking.execute(look).result == 1


def grown(store: Store, head: int) -> bool:
    return store.head() > head


def test_writers_that_are_killed_leave_no_row_without_its_event(storage: Storage, tmp_path: Path) -> None:
    """SIGKILL at random moments, while others write: rows and log agree whenever one looks."""
    if isinstance(storage, SQLite):
        storage = SQLite(storage.path, synchronous="normal", timeout=30)
    chance = random.Random(1)
    with Store(storage, inline=[balances()]) as store, children() as started:
        store.execute(deposit, "a0", 1)
        done = tmp_path / "done"
        writers = [started.start(write_inline, storage, done, seed) for seed in range(3)]
        for seed in range(10, 22):
            before = store.head()
            eventually(partial(grown, store, before + 3))
            time.sleep(chance.uniform(0, 0.02))
            started.kill(writers.pop(0))
            writers.append(started.start(write_inline, storage, done, seed))
        done.touch()
        for writer in writers:
            writer.join(30)
        assert balances_in(storage) == folded(store)
        assert store.verify(accounts).ok
