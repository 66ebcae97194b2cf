"""What a store and its commands are given: the clock, metadata, arguments."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import partial

import pytest

from factfold import (
    AsyncStore,
    InvalidCommandError,
    Metadata,
    Retry,
    Store,
    Transaction,
    metadata,
)
from factfold.storage.base import Storage
from tests.conftest import MakeStore
from tests.ledger import Deposited, accounts, deposit
from tests.racing import race, within
from tests.together import nothing

# -- Time and metadata -------------------------------------------------------------------------------------------------


def test_the_clock_is_asked_once_for_each_command_that_wants_to_know(make_store: MakeStore) -> None:
    asked: list[datetime] = []

    def clock() -> datetime:
        asked.append(datetime(2020, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))) + timedelta(days=len(asked)))
        return asked[-1]

    def command(tx: Transaction) -> set[datetime]:
        moments = {tx.now}
        tx.read(accounts("ann"))  # suspends the first run
        return moments | {tx.now}

    store = make_store(clock=clock)
    store.execute(nothing)
    assert asked == []
    assert store.execute(command).result == {datetime(2020, 1, 1, 10, tzinfo=UTC)}
    assert store.execute(command).result == {datetime(2020, 1, 2, 10, tzinfo=UTC)}
    assert len(asked) == 2


def test_nested_metadata_is_in_receipts_and_in_the_log(storage: Storage) -> None:
    with Store(storage) as store:
        with metadata(actor="ann", correlation_id="order-1", extra={"ip": "::1", "tags": ["a", 1]}):
            receipts = [store.execute(deposit, "ann")]
            with metadata(causation_id="click", extra={"ip": "::2"}):
                receipts.append(store.execute(deposit, "ann"))
        receipts.append(store.execute(deposit, "ann"))

        outer = Metadata(actor="ann", correlation_id="order-1", extra={"ip": "::1", "tags": ["a", 1]})
        inner = Metadata("order-1", "click", "ann", {"ip": "::2", "tags": ["a", 1]})
        expected = [outer, inner, Metadata()]
        assert [receipt.events[0].metadata for receipt in receipts] == expected
        assert [recorded.metadata for recorded in store.log()] == expected
        assert [recorded.metadata for recorded in store.events(accounts("ann"))] == expected


def test_what_is_executed_once_keeps_its_first_metadata(storage: Storage) -> None:
    with Store(storage) as store:
        for actor in ("ann", "ben"):
            with metadata(actor=actor):
                receipt = store.execute_once("key", deposit, "ann")
            assert [recorded.metadata.actor for recorded in receipt.events] == ["ann"]


def test_threads_have_metadata_of_their_own(storage: Storage) -> None:
    with Store(storage) as store:

        def one(number: int) -> None:
            with metadata(actor=f"actor-{number}"):
                for _ in range(10):
                    store.execute(deposit, f"a{number}", number)

        assert race([partial(one, number) for number in range(1, 9)]) == [None] * 8
        found = {(recorded.event.amount, recorded.metadata) for recorded in store.log(types=Deposited)}
        assert found == {(number, Metadata(actor=f"actor-{number}")) for number in range(1, 9)}


async def test_tasks_have_metadata_of_their_own_and_that_of_the_block_that_started_them(storage: Storage) -> None:
    async with AsyncStore(storage) as store:

        async def one(number: int) -> None:
            with metadata(actor=f"actor-{number}"):
                await asyncio.sleep(0)
                await store.execute(deposit, f"a{number}", number)

        with metadata(correlation_id="all"):
            await within(asyncio.gather(*[one(number) for number in range(1, 9)]))
        found = {recorded.event.amount: recorded.metadata async for recorded in store.log(types=Deposited)}
        assert found == {number: Metadata(actor=f"actor-{number}", correlation_id="all") for number in range(1, 9)}


# -- Arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", [1, 2, 10, 100, 100_000])
def test_the_wait_doubles_up_to_the_cap(attempt: int) -> None:
    delays = [Retry(max_attempts=1_000_000, base=0.01, cap=0.5).delay(attempt) for _ in range(200)]
    limit = min(0.5, 0.01 * 2 ** min(attempt, 10))
    assert all(0 <= delay <= limit for delay in delays)
    assert max(delays) > limit / 2, "full jitter uses the whole range"


async def waiting(tx: Transaction) -> None:
    tx.read(accounts("ann")).append(Deposited(1))


def yielding(tx: Transaction) -> Generator[int, None, None]:
    tx.read(accounts("ann")).append(Deposited(1))
    yield 1


async def waiting_and_yielding(tx: Transaction) -> AsyncGenerator[int, None]:
    tx.read(accounts("ann")).append(Deposited(1))
    yield 1


WAITING = pytest.mark.parametrize("waits", [waiting, yielding, waiting_and_yielding])


@WAITING
@pytest.mark.parametrize("once", [True, False])
def test_a_command_that_returns_something_to_wait_for_is_refused_and_writes_nothing(
    store: Store, waits: Callable[[Transaction], object], once: bool
) -> None:
    def command(tx: Transaction) -> object:
        tx.read(accounts("ann")).append(Deposited(1))
        return waits(tx)

    def execute() -> object:
        return store.execute_once("key", command) if once else store.execute(command)

    with pytest.raises(InvalidCommandError, match="returned a coroutine or a generator"):
        execute()
    assert store.head() == 0


@WAITING
def test_what_is_no_command_cannot_be_called_inside_one(store: Store, waits: Callable[[Transaction], object]) -> None:
    def command(tx: Transaction) -> None:
        tx.call(waits)

    with pytest.raises(InvalidCommandError):
        store.execute(command)


class Static:
    @staticmethod
    def __call__(tx: Transaction) -> int:
        return deposit(tx, "ann", 3)


@dataclass(frozen=True)
class Deposit:
    amount: int

    def __call__(self, tx: Transaction) -> int:
        return deposit(tx, "ann", self.amount)

    def and_more(self, tx: Transaction, more: int) -> int:
        return deposit(tx, "ann", self.amount + more)


@pytest.mark.parametrize(
    "command",
    [
        Static(),
        Deposit(3),
        partial(Deposit(3)),
        partial(Deposit(1).and_more, more=2),
        partial(partial(deposit, id="ann"), amount=3),
        lambda *args: deposit(args[0], "ann", 3),
    ],
)
def test_a_command_may_be_any_callable_that_takes_a_transaction(
    store: Store, command: Callable[[Transaction], int]
) -> None:
    assert store.execute(command).result == 3


IMPORTING = """
import sys
before = set(sys.modules)
import factfold
{use}
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(sorted(new & {{"sqlite3", "asyncio", "concurrent", "typer", "rich", "attr", "attrs", "pydantic", "pytest"}}))
"""


@pytest.mark.parametrize("use", ["", "factfold.Store('memory:').head()"])
def test_importing_factfold_imports_no_driver_and_nothing_optional(use: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    said = subprocess.run(
        [sys.executable, "-c", IMPORTING.format(use=use)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=60,
    )
    assert said.stdout.strip() == "[]"
