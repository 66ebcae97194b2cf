"""A clock that goes on when it is told to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """Begins at nine o'clock. Given to a store as `clock=`."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 9, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def go_on(self, **how_far: float) -> None:
        """Goes on by so many days, minutes or seconds."""
        self.now += timedelta(**how_far)
