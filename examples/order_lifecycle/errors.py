"""What cannot happen to an order: each error carries the facts, and its message says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


class OrderError(Exception):
    """It cannot be done to this order, and why."""


@dataclass(eq=False)
class InvalidInputError(OrderError, ValueError):
    """A value that cannot be what it is meant to be."""

    what: str
    value: object
    rule: str

    def __str__(self) -> str:
        return f"{self.value!r} is no {self.what}: {self.rule}"


@dataclass(eq=False)
class OrderExistsError(OrderError):
    """A number is given to one order."""

    order: str

    def __str__(self) -> str:
        return f"there is an order {self.order} already: take the next number"


@dataclass(eq=False)
class UnknownOrderError(OrderError):
    """There is no such order."""

    order: str

    def __str__(self) -> str:
        return f"there is no order {self.order}: create it first"


@dataclass(eq=False)
class WrongStageError(OrderError):
    """The order is too far in its life for that, or not far enough."""

    order: str
    stage: str
    attempt: str
    advice: str

    def __str__(self) -> str:
        return f"the order {self.order} is {self.stage} and cannot be {self.attempt}: {self.advice}"


@dataclass(eq=False)
class IncompleteOrderError(OrderError):
    """What has to be known before an order is confirmed."""

    order: str
    missing: tuple[str, ...]

    def __str__(self) -> str:
        return f"the order {self.order} cannot be confirmed yet: it needs {' and '.join(self.missing)}"


@dataclass(eq=False)
class NotInOrderError(OrderError):
    """The product is not in the order."""

    order: str
    sku: str

    def __str__(self) -> str:
        return f"{self.sku} is not in the order {self.order}"


@dataclass(eq=False)
class ShippedOtherwiseError(OrderError):
    """An order leaves the house once."""

    order: str
    carrier: str
    tracking: str

    def __str__(self) -> str:
        return f"the order {self.order} is under way already, with {self.carrier} as {self.tracking}: check the label"


@dataclass(eq=False)
class ImpossibleTimeError(OrderError):
    """What a carrier reports happened after the parcel was shipped, and before now."""

    order: str
    at: datetime
    earliest: datetime
    latest: datetime

    def __str__(self) -> str:
        return (
            f"{self.at.isoformat()} cannot be when it happened to the order {self.order}: it was between "
            f"{self.earliest.isoformat()}, when it was shipped, and {self.latest.isoformat()}, which is now"
        )
