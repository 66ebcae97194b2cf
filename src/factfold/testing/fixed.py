"""The time and the ids that a command gets in a scenario: fixed, so that a test can name them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from factfold.commands import Wrapper
from factfold.transaction import Transaction

NOW: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""`tx.now` in a scenario that was not told another time, and where a `Clock` starts."""

_VERSION_AND_VARIANT = 0x7 << 76 | 0b10 << 62
_LAST = 1 << 62


def nth_id(n: int) -> UUID:
    """The id that the n-th call of `tx.new_id()` gives in a scenario; 1 is the first."""
    return UUID(int=_VERSION_AND_VARIANT | _counted(n))


def _counted(n: object) -> int:
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n < _LAST:
        raise ValueError(f"nth_id({n!r}): the number of a call of tx.new_id() is needed, and 1 is the first")
    return n


def moment(what: str, given: object) -> datetime:
    """A time with its zone, in UTC. Raises TypeError or ValueError that says how to give one."""
    if not isinstance(given, datetime):
        raise TypeError(f"{what} is an aware datetime, such as datetime(2026, 1, 1, tzinfo=UTC), not {given!r}")
    if given.utcoffset() is None:
        raise ValueError(f"{what}={given!r} has no time zone: give it one, as in datetime(2026, 1, 1, tzinfo=UTC)")
    return given.astimezone(UTC)


class Fixed(Wrapper):
    """A command whose transaction gets its time and its ids from here. Notes what the last run has read.

    `ids` is how many ids were used, with those that others had used before.
    """

    def __init__(self, command: Callable[..., object], now: datetime, ids: int = 0) -> None:
        self.command = command
        self.reads: tuple[str, ...] = ()
        self.ids = ids
        self._now = now
        self._first = ids + 1

    def __call__(self, tx: Transaction, /, *args: object, **kwargs: object) -> object:
        # The store makes the transactions, and what it knows of fixing is a clock: the ids can only be set in here.
        tx._origin = self  # pyright: ignore[reportPrivateUsage]
        self.ids = self._first - 1
        try:
            return self.command(tx, *args, **kwargs)
        finally:
            self.reads = tuple([stream for stream, _ in tx.reads])

    def now(self) -> datetime:
        """The time, as a transaction asks for it."""
        return self._now

    def new_id(self, index: int) -> UUID:
        """The id of a call of `tx.new_id()`, as a transaction asks for it: 0 is the first."""
        self.ids = max(self.ids, self._first + index)
        return nth_id(self._first + index)
