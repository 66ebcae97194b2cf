"""A clock that stands still until a test moves it on."""

from __future__ import annotations

import math
import threading
from datetime import datetime, timedelta

from factfold.testing.fixed import NOW, moment


class Clock:
    """A clock for `Store(clock=...)`, which shows `start` until it is told to advance. Any thread may use it.

    Args:
        start: an aware datetime.

    Raises:
        TypeError, ValueError: it is none, or has no time zone.
    """

    def __init__(self, start: datetime = NOW) -> None:
        self._now = moment("Clock(start)", start)
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        """The time that the clock shows, in UTC: this is what a store asks for."""
        return self._now

    def advance(self, seconds: float) -> datetime:
        """Moves the clock on; gives the time that it shows then.

        Raises ValueError for what is no number of seconds, or below 0: for an earlier time, make another clock.
        """
        step = timedelta(seconds=_checked(seconds))
        with self._lock:
            self._now += step
            return self._now

    def __repr__(self) -> str:
        return f"Clock({self._now.isoformat()})"


def _checked(seconds: object) -> float:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds < math.inf:
        raise ValueError(
            f"Clock.advance({seconds!r}): a number of seconds is needed, 0 or more, as in advance(3600). "
            "A clock does not go back: make another one, Clock(start)."
        )
    return seconds
