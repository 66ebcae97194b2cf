"""An order: what can happen to it, and the stages of its life, of which each knows just what is known then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

import msgspec
from msgspec import Struct

from factfold import stream


@dataclass(frozen=True, slots=True)
class Address:
    name: str
    street: str
    city: str
    country: str


@dataclass(frozen=True, slots=True)
class Line:
    """So many pieces of a product; the price is in cents."""

    sku: str
    name: str
    quantity: int
    price: int


# -- Events ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OrderCreated:
    customer: str


@dataclass(frozen=True, slots=True)
class ItemAdded:
    line: Line


@dataclass(frozen=True, slots=True)
class ItemRemoved:
    sku: str


@dataclass(frozen=True, slots=True)
class ShippingAddressSet:
    address: Address


@dataclass(frozen=True, slots=True)
class BillingAddressSet:
    address: Address


@dataclass(frozen=True, slots=True)
class OrderConfirmed:
    total: int


@dataclass(frozen=True, slots=True)
class OrderShipped:
    carrier: str
    tracking: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ParcelSeen:
    """The carrier has scanned the parcel: there may be many of these."""

    place: str
    at: datetime


@dataclass(frozen=True, slots=True)
class OrderDelivered:
    received_by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class OrderCancelled:
    reason: str


OrderEvent: TypeAlias = (
    OrderCreated
    | ItemAdded
    | ItemRemoved
    | ShippingAddressSet
    | BillingAddressSet
    | OrderConfirmed
    | OrderShipped
    | ParcelSeen
    | OrderDelivered
    | OrderCancelled
)

# -- Stages. Tagged, so that a snapshot tells which one it holds -------------------------------------------------------


class Draft(Struct, frozen=True, tag=True):
    """Not ordered yet."""

    customer: str
    lines: tuple[Line, ...] = ()
    shipping: Address | None = None
    billing: Address | None = None

    @property
    def total(self) -> int:
        """In cents."""
        return sum(line.quantity * line.price for line in self.lines)


class Confirmed(Struct, frozen=True, tag=True):
    """Ordered: from here on there are items and addresses."""

    customer: str
    lines: tuple[Line, ...]
    total: int
    shipping: Address
    billing: Address


class Shipped(Struct, frozen=True, tag=True):
    """Under way."""

    order: Confirmed
    carrier: str
    tracking: str
    at: datetime
    last_seen: ParcelSeen | None = None


class Delivered(Struct, frozen=True, tag=True):
    """Arrived."""

    order: Confirmed
    received_by: str
    at: datetime


class Cancelled(Struct, frozen=True, tag=True):
    """Given up before it was shipped."""

    customer: str
    reason: str


Order: TypeAlias = Draft | Confirmed | Shipped | Delivered | Cancelled | None


@stream("order", initial=None, snapshot_every=20)
def orders(state: Order, event: OrderEvent) -> Order:
    """The orders. What their commands never let happen is no history that anybody should go on with: it raises."""
    match state, event:
        case None, OrderCreated(customer):
            return Draft(customer)
        case Draft(), ItemAdded(line):
            return msgspec.structs.replace(state, lines=_with(state.lines, line))
        case Draft(lines=lines), ItemRemoved(sku):
            return msgspec.structs.replace(state, lines=tuple(line for line in lines if line.sku != sku))
        case ((Draft() | Confirmed()), ShippingAddressSet(address)):
            return msgspec.structs.replace(state, shipping=address)
        case Draft(), BillingAddressSet(address):
            return msgspec.structs.replace(state, billing=address)
        case Draft(shipping=Address() as shipping), OrderConfirmed(total):
            return Confirmed(state.customer, state.lines, total, shipping, state.billing or shipping)
        case Confirmed(), OrderShipped(carrier, tracking, at):
            return Shipped(state, carrier, tracking, at)
        case Shipped(last_seen=seen), ParcelSeen(at=at):
            newest = event if seen is None or seen.at < at else seen  # scans may come late, and out of order
            return msgspec.structs.replace(state, last_seen=newest)
        case Shipped(order=order), OrderDelivered(received_by, at):
            return Delivered(order, received_by, at)
        case ((Draft(customer=customer) | Confirmed(customer=customer)), OrderCancelled(reason)):
            return Cancelled(customer, reason)
    raise ValueError(f"{event} cannot happen to {state}")


def _with(lines: tuple[Line, ...], added: Line) -> tuple[Line, ...]:
    """The lines with one more; what is there already at the same name and price becomes more of it."""
    for index, line in enumerate(lines):
        if replace(line, quantity=added.quantity) == added:
            more = replace(line, quantity=line.quantity + added.quantity)
            return (*lines[:index], more, *lines[index + 1 :])
    return (*lines, added)
