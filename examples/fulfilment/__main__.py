"""A morning in a mail-order house: python -m examples.fulfilment [URL]."""

from __future__ import annotations

import sys
from uuid import UUID

from examples.fulfilment.commands import pay, receive
from examples.fulfilment.process import fulfilment, wait_until_settled
from examples.fulfilment.states import Status, orders, stock
from examples.running import run
from factfold import Store

STOCK = {"CUP": 12, "POT": 3, "TEA": 20}
BASKETS = ({"CUP": 2, "TEA": 1}, {"CUP": 1, "POT": 1}, {"TEA": 4, "CUP": 2, "POT": 1})


def main(url: str) -> None:
    """Tells what happens on a store at this url."""
    with Store(url) as store:
        for sku, pieces in STOCK.items():
            store.execute(receive, sku, pieces)
        store.start(fulfilment)
        numbers = [f"order-{number}" for number in range(1, 10)]
        print(f"{len(numbers)} orders are paid, and there are {STOCK['POT']} pots for the six who want one:")
        for index, number in enumerate(numbers):
            store.execute(pay, number, f"customer-{index}", BASKETS[index % 3], 40_00)
        wait_until_settled(store)

        cancelled = []
        for number in numbers:
            order = store.state(orders(number))
            print(f"  {number}: {order.status.value}, we have {order.cents / 100:.2f} of the money")
            if order.status is Status.CANCELLED:
                cancelled.append(number)
        print("\nIn the warehouse:")
        for sku in STOCK:
            print(f"  {sku}: {store.state(stock(sku))}")
        if cancelled:
            _explain(store, cancelled[-1])


def _explain(store: Store, number: str) -> None:
    """All that followed on one payment, each event below the one that it is because of."""
    print(f"\nWhat happened to {number}, and because of what:")
    depths = dict[UUID | str, int]()
    for recorded in store.log():
        cause = recorded.metadata.causation_id
        if cause in depths or orders(number).id in recorded.streams:
            depths[recorded.id] = depth = 0 if cause is None else depths[cause] + 1
            products = [stream.removeprefix("product:") for stream in recorded.streams if stream.startswith("product:")]
            print(f"{recorded.position:5}  {'  ' * depth}{' '.join((recorded.type, *products))}")


if __name__ == "__main__":
    sys.exit(run("fulfilment", main, "Paid orders are reserved and shipped, or refunded and cancelled."))
