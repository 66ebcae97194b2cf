"""What happens before the process begins: goods come in, and customers pay for them."""

from __future__ import annotations

from collections.abc import Mapping

from examples.fulfilment.errors import InvalidOrderError, OrderExistsError
from examples.fulfilment.events import Item, OrderPaid, StockReceived
from examples.fulfilment.states import Status, orders, stock
from factfold import Transaction


def receive(tx: Transaction, sku: str, quantity: int) -> int:
    """Goods came in; gives how many pieces are free now."""
    if quantity < 1:
        raise ValueError(f"{quantity} pieces of {sku} cannot come in: at least one can")
    pieces = tx.read(stock(sku))
    pieces.append(StockReceived(quantity))
    return pieces.state.available


def pay(tx: Transaction, order: str, customer: str, items: Mapping[str, int], cents: int) -> None:
    """A customer pays for an order. Whether there is enough of everything is seen later."""
    if not items or min(items.values()) < 1:
        raise InvalidOrderError(order, "it has items, and a piece of each at least")
    if cents < 1:
        raise InvalidOrderError(order, f"it costs something, and not {cents} cents")
    view = tx.read(orders(order))
    if view.state.status is not Status.UNKNOWN:
        raise OrderExistsError(order)
    view.append(OrderPaid(order, customer, tuple(Item(sku, quantity) for sku, quantity in items.items()), cents))
