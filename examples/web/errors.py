"""What a web service refuses before it asks the bank: each error carries the facts, and says what to do."""

from __future__ import annotations

from dataclasses import dataclass


class RequestError(Exception):
    """The service says no, and why."""


@dataclass(eq=False)
class InvalidKeyError(RequestError):
    """An order without a key could be carried out twice."""

    key: str | None

    def __str__(self) -> str:
        found = "is missing" if self.key is None else f"cannot be {self.key[:80]!r}"
        return f"The header Idempotency-Key {found}: make 8 to 64 letters, digits, '-' or '_' for each order, once"


@dataclass(eq=False)
class OtherOrderError(RequestError):
    """One key for two orders: the second one is none that may be answered like the first."""

    key: str

    def __str__(self) -> str:
        return f"The Idempotency-Key {self.key} was used for another order: make a new key for this one"


@dataclass(eq=False)
class InvalidBodyError(RequestError):
    """A body that is no order."""

    reason: str

    def __str__(self) -> str:
        return f"The body is no order of this kind: {self.reason}"


@dataclass(eq=False)
class MalformedBodyError(InvalidBodyError):
    """A body that is no JSON."""


@dataclass(eq=False)
class InvalidPositionError(RequestError):
    """A text that is no position."""

    text: str
    where: str

    def __str__(self) -> str:
        return (
            f"{self.where} cannot be {self.text[:80]!r}: give a position as it came in an answer, 0 for the beginning"
        )


@dataclass(eq=False)
class UnknownPositionError(RequestError):
    """A position that this log has not come to: it is from another log, or made up."""

    position: int

    def __str__(self) -> str:
        return f"This log does not reach to position {self.position}: begin again from GET /balances"


@dataclass(eq=False)
class NotBuiltYetError(RequestError):
    """The read model is not there yet."""

    def __str__(self) -> str:
        return "The balances are being built for the first time: try again"


@dataclass(eq=False)
class NotCaughtUpError(RequestError):
    """The read model is behind the position that was asked for."""

    def __str__(self) -> str:
        return "The balances are not up to this position yet: try again"


@dataclass(eq=False)
class NotNowError(RequestError):
    """The store cannot, at the moment."""

    def __str__(self) -> str:
        return "This cannot be done at the moment: send the same again, an order with the same Idempotency-Key"


@dataclass(eq=False)
class TooManyStreamsError(RequestError):
    """Streams are open for long, so there is an end to their number."""

    most: int

    def __str__(self) -> str:
        return f"{self.most} streams are open here: try again, another process may have a place"


@dataclass(eq=False)
class EndingError(RequestError):
    """The process is about to end."""

    def __str__(self) -> str:
        return "This process ends: try again, another one takes over"
