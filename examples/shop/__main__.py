"""A sale: python -m examples.shop [URL]."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from examples.running import run
from examples.shop.commands import (
    add_item,
    cancel,
    change_price,
    list_product,
    place,
    receive_stock,
    ship,
    start_order,
    write_off,
)
from examples.shop.errors import OutOfStockError, ShopError
from examples.shop.orders import orders
from examples.shop.products import catalogue, stock
from factfold import Store, Transaction

PRODUCTS = {"CUP": ("A cup", 12_50, 40), "POT": ("A tea pot", 48_00, 10), "TEA": ("Tea, 100 g", 7_90, 200)}
CUSTOMERS = tuple(f"customer-{number}" for number in range(24))


def main(url: str) -> None:
    """Tells what happens on a store at this url."""
    with Store(url) as store:
        for sku, (name, price, pieces) in PRODUCTS.items():
            store.execute(list_product, sku, name, price)
            store.execute(receive_stock, sku, pieces)

        print(f"{len(CUSTOMERS)} customers want a tea pot, a cup and tea, all at once, and there are 10 pots:")
        with ThreadPoolExecutor(len(CUSTOMERS)) as threads:
            results = threads.map(lambda name: store.execute(order_of, name, list(PRODUCTS)).result, CUSTOMERS)
        placed = [order for order in results if order is not None]
        without = len(CUSTOMERS) - len(placed)
        print(f"  {len(placed)} sets are ordered, {without} customers go without, and none has half a set")
        _show_stock(store)

        store.execute(change_price, "POT", 55_00)
        dearer = store.execute(start_order, "latecomer").result
        store.execute(cancel, placed[0], "found it cheaper")
        total = store.execute(add_item, dearer, "POT", 1).result
        print(f"\nPots cost 55.00 now. One order is cancelled, and a latecomer gets its pot, for {total / 100:.2f}.")
        print(f"The other orders still cost {store.state(orders(placed[1])).total / 100:.2f}.")

        for order in placed[1:5]:
            store.execute(ship, order)
        attempts: dict[str, Callable[[], object]] = {
            "cancel what is shipped": lambda: store.execute(cancel, placed[1], "changed my mind"),
            "ship what is cancelled": lambda: store.execute(ship, placed[0]),
            "ship a draft": lambda: store.execute(ship, dearer),
            "write off a pot that is promised": lambda: store.execute(write_off, "POT", 1, "dropped"),
        }
        print("\nFour orders are shipped. Then somebody tries to")
        for what, attempt in attempts.items():
            try:
                attempt()
            except ShopError as refusal:
                print(f"  {what}: {refusal}")
        _show_stock(store)

        print("\nWhat happened to the cancelled order:")
        for recorded in store.events(orders(placed[0])):
            products = [stream.parts[0] for stream in stock.of(recorded)]
            print(f"{recorded.position:5}  {recorded.type:14}  {' '.join(products)}".rstrip())


def order_of(tx: Transaction, customer: str, wanted: Sequence[str]) -> UUID | None:
    """Commands are made of commands: all that is wanted is ordered, a piece of each, or nothing is."""
    try:
        return tx.call(_order, customer, wanted)
    except OutOfStockError:
        return None


def _order(tx: Transaction, customer: str, wanted: Sequence[str]) -> UUID:
    order = tx.call(start_order, customer)
    for sku in wanted:
        tx.call(add_item, order, sku, 1)
    tx.call(place, order)
    return order


def _show_stock(store: Store) -> None:
    print("  product     price  in house  reserved  free")
    for sku in PRODUCTS:
        product, pieces = store.state(catalogue(sku)), store.state(stock(sku))
        assert product is not None
        numbers = f"{pieces.on_hand:8}  {pieces.reserved:8}  {pieces.available:4}"
        print(f"  {product.name:10}  {product.price / 100:5.2f}  {numbers}")


if __name__ == "__main__":
    sys.exit(run("shop", main, "Customers order more than there is; orders are cancelled and shipped."))
