"""What can happen in the shop. What happens to an order and to products at once is one event, in all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from factfold import event

# -- To products. Prices are in cents ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProductListed:
    name: str
    price: int


@dataclass(frozen=True, slots=True)
class PriceChanged:
    price: int


@dataclass(frozen=True, slots=True)
class ProductDiscontinued:
    pass


@dataclass(frozen=True, slots=True)
class StockReceived:
    quantity: int


@dataclass(frozen=True, slots=True)
class StockWrittenOff:
    quantity: int
    reason: str


# -- To orders ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OrderStarted:
    customer: str
    at: datetime


@dataclass(frozen=True, slots=True)
class OrderPlaced:
    total: int
    at: datetime


# -- To an order and to products ---------------------------------------------------------------------------------------


@event(streams=("order", "product"))
@dataclass(frozen=True, slots=True)
class ItemReserved:
    """The price is the one of this moment: what a product costs later is nothing to this order."""

    sku: str
    quantity: int
    price: int


@event(streams=("order", "product"))
@dataclass(frozen=True, slots=True)
class ItemReleased:
    sku: str
    quantity: int


@event(streams=("order",))  # and every product that is in the order, if any is
@dataclass(frozen=True, slots=True)
class OrderCancelled:
    """The items are free again."""

    items: Mapping[str, int]
    reason: str


@event(streams=("order",))
@dataclass(frozen=True, slots=True)
class OrderShipped:
    """The items have left the house."""

    items: Mapping[str, int]
    at: datetime
