"""Orders: drafts that hold items, then placed, then shipped; or cancelled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import TypeAlias
from uuid import UUID

from examples.shop.errors import DraftExpiredError, OrderStatusError, UnknownOrderError
from examples.shop.events import ItemReleased, ItemReserved, OrderCancelled, OrderPlaced, OrderShipped, OrderStarted
from factfold import stream

HELD_FOR = timedelta(minutes=30)
"""For how long a draft is promised its items, and their prices."""


class Status(Enum):
    """How far an order has come."""

    UNKNOWN = "not known"
    DRAFT = "a draft"
    PLACED = "placed"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Line:
    """So many pieces of a product, at the price of the moment at which they were reserved."""

    sku: str
    quantity: int
    price: int


@dataclass(frozen=True, slots=True)
class Order:
    """An order as it is now. What was in it stays in it, also when it was cancelled."""

    status: Status = Status.UNKNOWN
    customer: str = ""
    started_at: datetime | None = None
    lines: tuple[Line, ...] = ()

    @property
    def total(self) -> int:
        """In cents."""
        return sum(line.quantity * line.price for line in self.lines)

    @property
    def items(self) -> dict[str, int]:
        """How many pieces of each product."""
        return {one.sku: sum(line.quantity for line in self.lines if line.sku == one.sku) for one in self.lines}

    def is_expired(self, now: datetime) -> bool:
        """Whether it is a draft whose time is over."""
        return self.status is Status.DRAFT and self.started_at is not None and now - self.started_at > HELD_FOR


OrderEvent: TypeAlias = OrderStarted | ItemReserved | ItemReleased | OrderPlaced | OrderCancelled | OrderShipped


@stream("order", initial=Order())
def orders(state: Order, event: OrderEvent) -> Order:
    """The orders."""
    match event:
        case OrderStarted(customer, at):
            return Order(Status.DRAFT, customer, at)
        case ItemReserved(sku, quantity, price):
            return replace(state, lines=(*state.lines, Line(sku, quantity, price)))
        case ItemReleased(sku=sku):
            return replace(state, lines=tuple(line for line in state.lines if line.sku != sku))
        case OrderPlaced():
            return replace(state, status=Status.PLACED)
        case OrderCancelled():
            return replace(state, status=Status.CANCELLED)
        case OrderShipped():
            return replace(state, status=Status.SHIPPED)


# -- Rules -------------------------------------------------------------------------------------------------------------

ADVICE = {
    (Status.DRAFT, "shipped"): "place it first",
    (Status.PLACED, "changed"): "cancel it, and start another one",
    (Status.SHIPPED, "changed"): "start another one",
    (Status.SHIPPED, "cancelled"): "let it be sent back, and book the goods as received",
    (Status.CANCELLED, "changed"): "start another one",
    (Status.CANCELLED, "placed"): "start another one",
    (Status.CANCELLED, "shipped"): "its items are free again, and may be in other orders by now",
}


def check_known(id: UUID, order: Order) -> None:
    """Raises UnknownOrderError for an order that nobody started."""
    if order.status is Status.UNKNOWN:
        raise UnknownOrderError(id)


def refuse(id: UUID, order: Order, attempt: str) -> OrderStatusError:
    """The error for an order that cannot be what is attempted, with what to do instead."""
    return OrderStatusError(id, order.status.value, attempt, ADVICE[order.status, attempt])


def check_draft(id: UUID, order: Order, now: datetime, attempt: str = "changed") -> None:
    """Raises when an order is no draft, or one whose time is over."""
    check_known(id, order)
    if order.status is not Status.DRAFT:
        raise refuse(id, order, attempt)
    if order.is_expired(now):
        raise DraftExpiredError(id, HELD_FOR // timedelta(minutes=1))
