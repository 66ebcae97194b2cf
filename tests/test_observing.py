"""A store tells an observer what it does, at the edges of its work, and is never disturbed by it."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import ref

import pytest

from factfold import AsyncStore, FactfoldError, NestedExecutionError, Stats, Store, StoreUnavailableError, Transaction
from factfold.observing import Execution, Observer, StorageCall
from factfold.storage.base import Storage
from tests.conftest import MakeStore
from tests.faults import Faulty, once
from tests.interrupting import InterruptAt
from tests.ledger import InsufficientFundsError, accounts, balance, deposit, open_account, transfer, withdraw
from tests.together import MakeTogether, heart_of

ENGINES = ("memory",)


class Told(Observer):
    """Keeps all that it is told."""

    def __init__(self) -> None:
        self.executions: list[Execution] = []
        self.errors: list[str | None] = []
        self.calls: list[StorageCall] = []
        self.failed: list[str] = []
        self.life: list[tuple[str, str, int]] = []
        self.stats: Callable[[], Stats] | None = None

    def opened(self, namespace: str, stats: Callable[[], Stats]) -> None:
        self.stats = stats
        self.life.append(("opened", namespace, stats().commands))

    def closed(self, namespace: str, stats: Callable[[], Stats]) -> None:
        assert stats is self.stats
        self.life.append(("closed", namespace, stats().commands))

    def executing(self, execution: Execution) -> None:
        assert execution.kept is None
        execution.kept = self

    def executed(self, execution: Execution, error: BaseException | None) -> None:
        assert execution.kept is self
        self.executions.append(execution)
        self.errors.append(None if error is None else type(error).__name__)

    def asking(self, call: StorageCall) -> None:
        assert call.kept is None
        call.kept = self

    def answered(self, call: StorageCall, error: BaseException | None) -> None:
        assert call.kept is self
        self.calls.append(call)
        if error is not None:
            self.failed.append(type(error).__name__)

    @property
    def operations(self) -> list[str]:
        """What the storage was asked, in order."""
        return [call.operation for call in self.calls]


@pytest.fixture
def told() -> Told:
    """An observer that keeps what it is told."""
    return Told()


def test_an_execution_is_told_with_what_it_wrote(make_store: MakeStore, told: Told) -> None:
    store = make_store(observer=told, namespace="books")
    store.execute(open_account, "ann", "Ann")
    store.execute(deposit, "ann", 10)
    first, second = told.executions
    assert (first.operation, first.name, first.namespace) == ("execute", "tests.ledger.open_account", "books")
    assert (second.name, second.events, second.position) == ("tests.ledger.deposit", 1, 2)
    assert (second.attempts, second.batch_size, second.repeated) == (1, 1, False)
    assert second.seconds > 0
    assert told.errors == [None, None]


def test_each_request_to_the_storage_is_told_with_whom_it_served(make_store: MakeStore, told: Told) -> None:
    store = make_store(observer=told)
    store.execute(open_account, "ann", "Ann")
    store.execute(deposit, "ann", 10)
    assert told.operations == ["load", "append", "append"]
    load, append, _ = told.calls
    assert (load.streams, load.events, load.executions) == (1, 0, told.executions[:1])
    assert (append.streams, append.events, append.executions) == (1, 1, told.executions[:1])
    assert append.namespace == "default"
    assert append.seconds > 0


def test_a_load_tells_how_many_events_it_brought(make_store: MakeStore, rival: Store, told: Told) -> None:
    for amount in range(1, 8):
        rival.execute(deposit, "ann", amount)
    make_store(observer=told).execute(balance, "ann")
    assert [(call.operation, call.events) for call in told.calls] == [("load", 7), ("check", 0)]


def test_the_methods_that_read_are_told_by_their_names(make_store: MakeStore, told: Told) -> None:
    store = make_store(observer=told)
    store.state(accounts("ann"))
    store.state(accounts("ann"), max_age=60)
    store.version(accounts("ann"))
    assert [(each.operation, each.name) for each in told.executions] == [
        ("state", "ledger"),
        ("state", "ledger"),
        ("version", "ledger"),
    ]
    assert [each.batch_size for each in told.executions] == [1, 0, 1]  # the second came from the cache


def test_a_repetition_of_a_key_is_told_as_one(make_store: MakeStore, told: Told) -> None:
    store = make_store(observer=told)
    receipts = [store.execute_once("payment 7", deposit, "ann", 10) for _ in range(2)]
    assert [receipt.position for receipt in receipts] == [1, 1]
    first, second = told.executions
    assert (first.operation, first.name) == ("execute_once", "tests.ledger.deposit")
    assert (first.repeated, first.events, first.position) == (False, 1, 1)
    assert (second.repeated, second.events, second.position) == (True, 0, None)


@dataclass
class Audit:
    """A command that cannot be hashed."""

    id: str

    def __call__(self, tx: Transaction) -> int:
        return tx.read(accounts(self.id)).state.balance


def test_any_kind_of_command_has_a_name(make_store: MakeStore, told: Told) -> None:
    assert make_store(observer=told).execute(Audit("ann")).result == 0
    assert told.executions[0].name == "tests.test_observing.Audit"


def test_what_a_command_raises_is_told_and_reaches_its_caller(make_store: MakeStore, told: Told) -> None:
    store = make_store(observer=told)
    with pytest.raises(InsufficientFundsError):
        store.execute(withdraw, "ann", 10)
    assert told.errors == ["InsufficientFundsError"]
    assert (told.executions[0].events, told.executions[0].attempts) == (0, 1)
    assert told.failed == []


class Large:
    """Stands on the stack of a command."""


def fail(tx: Transaction, kept: list[ref[Large]]) -> None:
    large = Large()
    kept.append(ref(large))
    raise InsufficientFundsError


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """What is freed during the test is freed because nobody refers to it."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collection")
def test_what_a_command_raised_is_not_kept(told: Told) -> None:
    kept: list[ref[Large]] = []
    with Store("memory:", observer=told) as store:
        with contextlib.suppress(InsufficientFundsError):
            store.execute(fail, kept)
        assert [each() for each in kept] == [None]


@pytest.mark.usefixtures("no_garbage_collection")
async def test_what_a_command_raised_is_not_kept_by_a_loop(told: Told) -> None:
    kept: list[ref[Large]] = []
    async with AsyncStore("memory:", observer=told) as store:
        with contextlib.suppress(InsufficientFundsError):
            await store.execute(fail, kept)
        assert [each() for each in kept] == [None]


def test_a_store_that_cannot_be_opened_is_told(tmp_path: Path, told: Told) -> None:
    store = Store(f"sqlite:///{tmp_path}/missing/log.db", observer=told)
    with pytest.raises(FactfoldError) as raised:
        store.execute(deposit, "ann", 1)
    assert told.errors == [type(raised.value).__name__]
    assert told.life == []


def test_a_conflict_is_told_and_the_attempt_after_it(storage: Storage, make_store: MakeStore, rival: Store) -> None:
    told, faulty = Told(), Faulty(storage)
    store = make_store(faulty, observer=told)
    store.execute(open_account, "ann", "Ann")
    told.calls.clear()
    faulty.before["append"] = once(lambda _: rival.execute(deposit, "ann", 5))
    assert store.execute(deposit, "ann", 2).attempts == 2
    assert [(call.operation, call.conflict) for call in told.calls] == [
        ("append", True),
        ("lock", False),
        ("append", False),
    ]
    assert told.executions[-1].attempts == 2


def test_what_a_command_discovers_is_loaded_for_it(make_store: MakeStore, told: Told) -> None:
    def follow(tx: Transaction) -> None:
        for id in ("ann", "ben", "cem"):
            tx.read(accounts(id))

    make_store(observer=told).execute(follow)
    assert told.operations == ["load", "load", "load", "check"]
    assert all(call.executions == told.executions for call in told.calls)


def test_a_batch_is_one_append_for_all_of_its_commands(make_together: MakeTogether, told: Told) -> None:
    together = make_together(observer=told)
    together.store.execute(deposit, "ann", 10)
    told.executions.clear()
    told.calls.clear()
    together.execute((deposit, "ann", 1), (withdraw, "ann", 1000), (deposit, "ann", 2))
    appends = [call for call in told.calls if call.operation == "append"]
    assert [(len(call.executions), call.events) for call in appends] == [(3, 2)]
    of_the_batch = [each for each in told.executions if each.batch_size == 3]
    assert sorted((each.name.rpartition(".")[2], each.events) for each in of_the_batch) == [
        ("deposit", 1),
        ("deposit", 1),
        ("withdraw", 0),
    ]


def test_an_append_that_fails_is_told(storage: Storage, make_store: MakeStore, told: Told) -> None:
    faulty = Faulty(storage)
    store = make_store(faulty, observer=told)
    store.execute(open_account, "ann", "Ann")

    def lose(asked: object) -> None:
        raise StoreUnavailableError("the server is away")

    faulty.before["append"] = lose
    with pytest.raises(StoreUnavailableError):
        store.execute(deposit, "ann", 1)
    assert told.failed == ["StoreUnavailableError"]
    assert told.errors == [None, "StoreUnavailableError"]


def test_what_the_store_does_for_itself_is_not_told(make_store: MakeStore, rival: Store, told: Told) -> None:
    store = make_store(observer=told)
    with store.subscribe(after=0) as subscription:
        rival.execute(deposit, "ann", 1)
        assert next(subscription).position == 1
    store.close()
    assert (told.executions, told.calls) == ([], [])


seen: ContextVar[str] = ContextVar("seen", default="nothing")


class Setting(Observer):
    """Sets a context variable for each command."""

    def executing(self, execution: Execution) -> None:
        seen.set(f"{seen.get()} and {execution.name.rpartition('.')[2]}")


def test_what_an_observer_sets_is_seen_by_that_command_alone(make_together: MakeTogether) -> None:
    def one(tx: Transaction) -> str:
        return seen.get()

    def two(tx: Transaction) -> str:
        return seen.get()

    together = make_together(observer=Setting())
    for _ in range(2):
        outcomes: list[Any] = together.execute((one,), (two,), (one,))
        assert [each.result for each in outcomes] == ["nothing and one", "nothing and two", "nothing and one"]
    assert seen.get() == "nothing"


class Broken(Observer):
    """Raises whatever it is told."""

    def opened(self, namespace: str, stats: Callable[[], Stats]) -> None:
        raise ZeroDivisionError("opened")

    closed = opened

    def executing(self, execution: Execution) -> None:
        raise ZeroDivisionError("executing")

    def executed(self, execution: Execution, error: BaseException | None) -> None:
        raise ZeroDivisionError("executed")

    def asking(self, call: StorageCall) -> None:
        raise ZeroDivisionError("asking")

    def answered(self, call: StorageCall, error: BaseException | None) -> None:
        raise ZeroDivisionError("answered")


def test_an_observer_that_raises_disturbs_nobody_and_is_logged_once(
    make_store: MakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "factfold"):
        store = make_store(observer=Broken())
        assert store.execute(deposit, "ann", 10).position == 1
        with pytest.raises(InsufficientFundsError):
            store.execute(withdraw, "ann", 100)
        assert store.state(accounts("ann")).balance == 10
        store.close()
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("factfold", "WARNING")
    assert record.getMessage().startswith("Broken.executing failed.")
    assert record.exc_info is not None


class Using(Observer):
    """Uses the store that it observes."""

    store: Store | None = None
    raised: list[type[BaseException]]

    def asking(self, call: StorageCall) -> None:
        assert self.store is not None
        try:
            self.store.stats()
        except NestedExecutionError as error:
            self.raised.append(type(error))


def test_an_observer_cannot_use_the_store_and_so_cannot_wait_for_itself(make_store: MakeStore) -> None:
    using = Using()
    using.raised = []
    using.store = store = make_store(observer=using)
    store.execute(deposit, "ann", 1)
    assert using.raised == [NestedExecutionError] * 2
    assert store.stats().commands == 1


def test_an_interrupt_anywhere_leaves_the_thread_free_to_use_the_store() -> None:
    with Store("memory:", observer=Observer()) as store:
        interrupted = 0
        while True:
            interrupt = InterruptAt(interrupted + 1)
            with contextlib.suppress(KeyboardInterrupt), interrupt:
                store.execute(deposit, "ann", 1)
            if not interrupt.where:
                break
            interrupted += 1
            assert store.execute(deposit, "ann", 1).attempts == 1, interrupt.where
        assert interrupted > 50


def test_an_observer_is_told_of_the_life_of_a_store(make_store: MakeStore, told: Told) -> None:
    store = make_store(observer=told)
    assert told.life == []
    store.execute(deposit, "ann", 1)
    store.close()
    store.close()
    (opened, closed) = told.life
    assert opened == ("opened", "default", 0)
    assert closed[:2] == ("closed", "default")
    assert told.stats is not None
    assert told.stats() == store.stats()


def test_a_sibling_is_observed_too(make_store: MakeStore, told: Told) -> None:
    store = make_store(observer=told)
    sibling = store.namespace("other")
    sibling.execute(deposit, "ann", 1)
    sibling.close()
    assert [each.namespace for each in told.executions] == ["other"]
    assert [each[:2] for each in told.life] == [("opened", "other"), ("closed", "other")]


def test_the_figures_of_a_store_keep_it_neither_alive_nor_fall_back(told: Told) -> None:
    store = Store("memory:", observer=told)
    store.execute(deposit, "ann", 1)
    assert told.stats is not None
    assert told.stats().commands == 1
    heart = ref(heart_of(store))
    del store
    gc.collect()
    assert heart() is None
    assert told.stats().commands == 1


@pytest.mark.parametrize("observer", [Told, object(), "otel"])
def test_what_is_no_observer_is_refused(observer: object) -> None:
    with pytest.raises(TypeError, match="derived from factfold.observing.Observer"):
        Store("memory:", observer=observer)  # type: ignore[arg-type]  # what is tested


def test_an_observer_does_nothing_by_itself(make_store: MakeStore) -> None:
    class Nothing(Observer):
        """Defines no method."""

    store = make_store(observer=Nothing())
    store.execute(open_account, "ann", "Ann")
    store.execute(deposit, "ann", 3)
    assert store.execute(transfer, "ann", "ben", 3).position == 3
