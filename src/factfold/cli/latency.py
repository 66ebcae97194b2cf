"""Counts durations in buckets, so that millions of them from many processes can be added up and ranked."""

from __future__ import annotations

import math
from collections import Counter

SMALLEST = 1e-6
STEP = math.log(1.04)
"""Each bucket reaches 4 % further than the one before it: a percentile is off by 2 % at most."""


class Latencies:
    """How many durations (in seconds) fell into each bucket."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Counts one duration."""
        self._buckets[max(0, int(math.log(max(seconds, SMALLEST) / SMALLEST) / STEP))] += 1

    def merge(self, other: Latencies) -> None:
        """Counts all that another one has counted."""
        self._buckets.update(other._buckets)

    def percentile(self, percent: float) -> float:
        """The duration that so many percent stayed within; 0 when nothing was counted."""
        wanted = math.ceil(self._buckets.total() * percent / 100)
        for bucket in sorted(self._buckets):
            wanted -= self._buckets[bucket]
            if wanted <= 0:
                return SMALLEST * math.exp((bucket + 0.5) * STEP)
        return 0.0
