"""`execute_once`: once per key, for ever; a repetition gives the result, positions and events of the first call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from functools import partial
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from factfold import (
    AsyncStore,
    DecodingError,
    EncodingError,
    ImpureCommandError,
    InvalidCommandError,
    InvalidStreamIdError,
    KeyReusedError,
    OutcomeUnknownError,
    Receipt,
    Retry,
    Store,
    StoreUnavailableError,
    Transaction,
)
from factfold.once import Once
from factfold.storage.base import Storage
from tests.conftest import MakeStore
from tests.engines import EVERY_ENGINE
from tests.faults import Faulty, once, raising
from tests.ledger import InsufficientFundsError, Transferred, accounts, deposit, open_account, transfer, withdraw
from tests.racing import race, within
from tests.sources import run
from tests.together import Together

ENGINES = EVERY_ENGINE


def test_a_repetition_runs_nothing_writes_nothing_and_gives_the_same(store: Store) -> None:
    runs: list[int] = []

    def command(tx: Transaction, amount: int) -> int:
        runs.append(amount)
        deposit(tx, "ann", amount)
        return deposit(tx, "ben", amount)

    store.execute(open_account, "ann", "Ann")
    first = store.execute_once("key", command, 5)
    store.execute(deposit, "ann", 1)
    head = store.head()
    runs.clear()

    second = store.execute_once("key", command, 5)

    assert (first.repeated, second.repeated) == (False, True)
    assert (second.result, second.position, second.events) == (first.result, first.position, first.events)
    assert (first.result, first.position, len(first.events)) == (5, 3, 2)
    assert runs == []
    assert store.head() == head
    assert store.state(accounts("ben")).balance == 5


def test_a_repetition_in_another_store_gives_the_same(make_store: MakeStore) -> None:
    first = make_store().execute_once("key", deposit, "ann", 5)
    for options in ({}, {"cache_size": 0}):
        second = make_store(**options).execute_once("key", deposit, "ann", 99)
        assert second.repeated
        assert (second.result, second.position, second.events) == (5, 1, first.events)


def test_different_keys_are_different_intentions(store: Store) -> None:
    assert [store.execute_once(key, deposit, "ann", 1).result for key in ("a", "b", "a", "c")] == [1, 2, 1, 3]


@pytest.mark.parametrize("key", ["a/b", "a b", "ä%2F", "x" * 200, "日本:1"])
def test_a_key_may_hold_whatever_an_id_may_hold(store: Store, key: str) -> None:
    assert not store.execute_once(key, deposit, "ann", 1).repeated
    assert store.execute_once(key, deposit, "ann", 1).repeated
    assert not store.execute_once(key + "'", deposit, "ann", 1).repeated


@pytest.mark.parametrize("key", ["", "a\nb", "x" * 300])
def test_a_key_that_no_id_may_hold_is_refused(store: Store, key: str) -> None:
    with pytest.raises(
        InvalidStreamIdError, match=r"execute_once: the key '.* cannot be used\. .* 1 to 249 characters"
    ):
        store.execute_once(key, deposit, "ann", 1)
    assert store.execute_once("x" * 249, deposit, "ann", 1).result == 1


def test_the_key_comes_first(store: Store) -> None:
    swapped: Any = (deposit, "key")
    with pytest.raises(InvalidCommandError, match=r"execute_once\(key, command, \.\.\.\)"):
        store.execute_once(*swapped)


def test_lambdas_cannot_be_told_apart_and_are_refused(store: Store) -> None:
    for command in (lambda tx: 1, partial(lambda tx: 1)):
        with pytest.raises(InvalidCommandError, match="give it one with `def`"):
            store.execute_once("key", command)
    assert store.head() == 0


def test_an_impure_command_is_called_by_its_own_name(store: Store) -> None:
    with pytest.raises(ImpureCommandError, match=rf"^{__name__}\.impure read "):
        store.execute_once("key", impure)


def impure(tx: Transaction) -> None:
    tx.read(accounts(uuid4()))


def test_a_key_used_by_another_command_is_refused(store: Store) -> None:
    store.execute_once("key", deposit, "ann", 5)

    with pytest.raises(KeyReusedError, match="'key' was used by the command tests.ledger.deposit") as caught:
        store.execute_once("key", withdraw, "ann", 5)

    assert caught.value.key == "key"
    assert (caught.value.command, caught.value.used_by) == ("tests.ledger.withdraw", "tests.ledger.deposit")
    assert store.state(accounts("ann")).balance == 5


def test_a_command_that_raises_leaves_the_key_free(store: Store) -> None:
    with pytest.raises(InsufficientFundsError):
        store.execute_once("key", withdraw, "ann", 5)
    assert store.head() == 0
    store.execute(deposit, "ann", 5)

    receipt = store.execute_once("key", withdraw, "ann", 5)

    assert (receipt.result, receipt.repeated) == (0, False)
    assert store.execute_once("key", withdraw, "ann", 5).repeated


def test_a_command_that_appended_nothing_uses_the_key_up(store: Store) -> None:
    def look(tx: Transaction, id: str) -> int:
        return tx.read(accounts(id)).state.balance

    first = store.execute_once("key", look, "ann")
    store.execute(deposit, "ann", 5)
    second = store.execute_once("key", look, "ann")

    assert (first.result, first.position, first.events, first.repeated) == (0, None, (), False)
    assert (second.result, second.position, second.events, second.repeated) == (0, None, (), True)


def test_the_trace_of_a_key_is_not_among_the_users_events_and_streams(store: Store) -> None:
    store.execute_once("key", deposit, "ann", 5)
    store.execute(deposit, "ann", 1)

    assert [recorded.position for recorded in store.log()] == [1, 3]
    assert [recorded.type for recorded in store.log(system=True)] == ["Deposited", "$executed", "Deposited"]
    assert [info.id for info in store.streams()] == ["ledger:ann"]
    assert [info.id for info in store.streams("$once")] == ["$once:key"]
    assert store.head() == 3
    assert store.verify(accounts).ok


def test_an_event_of_several_streams_comes_back_as_it_was(store: Store) -> None:
    store.execute(deposit, "ann", 10)
    first = store.execute_once("key", transfer, "ann", "ben", 4)
    again = store.execute_once("key", transfer, "ann", "ben", 4)
    assert again.events == first.events
    assert [type(each.event) for each in again.events] == [type(each.event) for each in first.events] == [Transferred]


def test_events_come_back_as_the_classes_that_they_were_of(make_store: MakeStore) -> None:
    """Two modules have classes of one name in one category, and a third one a stream type that nobody uses."""
    modules = [
        run(f"""
from dataclasses import dataclass
from factfold import stream

@dataclass(frozen=True)
class Deposited:
    amount: int

@stream("twofold", initial={number})
def tills(state: int, event: Deposited) -> int:
    return state + event.amount
""")
        for number in range(3)
    ]

    def pay(tx: Transaction, *tills: ModuleType) -> None:
        for module in tills:
            tx.read(module.tills("till")).append(module.Deposited(5))

    for number, used in enumerate([modules[:1], modules[1:2], [modules[1], modules[0], modules[1]]]):
        first = make_store().execute_once(f"key-{number}", pay, *used)
        again = make_store().execute_once(f"key-{number}", pay, *used)
        assert [type(each.event) for each in first.events] == [module.Deposited for module in used]
        assert again.repeated
        assert again.events == first.events
        assert [type(each.event) for each in again.events] == [module.Deposited for module in used]


def test_an_event_that_its_class_does_not_read_any_more_is_told_of_where_it_is_asked_for(storage: Storage) -> None:
    source = """
from dataclasses import dataclass
from factfold import stream


@dataclass(frozen=True)
class Changed:
    amount: {type}

@stream("changing", initial=0)
def changes(state: int, event: Changed) -> int:
    return state + 1
"""

    def change(tx: Transaction, module: ModuleType, amount: object) -> None:
        tx.read(module.changes("a")).append(module.Changed(amount))

    old = run(source.format(type="str"))
    new = run(source.format(type="int"))
    new.Changed.__module__ = old.__name__  # as if it were a later version of the same
    with Store(storage) as store:
        store.execute_once("key", change, old, "five")

    with Store(storage) as store:
        repeated = store.execute_once("key", change, new, 5)
        assert (repeated.repeated, repeated.result, repeated.position) == (True, None, 1)
        with pytest.raises(DecodingError, match=r"position 1: the event of type 'Changed'"):
            repeated.events  # noqa: B018  # that is what is tested


# -- Results -----------------------------------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Invoice:
    number: UUID
    amount: Decimal
    lines: tuple[int, ...]
    colour: Colour


class Line(msgspec.Struct, frozen=True):
    text: str
    at: datetime


INVOICE = Invoice(UUID(int=7), Decimal("1.10"), (1, 2), Colour.RED)
LINE = Line("a", datetime(2024, 1, 1, tzinfo=UTC))


def make_invoice(tx: Transaction) -> Invoice:
    return INVOICE


def make_lines(tx: Transaction) -> tuple[Line, Invoice | None]:
    return LINE, INVOICE


def make_nothing(tx: Transaction) -> None:
    tx.read(accounts("ann"))


def make_bytes(tx: Transaction) -> bytes:
    return b"\x00\xff"


def make_mapping(tx: Transaction) -> dict[int, frozenset[str]]:
    return {1: frozenset({"a", "b"})}


def make_unresolvable(tx: Transaction) -> msgspec.NoSuchName:  # type: ignore[name-defined]  # that is what is tested
    return {"a": 1}


def make_plain(tx: Transaction) -> object:
    return {"a": [1, None, "x"]}


del make_plain.__annotations__["return"]  # as if it had said nothing


@dataclass(frozen=True)
class MakeInvoice:
    amount: int

    def __call__(self, tx: Transaction) -> Invoice:
        return INVOICE


class Maker:
    def make(self, tx: Transaction) -> Invoice:
        return INVOICE


@pytest.mark.parametrize(
    "command",
    [
        make_invoice,
        make_lines,
        make_nothing,
        make_bytes,
        make_mapping,
        make_plain,
        make_unresolvable,
        MakeInvoice(1),
        Maker().make,
        partial(make_invoice),
    ],
)
def test_a_result_comes_back_as_what_the_command_says_that_it_returns(
    make_store: MakeStore, command: Callable[[Transaction], object]
) -> None:
    first = make_store().execute_once("key", command)
    second = make_store().execute_once("key", command)

    assert second.repeated
    assert second.result == first.result
    assert type(second.result) is type(first.result)


def unannotated(tx: Transaction) -> object:
    return deposit(tx, "ann", 1), INVOICE


del unannotated.__annotations__["return"]  # as if it had said nothing


def wrong(tx: Transaction) -> tuple[int, ...]:
    deposit(tx, "ann", 1)
    return [1, 2]  # type: ignore[return-value]  # that is what is tested


def unstorable(tx: Transaction) -> object:
    deposit(tx, "ann", 1)
    return object()


@pytest.mark.parametrize("command", [unannotated, wrong, unstorable])
def test_a_result_that_would_not_come_back_is_refused_and_nothing_is_written(
    store: Store, command: Callable[[Transaction], object]
) -> None:
    with pytest.raises(EncodingError, match="execute_once has to store the command's result"):
        store.execute_once("key", command)

    assert store.head() == 0
    assert not store.execute_once("key", deposit, "ann", 1).repeated  # the key is free


def test_a_result_that_can_no_longer_be_decoded_says_so(store: Store) -> None:
    def answer(tx: Transaction) -> str:
        return "forty-two"

    store.execute_once("key", answer)
    answer.__annotations__["return"] = int  # as if a later version of the program said so

    with pytest.raises(EncodingError, match="has changed since it ran first"):
        store.execute_once("key", answer)


async def async_command(tx: Transaction) -> int:
    return 1


def generator_command(tx: Transaction) -> Any:
    yield 1


@pytest.mark.parametrize("command", [async_command, generator_command, 5, lambda: 1])
def test_what_is_no_command_is_refused(store: Store, command: Any) -> None:
    with pytest.raises(InvalidCommandError):
        store.execute_once("key", command)
    assert store.head() == 0


# -- Races and broken connections --------------------------------------------------------------------------------------


def test_racing_threads_of_several_stores_run_it_once(storage: Storage) -> None:
    def attempt(store: Store, key: str) -> Receipt[int]:
        return store.execute_once(key, deposit, "ann", 1)

    stores = [Store(storage, cache_size=size) for size in (10_000, 10_000, 0)]
    for round in range(15):
        receipts = race([partial(attempt, stores[n % 3], f"key-{round}") for n in range(12)])
        assert all(isinstance(each, Receipt) for each in receipts), receipts
        found = [each for each in receipts if isinstance(each, Receipt)]
        assert sorted(each.repeated for each in found) == [False] + [True] * 11
        assert {(each.result, each.position) for each in found} == {(round + 1, 2 * round + 1)}
    assert stores[0].state(accounts("ann")).balance == 15
    for store in stores:
        store.close()


async def test_racing_tasks_of_several_stores_run_it_once(storage: Storage) -> None:
    stores = [AsyncStore(storage), AsyncStore(storage)]
    for round in range(10):
        calls = [stores[n % 2].execute_once(f"key-{round}", deposit, "ann", 1) for n in range(10)]
        found = await within(asyncio.gather(*calls))
        assert sorted(each.repeated for each in found) == [False] + [True] * 9
        assert {(each.result, each.position) for each in found} == {(round + 1, 2 * round + 1)}
    for store in stores:
        await store.close()


def test_two_with_one_key_in_one_batch(together: Together) -> None:
    def command(tx: Transaction) -> int:
        return deposit(tx, "ann", 1)

    first, second = together.execute((Once("key", command, (), {}),), (Once("key", command, (), {}),))

    assert isinstance(first, Receipt) and isinstance(second, Receipt)
    assert first.result == (1, None)
    assert second.position is None
    assert together.store.execute_once("key", command).repeated


@pytest.mark.parametrize("happened", [False, True])
def test_a_call_whose_outcome_was_unknown_can_be_repeated(
    make_store: MakeStore, storage: Storage, happened: bool
) -> None:
    faulty = Faulty(storage)
    store = make_store(faulty, retry=Retry(max_attempts=2, base=0.0))
    hooks = faulty.after if happened else faulty.before
    hooks["append"] = once(raising(OutcomeUnknownError("the connection broke")))
    faulty.before["resolve"] = raising(StoreUnavailableError("gone"))
    with pytest.raises(OutcomeUnknownError):
        store.execute_once("key", deposit, "ann", 5)
    faulty.before.clear()

    receipt = store.execute_once("key", deposit, "ann", 5)

    assert (receipt.result, receipt.position, receipt.repeated) == (5, 1, happened)
    assert store.state(accounts("ann")).balance == 5


async def test_a_call_that_was_cancelled_can_be_repeated(storage: Storage) -> None:
    async with AsyncStore(storage) as store:
        for number in range(20):
            first = asyncio.create_task(store.execute_once(f"key-{number}", deposit, "ann", 1))
            for _ in range(number):
                await asyncio.sleep(0)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            assert (await within(store.execute_once(f"key-{number}", deposit, "ann", 1))).result == number + 1
        assert (await store.state(accounts("ann"))).balance == 20
