"""What the shop and its customers do. Each command is safe to repeat, or says that it was done."""

from __future__ import annotations

from uuid import UUID

from examples.shop.errors import EmptyOrderError, NotInOrderError, ProductExistsError
from examples.shop.events import (
    ItemReleased,
    ItemReserved,
    OrderCancelled,
    OrderPlaced,
    OrderShipped,
    OrderStarted,
    PriceChanged,
    ProductDiscontinued,
    ProductListed,
    StockReceived,
    StockWrittenOff,
)
from examples.shop.orders import Order, OrderEvent, Status, check_draft, check_known, orders, refuse
from examples.shop.products import (
    catalogue,
    check_available,
    check_count,
    check_sku,
    check_text,
    listed,
    on_sale,
    stock,
)
from factfold import Transaction, View

# -- The shop ----------------------------------------------------------------------------------------------------------


def list_product(tx: Transaction, sku: str, name: str, price: int) -> None:
    """Takes a product into the catalogue."""
    check_sku(sku)
    check_text("name of a product", name)
    check_count("price in cents", price)
    product = tx.read(catalogue(sku))
    if product.state is not None:
        raise ProductExistsError(sku, product.state.name)
    product.append(ProductListed(name, price))


def change_price(tx: Transaction, sku: str, price: int) -> None:
    """From now on it costs so much. What is in an order already costs what it cost."""
    check_sku(sku)
    check_count("price in cents", price)
    product = tx.read(catalogue(sku))
    if listed(sku, product.state).price != price:
        product.append(PriceChanged(price))


def discontinue(tx: Transaction, sku: str) -> None:
    """Sells a product no more. Orders that hold it are fulfilled."""
    check_sku(sku)
    product = tx.read(catalogue(sku))
    if not listed(sku, product.state).discontinued:
        product.append(ProductDiscontinued())


def receive_stock(tx: Transaction, sku: str, quantity: int) -> int:
    """Pieces came in; gives how many are free now."""
    check_sku(sku)
    check_count("number of pieces", quantity)
    product, pieces = tx.read(catalogue(sku), stock(sku))
    listed(sku, product.state)
    pieces.append(StockReceived(quantity))
    return pieces.state.available


def write_off(tx: Transaction, sku: str, quantity: int, reason: str) -> int:
    """Pieces are broken or gone; gives how many are free now. Those that are promised to an order must stay."""
    check_sku(sku)
    check_count("number of pieces", quantity)
    check_text("reason", reason)
    product, pieces = tx.read(catalogue(sku), stock(sku))
    listed(sku, product.state)
    check_available(sku, pieces.state, quantity)
    pieces.append(StockWrittenOff(quantity, reason))
    return pieces.state.available


# -- Its customers -----------------------------------------------------------------------------------------------------


def start_order(tx: Transaction, customer: str) -> UUID:
    """Starts a draft, and gives its number."""
    check_text("customer", customer)
    order = tx.new_id()
    tx.read(orders(order)).append(OrderStarted(customer, tx.now))
    return order


def add_item(tx: Transaction, order: UUID, sku: str, quantity: int) -> int:
    """Reserves pieces for a draft, at the price of this moment; gives the new total."""
    check_sku(sku)
    check_count("number of pieces", quantity)
    draft, product, pieces = tx.read(orders(order), catalogue(sku), stock(sku))
    check_draft(order, draft.state, tx.now)
    price = on_sale(sku, product.state).price
    check_available(sku, pieces.state, quantity)
    tx.append(ItemReserved(sku, quantity, price), draft, pieces)
    return draft.state.total


def remove_item(tx: Transaction, order: UUID, sku: str) -> int:
    """Takes all pieces of a product out of a draft, which frees them; gives the new total."""
    check_sku(sku)
    draft, pieces = tx.read(orders(order), stock(sku))
    check_draft(order, draft.state, tx.now)
    quantity = draft.state.items.get(sku)
    if quantity is None:
        raise NotInOrderError(order, sku)
    tx.append(ItemReleased(sku, quantity), draft, pieces)
    return draft.state.total


def place(tx: Transaction, order: UUID) -> int:
    """The customer buys what is in the draft; gives the total. Placed twice, it is placed once."""
    draft = tx.read(orders(order))
    if draft.state.status in (Status.PLACED, Status.SHIPPED):
        return draft.state.total
    check_draft(order, draft.state, tx.now, "placed")
    if not draft.state.lines:
        raise EmptyOrderError(order)
    draft.append(OrderPlaced(draft.state.total, tx.now))
    return draft.state.total


def cancel(tx: Transaction, order: UUID, reason: str) -> None:
    """Gives an order up and frees its items. Cancelled twice, it is cancelled once; what was shipped is not cancelled.

    Only the order knows which products it holds, so the command reads them when it has read the order.
    """
    check_text("reason", reason)
    view = tx.read(orders(order))
    check_known(order, view.state)
    if view.state.status is Status.SHIPPED:
        raise refuse(order, view.state, "cancelled")
    if view.state.status is not Status.CANCELLED:
        _give_up(tx, view, reason)


def expire(tx: Transaction, order: UUID) -> bool:
    """Gives a draft up whose time is over; says whether it was one. For whoever tidies up, as often as they like."""
    view = tx.read(orders(order))
    expired = view.state.is_expired(tx.now)
    if expired:
        _give_up(tx, view, "expired")
    return expired


def ship(tx: Transaction, order: UUID) -> None:
    """The items of a placed order leave the house. Shipped twice, it is shipped once."""
    view = tx.read(orders(order))
    check_known(order, view.state)
    if view.state.status is Status.SHIPPED:
        return
    if view.state.status is not Status.PLACED:
        raise refuse(order, view.state, "shipped")
    items = view.state.items
    tx.append(OrderShipped(items, tx.now), view, *tx.read(map(stock, items)))


def _give_up(tx: Transaction, view: View[Order, OrderEvent], reason: str) -> None:
    items = view.state.items
    tx.append(OrderCancelled(items, reason), view, *tx.read(map(stock, items)))
