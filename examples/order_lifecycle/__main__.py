"""Two orders from draft to end, watched live: python -m examples.order_lifecycle [URL]."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

from examples.order_lifecycle.commands import (
    add_item,
    cancel,
    confirm,
    create,
    deliver,
    remove_item,
    see_parcel,
    set_billing_address,
    set_shipping_address,
    ship,
)
from examples.order_lifecycle.errors import OrderError
from examples.order_lifecycle.notices import Notice, handlers_for
from examples.order_lifecycle.orders import Address, Line, Shipped, orders
from examples.running import run
from factfold import AsyncStore

HOME = Address("Ann Lee", "4 Mill Lane", "York", "UK")
OFFICE = Address("Ann Lee, Lee & Sons", "1 Quay Street", "Hull", "UK")
ROUTE = tuple(f"{place}, gate {gate}" for place in ("Leeds", "Selby", "Goole", "Hull") for gate in range(1, 5))


async def tell(url: str) -> None:
    """Tells what happens on a store at this url."""
    async with AsyncStore(url) as store:
        under_way = {"2026-0001", "2026-0002"}

        def send(notice: Notice) -> None:
            print(f"  to the customer of {notice.order}: {notice.text}")
            if notice.last:
                under_way.remove(notice.order)

        print("Two orders at once, and what the hub makes of their events:")
        handlers = handlers_for(send)
        async with store.subscribe(types=handlers) as hub, asyncio.TaskGroup() as tasks:
            tasks.create_task(_deliver_one(store, "2026-0001"))
            tasks.create_task(_cancel_one(store, "2026-0002"))
            async for recorded in hub:
                handlers.dispatch(recorded)
                if not under_way:
                    break

        attempts = {
            "cancel what has arrived": store.execute(cancel, "2026-0001", "changed my mind"),
            "confirm what is cancelled": store.execute(confirm, "2026-0002"),
            "add to an order that is not there": store.execute(add_item, "2026-0003", Line("CUP", "A cup", 1, 12_50)),
        }
        print("\nSomebody tries to")
        for what, attempt in attempts.items():
            try:
                await attempt
            except OrderError as refusal:
                print(f"  {what}: {refusal}")

    print("\nThe first order, as three programs read it, one after the other:")
    for _ in range(3):
        async with AsyncStore(url) as store:
            order = await store.state(orders("2026-0001"))
            version = await store.version(orders("2026-0001"))
            how = "from a snapshot" if store.stats().snapshots_used else f"from its {version} events"
            print(f"  {type(order).__name__}, {how}")


async def _deliver_one(store: AsyncStore, number: str) -> None:
    await store.execute(create, number, "ann")
    await store.execute(add_item, number, Line("CUP", "A cup", 2, 12_50))
    await store.execute(add_item, number, Line("POT", "A tea pot", 1, 48_00))
    await store.execute(add_item, number, Line("TEA", "Tea, 100 g", 3, 7_90))
    await store.execute(remove_item, number, "POT")
    await store.execute(set_shipping_address, number, HOME)
    await store.execute(set_billing_address, number, OFFICE)
    await store.execute(confirm, number)
    await store.execute(set_shipping_address, number, OFFICE)  # that is allowed until it is shipped
    await store.execute(ship, number, "Fast Parcel", "FP-2231")
    order = await store.state(orders(number))
    assert isinstance(order, Shipped)
    for index, place in enumerate(ROUTE):
        await store.execute(see_parcel, number, place, order.at + timedelta(microseconds=index))
    await store.execute(deliver, number, "the porter", order.at + timedelta(microseconds=len(ROUTE)))


async def _cancel_one(store: AsyncStore, number: str) -> None:
    await store.execute(create, number, "bo")
    await store.execute(add_item, number, Line("POT", "A tea pot", 1, 48_00))
    await store.execute(set_shipping_address, number, HOME)
    await store.execute(confirm, number)
    await store.execute(cancel, number, "found it cheaper")


def main(url: str) -> None:
    """The same, in an event loop of its own."""
    asyncio.run(tell(url))


if __name__ == "__main__":
    sys.exit(run("order_lifecycle", main, "Two orders from draft to end, and the notices that their customers get."))
