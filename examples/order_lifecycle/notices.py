"""Notices for customers, made of what the event hub hands over: each event once, in order, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from examples.order_lifecycle.orders import (
    OrderCancelled,
    OrderConfirmed,
    OrderDelivered,
    OrderShipped,
    ParcelSeen,
    orders,
)
from factfold import Context, Handlers


@dataclass(frozen=True, slots=True)
class Notice:
    """What a customer is told about an order."""

    order: str
    text: str
    last: bool = False
    """Nothing more will come about this order."""


def handlers_for(send: Callable[[Notice], None]) -> Handlers:
    """Handlers that send a notice for what customers want to know. What has no handler is not even fetched."""
    handlers = Handlers()

    def tell(context: Context, text: str, *, last: bool = False) -> None:
        (order,) = orders.of(context.recorded)
        send(Notice(order.parts[0], text, last))

    @handlers.on
    def thank(event: OrderConfirmed, context: Context) -> None:
        tell(context, f"thank you, it comes to {event.total / 100:.2f} EUR")

    @handlers.on
    def announce(event: OrderShipped, context: Context) -> None:
        tell(context, f"on its way with {event.carrier}, as {event.tracking}")

    @handlers.on
    def track(event: ParcelSeen, context: Context) -> None:
        tell(context, f"seen in {event.place}")

    @handlers.on
    def close(event: OrderDelivered | OrderCancelled, context: Context) -> None:
        match event:
            case OrderDelivered(received_by):
                tell(context, f"handed over to {received_by}", last=True)
            case OrderCancelled(reason):
                tell(context, f"cancelled: {reason}", last=True)

    return handlers
