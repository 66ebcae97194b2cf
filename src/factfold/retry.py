"""How often and how patiently a store tries again."""

from __future__ import annotations

import random

from msgspec import Struct


class Retry(Struct, frozen=True):
    """How a store retries.

    A command that lost a race is decided again at once, under the writers' lock. Sleeping is for commands that take
    too long to be decided there, for engines without such a lock, and for a server that has to be asked what became of
    an append whose answer was lost: before attempt n + 1 a random time between 0 and min(cap, base * 2**n) seconds
    ("full jitter", AWS Architecture Blog, "Exponential Backoff And Jitter"). How long an engine waits for a server
    that cannot be reached is an option of its own (`timeout`).

    Attributes:
        max_attempts: how many appends are tried before `ConflictError` (or, where the storage was lost at the last one,
            `StoreUnavailableError` or `OutcomeUnknownError`); at least 1.
        base: seconds.
        cap: seconds, the longest sleep.
    """

    max_attempts: int = 10
    base: float = 0.01
    cap: float = 1.0

    def __post_init__(self) -> None:
        if type(self.max_attempts) is not int or self.max_attempts < 1:
            raise ValueError(f"Retry(max_attempts={self.max_attempts!r}): a whole number, 1 or more, is needed")
        if not (self.base >= 0 and self.cap >= 0):
            raise ValueError(f"Retry(base={self.base!r}, cap={self.cap!r}): seconds, 0 or more, are needed")

    def delay(self, attempt: int) -> float:
        """Seconds to sleep after the attempt of this number (1 for the first)."""
        return random.uniform(0, min(self.cap, self.base * 2 ** min(attempt, 64)))
