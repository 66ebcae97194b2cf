"""An order goes from draft to end by the rules, each step once, and its customer is told of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from examples.order_lifecycle import __main__ as story
from examples.order_lifecycle.commands import (
    MOST_LINES,
    MOST_PIECES,
    add_item,
    cancel,
    confirm,
    create,
    deliver,
    remove_item,
    see_parcel,
    set_billing_address,
    set_shipping_address,
    ship,
)
from examples.order_lifecycle.errors import (
    ImpossibleTimeError,
    IncompleteOrderError,
    InvalidInputError,
    NotInOrderError,
    OrderExistsError,
    ShippedOtherwiseError,
    UnknownOrderError,
    WrongStageError,
)
from examples.order_lifecycle.notices import Notice, handlers_for
from examples.order_lifecycle.orders import (
    Address,
    Cancelled,
    Confirmed,
    Draft,
    Line,
    OrderConfirmed,
    ParcelSeen,
    Shipped,
    ShippingAddressSet,
    orders,
)
from examples.running import run
from factfold import AsyncStore, Store
from factfold.storage.memory import Memory
from tests.examples.racers import RACERS, Race

NUMBER = "2026-0001"
CUP = Line("CUP", "A cup", 2, 1250)
POT = Line("POT", "A tea pot", 1, 4800)
HOME = Address("Ann Lee", "4 Mill Lane", "York", "UK")
OFFICE = Address("Lee & Sons", "1 Quay Street", "Hull", "UK")
NINE = datetime(2026, 3, 2, 9, tzinfo=UTC)
EIGHT = NINE - timedelta(hours=1)


@pytest.fixture
def store() -> Iterator[Store]:
    """It is nine o'clock."""
    with Store("memory:", clock=lambda: NINE) as opened:
        yield opened


def drafted(store: Store) -> None:
    store.execute(create, NUMBER, "ann")
    store.execute(add_item, NUMBER, CUP)
    store.execute(set_shipping_address, NUMBER, HOME)


def confirmed(store: Store) -> None:
    drafted(store)
    store.execute(confirm, NUMBER)


def shipped(store: Store) -> None:
    confirmed(store)
    store.execute(ship, NUMBER, "Fast Parcel", "FP-1")


def delivered(store: Store) -> None:
    shipped(store)
    store.execute(deliver, NUMBER, "the porter", NINE)


def cancelled(store: Store) -> None:
    confirmed(store)
    store.execute(cancel, NUMBER, "found it cheaper")


# -- The draft ---------------------------------------------------------------------------------------------------------


def test_a_number_is_given_once(store: Store) -> None:
    store.execute(create, NUMBER, "ann")
    assert store.state(orders(NUMBER)) == Draft("ann")
    with pytest.raises(OrderExistsError, match="take the next number"):
        store.execute(create, NUMBER, "bo")


def test_items_come_and_go_in_a_draft(store: Store) -> None:
    store.execute(create, NUMBER, "ann")
    assert store.execute(add_item, NUMBER, CUP).result == 2500
    assert store.execute(add_item, NUMBER, POT).result == 7300
    assert store.execute(remove_item, NUMBER, "CUP").result == 4800
    with pytest.raises(NotInOrderError):
        store.execute(remove_item, NUMBER, "CUP")


def test_more_of_the_same_is_one_line_and_another_price_is_another(store: Store) -> None:
    store.execute(create, NUMBER, "ann")
    for line in (CUP, POT, CUP, replace(CUP, price=900)):
        store.execute(add_item, NUMBER, line)
    assert store.state(orders(NUMBER)) == Draft("ann", (replace(CUP, quantity=4), POT, replace(CUP, price=900)))


@pytest.mark.parametrize(
    "line",
    [
        Line("", "A cup", 1, 1250),
        Line("CUP", " ", 1, 1250),
        Line("CUP", "A cup", 0, 1250),
        Line("CUP", "A cup", True, 1250),
        Line("CUP", "A cup", MOST_PIECES + 1, 1250),
        Line("CUP", "A cup", 1, -1),
        Line("CUP", "A cup", 1, 12.5),  # type: ignore[arg-type]  # the point of the test
    ],
)
def test_a_line_that_cannot_be_is_refused(line: Line, store: Store) -> None:
    store.execute(create, NUMBER, "ann")
    with pytest.raises(InvalidInputError):
        store.execute(add_item, NUMBER, line)


def test_an_order_holds_so_many_pieces_of_a_product_and_no_more(store: Store) -> None:
    store.execute(create, NUMBER, "ann")
    store.execute(add_item, NUMBER, replace(CUP, quantity=MOST_PIECES - 1))
    with pytest.raises(InvalidInputError, match="from 1 to 99 of CUP, and this one has 98"):
        store.execute(add_item, NUMBER, CUP)


def test_an_order_has_so_many_lines_and_no_more(store: Store) -> None:
    store.execute(create, NUMBER, "ann")
    for index in range(MOST_LINES):
        store.execute(add_item, NUMBER, Line(f"P-{index}", "A thing", 1, 100))
    with pytest.raises(InvalidInputError, match="50 are there already: begin another order"):
        store.execute(add_item, NUMBER, CUP)
    assert store.version(orders(NUMBER)) == 1 + MOST_LINES


def test_texts_are_not_blank(store: Store) -> None:
    attempts: tuple[Callable[[], object], ...] = (
        lambda: store.execute(create, "", "ann"),
        lambda: store.execute(create, NUMBER, " "),
        lambda: store.execute(set_shipping_address, NUMBER, replace(HOME, city="")),
        lambda: store.execute(set_billing_address, NUMBER, replace(HOME, name="\t")),
        lambda: store.execute(ship, NUMBER, "", "FP-1"),
        lambda: store.execute(ship, NUMBER, "Fast Parcel", ""),
        lambda: store.execute(see_parcel, NUMBER, "", NINE),
        lambda: store.execute(deliver, NUMBER, "", NINE),
        lambda: store.execute(cancel, NUMBER, ""),
    )
    for attempt in attempts:
        with pytest.raises(InvalidInputError, match="must not be blank"):
            attempt()


# -- Its way -----------------------------------------------------------------------------------------------------------


def test_an_order_is_confirmed_when_it_has_items_and_an_address(store: Store) -> None:
    store.execute(create, NUMBER, "ann")
    with pytest.raises(IncompleteOrderError, match="it needs an item and a shipping address") as caught:
        store.execute(confirm, NUMBER)
    assert caught.value.missing == ("an item", "a shipping address")
    store.execute(add_item, NUMBER, CUP)
    store.execute(set_shipping_address, NUMBER, HOME)
    assert store.execute(confirm, NUMBER).events[0].event == OrderConfirmed(2500)


def test_the_bill_goes_where_the_parcel_goes_unless_it_is_said(store: Store) -> None:
    confirmed(store)
    assert store.state(orders(NUMBER)) == Confirmed("ann", (CUP,), 2500, HOME, HOME)
    store.execute(create, "2026-0002", "bo")
    store.execute(add_item, "2026-0002", POT)
    store.execute(set_shipping_address, "2026-0002", HOME)
    store.execute(set_billing_address, "2026-0002", OFFICE)
    store.execute(confirm, "2026-0002")
    assert store.state(orders("2026-0002")) == Confirmed("bo", (POT,), 4800, HOME, OFFICE)


def test_a_parcel_can_be_sent_elsewhere_until_it_is_under_way(store: Store) -> None:
    confirmed(store)
    (recorded,) = store.execute(set_shipping_address, NUMBER, OFFICE).events
    assert recorded.event == ShippingAddressSet(OFFICE)
    assert store.execute(set_shipping_address, NUMBER, OFFICE).events == ()
    store.execute(ship, NUMBER, "Fast Parcel", "FP-1")
    with pytest.raises(WrongStageError, match="is shipped and cannot be sent elsewhere"):
        store.execute(set_shipping_address, NUMBER, HOME)


def test_each_step_is_made_once_however_often_it_is_asked_for(store: Store) -> None:
    drafted(store)
    steps: tuple[Callable[[], int], ...] = (
        lambda: len(store.execute(confirm, NUMBER).events),
        lambda: len(store.execute(ship, NUMBER, "Fast Parcel", "FP-1").events),
        lambda: len(store.execute(see_parcel, NUMBER, "Leeds", NINE).events),
        lambda: len(store.execute(deliver, NUMBER, "the porter", NINE).events),
    )
    assert [(step(), step()) for step in steps] == [(1, 0)] * 4
    assert store.execute(confirm, NUMBER).result == 2500


def test_a_cancelled_order_is_cancelled_once(store: Store) -> None:
    cancelled(store)
    assert store.execute(cancel, NUMBER, "really").events == ()
    assert store.state(orders(NUMBER)) == Cancelled("ann", "found it cheaper")


def test_an_order_leaves_the_house_with_one_label(store: Store) -> None:
    shipped(store)
    with pytest.raises(ShippedOtherwiseError, match="with Fast Parcel as FP-1: check the label"):
        store.execute(ship, NUMBER, "Fast Parcel", "FP-2")


def test_scans_may_come_out_of_order_and_the_newest_counts() -> None:
    now = NINE
    with Store("memory:", clock=lambda: now) as store:
        shipped(store)
        now += timedelta(hours=3)
        for place, hours in (("Leeds", 1), ("Hull", 3), ("Selby", 2)):
            assert store.execute(see_parcel, NUMBER, place, NINE + timedelta(hours=hours)).events
        state = store.state(orders(NUMBER))
        assert isinstance(state, Shipped)
        assert state.last_seen == ParcelSeen("Hull", now)


def test_a_scan_that_comes_after_the_delivery_is_nothing(store: Store) -> None:
    delivered(store)
    assert store.execute(see_parcel, NUMBER, "Leeds", NINE).events == ()


def test_nothing_arrives_before_it_is_sent_or_in_the_future(store: Store) -> None:
    shipped(store)
    for at in (EIGHT, NINE + timedelta(seconds=1)):
        with pytest.raises(ImpossibleTimeError) as caught:
            store.execute(deliver, NUMBER, "the porter", at)
        assert (caught.value.earliest, caught.value.at, caught.value.latest) == (NINE, at, NINE)
        with pytest.raises(ImpossibleTimeError):
            store.execute(see_parcel, NUMBER, "Leeds", at)
    there = NINE.astimezone(timezone(timedelta(hours=5)))
    store.execute(deliver, NUMBER, "the porter", there)


def test_a_time_without_a_zone_is_none(store: Store) -> None:
    shipped(store)
    with pytest.raises(InvalidInputError, match="a time zone has to be known"):
        store.execute(deliver, NUMBER, "the porter", NINE.replace(tzinfo=None))


COMMANDS: dict[str, Callable[[Store], object]] = {
    "changed": lambda store: store.execute(add_item, NUMBER, POT),
    "sent elsewhere": lambda store: store.execute(set_shipping_address, NUMBER, OFFICE),
    "confirmed": lambda store: store.execute(confirm, NUMBER),
    "shipped": lambda store: store.execute(ship, NUMBER, "Fast Parcel", "FP-1"),
    "under way": lambda store: store.execute(see_parcel, NUMBER, "Leeds", NINE),
    "delivered": lambda store: store.execute(deliver, NUMBER, "the porter", NINE),
    "cancelled": lambda store: store.execute(cancel, NUMBER, "no need"),
}


@pytest.mark.parametrize(
    ("stage", "given", "refused"),
    [
        ("draft", drafted, {"shipped", "under way", "delivered"}),
        ("confirmed", confirmed, {"changed", "under way", "delivered"}),
        ("shipped", shipped, {"changed", "sent elsewhere", "cancelled"}),
        ("delivered", delivered, {"changed", "sent elsewhere", "shipped", "cancelled"}),
        ("cancelled", cancelled, {"changed", "sent elsewhere", "confirmed", "shipped", "under way", "delivered"}),
    ],
)
def test_an_order_goes_only_where_it_can_from_where_it_is(
    stage: str, given: Callable[[Store], None], refused: set[str]
) -> None:
    found = set[str]()
    for attempt, command in COMMANDS.items():
        with Store("memory:", clock=lambda: NINE) as store:
            given(store)
            try:
                command(store)
            except WrongStageError as error:
                assert (error.order, error.stage, error.attempt) == (NUMBER, stage, attempt)
                found.add(attempt)
    assert found == refused


@pytest.mark.parametrize("attempt", COMMANDS)
def test_an_order_that_is_not_there_is_said_not_to_be(attempt: str, store: Store) -> None:
    with pytest.raises(UnknownOrderError, match="there is no order 2026-0001: create it first"):
        COMMANDS[attempt](store)


# -- The hub -----------------------------------------------------------------------------------------------------------


def test_customers_are_told_of_each_step_in_order(store: Store) -> None:
    sent: list[Notice] = []
    handlers = handlers_for(sent.append)
    with store.subscribe(types=handlers) as hub:
        shipped(store)
        store.execute(see_parcel, NUMBER, "Leeds", NINE)
        store.execute(deliver, NUMBER, "the porter", NINE)
        while not (sent and sent[-1].last):
            handlers.dispatch(next(hub))
    assert sent == [
        Notice(NUMBER, "thank you, it comes to 25.00 EUR"),
        Notice(NUMBER, "on its way with Fast Parcel, as FP-1"),
        Notice(NUMBER, "seen in Leeds"),
        Notice(NUMBER, "handed over to the porter", last=True),
    ]


def test_who_goes_on_where_the_last_one_stopped_misses_and_repeats_nothing() -> None:
    storage = Memory()
    sent: list[Notice] = []
    handlers = handlers_for(sent.append)
    with Store(storage) as store, store.subscribe(types=handlers) as hub:
        confirmed(store)
        handlers.dispatch(next(hub))
        position = hub.position
    with Store(storage) as store:
        store.execute(cancel, NUMBER, "found it cheaper")
    with Store(storage) as store, store.subscribe(types=handlers, after=position) as hub:
        handlers.dispatch(next(hub))
    assert [notice.text for notice in sent] == ["thank you, it comes to 25.00 EUR", "cancelled: found it cheaper"]


async def test_the_hub_hands_over_in_an_event_loop_too() -> None:
    sent: list[Notice] = []
    handlers = handlers_for(sent.append)
    async with AsyncStore("memory:") as store, store.subscribe(types=handlers) as hub:
        await store.execute(create, NUMBER, "ann")
        await store.execute(cancel, NUMBER, "a slip")
        async for recorded in hub:
            handlers.dispatch(recorded)
            break
    assert sent == [Notice(NUMBER, "cancelled: a slip", last=True)]


# -- Snapshots ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [drafted, confirmed, shipped, delivered, cancelled])
def test_an_order_of_each_stage_comes_back_from_its_snapshot(given: Callable[[Store], None]) -> None:
    storage = Memory()
    with Store(storage, clock=lambda: NINE) as store:
        given(store)
        state = store.state(orders(NUMBER))
        store.snapshot(orders(NUMBER))
    with Store(storage) as store:
        assert store.state(orders(NUMBER)) == state
        assert store.stats().snapshots_used == 1


# -- Races -------------------------------------------------------------------------------------------------------------


def test_an_order_that_is_shipped_and_cancelled_at_once_is_one_of_both(stores: tuple[Store, ...]) -> None:
    confirmed(stores[0])
    race = Race(stores)
    for _ in range(RACERS // 2):
        race.run(ship, NUMBER, "Fast Parcel", "FP-1")
        race.run(cancel, NUMBER, "found it cheaper")
    race.results(WrongStageError)
    assert stores[1].version(orders(NUMBER)) == 5
    assert isinstance(stores[1].state(orders(NUMBER)), Shipped | Cancelled)


def test_a_parcel_goes_to_the_address_that_was_last_said(stores: tuple[Store, ...]) -> None:
    confirmed(stores[0])
    race = Race(stores)
    for number in range(RACERS - 1):
        race.run(set_shipping_address, NUMBER, replace(HOME, street=f"{100 + number} Mill Lane"))
    race.run(ship, NUMBER, "Fast Parcel", "FP-1")
    done = race.results(WrongStageError)
    said = [recorded.event for recorded in stores[1].events(orders(NUMBER)) if recorded.type == "ShippingAddressSet"]
    state = stores[2].state(orders(NUMBER))
    assert isinstance(state, Shipped)
    assert said[-1] == ShippingAddressSet(state.order.shipping)
    assert len(said) == 1 + sum(receipt.events[-1].type == "ShippingAddressSet" for receipt in done)


def test_an_order_is_confirmed_once(stores: tuple[Store, ...]) -> None:
    drafted(stores[0])
    race = Race(stores)
    for _ in range(RACERS):
        race.run(confirm, NUMBER)
    receipts = race.results()
    assert {receipt.result for receipt in receipts} == {2500}
    assert sum(len(receipt.events) for receipt in receipts) == 1


# -- The story ---------------------------------------------------------------------------------------------------------


def test_the_story_is_told_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("order_lifecycle", story.main, "", []) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  to the customer of 2026-0001: handed over to the porter" in lines
    assert "  to the customer of 2026-0002: cancelled: found it cheaper" in lines
    assert lines[-3:] == [
        "  Delivered, from its 27 events",
        "  Delivered, from a snapshot",
        "  Delivered, from a snapshot",
    ]
