"""Interrupts for tests: Ctrl-C where the test wants it, in a batch with others, and the look at what it has left."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import pytest

import factfold
from factfold import (
    Receipt,
    Store,
    Transaction,
)
from tests.faults import PATIENCE
from tests.ledger import accounts, deposit
from tests.racing import Started, eventually, start
from tests.together import queued


def interrupt(given: object = None) -> None:
    """What Ctrl-C does in the main thread."""
    signal.raise_signal(signal.SIGINT)


def check_all_is_well(store: Store, rival: Store, **balances: int) -> None:
    """The log holds just these deposits, the store has the same states, and nobody holds the writers' lock."""
    for id, amount in balances.items():
        assert rival.state(accounts(id)).balance == amount, id
        assert store.state(accounts(id)).balance == amount, id
    for each in (rival, store):
        before = rival.state(accounts("probe")).balance
        assert start(each.execute, deposit, "probe", 1).result().result == before + 1
    assert rival.verify(accounts).ok


class InterruptAt:
    """Raises KeyboardInterrupt in this thread at the n-th point at which Python may, inside of factfold.

    Python delivers signals when a function is entered and when a call returns: that is what a profiler is told of.
    """

    source = os.path.dirname(factfold.__file__) + os.sep

    def __init__(self, point: int) -> None:
        self._left = point
        self.where = ""

    def __enter__(self) -> InterruptAt:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)

    def _profile(self, frame: FrameType, event: str, what: object) -> None:
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(self.source):
            self._left -= 1
            if self._left == 0:
                self.where = f"{event} in {frame.f_code.co_qualname}, line {frame.f_lineno}"
                raise KeyboardInterrupt


class Crew:
    """The main thread leads, and the commands of two other threads are in its batch: one for each of three accounts."""

    def __init__(
        self,
        store: Store,
        command: Callable[[Transaction, str], int] = deposit,
        ids: tuple[str, str, str] = ("main", "ann", "ben"),
    ) -> None:
        self._store = store
        self._command = command
        self._ids = ids
        self.others: list[Started[Receipt[int]]] = []

    def lead(self, tx: Transaction) -> int:
        """The main thread's command: the others are queued behind it when it has run for the first time."""
        mine, *others = self._ids
        if not self.others:
            for number, id in enumerate(others, queued(self._store) + 1):
                self.others.append(start(self._store.execute, self._command, id))
                eventually(partial(self._has_queued, number))
        return self._command(tx, mine)

    def _has_queued(self, count: int) -> bool:
        return queued(self._store) >= count

    def answers(self) -> list[int]:
        return [each.result().result for each in self.others]


def warm(store: Store, ids: tuple[str, ...] = ("main", "ann", "ben")) -> None:
    for id in ids:
        store.state(accounts(id))


@contextmanager
def interrupted_when(condition: Callable[[], object]) -> Iterator[None]:
    """Sends the signal to the main thread, which waits somewhere inside of this, as soon as the condition holds.

    It is sent until it has come: one that arrives just before a thread goes to sleep does not wake it.
    """
    came: list[int] = []

    def come(number: int, frame: FrameType | None) -> None:
        if not came:
            came.append(number)
            raise KeyboardInterrupt

    def send_until_it_has_come() -> None:
        eventually(condition)
        deadline = time.monotonic() + PATIENCE
        while not came and time.monotonic() < deadline:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(1e-3)

    before = signal.signal(signal.SIGINT, come)
    try:
        sender = start(send_until_it_has_come)
        with pytest.raises(KeyboardInterrupt):
            yield
        sender.result()
    finally:
        signal.signal(signal.SIGINT, before)
