"""The steps of the process, each a command. A step that does not follow on what was done before is refused."""

from __future__ import annotations

from examples.fulfilment.errors import StepRefusedError
from examples.fulfilment.events import (
    FulfilmentStarted,
    Item,
    OrderCancelled,
    OrderShipped,
    PaymentRefunded,
    StockReleased,
    StockReserved,
    StockShort,
)
from examples.fulfilment.states import Fulfilment, ProcessEvent, Stage, fulfilments, orders, stock
from factfold import Transaction, View


def start(tx: Transaction, order: str, items: tuple[Item, ...]) -> None:
    """The process begins."""
    _at(Stage.NOT_STARTED, "start", order, tx).append(FulfilmentStarted(order, items))


def go_on(tx: Transaction, order: str) -> None:
    """Reserves the next product; ships when none is missing. Decides on what the warehouse has now."""
    process = _at(Stage.RESERVING, "go on", order, tx)
    if process.state.missing:
        _reserve(tx, order, process, process.state.missing[0])
    else:
        items = process.state.reserved
        leaving = tx.read(stock(item.sku) for item in items)
        tx.append(OrderShipped(order, items), process, tx.read(orders(order)), *leaving)


def _reserve(tx: Transaction, order: str, process: View[Fulfilment, ProcessEvent], item: Item) -> None:
    pieces = tx.read(stock(item.sku))
    if item.quantity <= pieces.state.available:
        tx.append(StockReserved(order, item), process, pieces)
    else:
        process.append(StockShort(order, item, pieces.state.available, process.state.reserved))


def release(tx: Transaction, order: str, item: Item) -> None:
    """Gives back what was reserved of a product."""
    process = _at(Stage.GIVING_UP, f"release {item.sku}", order, tx)
    if item not in process.state.reserved:
        raise StepRefusedError(order, f"release {item.sku}, which it does not hold", process.state.stage.value)
    tx.append(StockReleased(order, item), process, tx.read(stock(item.sku)))


def refund(tx: Transaction, order: str) -> None:
    """Pays back what the customer has paid."""
    process = _at(Stage.GIVING_UP, "refund", order, tx)
    if process.state.refunded:
        raise StepRefusedError(order, "refund once more", process.state.stage.value)
    view = tx.read(orders(order))
    tx.append(PaymentRefunded(order, view.state.cents), process, view)


def cancel(tx: Transaction, order: str, reason: str) -> None:
    """The order ends, when nothing is reserved for it any more and the money is back."""
    process = _at(Stage.GIVING_UP, "cancel", order, tx)
    if process.state.reserved or not process.state.refunded:
        raise StepRefusedError(order, "cancel before all is given back", process.state.stage.value)
    tx.append(OrderCancelled(order, reason), process, tx.read(orders(order)))


def _at(stage: Stage, step: str, order: str, tx: Transaction) -> View[Fulfilment, ProcessEvent]:
    process = tx.read(fulfilments(order))
    if process.state.stage is not stage:
        raise StepRefusedError(order, step, process.state.stage.value)
    return process
