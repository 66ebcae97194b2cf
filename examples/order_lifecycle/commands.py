"""What can be done to an order. What was done already is not done again, and is no error."""

from __future__ import annotations

from datetime import datetime

from examples.order_lifecycle.errors import (
    ImpossibleTimeError,
    IncompleteOrderError,
    InvalidInputError,
    NotInOrderError,
    OrderError,
    OrderExistsError,
    ShippedOtherwiseError,
    UnknownOrderError,
    WrongStageError,
)
from examples.order_lifecycle.orders import (
    Address,
    BillingAddressSet,
    Cancelled,
    Confirmed,
    Delivered,
    Draft,
    ItemAdded,
    ItemRemoved,
    Line,
    Order,
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderDelivered,
    OrderEvent,
    OrderShipped,
    ParcelSeen,
    Shipped,
    ShippingAddressSet,
    orders,
)
from factfold import Transaction, View

MOST_PIECES = 99
MOST_LINES = 50

ADVICE = {
    Draft: "confirm it first",
    Confirmed: "ship it, or cancel it and begin another one",
    Shipped: "wait for it, and let it be sent back",
    Delivered: "let it be sent back, or begin another one",
    Cancelled: "begin another one",
}
"""What to do with an order that is too far in its life, or not far enough."""

# -- The draft ---------------------------------------------------------------------------------------------------------


def create(tx: Transaction, number: str, customer: str) -> None:
    """Begins an order."""
    _check_text("order number", number)
    _check_text("customer", customer)
    order = tx.read(orders(number))
    if order.state is not None:
        raise OrderExistsError(number)
    order.append(OrderCreated(customer))


def add_item(tx: Transaction, number: str, line: Line) -> int:
    """Puts pieces of a product into a draft; gives the new total in cents."""
    _check_text("product", line.sku)
    _check_text("name of a product", line.name)
    if type(line.price) is not int or line.price < 0:
        raise InvalidInputError("price", line.price, "a whole number of cents is, from 0 on")
    order, draft = _draft(tx, number)
    there = sum(one.quantity for one in draft.lines if one.sku == line.sku)
    if type(line.quantity) is not int or not 1 <= line.quantity <= MOST_PIECES - there:
        rule = f"an order holds from 1 to {MOST_PIECES} of {line.sku}, and this one has {there}"
        raise InvalidInputError("number of pieces", line.quantity, rule)
    order.append(ItemAdded(line))
    draft = _narrow(number, order.state)
    if len(draft.lines) > MOST_LINES:  # nothing is written: the command raises
        raise InvalidInputError("line of this order", line.sku, f"{MOST_LINES} are there already: begin another order")
    return draft.total


def remove_item(tx: Transaction, number: str, sku: str) -> int:
    """Takes a product out of a draft; gives the new total in cents."""
    order, draft = _draft(tx, number)
    if all(line.sku != sku for line in draft.lines):
        raise NotInOrderError(number, sku)
    order.append(ItemRemoved(sku))
    return _narrow(number, order.state).total


def set_billing_address(tx: Transaction, number: str, address: Address) -> None:
    """Says who pays. Without it, the bill goes where the parcel goes."""
    _check_address(address)
    order, draft = _draft(tx, number)
    if draft.billing != address:
        order.append(BillingAddressSet(address))


def set_shipping_address(tx: Transaction, number: str, address: Address) -> None:
    """Says where the parcel goes. That may change until it is under way."""
    _check_address(address)
    order = tx.read(orders(number))
    match order.state:
        case Draft(shipping=there) | Confirmed(shipping=there):
            if there != address:
                order.append(ShippingAddressSet(address))
        case other:
            raise _refusal(number, other, "sent elsewhere")


# -- Its way -----------------------------------------------------------------------------------------------------------


def confirm(tx: Transaction, number: str) -> int:
    """The customer orders; gives the total in cents."""
    order = tx.read(orders(number))
    match order.state:
        case Draft(lines=lines, shipping=shipping, total=total):
            needed = {"an item": bool(lines), "a shipping address": shipping is not None}
            if missing := tuple(what for what, there in needed.items() if not there):
                raise IncompleteOrderError(number, missing)
            order.append(OrderConfirmed(total))
            return total
        case Confirmed(total=total) | Shipped(order=Confirmed(total=total)) | Delivered(order=Confirmed(total=total)):
            return total
        case other:
            raise _refusal(number, other, "confirmed")


def ship(tx: Transaction, number: str, carrier: str, tracking: str) -> None:
    """The parcel leaves the house."""
    _check_text("carrier", carrier)
    _check_text("tracking number", tracking)
    order = tx.read(orders(number))
    match order.state:
        case Confirmed():
            order.append(OrderShipped(carrier, tracking, tx.now))
        case Shipped(carrier=known, tracking=label):
            if (known, label) != (carrier, tracking):
                raise ShippedOtherwiseError(number, known, label)
        case other:
            raise _refusal(number, other, "shipped")


def see_parcel(tx: Transaction, number: str, place: str, at: datetime) -> None:
    """The carrier reports where the parcel is."""
    _check_text("place", place)
    order = tx.read(orders(number))
    match order.state:
        case Shipped(at=shipped, last_seen=last_seen):
            _check_time(tx, number, at, shipped)
            if last_seen != ParcelSeen(place, at):
                order.append(ParcelSeen(place, at))
        case Delivered():
            return  # a report that comes late; nobody waits for it any more
        case other:
            raise _refusal(number, other, "under way")


def deliver(tx: Transaction, number: str, received_by: str, at: datetime) -> None:
    """The carrier reports that the parcel was handed over."""
    _check_text("receiver", received_by)
    order = tx.read(orders(number))
    match order.state:
        case Shipped(at=shipped):
            _check_time(tx, number, at, shipped)
            order.append(OrderDelivered(received_by, at))
        case Delivered():
            return
        case other:
            raise _refusal(number, other, "delivered")


def cancel(tx: Transaction, number: str, reason: str) -> None:
    """Gives the order up, as long as it is in the house."""
    _check_text("reason", reason)
    order = tx.read(orders(number))
    match order.state:
        case Draft() | Confirmed():
            order.append(OrderCancelled(reason))
        case Cancelled():
            return
        case other:
            raise _refusal(number, other, "cancelled")


# -- Rules -------------------------------------------------------------------------------------------------------------


def _draft(tx: Transaction, number: str) -> tuple[View[Order, OrderEvent], Draft]:
    order = tx.read(orders(number))
    return order, _narrow(number, order.state)


def _narrow(number: str, state: Order) -> Draft:
    if not isinstance(state, Draft):
        raise _refusal(number, state, "changed")
    return state


def _refusal(number: str, state: Order, attempt: str) -> OrderError:
    if state is None:
        return UnknownOrderError(number)
    return WrongStageError(number, type(state).__name__.lower(), attempt, ADVICE[type(state)])


def _check_text(what: str, text: str) -> None:
    if not text.strip():
        raise InvalidInputError(what, text, "it must not be blank")


def _check_address(address: Address) -> None:
    _check_text("name in an address", address.name)
    _check_text("street in an address", address.street)
    _check_text("city in an address", address.city)
    _check_text("country in an address", address.country)


def _check_time(tx: Transaction, number: str, at: datetime, shipped: datetime) -> None:
    if at.tzinfo is None:
        raise InvalidInputError("time of a report", at.isoformat(), "a time zone has to be known")
    if not shipped <= at <= tx.now:
        raise ImpossibleTimeError(number, at, shipped, tx.now)
