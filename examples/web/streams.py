"""Streams of server-sent events: where one begins, what it says, and that all of them end when the process does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal, Protocol

import msgspec

from examples.bank.accounts import AccountEvent, accounts
from examples.web.errors import EndingError, InvalidPositionError, TooManyStreamsError
from factfold import RecordedEvent


def beginning(last_event_id: str | None, after: str | None) -> int | Literal["head"]:
    """The position after which a stream begins: where it broke off, where the client says, or now.

    A client that reconnects sends the id of the last event that it has got, and that is its position.
    """
    for where, text in (("Last-Event-ID", last_event_id), ("after", after)):
        if text is not None:
            return position_in(text, where)
    return "head"


def position_in(text: str, where: str) -> int:
    """A position that a client has sent. Raises InvalidPositionError."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise InvalidPositionError(text, where)
    return int(text)


def notice_of(recorded: RecordedEvent[AccountEvent]) -> str:
    """What subscribers are told of an event, as JSON in one line."""
    return msgspec.json.encode(
        {
            "position": recorded.position,
            "accounts": [stream.parts[0] for stream in accounts.of(recorded)],
            "event": recorded.event,
            "recorded_at": recorded.recorded_at,
        }
    ).decode()


class Subscribed(Protocol):
    """A subscription of either kind of store."""

    def close(self) -> None: ...


class OpenStreams:
    """The streams of a process: a limited number, which end together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: set[Subscribed] = set()
        self._lock = threading.Lock()
        self._ended = False

    def add(self, subscription: Subscribed) -> None:
        """One more. Raises TooManyStreamsError, EndingError; then it is closed."""
        with self._lock:
            if not self._ended and len(self._open) < self._most:
                self._open.add(subscription)
                return
        subscription.close()
        raise EndingError if self._ended else TooManyStreamsError(self._most)

    def remove(self, subscription: Subscribed) -> None:
        """One less: it ends."""
        with self._lock:
            self._open.discard(subscription)
        subscription.close()

    @contextmanager
    def holding(self, subscription: Subscribed) -> Iterator[None]:
        """One more within the block. Raises as `add`."""
        self.add(subscription)
        try:
            yield
        finally:
            self.remove(subscription)

    def end(self) -> None:
        """All end, and there are no more: each client connects again, elsewhere, and goes on where it was."""
        with self._lock:
            self._ended = True
            closing = list(self._open)
        for subscription in closing:
            subscription.close()


def at_termination(callback: Callable[[], object]) -> None:
    """Calls back when the process is told to end, before the server, which then waits for all requests, hears of it.

    A stream is a request without an end of its own. To be called in the main thread once the server has set its
    handlers; in another thread, as in a test client's, nothing is done. `callback` must take no lock.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            _precede(number, callback)


def _precede(number: signal.Signals, callback: Callable[[], object]) -> None:
    servers = signal.getsignal(number)
    if not callable(servers):
        return  # nobody waits for anything: the process just ends

    def handle(number: int, frame: FrameType | None) -> None:
        callback()
        servers(number, frame)

    signal.signal(number, handle)
