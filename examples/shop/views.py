"""Stock and order summaries in tables of SQL: two projections into the SQLite file that holds the log."""

from __future__ import annotations

import sqlite3
from typing import TypeAlias

from examples.shop.events import (
    ItemReleased,
    ItemReserved,
    OrderCancelled,
    OrderPlaced,
    OrderShipped,
    OrderStarted,
    PriceChanged,
    ProductDiscontinued,
    ProductListed,
    StockReceived,
    StockWrittenOff,
)
from examples.shop.orders import orders
from examples.shop.products import catalogue
from factfold import Projection, ProjectionContext, ReadModel

Model: TypeAlias = ReadModel[sqlite3.Connection]
Update: TypeAlias = ProjectionContext[sqlite3.Connection]

# -- Stock -------------------------------------------------------------------------------------------------------------

products = Projection("products")


@products.setup
def create_products(model: Model) -> None:
    model.connection.execute(
        f"CREATE TABLE {model.table('products')} (sku TEXT PRIMARY KEY, name TEXT, price INTEGER,"
        " on_sale INTEGER DEFAULT 1, on_hand INTEGER DEFAULT 0, reserved INTEGER DEFAULT 0,"
        " available INTEGER AS (on_hand - reserved))"
    )


@products.on
def listed(event: ProductListed, update: Update) -> None:
    insert = f"INSERT INTO {update.table('products')} (sku, name, price) VALUES (?, ?, ?)"
    update.connection.execute(insert, (_sku(update), event.name, event.price))


@products.on
def repriced(event: PriceChanged, update: Update) -> None:
    _set(update, _sku(update), "price = ?", event.price)


@products.on
def discontinued(event: ProductDiscontinued, update: Update) -> None:
    _set(update, _sku(update), "on_sale = ?", 0)


@products.on
def counted(event: StockReceived | StockWrittenOff, update: Update) -> None:
    change = event.quantity if isinstance(event, StockReceived) else -event.quantity
    _set(update, _sku(update), "on_hand = on_hand + ?", change)


@products.on
def promised(event: ItemReserved | ItemReleased, update: Update) -> None:
    change = event.quantity if isinstance(event, ItemReserved) else -event.quantity
    _set(update, event.sku, "reserved = reserved + ?", change)


@products.on
def ended(event: OrderCancelled | OrderShipped, update: Update) -> None:
    for sku, quantity in event.items.items():
        _set(update, sku, "reserved = reserved - ?", quantity)
        if isinstance(event, OrderShipped):
            _set(update, sku, "on_hand = on_hand - ?", quantity)


def _sku(update: Update) -> str:
    (product,) = catalogue.of(update.recorded)
    return product.parts[0]


def _set(update: Update, sku: str, change: str, value: int) -> None:
    update.connection.execute(f"UPDATE {update.table('products')} SET {change} WHERE sku = ?", (value, sku))


# -- Orders ------------------------------------------------------------------------------------------------------------

summaries = Projection("summaries", tables=("order_summaries", "order_lines"))


@summaries.setup
def create_summaries(model: Model) -> None:
    model.connection.execute(
        f"CREATE TABLE {model.table('order_summaries')} (number TEXT PRIMARY KEY, customer TEXT, started_at TEXT,"
        " status TEXT DEFAULT 'draft', pieces INTEGER DEFAULT 0, total INTEGER DEFAULT 0)"
    )
    model.connection.execute(
        f"CREATE TABLE {model.table('order_lines')} (number TEXT, position INTEGER, sku TEXT, quantity INTEGER,"
        " price INTEGER, PRIMARY KEY (number, position)) WITHOUT ROWID"
    )


@summaries.on
def started(event: OrderStarted, update: Update) -> None:
    insert = f"INSERT INTO {update.table('order_summaries')} (number, customer, started_at) VALUES (?, ?, ?)"
    update.connection.execute(insert, (_number(update), event.customer, f"{event.at:%Y-%m-%d %H:%M}"))


@summaries.on
def added(event: ItemReserved, update: Update) -> None:
    line = (_number(update), update.recorded.position, event.sku, event.quantity, event.price)
    update.connection.execute(f"INSERT INTO {update.table('order_lines')} VALUES (?, ?, ?, ?, ?)", line)
    _sum_up(update)


@summaries.on
def removed(event: ItemReleased, update: Update) -> None:
    delete = f"DELETE FROM {update.table('order_lines')} WHERE number = ? AND sku = ?"
    update.connection.execute(delete, (_number(update), event.sku))
    _sum_up(update)


@summaries.on
def moved_on(event: OrderPlaced | OrderCancelled | OrderShipped, update: Update) -> None:
    status = {OrderPlaced: "placed", OrderCancelled: "cancelled", OrderShipped: "shipped"}[type(event)]
    change = f"UPDATE {update.table('order_summaries')} SET status = ? WHERE number = ?"
    update.connection.execute(change, (status, _number(update)))


def _number(update: Update) -> str:
    (order,) = orders.of(update.recorded)
    return order.parts[0]


def _sum_up(update: Update) -> None:
    """What the order comes to, of its lines: an item that is taken out does not tell its price."""
    update.connection.execute(
        f"UPDATE {update.table('order_summaries')} SET (pieces, total) ="
        " (SELECT coalesce(sum(quantity), 0), coalesce(sum(quantity * price), 0)"
        f" FROM {update.table('order_lines')} WHERE number = ?1) WHERE number = ?1",
        (_number(update),),
    )
