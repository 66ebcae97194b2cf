"""What the dashboard shows: counted from the events as they come, and read from the tables of a projection."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from examples.bank.accounts import AccountEvent, Transferred
from factfold import ConsumerStatus, RecordedEvent

HISTORY = 40
"""Seconds that are remembered."""

LAST = 8
"""How many of the last events are remembered."""


class Flow:
    """The events that have come while somebody looked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._transfers = Counter[int]()
        self.last = deque[RecordedEvent[AccountEvent]](maxlen=LAST)
        self.transfers = 0

    def add(self, recorded: RecordedEvent[AccountEvent]) -> None:
        """One more event has come."""
        self.last.appendleft(recorded)
        if isinstance(recorded.event, Transferred):
            second = self._second()
            self.transfers += 1
            self._transfers[second] += 1
            self._transfers.pop(second - HISTORY - 1, None)

    def history(self) -> list[int]:
        """How many transfers came in each second that is over, the last one at the end."""
        now = self._second()
        return [self._transfers[second] for second in range(max(0, now - HISTORY), now)]

    @property
    def per_second(self) -> int:
        """How many transfers came in the last second that is over."""
        return (self.history() or [0])[-1]

    @property
    def seconds(self) -> float:
        """For how long somebody has looked."""
        return self._clock() - self._begun

    def _second(self) -> int:
        return int(self.seconds)


@dataclass(frozen=True, slots=True)
class Books:
    """What the tables of the projection say."""

    balances: tuple[tuple[str, str, int], ...] = ()
    """Account, owner, cents."""
    deposited: int = 0
    withdrawn: int = 0

    @property
    def total(self) -> int:
        """What is on all accounts."""
        return sum(cents for _, _, cents in self.balances)

    @property
    def balanced(self) -> bool:
        """Whether no money came from nowhere, and none went there."""
        return self.total == self.deposited - self.withdrawn


def read_books(file: str) -> Books:
    """Reads balances and sums in one transaction, by plain SQL."""
    with closing(sqlite3.connect(f"{Path(file).absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)) as db:
        db.execute("BEGIN")
        balances = db.execute("SELECT account, owner, cents FROM balances ORDER BY cents DESC, account").fetchall()
        sums = "SELECT coalesce(sum(abs(cents)), 0) FROM statements WHERE entry = ?"
        ((deposited,), (withdrawn,)) = (db.execute(sums, (entry,)).fetchone() for entry in ("deposit", "withdrawal"))
    return Books(tuple(balances), deposited, withdrawn)


@dataclass(frozen=True, slots=True)
class Figures:
    """All that is shown at a moment."""

    flow: Flow
    books: Books
    projections: Sequence[ConsumerStatus]
