"""Orders as customers see them, stock as the warehouse sees it, and how far the fulfilment of an order has come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

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
from factfold import stream

# -- Orders ------------------------------------------------------------------------------------------------------------


class Status(Enum):
    """What a customer is told."""

    UNKNOWN = "not known"
    PAID = "paid"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Order:
    """`cents` is what we have of the customer's money."""

    status: Status = Status.UNKNOWN
    customer: str = ""
    cents: int = 0


OrderEvent: TypeAlias = OrderPaid | PaymentRefunded | OrderCancelled | OrderShipped


@stream("order", initial=Order())
def orders(state: Order, event: OrderEvent) -> Order:
    """The orders."""
    match event:
        case OrderPaid(customer=customer, cents=cents):
            return Order(Status.PAID, customer, cents)
        case PaymentRefunded(cents=cents):
            return replace(state, cents=state.cents - cents)
        case OrderCancelled():
            return replace(state, status=Status.CANCELLED)
        case OrderShipped():
            return replace(state, status=Status.SHIPPED)


# -- Stock -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stock:
    """How many pieces are in the house, and how many of them are promised to an order."""

    on_hand: int = 0
    reserved: int = 0

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved


@stream("product", initial=Stock())
def stock(state: Stock, event: StockReceived | StockReserved | StockReleased | OrderShipped, sku: str) -> Stock:
    """The stock of each product."""
    match event:
        case StockReceived(quantity):
            return replace(state, on_hand=state.on_hand + quantity)
        case StockReserved(item=item):
            return replace(state, reserved=state.reserved + item.quantity)
        case StockReleased(item=item):
            return replace(state, reserved=state.reserved - item.quantity)
        case OrderShipped(items=items):
            shipped = sum(item.quantity for item in items if item.sku == sku)
            return Stock(state.on_hand - shipped, state.reserved - shipped)


# -- The process -------------------------------------------------------------------------------------------------------


class Stage(Enum):
    """How far a fulfilment has come."""

    NOT_STARTED = "not started"
    RESERVING = "reserving"
    GIVING_UP = "giving up"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Fulfilment:
    """What is done for an order already, and what is not."""

    stage: Stage = Stage.NOT_STARTED
    missing: tuple[Item, ...] = ()
    reserved: tuple[Item, ...] = ()
    refunded: bool = False


ProcessEvent: TypeAlias = (
    FulfilmentStarted | StockReserved | StockShort | StockReleased | PaymentRefunded | OrderCancelled | OrderShipped
)


@stream("fulfilment", initial=Fulfilment())
def fulfilments(state: Fulfilment, event: ProcessEvent) -> Fulfilment:
    """The state of the process manager: a stream for each order, like any other."""
    match event:
        case FulfilmentStarted(items=items):
            return Fulfilment(Stage.RESERVING, missing=items)
        case StockReserved(item=item):
            return replace(state, missing=_without(item, state.missing), reserved=(*state.reserved, item))
        case StockShort():
            return replace(state, stage=Stage.GIVING_UP)
        case StockReleased(item=item):
            return replace(state, reserved=_without(item, state.reserved))
        case PaymentRefunded():
            return replace(state, refunded=True)
        case OrderCancelled():
            return replace(state, stage=Stage.CANCELLED)
        case OrderShipped():
            return replace(state, stage=Stage.SHIPPED, reserved=())


def _without(item: Item, items: tuple[Item, ...]) -> tuple[Item, ...]:
    return tuple(one for one in items if one != item)
