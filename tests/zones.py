"""A time zone that turns its clocks back, for machines that have no database of zones."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo


class TurnedBack(tzinfo):
    """On 2026-10-25 at 3:00 it is 2:00 again, one hour ahead of UTC and no longer two."""

    def utcoffset(self, when: datetime | None) -> timedelta:
        assert when is not None
        clock = when.replace(tzinfo=None, fold=0)
        over = clock >= datetime(2026, 10, 25, 3) or (clock >= datetime(2026, 10, 25, 2) and when.fold == 1)  # noqa: DTZ001  # what the clock shows
        return timedelta(hours=1 if over else 2)

    def dst(self, when: datetime | None) -> timedelta:
        return self.utcoffset(when) - timedelta(hours=1)

    def tzname(self, when: datetime | None) -> str:
        return "turned back"


FIRST = datetime(2026, 10, 25, 2, 30, tzinfo=TurnedBack())
SECOND = FIRST.replace(fold=1)
"""Both show 2:30, an hour apart."""
