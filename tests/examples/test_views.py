"""What the projections of the bank and the shop show is what their streams say."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from examples.bank.accounts import Status as AccountStatus
from examples.bank.accounts import account
from examples.bank.commands import close, deposit, open_account, transfer, withdraw
from examples.bank.money import AccountId, Money
from examples.bank.statements import statements
from examples.shop.commands import (
    add_item,
    cancel,
    change_price,
    discontinue,
    list_product,
    place,
    receive_stock,
    remove_item,
    ship,
    start_order,
    write_off,
)
from examples.shop.errors import ShopError
from examples.shop.orders import Status, orders
from examples.shop.products import catalogue, stock
from examples.shop.views import products, summaries
from factfold import Store
from tests.sqlite_by_hand import by_hand

ALICE, BOB = AccountId("alice"), AccountId("bob")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def sql(file: Path, store: Store) -> Iterator[sqlite3.Connection]:
    """Another program that looks at the file."""
    with by_hand(file) as connection:
        yield connection


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{file}") as store:
        yield store


# -- The bank ----------------------------------------------------------------------------------------------------------


def a_month_at_the_bank(store: Store) -> None:
    store.execute(open_account, ALICE, "Alice Liddell")
    store.execute(open_account, BOB, "Bob Cratchit")
    store.execute(deposit, ALICE, Money(100_00))
    store.execute(transfer, ALICE, BOB, Money(30_00), "lunch")
    store.execute(withdraw, BOB, Money(5_00))
    store.execute(close, ALICE, BOB)


def check_bank(store: Store, sql: sqlite3.Connection) -> None:
    lines = sql.execute("SELECT account, entry, cents, balance FROM statements ORDER BY position, cents").fetchall()
    assert lines == [
        ("alice", "deposit", 100_00, 100_00),
        ("alice", "to bob: lunch", -30_00, 70_00),
        ("bob", "from alice: lunch", 30_00, 30_00),
        ("bob", "withdrawal", -5_00, 25_00),
        ("alice", "to bob: remainder", -70_00, 0),
        ("bob", "from alice: remainder", 70_00, 95_00),
    ]
    balances = sql.execute("SELECT account, owner, cents, closed FROM balances ORDER BY account").fetchall()
    states = [(id.text, store.state(account(id))) for id in (ALICE, BOB)]
    assert balances == [(id, one.owner, one.balance, one.status is AccountStatus.CLOSED) for id, one in states]


def test_a_statement_has_a_line_for_whatever_was_booked(store: Store, sql: sqlite3.Connection) -> None:
    a_month_at_the_bank(store)
    store.catch_up(statements)
    check_bank(store, sql)


def test_a_statement_that_is_kept_inline_is_never_behind(file: Path, sql: sqlite3.Connection) -> None:
    with Store(f"sqlite:///{file}", inline=[statements]) as store:
        a_month_at_the_bank(store)
        check_bank(store, sql)


# -- The shop ----------------------------------------------------------------------------------------------------------

SKUS = ("CUP", "POT", "TEA")


def a_week_in_the_shop(store: Store, chance: Random) -> list[UUID]:
    """Whatever comes, refused or not; gives the numbers of the orders."""
    for sku in SKUS:
        store.execute(list_product, sku, f"A {sku.lower()}", 10_00)
        store.execute(receive_stock, sku, 20)
    numbers = [store.execute(start_order, f"customer-{number}").result for number in range(6)]
    for _ in range(120):
        sku, number, count = chance.choice(SKUS), chance.choice(numbers), chance.randrange(1, 4)
        with suppress(ShopError):
            match chance.randrange(14):
                case 0:
                    store.execute(place, number)
                case 1:
                    store.execute(ship, number)
                case 2:
                    store.execute(cancel, number, "changed my mind")
                case 3:
                    store.execute(change_price, sku, 10_00 + count)
                case 4:
                    store.execute(write_off, sku, count, "dropped")
                case 5 | 6:
                    store.execute(remove_item, number, sku)
                case _:
                    store.execute(add_item, number, sku, count)
    store.execute(discontinue, "TEA")
    return numbers


@pytest.mark.parametrize("seed", range(3))
def test_what_the_views_of_the_shop_show_is_what_its_streams_say(
    seed: int, store: Store, sql: sqlite3.Connection
) -> None:
    store.start(products, summaries)
    numbers = a_week_in_the_shop(store, Random(seed))
    for projection in (products, summaries):
        store.wait_for(projection, store.head())

    rows = sql.execute("SELECT sku, name, price, on_sale, on_hand, reserved, available FROM products ORDER BY sku")
    shown = []
    for sku in SKUS:
        product, pieces = store.state(catalogue(sku)), store.state(stock(sku))
        assert product is not None
        counts = (pieces.on_hand, pieces.reserved, pieces.available)
        shown.append((sku, product.name, product.price, not product.discontinued, *counts))
    assert rows.fetchall() == shown

    titles = {
        Status.DRAFT: "draft",
        Status.PLACED: "placed",
        Status.SHIPPED: "shipped",
        Status.CANCELLED: "cancelled",
    }
    summary = "SELECT customer, status, pieces, total FROM order_summaries WHERE number = ?"
    for number in numbers:
        order = store.state(orders(number))
        assert sql.execute(summary, (str(number),)).fetchall() == [
            (order.customer, titles[order.status], sum(order.items.values()), order.total)
        ]
