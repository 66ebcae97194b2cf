"""A fold that raises fails the commands that read its stream, and nobody else, wherever it is that it is run."""

from __future__ import annotations

import asyncio

import pytest

from factfold import AsyncStore, Store, Transaction, stream
from factfold.storage.base import Storage
from tests.ledger import Deposited, accounts, balance, deposit
from tests.racing import within

POISON = 13
NOT_ORDINARY = [SystemExit, GeneratorExit, asyncio.CancelledError]


@pytest.fixture(params=NOT_ORDINARY, autouse=True)
def raised(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[BaseException]:
    """What the fold raises: something that would end a thread or a task."""
    kind: type[BaseException] = request.param
    monkeypatch.setitem(RAISED, "by the fold", kind)
    return kind


RAISED: dict[str, type[BaseException]] = {}


@stream("ledger", initial=0)
def sums(state: int, event: Deposited) -> int:
    if event.amount == POISON:
        raise RAISED["by the fold"]("from the fold")
    return state + event.amount


@stream("ledger", initial=0)
def sums_by_id(state: int, event: Deposited, id: str) -> int:
    return sums.fold.evolve(state, event, id)  # type: ignore[return-value]  # a fold without its types


def total(tx: Transaction, id: str) -> int:
    return tx.read(sums(id)).state


def pay(tx: Transaction, id: str, amount: int) -> int:
    view = tx.read(sums(id))
    view.append(Deposited(amount))
    return view.state


def assert_from_the_fold(error: BaseException, raised: type[BaseException]) -> None:
    assert "sums raised" in str(error)
    assert isinstance(error.__cause__, raised)


@pytest.mark.parametrize("fold", [sums, sums_by_id])
def test_a_state_that_is_loaded(store: Store, rival: Store, raised: type[BaseException], fold: object) -> None:
    rival.execute(deposit, "ann", POISON)
    for _ in range(2):
        with pytest.raises(RuntimeError) as caught:
            store.state(fold("ann"))  # type: ignore[operator]  # whichever stream type it is
        assert_from_the_fold(caught.value, raised)
    assert store.execute(balance, "ann").result == POISON


def test_news_of_others(store: Store, rival: Store, raised: type[BaseException]) -> None:
    assert store.execute(total, "ann").result == 0
    rival.execute(deposit, "ann", POISON)
    assert store.execute(deposit, "ben", 1).result == 1  # it hears of the news, and is not concerned
    with pytest.raises(RuntimeError) as caught:
        store.execute(total, "ann")
    assert_from_the_fold(caught.value, raised)
    assert store.execute(deposit, "ann", 1).result == POISON + 1


def test_events_of_the_store_itself(store: Store, raised: type[BaseException]) -> None:
    assert store.execute(total, "ann").result == 0
    assert store.execute(deposit, "ann", POISON).result == POISON  # through another fold
    with pytest.raises(RuntimeError) as caught:
        store.execute(total, "ann")
    assert_from_the_fold(caught.value, raised)


def test_an_event_of_the_command_itself(store: Store, raised: type[BaseException]) -> None:
    with pytest.raises(RuntimeError) as caught:
        store.execute(pay, "ann", POISON)
    assert_from_the_fold(caught.value, raised)
    assert store.head() == 0
    assert store.execute(pay, "ann", 1).result == 1


async def test_under_asyncio_it_is_loaded_once_for_each_call(storage: Storage, raised: type[BaseException]) -> None:
    async with AsyncStore(storage) as store:
        await store.execute(deposit, "ann", POISON)
        outcomes = await within(
            asyncio.gather(store.execute(total, "ann"), store.execute(balance, "ann"), return_exceptions=True)
        )
        assert isinstance(outcomes[0], RuntimeError)
        assert_from_the_fold(outcomes[0], raised)
        assert not isinstance(outcomes[1], BaseException)
        assert (await within(store.state(accounts("ann")))).balance == POISON
        assert store.stats().loads <= 3
