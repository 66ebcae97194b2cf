"""What is refused: each error carries the facts, and its message says what to do."""

from __future__ import annotations

from dataclasses import dataclass


class FulfilmentError(Exception):
    """It is not done, and here is why."""


@dataclass(eq=False)
class InvalidOrderError(FulfilmentError, ValueError):
    """What is ordered cannot be ordered."""

    order: str
    rule: str

    def __str__(self) -> str:
        return f"the order {self.order!r} cannot be taken: {self.rule}"


@dataclass(eq=False)
class OrderExistsError(FulfilmentError):
    """The number of an order is used once."""

    order: str

    def __str__(self) -> str:
        return f"there is an order {self.order} already: take another number"


@dataclass(eq=False)
class StepRefusedError(FulfilmentError):
    """A step that does not follow on what was done before. It is a mistake in the process, and nobody else's."""

    order: str
    step: str
    stage: str

    def __str__(self) -> str:
        return f"the order {self.order} is {self.stage}, and that is not when to {self.step}"
