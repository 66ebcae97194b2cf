"""What happens to each call of a faulty storage: decided by a seed, so that it is the same in every run of a test."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from itertools import count
from random import Random
from typing import Final

from msgspec import Struct

KINDS: Final = ("latency", "conflicts", "lost", "unknown")
"""What can be injected, by the names of the arguments of `Faulty`."""


class Rates(Struct, frozen=True, kw_only=True):
    """How often each fault is injected: the arguments of `Faulty`, checked. Raises ValueError."""

    seed: int
    conflicts: float
    latency: float
    lost: float
    unknown: float
    unresolved: float

    def __post_init__(self) -> None:
        for name in ("conflicts", "lost", "unknown", "unresolved"):
            if not _is_number(rate := getattr(self, name)) or not 0 <= rate <= 1:
                raise ValueError(f"Faulty({name}={rate!r}): a probability is needed, from 0 (never) to 1 (always)")
        if not _is_number(self.latency) or not 0 <= self.latency < math.inf:
            raise ValueError(f"Faulty(latency={self.latency!r}): seconds are needed, 0 or more, such as 0.005")


class Fate(Struct, frozen=True):
    """What happens to one call.

    Attributes:
        latency: seconds that it takes longer.
        lost: the connection breaks before anything is done.
        conflict: it is an append, and finds that others were faster.
        unknown: it is an append, and the connection breaks before its answer.
        done: that append was done all the same.
        unresolved: what became of that append cannot be asked either.
    """

    latency: float = 0.0
    lost: bool = False
    conflict: bool = False
    unknown: bool = False
    done: bool = False
    unresolved: bool = False


class Fates:
    """Decides about call after call. Any thread may ask."""

    def __init__(self, rates: Rates) -> None:
        self.rates = rates
        self.active = True
        # Shared without a lock, which a fork could leave locked: each use of them is one step.
        self._calls: dict[str, count[int]] = {}
        self._injected: list[str] = []

    def next(self, method: str) -> Fate:
        """What happens to the next call of this method of a log."""
        if not self.active:
            return Fate()
        rates = self.rates
        number = next(self._calls.setdefault(method, count()))
        # Always as many numbers, in the same order: what one rate does is not changed by another.
        chance = Random(f"{rates.seed}/{method}/{number}").random
        return Fate(
            latency=rates.latency * chance(),
            lost=chance() < rates.lost,
            conflict=chance() < rates.conflicts,
            unknown=chance() < rates.unknown,
            done=chance() < 0.5,
            unresolved=chance() < rates.unresolved,
        )

    def count(self, kind: str) -> None:
        """Counts a fault that was injected."""
        self._injected.append(kind)

    @property
    def injected(self) -> Mapping[str, int]:
        """How many there were of each kind."""
        counted = Counter(self._injected)
        return {kind: counted[kind] for kind in KINDS}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
