"""The process manager: what is done next when something has happened. All it knows is in the log."""

from __future__ import annotations

from examples.fulfilment.events import FulfilmentStarted, OrderPaid, StockReserved, StockShort
from examples.fulfilment.steps import cancel, go_on, refund, release, start
from factfold import Reaction, ReactionContext, Store

fulfilment = Reaction("fulfilment", start="beginning")


@fulfilment.on
def begin(event: OrderPaid, context: ReactionContext) -> None:
    context.execute(start, event.order, event.items)


@fulfilment.on
def proceed(event: FulfilmentStarted | StockReserved, context: ReactionContext) -> None:
    context.execute(go_on, event.order)


@fulfilment.on
def compensate(event: StockShort, context: ReactionContext) -> None:
    """Undoes what was done, the last first.

    Three steps in one handler: when the process dies between two of them, the handler is called again, and those that
    are done answer from the first time. So what it does comes from the event, which stays as it is, and not from
    a state that its own steps change.
    """
    for item in reversed(event.reserved):
        context.execute(release, event.order, item)
    context.execute(refund, event.order)
    missing = event.item
    context.execute(cancel, event.order, f"{missing.quantity} of {missing.sku} wanted, {event.available} there")


def wait_until_settled(store: Store, timeout: float = 10.0) -> None:
    """Returns when all that was paid is shipped or cancelled. Somebody has to run the process meanwhile."""
    settled = -1
    while (head := store.head()) != settled:  # what is done about an event is an event, too
        store.wait_for(fulfilment, head, timeout=timeout)
        settled = head
