"""Stores: opened late, closed in order, refusing what cannot be a command, and usable after whatever went wrong."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from factfold import (
    AsyncStore,
    DecodingError,
    EncodingError,
    InvalidCommandError,
    InvalidNamespaceError,
    InvalidUrlError,
    LogDivergedError,
    MissingDriverError,
    NestedExecutionError,
    Receipt,
    Retry,
    StorageFormatError,
    StorageFullError,
    StorageReadOnlyError,
    Store,
    StoreClosedError,
    StoreUnavailableError,
    Transaction,
    metadata,
)
from factfold.storage.base import Storage
from factfold.storage.memory import Memory
from factfold.storage.sqlite import SQLite
from tests.conftest import MakeStore
from tests.faults import PATIENCE, Faulty, Gate
from tests.ledger import Deposited, InsufficientFundsError, accounts, balance, deposit, withdraw
from tests.racing import eventually, soon, start, within
from tests.together import heart_of, queued

# -- Opening -----------------------------------------------------------------------------------------------------------


def test_a_store_opens_at_its_first_use(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = Store(f"sqlite:///{path}")
    assert not path.exists()

    assert store.execute(deposit, "ann", 1).result == 1
    assert path.exists()
    store.close()


def test_a_store_opens_when_it_is_entered(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with Store(f"sqlite:///{path}"):
        assert path.exists()


async def test_an_async_store_opens_at_its_first_use_or_when_it_is_entered(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = AsyncStore(f"sqlite:///{path}")
    assert not path.exists()
    assert await store.head() == 0
    assert path.exists()
    await store.close()
    async with AsyncStore(f"sqlite:///{tmp_path / 'other.db'}"):
        assert (tmp_path / "other.db").exists()


def test_what_is_wrong_with_the_storage_shows_when_it_is_entered(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="there is no directory"), Store(SQLite(tmp_path / "no" / "log.db")):
        pass


def test_a_store_that_could_not_be_opened_opens_at_the_next_use(make_store: MakeStore, tmp_path: Path) -> None:
    store = make_store(SQLite(tmp_path / "later" / "log.db"))
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            store.execute(deposit, "ann", 1)
    (tmp_path / "later").mkdir()
    assert store.execute(deposit, "ann", 1).result == 1


def test_many_threads_open_one_store_together(storage: Storage) -> None:
    for _ in range(5):
        with Store(storage) as probe:
            before = probe.state(accounts("ann")).balance
        store = Store(storage)
        started = [start(store.execute, deposit, "ann", 1) for _ in range(8)]
        assert {each.result().result for each in started} == set(range(before + 1, before + 9))
        store.close()


@pytest.mark.parametrize("url", ["bank.db", "mysql://x/y", "", "sqlite://bank.db", "memory:x"])
def test_a_url_that_cannot_be_used_is_refused_at_once(url: str) -> None:
    for kind in (Store, AsyncStore):
        with pytest.raises((InvalidUrlError, MissingDriverError)):
            kind(url)


@pytest.mark.parametrize("namespace", ["", "x" * 65, "a\nb", 3, None])
def test_a_namespace_that_cannot_be_one_is_refused_at_once(namespace: Any) -> None:
    for kind in (Store, AsyncStore):
        with pytest.raises(InvalidNamespaceError):
            kind("memory:", namespace=namespace)
    with Store("memory:") as store, pytest.raises(InvalidNamespaceError):
        store.namespace(namespace)


@pytest.mark.parametrize("size", [-1, 1.5, "10", True])
def test_a_cache_size_that_is_no_number_is_refused_at_once(size: Any) -> None:
    with pytest.raises(ValueError, match="cache_size"):
        Store("memory:", cache_size=size)


@pytest.mark.parametrize("options", [{"max_attempts": 0}, {"base": -1.0}, {"cap": -0.1}])
def test_a_retry_that_cannot_be_one_is_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="Retry"):
        Retry(**options)


# -- Closing -----------------------------------------------------------------------------------------------------------


USES: list[Callable[[Store], object]] = [
    lambda store: store.execute(deposit, "ann", 1),
    lambda store: store.execute_once("key", deposit, "ann", 1),
    lambda store: store.state(accounts("ann")),
    lambda store: store.version(accounts("ann")),
    lambda store: list(store.events(accounts("ann"))),
    lambda store: list(store.log()),
    lambda store: list(store.streams()),
    lambda store: store.head(),
    lambda store: store.verify(accounts),
    lambda store: store.__enter__(),
]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("opened", [False, True])
def test_a_closed_store_refuses_everything(make_store: MakeStore, use: Callable[[Store], object], opened: bool) -> None:
    store = make_store()
    if opened:
        store.execute(deposit, "ann", 1)
    store.close()
    with pytest.raises(StoreClosedError, match="closed"):
        use(store)


def test_a_store_can_be_closed_twice(store: Store) -> None:
    store.execute(deposit, "ann", 1)
    store.close()
    store.close()


def test_what_was_acknowledged_is_there_when_the_store_is_opened_again(make_store: MakeStore, storage: Storage) -> None:
    for number in range(1, 4):
        store = make_store()
        assert store.execute(deposit, "ann", 1).result == number
        store.close()


def _more_than(count: int, acknowledged: list[int]) -> bool:
    return sum(acknowledged) > count


def test_closing_a_busy_store_finishes_what_was_begun(storage: Storage) -> None:
    for _ in range(5):
        store = Store(storage)
        before = store.state(accounts("ann")).balance
        acknowledged = [0] * 8

        def work(number: int, store: Store = store, acknowledged: list[int] = acknowledged) -> None:
            while True:
                store.execute(deposit, "ann", 1)
                acknowledged[number] += 1

        started = [start(work, number) for number in range(8)]
        eventually(partial(_more_than, 40, acknowledged))
        store.close()

        assert {type(each.error()) for each in started} == {StoreClosedError}
        with Store(storage) as again:
            assert again.state(accounts("ann")).balance == before + sum(acknowledged)
            assert again.verify(accounts).ok


def test_closing_waits_for_the_append_that_is_on_its_way(storage: Storage) -> None:
    faulty = Faulty(storage)
    store = Store(faulty)
    store.state(accounts("ann"))
    faulty.before["append"] = gate = Gate()
    first = start(store.execute, deposit, "ann", 1)
    assert gate.reached.wait(PATIENCE)
    second = start(store.execute, deposit, "ann", 1)
    eventually(lambda: queued(store) == 1)
    closing_it = start(store.close)
    eventually(lambda: queued(store) == 2)

    assert not closing_it.ended
    gate.open()
    closing_it.result()
    assert (first.result().result, second.result().result) == (1, 2)


def test_closing_does_not_wait_for_a_command_that_was_not_begun(storage: Storage) -> None:
    faulty = Faulty(storage)
    store = Store(faulty)
    store.state(accounts("ann"))
    gate = Gate()
    faulty.before["load"] = gate
    loading = start(store.execute, deposit, "cold", 1)
    assert gate.reached.wait(PATIENCE)
    waiting = start(store.execute, deposit, "cold", 1)
    eventually(lambda: len(next(iter(heart_of(store)._loading.values())).jobs) == 2)

    start(store.close).result()
    assert isinstance(waiting.error(), StoreClosedError)
    gate.open()
    assert isinstance(loading.error(), StoreClosedError)


async def test_closing_a_busy_async_store_finishes_what_was_begun(storage: Storage) -> None:
    for _ in range(3):
        store = AsyncStore(storage)
        before = (await store.state(accounts("ann"))).balance
        acknowledged = [0]

        async def work(store: AsyncStore = store, acknowledged: list[int] = acknowledged) -> None:
            while True:
                await store.execute(deposit, "ann", 1)
                acknowledged[0] += 1

        tasks = [asyncio.create_task(work()) for _ in range(16)]
        await soon(partial(_more_than, 40, acknowledged))
        await within(store.close())
        found = await within(asyncio.gather(*tasks, return_exceptions=True))

        assert {type(each) for each in found} == {StoreClosedError}
        async with AsyncStore(storage) as again:
            assert (await again.state(accounts("ann"))).balance == before + acknowledged[0]
    assert len(asyncio.all_tasks()) == 1


# -- Namespaces --------------------------------------------------------------------------------------------------------


def test_namespaces_are_logs_of_their_own(store: Store) -> None:
    other = store.namespace("other")
    store.execute(deposit, "ann", 1)
    other.execute(deposit, "ann", 10)
    store.execute_once("key", deposit, "ann", 1)

    assert not other.execute_once("key", deposit, "ann", 10).repeated
    assert (store.state(accounts("ann")).balance, other.state(accounts("ann")).balance) == (2, 20)
    assert (store.head(), other.head()) == (3, 3)
    assert [recorded.position for recorded in other.log()] == [1, 2]
    assert other.verify(accounts).ok


def test_a_namespace_is_found_again(make_store: MakeStore) -> None:
    make_store(namespace="other").execute(deposit, "ann", 10)
    assert make_store().namespace("other").state(accounts("ann")).balance == 10
    assert make_store(namespace="Ünïcode 1").head() == 0


def test_a_namespace_can_be_closed_on_its_own(store: Store) -> None:
    other = store.namespace("other")
    other.execute(deposit, "ann", 1)
    other.close()

    with pytest.raises(StoreClosedError):
        other.execute(deposit, "ann", 1)
    assert store.execute(deposit, "ann", 1).result == 1
    assert store.namespace("other").state(accounts("ann")).balance == 1


def test_a_store_closes_its_namespaces(store: Store) -> None:
    others = [store.namespace("a"), store.namespace("a").namespace("b")]
    for each in others:
        each.execute(deposit, "ann", 1)
    store.close()
    for each in others:
        with pytest.raises(StoreClosedError):
            each.head()


def test_writers_of_two_namespaces_do_not_disturb_each_other(storage: Storage) -> None:
    with Store(storage) as store:
        stores = [store, store.namespace("a"), store.namespace("b")]

        def fill(each: Store) -> None:
            for _ in range(20):
                each.execute(deposit, "ann", 1)

        started = [start(fill, each) for each in stores * 2]
        for each in started:
            each.result()
        assert [each.state(accounts("ann")).balance for each in stores] == [40] * 3
        assert [each.stats().conflicts for each in stores] == [0] * 3


# -- Nested execution --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        *USES,
        lambda store: store.events(accounts("ann")),
        lambda store: store.log(),
        lambda store: store.streams(),
        lambda store: store.stats(),
        lambda store: store.namespace("other"),
        lambda store: store.close(),
    ],
)
def test_every_method_of_a_store_is_refused_inside_a_command(use: Callable[[Store], object], storage: Storage) -> None:
    with Store(storage) as store, Store("memory:") as another:

        def command(tx: Transaction, used: Store) -> None:
            tx.read(accounts("ann")).append(Deposited(1))
            use(used)

        for used in (store, another):
            with pytest.raises(NestedExecutionError, match=r"tx\.call\(\)"):
                store.execute(command, used)
        assert store.execute(deposit, "ann", 1).result == 1


def test_a_store_is_refused_inside_a_command_of_an_async_store_too(storage: Storage) -> None:
    async def main() -> None:
        async with AsyncStore(storage) as store:
            with Store("memory:") as another:

                def command(tx: Transaction) -> None:
                    another.execute(deposit, "ann", 1)

                with pytest.raises(NestedExecutionError):
                    await store.execute(command)

    asyncio.run(main())


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.execute(deposit, "ann", 1),
        lambda store: store.execute_once("key", deposit, "ann", 1),
        lambda store: store.state(accounts("ann")),
        lambda store: store.version(accounts("ann")),
        lambda store: store.head(),
        lambda store: store.verify(),
        lambda store: store.close(),
        lambda store: store.__aenter__(),
        lambda store: anext(store.streams()),
    ],
)
def test_an_async_store_cannot_be_driven_from_inside_a_command(use: Callable[[AsyncStore], Any]) -> None:
    other = AsyncStore("memory:")

    def command(tx: Transaction) -> None:
        async def nested() -> None:
            await use(other)

        asyncio.run(nested())

    with Store("memory:") as store, pytest.raises(NestedExecutionError):
        store.execute(command)


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.events(accounts("ann")),
        lambda store: store.log(),
        lambda store: store.stats(),
        lambda store: store.namespace("x"),
    ],
)
def test_the_plain_methods_of_an_async_store_are_refused_inside_a_command(use: Callable[[AsyncStore], Any]) -> None:
    other = AsyncStore("memory:")
    with Store("memory:") as store, pytest.raises(NestedExecutionError):
        store.execute(lambda tx: use(other))


def test_after_a_command_the_store_can_be_used_by_the_same_thread(storage: Storage) -> None:
    with Store(storage) as store:

        def command(tx: Transaction) -> None:
            with contextlib.suppress(NestedExecutionError):
                store.head()
            deposit(tx, "ann", 1)

        store.execute(command)
        assert store.head() == 1


# -- Event loops -------------------------------------------------------------------------------------------------------


def test_an_async_store_belongs_to_the_loop_in_which_it_was_opened(storage: Storage) -> None:
    store = AsyncStore(storage)
    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(store.execute(deposit, "ann", 1))
        for use in (
            lambda: store.execute(deposit, "ann", 1),
            lambda: store.head(),
            lambda: anext(store.log()),
            lambda: anext(store.streams()),
        ):

            async def call(use: Callable[[], Any] = use) -> None:
                await use()

            with pytest.raises(StoreClosedError, match="belongs to the event loop"):
                second.run(call())
        assert first.run(store.execute(deposit, "ann", 1)).result == 2
        first.run(store.close())


async def test_an_async_store_leaves_no_task_behind(storage: Storage) -> None:
    async with AsyncStore(storage) as store:
        await asyncio.gather(*(store.execute(deposit, f"{number}", 1) for number in range(20)))
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_slow_storage_does_not_block_the_loop(storage: Storage) -> None:
    faulty = Faulty(storage)
    async with AsyncStore(faulty) as store:
        await store.head()
        gates = [Gate() for _ in range(3)]
        faulty.before["append"], faulty.before["load"], faulty.before["read"] = gates
        work = [
            asyncio.create_task(store.execute(deposit, "ann", 1)),
            asyncio.create_task(_all(store)),
        ]
        ticks = 0
        while not (gates[1].reached.is_set() and gates[2].reached.is_set()):
            await asyncio.sleep(0)
            ticks += 1
        for _ in range(100):
            await asyncio.sleep(0)
        for gate in gates:
            gate.open()
        await within(asyncio.gather(*work))


async def _all(store: AsyncStore) -> list[object]:
    return [recorded async for recorded in store.log()]


# -- What is no command ------------------------------------------------------------------------------------------------


async def coroutine_command(tx: Transaction) -> None: ...
async def async_generator_command(tx: Transaction) -> Any:
    yield 1


def generator_command(tx: Transaction) -> Any:
    yield 1


class CoroutineCallable:
    async def __call__(self, tx: Transaction) -> None: ...


@dataclass(frozen=True)
class NoParameter:
    def __call__(self) -> None: ...


class Methods:
    async def coroutine(self, tx: Transaction) -> None: ...
    def none(self) -> None: ...
    def works(self, tx: Transaction, id: str) -> int:
        return deposit(tx, id, 1)


def no_parameter() -> None: ...
def only_keywords(*, tx: Transaction) -> None: ...


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (coroutine_command, "is an async function"),
        (async_generator_command, "is an async function"),
        (generator_command, "is a generator function"),
        (CoroutineCallable(), "is an async function"),
        (Methods().coroutine, "is an async function"),
        (no_parameter, "first parameter is a Transaction"),
        (only_keywords, "first parameter is a Transaction"),
        (Methods().none, "first parameter is a Transaction"),
        (NoParameter(), "first parameter is a Transaction"),
        (lambda: 1, "first parameter is a Transaction"),
        (5, "is no command"),
        (None, "is no command"),
        ("deposit", "is no command"),
    ],
)
def test_what_cannot_be_a_command_is_refused_with_the_reason(store: Store, command: Any, reason: str) -> None:
    with pytest.raises(InvalidCommandError, match=reason):
        store.execute(command)
    assert store.head() == 0


@pytest.mark.parametrize(
    "command",
    [
        lambda tx: coroutine_command(tx),
        lambda tx: generator_command(tx),
    ],
)
def test_a_command_that_returns_a_coroutine_or_a_generator_is_refused(store: Store, command: Any) -> None:
    with pytest.raises(InvalidCommandError, match="returned a coroutine or a generator"):
        store.execute(command)


def test_a_refusal_says_what_to_do_instead(store: Store) -> None:
    with pytest.raises(InvalidCommandError, match="before execute\\(\\) and pass it as an argument"):
        store.execute(coroutine_command)


def test_everything_that_takes_a_transaction_is_a_command(store: Store) -> None:
    def flexible(*args: Any, **kwargs: Any) -> int:
        return deposit(*args, **kwargs)

    assert store.execute(Methods().works, "ann").result == 1
    assert store.execute(partial(deposit, id="ann"), amount=2).result == 3
    assert store.execute(partial(Methods().works, id="ann")).result == 4
    assert store.execute(flexible, "ann", amount=1).result == 5
    assert store.execute(lambda tx: deposit(tx, "ann")).result == 6


def test_wrong_arguments_are_the_callers_error(store: Store) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'sum'"):
        store.execute(deposit, "ann", sum=1)  # type: ignore[call-arg]  # that is what is tested
    assert store.head() == 0


# -- Swallowed suspensions ---------------------------------------------------------------------------------------------


def swallow_with_except(tx: Transaction) -> str:
    try:
        tx.read(accounts("ann"))
    except BaseException:
        return "swallowed"
    return "read"


def swallow_with_suppress(tx: Transaction) -> str:
    with contextlib.suppress(BaseException):
        tx.read(accounts("ann"))
        return "read"
    return "swallowed"


def swallow_with_finally(tx: Transaction) -> str:
    found = "swallowed"
    try:
        tx.read(accounts("ann"))
        found = "read"
    finally:
        return found  # noqa: B012 - that is what is tested


def swallow_in_a_part(tx: Transaction) -> str:
    try:
        tx.call(deposit, "ann", 0)
    except BaseException:
        return "swallowed"
    return "read"


def swallow_and_read_on(tx: Transaction) -> str:
    for id in ("ann", "ben"):
        try:
            tx.read(accounts(id))
        except BaseException:
            with contextlib.suppress(BaseException):
                tx.read(accounts("cid")).append(Deposited(100))
            return "swallowed"
    return "read"


def swallow_and_raise(tx: Transaction) -> str:
    try:
        tx.read(accounts("ann"))
    except BaseException:
        raise InsufficientFundsError from None
    return "read"


def swallow_in_a_version(tx: Transaction) -> str:
    account = tx.read(accounts("ann"))
    try:
        account.version  # noqa: B018 - it may suspend
    except BaseException:
        return "swallowed"
    return "read"


@pytest.mark.filterwarnings("ignore:'return' in a 'finally' block:SyntaxWarning")
@pytest.mark.parametrize(
    "command",
    [
        swallow_with_except,
        swallow_with_suppress,
        swallow_with_finally,
        swallow_in_a_part,
        swallow_and_read_on,
        swallow_and_raise,
        swallow_in_a_version,
    ],
)
def test_a_run_that_was_suspended_never_counts_whatever_the_command_caught(
    store: Store, command: Callable[[Transaction], str]
) -> None:
    assert store.execute(command).result == "read"
    assert store.state(accounts("cid")).balance == 0


# -- Metadata and context ----------------------------------------------------------------------------------------------


def test_metadata_stands_in_receipts_and_in_the_log(make_store: MakeStore) -> None:
    store = make_store()
    with metadata(actor="ann", correlation_id="c-1", extra={"ip": "::1"}):
        with metadata(causation_id="m-1"):
            receipt = store.execute(deposit, "ann", 1)
        store.execute_once("key", deposit, "ann", 1)
    store.execute(deposit, "ann", 1)

    found = [recorded.metadata for recorded in make_store().log()]
    assert receipt.events[0].metadata == found[0]
    assert [(each.actor, each.correlation_id, each.causation_id, dict(each.extra)) for each in found] == [
        ("ann", "c-1", "m-1", {"ip": "::1"}),
        ("ann", "c-1", None, {"ip": "::1"}),
        (None, None, None, {}),
    ]


def test_what_a_command_sets_in_its_context_is_not_seen_outside(store: Store) -> None:
    variable: ContextVar[int] = ContextVar("variable", default=0)

    def command(tx: Transaction) -> int:
        variable.set(variable.get() + 1)
        tx.read(accounts("ann"))  # the first run ends here
        return variable.get()

    variable.set(10)
    assert store.execute(command).result == 11
    assert variable.get() == 10


# -- Transforms --------------------------------------------------------------------------------------------------------


class Rot13:
    """Rewrites every event, as encryption would, into other JSON."""

    def outgoing(self, data: bytes) -> bytes:
        return b'"' + data.hex().encode() + b'"'

    def incoming(self, data: bytes) -> bytes:
        return bytes.fromhex(data.decode().strip('"'))


def test_a_transform_stands_between_events_and_storage(make_store: MakeStore) -> None:
    store = make_store(transform=Rot13())
    store.execute(deposit, "ann", 5)
    once = store.execute_once("key", deposit, "ann", 6)

    for each in (store, make_store(transform=Rot13(), cache_size=0)):
        assert each.state(accounts("ann")).balance == 11
        assert [recorded.event for recorded in each.log(types=Deposited)] == [Deposited(5), Deposited(6)]
        assert [recorded.event for recorded in each.events(accounts("ann"))] == [Deposited(5), Deposited(6)]
        assert [recorded.event for recorded in each.log()] == [{"amount": 5}, {"amount": 6}]
        assert each.execute_once("key", deposit, "ann", 6).events == once.events
        assert each.verify(accounts).ok
    assert [recorded.event for recorded in make_store().log()] == [b'{"amount":5}'.hex(), b'{"amount":6}'.hex()]


def test_without_the_transform_or_with_another_one_events_cannot_be_decoded(make_store: MakeStore) -> None:
    class Broken(Rot13):
        def incoming(self, data: bytes) -> bytes:
            raise ArithmeticError("wrong key")

    make_store(transform=Rot13()).execute(deposit, "ann", 5)

    with pytest.raises(DecodingError, match="ledger:ann"):
        make_store().state(accounts("ann"))
    broken = make_store(transform=Broken())
    uses: list[Callable[[], object]] = [
        lambda: broken.state(accounts("ann")),
        lambda: list(broken.log()),
        lambda: list(broken.events(accounts("ann"))),
    ]
    for use in uses:
        with pytest.raises(DecodingError, match="wrong key"):
            use()
    assert not broken.verify(accounts).ok


def test_a_transform_that_fails_on_the_way_out_says_so(make_store: MakeStore) -> None:
    class Broken(Rot13):
        def outgoing(self, data: bytes) -> bytes:
            raise ArithmeticError("no key")

    store = make_store(transform=Broken())
    with pytest.raises(EncodingError, match="no key"):
        store.execute(deposit, "ann", 5)
    assert store.head() == 0


# -- Storages in trouble -----------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


def other_connection(path: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(path, isolation_level=None))


def on_sqlite(make_store: MakeStore, path: Path) -> Store:
    return make_store(SQLite(path, synchronous="normal", timeout=0.1))


sqlite_only = pytest.mark.parametrize("storage", [None], ids=["sqlite"])
"""These tests make their own files: they need not run on every engine."""


@sqlite_only
def test_a_database_that_is_locked_for_too_long(make_store: MakeStore, path: Path) -> None:
    store = on_sqlite(make_store, path)
    store.execute(deposit, "ann", 1)
    with other_connection(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            store.execute(deposit, "ann", 1)
        assert store.state(accounts("ann")).balance == 1  # readers wait for nobody
        with pytest.raises(InsufficientFundsError):
            store.execute(withdraw, "ann", 5)
        connection.execute("ROLLBACK")
    assert store.execute(deposit, "ann", 1).result == 2


@sqlite_only
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to everything")
def test_a_read_only_file(make_store: MakeStore, path: Path) -> None:
    with Store(SQLite(path)) as store:
        store.execute(deposit, "ann", 1)
    path.chmod(0o444)
    store = on_sqlite(make_store, path)
    with pytest.raises(StorageReadOnlyError):
        store.execute(deposit, "ann", 1)
    assert store.state(accounts("ann")).balance == 1


@sqlite_only
def test_a_full_disk(make_store: MakeStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from factfold.storage import _sqlite_connections as connections

    monkeypatch.setattr(connections, "WRITER_PRAGMAS", (*connections.WRITER_PRAGMAS, "max_page_count = 40"))

    def fill(tx: Transaction, count: int) -> int:
        ann, ben = tx.read(accounts("ann"), accounts("ben"))
        ann.append(*[Deposited(1)] * count)
        ben.append(*[Deposited(1)] * count)
        return ann.state.balance

    store = on_sqlite(make_store, path)
    done = 0
    with pytest.raises(StorageFullError, match="full"):
        while True:
            store.execute(fill, 100)
            done += 100

    assert done > 0
    assert store.state(accounts("ann")).balance == store.state(accounts("ben")).balance == done
    assert store.head() == 2 * done
    assert store.verify(accounts).ok
    with contextlib.suppress(StorageFullError):
        for _ in range(1000):
            store.execute(deposit, "ann", 1)  # what is small enough still goes in
            done += 1
    assert store.state(accounts("ann")).balance == done
    monkeypatch.undo()
    store.close()
    assert on_sqlite(make_store, path).execute(deposit, "ann", 1).result == done + 1


@sqlite_only
def test_a_file_replaced_by_an_older_copy(make_store: MakeStore, path: Path) -> None:
    with Store(SQLite(path)) as first:
        first.execute(deposit, "ann", 1)
    older = path.with_name("older.db")
    shutil.copy(path, older)
    store = on_sqlite(make_store, path)
    for _ in range(3):
        store.execute(deposit, "ann", 1)
    os.replace(older, path)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

    with pytest.raises(LogDivergedError, match="went backwards"):
        store.execute(deposit, "ann", 1)

    assert store.execute(deposit, "ann", 1).result == 2
    assert store.head() == 2
    assert store.verify(accounts).ok


@sqlite_only
def test_a_file_replaced_by_another_log_of_the_same_length(make_store: MakeStore, path: Path) -> None:
    other = path.with_name("other.db")
    with Store(SQLite(other)) as another:
        another.execute(deposit, "ann", 100)
    store = on_sqlite(make_store, path)
    store.execute(deposit, "ann", 1)
    os.replace(other, path)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)

    with pytest.raises(LogDivergedError):
        store.execute(balance, "ann")
    assert store.execute(balance, "ann").result == 100


@sqlite_only
def test_a_file_that_disappeared(make_store: MakeStore, path: Path) -> None:
    store = on_sqlite(make_store, path)
    store.execute(deposit, "ann", 1)
    away = path.with_name("away.db")
    path.rename(away)

    for use in (lambda: store.execute(deposit, "ann", 1), lambda: store.state(accounts("ann")), lambda: store.head()):
        with pytest.raises(StoreUnavailableError, match="cannot be found"):
            use()
    away.rename(path)
    assert store.execute(deposit, "ann", 1).result == 2


@sqlite_only
@pytest.mark.parametrize("content", [b"this is no database" * 100, b""])
def test_a_file_that_is_not_ours(make_store: MakeStore, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    store = on_sqlite(make_store, path)
    if not content:
        assert store.execute(deposit, "ann", 1).result == 1  # an empty file is an empty log
        return
    with pytest.raises(StorageFormatError):
        store.execute(deposit, "ann", 1)
    assert path.read_bytes() == content


@sqlite_only
def test_a_database_of_another_application(make_store: MakeStore, path: Path) -> None:
    with other_connection(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StorageFormatError, match="another application"):
        on_sqlite(make_store, path).execute(deposit, "ann", 1)


@sqlite_only
def test_a_file_of_a_newer_version(make_store: MakeStore, path: Path) -> None:
    with Store(SQLite(path)) as store:
        store.execute(deposit, "ann", 1)
    with other_connection(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageFormatError, match="newer factfold"):
        on_sqlite(make_store, path).execute(deposit, "ann", 1)


# -- Sharing -----------------------------------------------------------------------------------------------------------


def test_a_url_of_memory_makes_a_log_of_its_own_each_time() -> None:
    with Store("memory:") as one, Store("memory:") as other:
        one.execute(deposit, "ann", 1)
        assert other.head() == 0


def test_stores_on_one_memory_share_its_log() -> None:
    memory = Memory()
    with Store(memory) as one:
        one.execute(deposit, "ann", 1)
    with Store(memory) as other:
        assert other.state(accounts("ann")).balance == 1


def test_a_receipt_reads_well(store: Store) -> None:
    receipt = store.execute(deposit, "ann", 1)
    assert isinstance(receipt, Receipt)
    assert repr(receipt) == "Receipt(result=1, position=1, attempts=1)"


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    """Closing a store ends the threads that it started."""
    before = set(threading.enumerate())
    yield
    eventually(lambda: {thread for thread in threading.enumerate() if thread.name == "factfold"} <= before)
