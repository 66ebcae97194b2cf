"""The process manager does every step once: whatever is short, whatever is repeated, and however often it is killed."""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import TypeAlias
from uuid import UUID

import pytest

from examples.fulfilment import __main__ as morning
from examples.fulfilment import process
from examples.fulfilment.commands import pay, receive
from examples.fulfilment.errors import InvalidOrderError, OrderExistsError, StepRefusedError
from examples.fulfilment.events import (
    FulfilmentStarted,
    Item,
    OrderCancelled,
    OrderPaid,
    OrderShipped,
    PaymentRefunded,
    StockReceived,
    StockReleased,
    StockReserved,
    StockShort,
)
from examples.fulfilment.process import fulfilment, wait_until_settled
from examples.fulfilment.states import (
    Fulfilment,
    Order,
    OrderEvent,
    ProcessEvent,
    Stage,
    Status,
    fulfilments,
    orders,
    stock,
)
from examples.fulfilment.steps import cancel, go_on, refund, release, start
from examples.running import run
from factfold import Reaction, ReactionContext, Retry, Store
from factfold.storage.base import Storage
from factfold.storage.sqlite import SQLite
from tests.examples.runners import run_until_killed
from tests.racing import eventually

ENGINES = ("sqlite", "postgres")
"""For the runner that is killed: those that other processes can open, and that do not forget."""


@pytest.fixture
def house() -> Iterator[Store]:
    """Ten cups and two pots."""
    with Store("memory:") as store:
        store.execute(receive, "CUP", 10)
        store.execute(receive, "POT", 2)
        yield store


def pieces(store: Store, *skus: str) -> list[tuple[int, int]]:
    """On hand and reserved, of each."""
    return [(state.on_hand, state.reserved) for state in (store.state(stock(sku)) for sku in skus)]


def types_of(store: Store, order: str) -> list[str]:
    """What happened in the fulfilment of an order."""
    return [recorded.type for recorded in store.events(fulfilments(order))]


def fulfil(store: Store, process_manager: Reaction = fulfilment) -> None:
    """Has all done that is to be done."""
    store.start(process_manager)
    wait_until_settled(store)
    store.stop(process_manager)


# -- What is asked for -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "cents", "rule"),
    [({}, 100, "has items"), ({"CUP": 0}, 100, "a piece of each"), ({"CUP": 1}, 0, "not 0 cents")],
)
def test_an_order_that_cannot_be_is_not_taken(house: Store, items: dict[str, int], cents: int, rule: str) -> None:
    with pytest.raises(InvalidOrderError, match=rule):
        house.execute(pay, "1", "ann", items, cents)


def test_an_order_is_paid_once(house: Store) -> None:
    house.execute(pay, "1", "ann", {"CUP": 1}, 500)
    with pytest.raises(OrderExistsError, match="an order 1 already"):
        house.execute(pay, "1", "bo", {"CUP": 1}, 500)


def test_at_least_one_piece_comes_in(house: Store) -> None:
    with pytest.raises(ValueError, match="0 pieces of CUP"):
        house.execute(receive, "CUP", 0)


# -- The process -------------------------------------------------------------------------------------------------------


def test_a_paid_order_is_reserved_and_shipped(house: Store) -> None:
    house.execute(pay, "1", "ann", {"CUP": 3, "POT": 1}, 9000)
    fulfil(house)
    assert types_of(house, "1") == ["FulfilmentStarted", "StockReserved", "StockReserved", "OrderShipped"]
    assert house.state(orders("1")) == Order(Status.SHIPPED, "ann", 9000)
    assert house.state(fulfilments("1")).stage is Stage.SHIPPED
    assert pieces(house, "CUP", "POT") == [(7, 0), (1, 0)]


def test_when_stock_is_short_all_is_given_back(house: Store) -> None:
    house.execute(receive, "TEA", 5)
    house.execute(pay, "1", "ann", {"CUP": 3, "TEA": 5, "POT": 3}, 9000)
    fulfil(house)
    happened = [recorded.event for recorded in house.events(fulfilments("1"))]
    cups, tea, pots = Item("CUP", 3), Item("TEA", 5), Item("POT", 3)
    assert happened == [
        FulfilmentStarted("1", (cups, tea, pots)),
        StockReserved("1", cups),
        StockReserved("1", tea),
        StockShort("1", pots, 2, (cups, tea)),
        StockReleased("1", tea),
        StockReleased("1", cups),
        PaymentRefunded("1", 9000),
        OrderCancelled("1", "3 of POT wanted, 2 there"),
    ]
    assert house.state(orders("1")) == Order(Status.CANCELLED, "ann", 0)
    assert house.state(fulfilments("1")) == Fulfilment(Stage.CANCELLED, (pots,), (), refunded=True)
    assert pieces(house, "CUP", "TEA", "POT") == [(10, 0), (5, 0), (2, 0)]


def test_what_one_order_gives_back_another_one_gets(house: Store) -> None:
    house.execute(pay, "1", "ann", {"CUP": 10, "POT": 3}, 9000)
    fulfil(house)
    house.execute(pay, "2", "bo", {"CUP": 10, "POT": 2}, 8000)
    fulfil(house)
    assert [house.state(orders(number)).status for number in "12"] == [Status.CANCELLED, Status.SHIPPED]
    assert pieces(house, "CUP", "POT") == [(0, 0), (0, 0)]


def test_a_step_that_does_not_follow_is_refused(house: Store) -> None:
    cups = Item("CUP", 1)
    house.execute(pay, "1", "ann", {"CUP": 1, "POT": 3}, 900)
    with pytest.raises(StepRefusedError, match="1 is not started, and that is not when to go on"):
        house.execute(go_on, "1")
    house.execute(start, "1", (cups, Item("POT", 3)))
    for _ in range(2):
        house.execute(go_on, "1")
    with pytest.raises(StepRefusedError, match="which it does not hold"):
        house.execute(release, "1", Item("CUP", 2))
    with pytest.raises(StepRefusedError, match="before all is given back"):
        house.execute(cancel, "1", "short")
    house.execute(refund, "1")
    with pytest.raises(StepRefusedError, match="refund once more"):
        house.execute(refund, "1")


def test_what_is_handled_twice_is_done_once(house: Store) -> None:
    handled = Counter[int]()
    twice = Reaction("fulfilment", start="beginning", retry=Retry(base=1e-3))

    @twice.on
    def _(event: OrderPaid | FulfilmentStarted | StockReserved | StockShort, context: ReactionContext) -> None:
        match event:
            case OrderPaid():
                process.begin(event, context)
            case StockShort():
                process.compensate(event, context)
            case _:
                process.proceed(event, context)
        position = context.recorded.position
        handled[position] += 1
        if handled[position] == 1:
            raise ConnectionError("the process fails when it has done all, and before that is known")

    house.execute(pay, "1", "ann", {"CUP": 3, "POT": 1}, 9000)
    house.execute(pay, "2", "bo", {"CUP": 3, "POT": 9}, 9000)
    fulfil(house, twice)
    assert set(handled.values()) == {2}
    assert Counter(types_of(house, "1")) == {"FulfilmentStarted": 1, "StockReserved": 2, "OrderShipped": 1}
    assert set(Counter(types_of(house, "2")).values()) == {1}
    assert pieces(house, "CUP", "POT") == [(7, 0), (1, 0)]


# -- SIGKILL -----------------------------------------------------------------------------------------------------------

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["pytest", "tests.examples.runners"])


def test_a_process_manager_that_is_killed_at_any_moment_does_every_step_once(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fulfilment, "lease", LEASE)
    kills = 20 if isinstance(storage, SQLite) else 5
    chance = Random(4711)
    numbers = list[str]()
    repeats = tmp_path / "repeats"
    repeats.touch()
    with Store(storage) as store:
        for sku in SKUS:
            store.execute(receive, sku, 4 * kills)  # too little for all that is ordered
        for _ in range(kills):
            enough = store.head() + chance.randrange(3, 60)
            with killed_at_the_end(storage, repeats) as runner:
                while store.head() < enough and runner.is_alive():
                    for _ in range(chance.randrange(1, 4)):
                        numbers.append(order_something(store, len(numbers), chance))
                    wait_for_events(store, chance.randrange(1, 7), runner)
        fulfil(store)
        assert repeats.stat().st_size > 0, "no runner was killed between a step and its checkpoint"
        check_steps(store, numbers)
        check_causes(store)
        check_stock(store)


SKUS = ("CUP", "POT", "TEA")
LEASE = 0.1
"""Seconds after which a process takes over from one that was killed."""
EVENTS: TypeAlias = OrderEvent | ProcessEvent | StockReceived


@contextmanager
def killed_at_the_end(storage: Storage, repeats: Path) -> Generator[BaseProcess]:
    """Another process that runs the process manager, until it is killed."""
    runner = FORKS.Process(target=run_until_killed, args=(storage, LEASE, repeats), daemon=True)
    runner.start()
    yield runner
    runner.kill()
    runner.join()
    assert runner.exitcode == -signal.SIGKILL, "it has ended by itself"


def order_something(store: Store, number: int, chance: Random) -> str:
    """One more order, of one to three products; gives its number."""
    items = {sku: chance.randrange(1, 4) for sku in chance.sample(SKUS, chance.randrange(1, 4))}
    store.execute(pay, f"{number}", "ann", items, 500)
    return f"{number}"


def wait_for_events(store: Store, count: int, runner: BaseProcess) -> None:
    """Returns when so many events have followed, no more than on one order do; or the runner has ended."""
    enough = store.head() + count
    eventually(lambda: store.head() >= enough or not runner.is_alive())


def check_steps(store: Store, numbers: Sequence[str]) -> None:
    """No order is stuck, and no step was done twice."""
    ends = Counter[Status]()
    for number in numbers:
        order, process = store.state(orders(number)), store.state(fulfilments(number))
        steps = [recorded.event for recorded in store.events(fulfilments(number))]
        assert len(set(steps)) == len(steps), steps
        assert isinstance(steps[-1], OrderShipped | OrderCancelled), steps
        assert process.reserved == ()
        assert order.cents == (500 if order.status is Status.SHIPPED else 0)
        ends[order.status] += 1
    assert set(ends) == {Status.SHIPPED, Status.CANCELLED}, f"there are orders of both kinds, and no others: {ends}"


def check_causes(store: Store) -> None:
    """Whatever was done about an order leads back to its payment."""
    payments = dict[UUID | str, str]()  # the order to which the events of these ids lead back
    for recorded in store.log(types=EVENTS):
        if isinstance(recorded.event, OrderPaid):
            payments[recorded.id] = recorded.event.order
        elif isinstance(recorded.event, OrderEvent | ProcessEvent):
            caused, correlated = recorded.metadata.causation_id, recorded.metadata.correlation_id
            assert caused is not None
            assert correlated is not None
            assert payments[caused] == payments[correlated] == recorded.event.order
            payments[recorded.id] = recorded.event.order


def check_stock(store: Store) -> None:
    """At no time was more promised, or shipped, than was there; and nothing is promised any more."""
    on_hand, reserved = Counter[str](), Counter[str]()
    for recorded in store.log(types=EVENTS):
        match recorded.event:
            case StockReceived(quantity):
                on_hand[stock.of(recorded)[0].parts[0]] += quantity
            case StockReserved(item=item):
                reserved[item.sku] += item.quantity
            case StockReleased(item=item):
                reserved[item.sku] -= item.quantity
            case OrderShipped(items=items):
                for item in items:
                    on_hand[item.sku] -= item.quantity
                    reserved[item.sku] -= item.quantity
        assert all(0 <= reserved[sku] <= on_hand[sku] for sku in SKUS), recorded
    assert reserved.total() == 0
    assert pieces(store, *SKUS) == [(on_hand[sku], 0) for sku in SKUS]


# -- Its story ---------------------------------------------------------------------------------------------------------


def test_the_story_tells_what_became_of_the_orders(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fulfilment", morning.main, "", []) == 0
    told = capsys.readouterr().out
    assert told.count("shipped, we have 40.00") == 6
    assert told.count("cancelled, we have 0.00") == 3
    assert re.search(r"OrderPaid\n.*  FulfilmentStarted\n(.*\n)*.* OrderCancelled\n$", told)
