"""Leases: who runs a consumer, and until when he may think so.

Who runs one writes its lease again and again. When that has grown older than its owner said, by the clock of the
storage or of who has watched it for so long, anybody may take it. The owner counts by a clock of his own, from the
moment before he has sent it: he stops believing in it before others do, also when his process stood still meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import uuid4

from msgspec import Struct

from factfold.checkpoints import LEASES
from factfold.errands import Errands, ReadEntries, ReadValues
from factfold.errors import OutcomeUnknownError
from factfold.storage.base import Entry, Put, Swap

SLACK = 0.01
"""Seconds that others wait for longer than they have to."""


class _Held(Struct, frozen=True):
    """What is written, and until when it holds, by the owner's clock."""

    value: bytes
    until: float


class Lease:
    """One runner's lease on a consumer, of so many `seconds`. One thread claims it, another one may renew it."""

    def __init__(self, key: str, seconds: float, clock: Callable[[], float]) -> None:
        self.owner = uuid4().hex
        self._key = key
        self._seconds = seconds
        self._clock = clock
        self._beats = 0
        self._held: _Held | None = None
        self._seen = _Held(b"", 0.0)  # somebody else's, and until when it holds if it is not renewed

    @property
    def is_held(self) -> bool:
        """Whether it is certain that nobody else may have it."""
        held = self._held
        return held is not None and self._clock() < held.until

    def claim(self) -> Errands[float]:
        """Takes it, if it is free. Says in how many seconds it may be, if it is not; 0 when it was taken."""
        there = yield from _lease_of(self._key)
        if there is not None and not self._is_mine(there.value) and not self._is_over(there):
            self._held = None
            return min(seconds_of(there.value) - there.age, self._seen.until - self._clock()) + SLACK
        sent, value = self._clock(), self._next()
        done: bool = yield Swap(Put(LEASES, self._key, value), None if there is None else there.value)
        self._held = _Held(value, sent + self._seconds) if done else None
        return 0.0 if done else SLACK

    def renew(self) -> Errands[None]:
        """Makes it young again, if it is held."""
        held = self._held
        if held is None:
            return
        sent, value = self._clock(), self._next()
        try:
            done: bool = yield Swap(Put(LEASES, self._key, value), held.value)
        except OutcomeUnknownError:
            done = False  # it is found out, or taken, anew
        if self._held is held:
            self._held = _Held(value, sent + self._seconds) if done else None

    def give_back(self) -> Errands[None]:
        """Lets others have it at once. It is looked for, since a renewal may be under way."""
        if self._held is None:
            return
        self._held = None
        while True:
            values = yield ReadValues(LEASES, (self._key,))
            value: bytes | None = values.get(self._key)
            if value is None or not self._is_mine(value):
                return
            if (yield Swap(Put(LEASES, self._key, None), value)):
                return

    def _is_over(self, entry: Entry) -> bool:
        """Whether it has not been renewed for too long: by the storage's clock, which may be set, or by this one."""
        if entry.value != self._seen.value:
            self._seen = _Held(entry.value, self._clock() + seconds_of(entry.value))
        return is_over(entry) or self._clock() >= self._seen.until

    def _next(self) -> bytes:
        self._beats += 1
        return f"{self.owner} {self._beats} {self._seconds}".encode()

    def _is_mine(self, value: bytes) -> bool:
        return value.startswith(self.owner.encode())


def owner_of(key: str) -> Errands[str]:
    """Who holds the lease on a consumer, by the storage's clock; "" when nobody does."""
    there = yield from _lease_of(key)
    return "" if there is None or is_over(there) else there.value.decode().partition(" ")[0]


def _lease_of(key: str) -> Errands[Entry | None]:
    found: Sequence[Entry] = yield ReadEntries(LEASES, _just_below(key), 1)
    return found[0] if found and found[0].key == key else None


def seconds_of(value: bytes) -> float:
    """For how long a lease holds after it was written."""
    return float(value.rpartition(b" ")[2])


def is_over(entry: Entry) -> bool:
    """Whether a lease that is there may be taken by anybody."""
    return entry.age >= seconds_of(entry.value)


def _just_below(key: str) -> str:
    """What no key lies between and this one: every key ends with an ASCII character."""
    return f"{key[:-1]}{chr(ord(key[-1]) - 1)}\U0010ffff"
