"""Products, looked at in two ways: what is sold at which price, and how many pieces there are."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TypeAlias

from examples.shop.errors import DiscontinuedError, InvalidInputError, OutOfStockError, UnknownProductError
from examples.shop.events import (
    ItemReleased,
    ItemReserved,
    OrderCancelled,
    OrderShipped,
    PriceChanged,
    ProductDiscontinued,
    ProductListed,
    StockReceived,
    StockWrittenOff,
)
from factfold import stream


@dataclass(frozen=True, slots=True)
class Product:
    """What the catalogue says."""

    name: str
    price: int
    discontinued: bool = False


@stream("product", initial=None)
def catalogue(state: Product | None, event: ProductListed | PriceChanged | ProductDiscontinued) -> Product | None:
    """It does not look at pieces: a new price and a sale do not disturb each other once the item is reserved."""
    match event:
        case ProductListed(name, price):
            return Product(name, price)
        case PriceChanged(price):
            return state and replace(state, price=price)
        case ProductDiscontinued():
            return state and replace(state, discontinued=True)


@dataclass(frozen=True, slots=True)
class Stock:
    """How many pieces are in the house, and how many of them are promised to an order."""

    on_hand: int = 0
    reserved: int = 0

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved


StockEvent: TypeAlias = StockReceived | StockWrittenOff | ItemReserved | ItemReleased | OrderCancelled | OrderShipped


@stream("product", initial=Stock())
def stock(state: Stock, event: StockEvent, id: str) -> Stock:
    """An order's end is one event for all of its products; the id says which share of it is this one's."""
    match event:
        case StockReceived(quantity):
            return replace(state, on_hand=state.on_hand + quantity)
        case StockWrittenOff(quantity=quantity):
            return replace(state, on_hand=state.on_hand - quantity)
        case ItemReserved(quantity=quantity):
            return replace(state, reserved=state.reserved + quantity)
        case ItemReleased(quantity=quantity):
            return replace(state, reserved=state.reserved - quantity)
        case OrderCancelled(items=items):
            return replace(state, reserved=state.reserved - items[id])
        case OrderShipped(items=items):
            return Stock(state.on_hand - items[id], state.reserved - items[id])


# -- Rules -------------------------------------------------------------------------------------------------------------


def check_sku(sku: str) -> None:
    """Raises InvalidInputError for what is no number of a product."""
    if not re.fullmatch("[A-Z0-9][A-Z0-9-]{0,31}", sku):
        raise InvalidInputError("product number", sku, "up to 32 of A-Z, 0-9 and '-' are, beginning with no hyphen")


def check_count(what: str, number: int) -> None:
    """Raises InvalidInputError for a number of pieces, or cents, that is none."""
    if type(number) is not int or not 1 <= number <= 1_000_000:
        raise InvalidInputError(what, number, "a whole number from 1 to 1000000 is")


def check_text(what: str, text: str) -> None:
    """Raises InvalidInputError for a text that says nothing."""
    if not text.strip():
        raise InvalidInputError(what, text, "it must not be blank")


def listed(sku: str, product: Product | None) -> Product:
    """The product, which must be there."""
    if product is None:
        raise UnknownProductError(sku)
    return product


def on_sale(sku: str, product: Product | None) -> Product:
    """The product, which must be there and for sale."""
    if listed(sku, product).discontinued:
        raise DiscontinuedError(sku)
    return listed(sku, product)


def check_available(sku: str, pieces: Stock, wanted: int) -> None:
    """Raises OutOfStockError when fewer are free: what is promised to one order is not given to another."""
    if pieces.available < wanted:
        raise OutOfStockError(sku, wanted, pieces.available)
