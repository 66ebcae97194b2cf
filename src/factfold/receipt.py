"""What `execute` returns: the command's result, and what it wrote."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from factfold.events import RecordedEvent
from factfold.storage.base import StoredEvent

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Receipt(Struct, Generic[R_co], frozen=True, eq=False):
    """The outcome of a command that took effect."""

    _result: R_co
    _stored: Sequence[StoredEvent]
    _twins: Iterable[object]
    _attempts: int
    _repeated: bool = False

    @property
    def result(self) -> R_co:
        """What the command returned."""
        return self._result

    @property
    def position(self) -> int | None:
        """The position of the last event that the command wrote; None when it wrote nothing."""
        return self._stored[-1].position if self._stored else None

    @property
    def events(self) -> tuple[RecordedEvent[object], ...]:
        """The events that the command wrote, in order.

        Raises DecodingError where those of a repetition cannot be decoded by what their classes are now.
        """
        return tuple(map(RecordedEvent[object], self._stored, self._twins))

    @property
    def attempts(self) -> int:
        """How often the command was decided against the log: 1 without a conflict."""
        return self._attempts

    @property
    def repeated(self) -> bool:
        """True when `execute_once` found the key used, and this is what the first call did."""
        return self._repeated

    def without_last(self, result: R) -> Receipt[R]:
        """The receipt with another result, and without the last event."""
        return Receipt(result, self._stored[:-1], list(self._twins)[:-1], self._attempts, self._repeated)

    def __repr__(self) -> str:
        return f"Receipt(result={self._result!r}, position={self.position}, attempts={self._attempts})"
