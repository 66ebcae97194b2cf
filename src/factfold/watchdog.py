"""Watches over the consumers that run here: whose lease is to be renewed, and who does not get on. No I/O, no clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from factfold.consuming import Consumption

GLANCE = 1.0
"""Seconds between two looks at most."""


class Watchdog:
    """What has been seen of the consumers, and when. Times are seconds of a clock that only goes forward."""

    def __init__(self) -> None:
        self._renewed: WeakKeyDictionary[Consumption, float] = WeakKeyDictionary()
        self._moved: WeakKeyDictionary[Consumption, tuple[int, float]] = WeakKeyDictionary()

    def is_due(self, consumption: Consumption, now: float) -> bool:
        """Whether its lease is to be renewed now."""
        if now - self._renewed.get(consumption, -math.inf) < consumption.consumer.lease / 3:
            return False
        self._renewed[consumption] = now
        return True

    def interval(self, running: Sequence[Consumption]) -> float:
        """Seconds until the next look."""
        shortest = min((min(one.consumer.lease / 10, one.consumer.patience / 3) for one in running), default=GLANCE)
        return min(GLANCE, shortest)

    def look(self, running: Sequence[Consumption], head: int, now: float) -> None:
        """Says so when one does not get on although the log's head is past it."""
        for consumption in running:
            position, since = self._moved.get(consumption, (-1, now))
            idle = consumption.position >= head or consumption.state == "waiting"
            if idle or consumption.position != position:
                self._moved[consumption] = consumption.position, now
                consumption.stalled_for = 0.0
                continue
            late = consumption.stalled_for
            consumption.stalled_for = now - since
            if late < consumption.consumer.patience <= consumption.stalled_for:
                consumption.trouble(
                    f"{consumption.name} has not got on for {consumption.stalled_for:.0f} seconds: it is at position "
                    f"{consumption.position} ({consumption.state}), and the log at {head}. Its handler hangs, or waits."
                )
