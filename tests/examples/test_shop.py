"""Nothing is sold twice, no price changes under a customer, and what an order gives up is free again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.running import run
from examples.shop import __main__ as sale
from examples.shop.commands import (
    add_item,
    cancel,
    change_price,
    discontinue,
    expire,
    list_product,
    place,
    receive_stock,
    remove_item,
    ship,
    start_order,
    write_off,
)
from examples.shop.errors import (
    DiscontinuedError,
    DraftExpiredError,
    EmptyOrderError,
    InvalidInputError,
    NotInOrderError,
    OrderStatusError,
    OutOfStockError,
    ProductExistsError,
    ShopError,
    UnknownOrderError,
    UnknownProductError,
)
from examples.shop.events import ItemReserved, OrderCancelled, OrderPlaced, OrderShipped
from examples.shop.orders import HELD_FOR, Line, Status, orders
from examples.shop.products import Product, Stock, catalogue, stock
from factfold import AsyncStore, Store
from tests.engines import EVERY_ENGINE
from tests.examples.clock import Clock
from tests.examples.racers import RACERS, Race

ENGINES = EVERY_ENGINE
"""For the races: the end of an order is one event in many streams."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shop(clock: Clock) -> Iterator[Store]:
    """Ten cups for 12.50 each, and three pots for 48.00."""
    with Store("memory:", clock=clock) as store:
        fill(store)
        yield store


def fill(store: Store) -> None:
    for sku, name, price, pieces in (("CUP", "A cup", 1250, 10), ("POT", "A tea pot", 4800, 3)):
        store.execute(list_product, sku, name, price)
        store.execute(receive_stock, sku, pieces)


def draft(store: Store, **items: int) -> UUID:
    """A new draft with these items."""
    order = store.execute(start_order, "ann").result
    for sku, quantity in items.items():
        store.execute(add_item, order, sku, quantity)
    return order


def placed(store: Store, **items: int) -> UUID:
    """A new order of these items."""
    order = draft(store, **items)
    store.execute(place, order)
    return order


def check_promises(store: Store) -> None:
    """What is reserved of a product is just what drafts and placed orders hold of it, and it is in the house."""
    held = Counter[str]()
    for info in store.streams("order"):
        order = store.state(orders(UUID(info.id.removeprefix("order:"))))
        if order.status in (Status.DRAFT, Status.PLACED):
            held.update(order.items)
    for sku in ("CUP", "POT"):
        pieces = store.state(stock(sku))
        assert pieces.reserved == held[sku]
        assert 0 <= pieces.reserved <= pieces.on_hand
    assert store.verify(catalogue, stock, orders).ok


# -- Products ----------------------------------------------------------------------------------------------------------


def test_a_product_is_listed_once(shop: Store) -> None:
    with pytest.raises(ProductExistsError, match="CUP is listed already, as 'A cup'"):
        shop.execute(list_product, "CUP", "A mug", 900)


@pytest.mark.parametrize("sku", ["", "cup", "-CUP", "CUP 1", "C" * 33, "CUP\n"])
def test_a_product_number_that_breaks_the_rules_is_refused_by_every_command(sku: str, shop: Store) -> None:
    order = draft(shop)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: shop.execute(list_product, sku, "A mug", 900),
        lambda: shop.execute(change_price, sku, 900),
        lambda: shop.execute(discontinue, sku),
        lambda: shop.execute(receive_stock, sku, 1),
        lambda: shop.execute(write_off, sku, 1, "dropped"),
        lambda: shop.execute(add_item, order, sku, 1),
        lambda: shop.execute(remove_item, order, sku),
    )
    for attempt in attempts:
        with pytest.raises(InvalidInputError, match="is no product number"):
            attempt()


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "5", 1_000_001])
def test_prices_and_pieces_are_whole_numbers_from_one_on(number: int, shop: Store) -> None:
    order = draft(shop)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: shop.execute(list_product, "MUG", "A mug", number),
        lambda: shop.execute(change_price, "CUP", number),
        lambda: shop.execute(receive_stock, "CUP", number),
        lambda: shop.execute(write_off, "CUP", number, "dropped"),
        lambda: shop.execute(add_item, order, "CUP", number),
    )
    for attempt in attempts:
        with pytest.raises(InvalidInputError, match="a whole number from 1"):
            attempt()


def test_texts_are_not_blank(shop: Store) -> None:
    attempts: tuple[Callable[[], object], ...] = (
        lambda: shop.execute(list_product, "MUG", " ", 900),
        lambda: shop.execute(write_off, "CUP", 1, ""),
        lambda: shop.execute(start_order, "\t"),
        lambda: shop.execute(cancel, draft(shop), ""),
    )
    for attempt in attempts:
        with pytest.raises(InvalidInputError, match="must not be blank"):
            attempt()


def test_what_is_not_listed_has_neither_price_nor_stock(shop: Store) -> None:
    attempts: tuple[Callable[[], object], ...] = (
        lambda: shop.execute(change_price, "MUG", 900),
        lambda: shop.execute(discontinue, "MUG"),
        lambda: shop.execute(receive_stock, "MUG", 1),
        lambda: shop.execute(write_off, "MUG", 1, "dropped"),
        lambda: shop.execute(add_item, draft(shop), "MUG", 1),
    )
    for attempt in attempts:
        with pytest.raises(UnknownProductError, match="there is no product MUG"):
            attempt()


def test_a_change_that_changes_nothing_is_no_event(shop: Store) -> None:
    shop.execute(change_price, "CUP", 1300)
    shop.execute(discontinue, "CUP")
    assert shop.execute(change_price, "CUP", 1300).events == ()
    assert shop.execute(discontinue, "CUP").events == ()
    assert shop.state(catalogue("CUP")) == Product("A cup", 1300, discontinued=True)


def test_pieces_that_are_promised_cannot_be_written_off(shop: Store) -> None:
    order = draft(shop, POT=2)
    with pytest.raises(OutOfStockError, match="2 of POT are wanted and 1 are free"):
        shop.execute(write_off, "POT", 2, "dropped")
    assert shop.execute(write_off, "POT", 1, "dropped").result == 0
    shop.execute(place, order)
    shop.execute(ship, order)
    assert shop.state(stock("POT")) == Stock(0, 0)


# -- Drafts ------------------------------------------------------------------------------------------------------------


def test_an_item_is_reserved_at_the_price_of_the_moment(shop: Store) -> None:
    order = draft(shop)
    receipt = shop.execute(add_item, order, "CUP", 4)
    (recorded,) = receipt.events
    assert receipt.result == 5000
    assert recorded.event == ItemReserved("CUP", 4, 1250)
    assert set(recorded.streams) == {f"order:{order}", "product:CUP"}
    assert shop.state(stock("CUP")) == Stock(10, 4)


def test_a_new_price_is_for_what_is_added_later(shop: Store) -> None:
    order = draft(shop, CUP=1)
    shop.execute(change_price, "CUP", 2000)
    assert shop.execute(add_item, order, "CUP", 2).result == 1250 + 2 * 2000
    assert shop.execute(place, order).result == 5250
    assert shop.state(orders(order)).lines == (Line("CUP", 1, 1250), Line("CUP", 2, 2000))


def test_what_one_draft_holds_no_other_gets(shop: Store) -> None:
    first = draft(shop, POT=2)
    second = draft(shop)
    with pytest.raises(OutOfStockError) as caught:
        shop.execute(add_item, second, "POT", 2)
    assert (caught.value.sku, caught.value.wanted, caught.value.available) == ("POT", 2, 1)
    shop.execute(remove_item, first, "POT")
    shop.execute(add_item, second, "POT", 2)
    check_promises(shop)


def test_all_pieces_of_a_product_leave_a_draft_together(shop: Store) -> None:
    order = draft(shop, POT=1, CUP=2)
    shop.execute(add_item, order, "CUP", 3)
    assert shop.execute(remove_item, order, "CUP").result == 4800
    assert shop.state(stock("CUP")) == Stock(10, 0)
    with pytest.raises(NotInOrderError):
        shop.execute(remove_item, order, "CUP")


def test_what_is_discontinued_is_sold_only_to_those_who_hold_it(shop: Store) -> None:
    order = draft(shop, POT=1)
    shop.execute(discontinue, "POT")
    with pytest.raises(DiscontinuedError):
        shop.execute(add_item, draft(shop), "POT", 1)
    assert shop.execute(place, order).result == 4800
    shop.execute(ship, order)


def test_a_draft_keeps_its_items_for_half_an_hour(shop: Store, clock: Clock) -> None:
    order = draft(shop, POT=3)
    clock.go_on(seconds=HELD_FOR.total_seconds())
    assert shop.execute(expire, order).result is False
    clock.go_on(seconds=1)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: shop.execute(place, order),
        lambda: shop.execute(add_item, order, "CUP", 1),
        lambda: shop.execute(remove_item, order, "POT"),
    )
    for attempt in attempts:
        with pytest.raises(DraftExpiredError, match="more than 30 minutes ago: cancel it"):
            attempt()
    assert shop.execute(expire, order).result is True
    assert shop.execute(expire, order).result is False
    assert shop.state(stock("POT")) == Stock(3, 0)


def test_what_is_placed_does_not_expire(shop: Store, clock: Clock) -> None:
    order = placed(shop, POT=3)
    clock.go_on(days=3)
    assert shop.execute(expire, order).result is False
    assert shop.state(orders(order)).status is Status.PLACED


# -- Placed, cancelled, shipped ----------------------------------------------------------------------------------------


def test_an_order_is_placed_once_and_gives_its_total_each_time(shop: Store) -> None:
    order = draft(shop, CUP=2, POT=1)
    first, second = shop.execute(place, order), shop.execute(place, order)
    shop.execute(ship, order)
    third = shop.execute(place, order)
    assert [isinstance(recorded.event, OrderPlaced) for recorded in first.events] == [True]
    assert (second.events, third.events) == ((), ())
    assert first.result == second.result == third.result == 7300


def test_an_empty_draft_is_not_placed(shop: Store) -> None:
    with pytest.raises(EmptyOrderError, match="add an item"):
        shop.execute(place, draft(shop))


def test_a_cancelled_order_frees_all_its_products_in_one_event(shop: Store) -> None:
    order = placed(shop, CUP=2, POT=1)
    (recorded,) = shop.execute(cancel, order, "changed my mind").events
    assert recorded.event == OrderCancelled({"CUP": 2, "POT": 1}, "changed my mind")
    assert set(recorded.streams) == {f"order:{order}", "product:CUP", "product:POT"}
    assert (shop.state(stock("CUP")), shop.state(stock("POT"))) == (Stock(10, 0), Stock(3, 0))
    assert shop.execute(cancel, order, "really").events == ()
    assert shop.state(orders(order)).total == 7300


def test_a_draft_can_be_cancelled_also_when_nothing_is_in_it(shop: Store) -> None:
    order = draft(shop)
    shop.execute(cancel, order, "no need")
    assert shop.state(orders(order)).status is Status.CANCELLED


def test_a_shipped_order_takes_its_pieces_along_once(shop: Store) -> None:
    order = placed(shop, CUP=2, POT=1)
    (recorded,) = shop.execute(ship, order).events
    assert isinstance(recorded.event, OrderShipped)
    assert shop.execute(ship, order).events == ()
    assert (shop.state(stock("CUP")), shop.state(stock("POT"))) == (Stock(8, 0), Stock(2, 0))


def test_an_order_goes_only_where_it_can_from_where_it_is(shop: Store) -> None:
    sent, given_up, open_ = placed(shop, CUP=1), placed(shop, CUP=1), draft(shop, CUP=1)
    shop.execute(ship, sent)
    shop.execute(cancel, given_up, "too slow")
    attempts: tuple[tuple[str, Callable[[], object]], ...] = (
        ("is shipped and cannot be cancelled: let it be sent back", lambda: shop.execute(cancel, sent, "too late")),
        ("is shipped and cannot be changed", lambda: shop.execute(add_item, sent, "CUP", 1)),
        ("is cancelled and cannot be changed", lambda: shop.execute(remove_item, given_up, "CUP")),
        ("is cancelled and cannot be placed", lambda: shop.execute(place, given_up)),
        ("is cancelled and cannot be shipped", lambda: shop.execute(ship, given_up)),
        ("is a draft and cannot be shipped: place it first", lambda: shop.execute(ship, open_)),
        ("is placed and cannot be changed", lambda: shop.execute(add_item, placed(shop, CUP=1), "CUP", 1)),
    )
    for message, attempt in attempts:
        with pytest.raises(OrderStatusError, match=message):
            attempt()
    check_promises(shop)


def test_an_order_that_nobody_started_is_none(shop: Store) -> None:
    order = uuid4()
    attempts: tuple[Callable[[], object], ...] = (
        lambda: shop.execute(add_item, order, "CUP", 1),
        lambda: shop.execute(remove_item, order, "CUP"),
        lambda: shop.execute(place, order),
        lambda: shop.execute(cancel, order, "why not"),
        lambda: shop.execute(ship, order),
    )
    for attempt in attempts:
        with pytest.raises(UnknownOrderError, match=str(order)):
            attempt()


def test_an_order_that_is_started_twice_under_one_key_is_one_order(shop: Store) -> None:
    first = shop.execute_once("request-1", start_order, "ann")
    again = shop.execute_once("request-1", start_order, "ann")
    assert (again.repeated, again.result) == (True, first.result)


async def test_the_same_commands_run_in_an_event_loop() -> None:
    async with AsyncStore("memory:") as store:
        await store.execute(list_product, "CUP", "A cup", 1250)
        await store.execute(receive_stock, "CUP", 10)
        order = (await store.execute(start_order, "ann")).result
        await store.execute(add_item, order, "CUP", 2)
        assert (await store.execute(place, order)).result == 2500


# -- Whatever is done --------------------------------------------------------------------------------------------------

numbers = st.integers(0, 2)
skus = st.sampled_from(["CUP", "POT"])
pieces = st.integers(1, 4)
step = st.one_of(
    st.builds(partial, st.just(add_item), order=numbers, sku=skus, quantity=pieces),
    st.builds(partial, st.just(remove_item), order=numbers, sku=skus),
    st.builds(partial, st.sampled_from([place, ship, expire]), order=numbers),
    st.builds(partial, st.just(cancel), order=numbers, reason=st.just("a whim")),
    st.builds(partial, st.just(write_off), sku=skus, quantity=pieces, reason=st.just("dropped")),
    st.builds(partial, st.just(receive_stock), sku=skus, quantity=pieces),
    st.integers(1, 40),
)
"""A command, with the number of one of three orders where it takes one; or so many minutes that go by."""


@settings(max_examples=60, deadline=None)
@given(st.lists(step, max_size=30))
def test_whatever_is_done_what_is_reserved_is_what_open_orders_hold(steps: list[partial[object] | int]) -> None:
    clock = Clock()
    with Store("memory:", clock=clock) as store:
        fill(store)
        orders = [draft(store) for _ in range(3)]
        for each in steps:
            if isinstance(each, int):
                clock.go_on(minutes=each)
                continue
            arguments = dict(each.keywords)
            if "order" in arguments:
                arguments["order"] = orders[arguments["order"]]
            with suppress(ShopError):
                store.execute(each.func, **arguments)
        check_promises(store)


# -- Races -------------------------------------------------------------------------------------------------------------


def test_the_last_pieces_are_sold_once(stores: tuple[Store, ...]) -> None:
    fill(stores[0])
    race = Race(stores)
    for _ in range(RACERS):
        race.run(add_item, draft(stores[0]), "POT", 1)
    assert len(race.results(OutOfStockError)) == 3
    assert stores[1].state(stock("POT")) == Stock(3, 3)
    check_promises(stores[2])


def test_an_order_that_is_shipped_and_cancelled_at_once_is_one_of_both(stores: tuple[Store, ...]) -> None:
    fill(stores[0])
    order = placed(stores[0], CUP=4, POT=2)
    race = Race(stores)
    for _ in range(RACERS // 4):
        race.run(ship, order)
        race.run(cancel, order, "changed my mind")
        race.run(place, order)
        race.run(receive_stock, "CUP", 1)
    race.results(OrderStatusError)
    ended = [recorded.event for recorded in stores[1].log(types=OrderShipped | OrderCancelled)]
    assert len(ended) == 1
    assert stores[2].state(stock("CUP")) == (Stock(10, 0) if isinstance(ended[0], OrderShipped) else Stock(14, 0))
    check_promises(stores[3])


def test_orders_that_want_the_same_products_in_another_order_do_not_block_each_other(stores: tuple[Store, ...]) -> None:
    fill(stores[0])
    race = Race(stores)
    for number in range(RACERS):
        race.run(sale.order_of, f"customer-{number}", ("CUP", "POT") if number % 2 else ("POT", "CUP"))
    assert len([receipt for receipt in race.results() if receipt.result is not None]) == 3
    assert (stores[1].state(stock("CUP")), stores[1].state(stock("POT"))) == (Stock(10, 3), Stock(3, 3))
    check_promises(stores[2])


def test_a_new_price_does_not_disturb_those_who_ship(stores: tuple[Store, ...]) -> None:
    here, there, *_ = stores
    fill(here)
    order = placed(here, CUP=4)
    there.state(orders(order))
    there.state(stock("CUP"))
    here.execute(change_price, "CUP", 2000)
    assert there.execute(ship, order).attempts == 1


# -- The story ---------------------------------------------------------------------------------------------------------


def test_the_sale_is_told_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("shop", sale.main, "", []) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "  10 sets are ordered, 14 customers go without, and none has half a set"
    assert "  A tea pot   55.00         6         6     0" in lines
    assert lines[-1].endswith("OrderCancelled  CUP POT TEA")
