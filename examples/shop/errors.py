"""What the shop refuses: each error carries the facts, and its message says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


class ShopError(Exception):
    """The shop says no, and why."""


@dataclass(eq=False)
class InvalidInputError(ShopError, ValueError):
    """A value that cannot be what it is meant to be."""

    what: str
    value: object
    rule: str

    def __str__(self) -> str:
        return f"{self.value!r} is no {self.what}: {self.rule}"


@dataclass(eq=False)
class ProductExistsError(ShopError):
    """The number of a product is used once."""

    sku: str
    name: str

    def __str__(self) -> str:
        return f"{self.sku} is listed already, as {self.name!r}: take another number, or change its price"


@dataclass(eq=False)
class UnknownProductError(ShopError):
    """The shop does not have such a product."""

    sku: str

    def __str__(self) -> str:
        return f"there is no product {self.sku}: list it first"


@dataclass(eq=False)
class DiscontinuedError(ShopError):
    """What is discontinued is in no new order."""

    sku: str

    def __str__(self) -> str:
        return f"{self.sku} is discontinued: orders that hold it are fulfilled, new ones do not get it"


@dataclass(eq=False)
class OutOfStockError(ShopError):
    """Fewer pieces are free than are wanted."""

    sku: str
    wanted: int
    available: int

    def __str__(self) -> str:
        return f"{self.wanted} of {self.sku} are wanted and {self.available} are free: take fewer, or wait for stock"


@dataclass(eq=False)
class UnknownOrderError(ShopError):
    """There is no such order."""

    order: UUID

    def __str__(self) -> str:
        return f"there is no order {self.order}: start one, and use the number that it is given"


@dataclass(eq=False)
class OrderStatusError(ShopError):
    """The order is too far in its life for that, or not far enough."""

    order: UUID
    status: str
    attempt: str
    advice: str

    def __str__(self) -> str:
        return f"the order {self.order} is {self.status} and cannot be {self.attempt}: {self.advice}"


@dataclass(eq=False)
class EmptyOrderError(ShopError):
    """Nothing is in the order."""

    order: UUID

    def __str__(self) -> str:
        return f"nothing is in the order {self.order}: add an item, or cancel it"


@dataclass(eq=False)
class NotInOrderError(ShopError):
    """The product is not in the order."""

    order: UUID
    sku: str

    def __str__(self) -> str:
        return f"{self.sku} is not in the order {self.order}"


@dataclass(eq=False)
class DraftExpiredError(ShopError):
    """Prices and pieces are promised to a draft for a while, and not for ever."""

    order: UUID
    minutes: int

    def __str__(self) -> str:
        return (
            f"the draft {self.order} was started more than {self.minutes} minutes ago: cancel it and start another one"
        )
