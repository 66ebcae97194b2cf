"""What can happen from the payment of an order to its end. What concerns several streams is one event in all."""

from __future__ import annotations

from dataclasses import dataclass

from factfold import event


@dataclass(frozen=True, slots=True)
class Item:
    """So many pieces of a product."""

    sku: str
    quantity: int


# -- To an order -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OrderPaid:
    """The customer has paid so many cents. Here it begins."""

    order: str
    customer: str
    items: tuple[Item, ...]
    cents: int


@event(streams=("order", "fulfilment"))
@dataclass(frozen=True, slots=True)
class PaymentRefunded:
    order: str
    cents: int


@event(streams=("order", "fulfilment"))
@dataclass(frozen=True, slots=True)
class OrderCancelled:
    """It ends without goods and without money."""

    order: str
    reason: str


@event(streams=("order", "fulfilment"))  # and every product that is in it
@dataclass(frozen=True, slots=True)
class OrderShipped:
    """It ends well: the items have left the house."""

    order: str
    items: tuple[Item, ...]


# -- To its fulfilment -------------------------------------------------------------------------------------------------


@event(streams=("fulfilment",))
@dataclass(frozen=True, slots=True)
class FulfilmentStarted:
    order: str
    items: tuple[Item, ...]


@event(streams=("fulfilment",))
@dataclass(frozen=True, slots=True)
class StockShort:
    """There is not enough of one product. What was reserved of the others has to be given back."""

    order: str
    item: Item
    available: int
    reserved: tuple[Item, ...]


# -- To a product ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StockReceived:
    quantity: int


@event(streams=("fulfilment", "product"))
@dataclass(frozen=True, slots=True)
class StockReserved:
    order: str
    item: Item


@event(streams=("fulfilment", "product"))
@dataclass(frozen=True, slots=True)
class StockReleased:
    """The compensation of StockReserved."""

    order: str
    item: Item
