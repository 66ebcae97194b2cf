"""Subscriptions of a `Store`: iterators over what is there and what comes, and the thread that brings the news."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self, TypeVar, overload

from factfold.cache import Cache
from factfold.deliveries import AWAY, After, Delivery, check_after, head_at, page_at
from factfold.errors import StoreClosedError, StoreUnavailableError
from factfold.events import RecordedEvent
from factfold.feed import Feed, Filter
from factfold.handlers import HandlerSet
from factfold.hub import POLL, Decoder, Hub
from factfold.job import refuse_inside_command
from factfold.notices import warn
from factfold.storage.base import EMPTY, Check, Head, Log
from factfold.streams import Stream, StreamType

E_co = TypeVar("E_co", covariant=True)
S = TypeVar("S")
E = TypeVar("E")

PAUSE = 5e-3
"""Seconds that the pump rests when what woke it is known already: the store's own commits may come in crowds.

While they do, their answers bring the news of others anyway.
"""


class Subscription(Delivery[E_co]):
    """Recorded events in the order of the log, each once: those that are there, then those that come. It has no end.

    For one consumer at a time. `close`, from any thread, ends the iteration; so does leaving a `with` block. While the
    storage is away it waits, and tries again. What ends it with an error does so for good. It is the iteration that
    raises.

    Raises:
        LogDivergedError: the log went backwards; what was handed over may not exist any more.
        DecodingError: an event cannot be decoded.
        StoreClosedError: the store was closed, or this is the child of a fork.
    """

    def __init__(self, pump: Pump, feed: Feed) -> None:
        super().__init__(pump.cache.hub, feed)
        self._log = pump.log

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> RecordedEvent[E_co]:
        while not self._closed:
            moves = self._hub.moves
            recorded = self._next()
            if recorded is not None:
                return recorded
            self._go_on(moves)
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _go_on(self, moves: int) -> None:
        """Asks the log for what comes next, or waits until the hub moves."""
        request = self._feed.request()
        if request is None:
            if not sleep_until_moved(self._hub, moves, POLL):
                self._feed.doubt()
            return
        try:
            if isinstance(request, Check):
                self._feed.heard(self._log.check(request))
            else:
                self._feed.read(self._log.read(request))
        except StoreUnavailableError as error:
            sleep_until_moved(self._hub, moves, self._pause(self._log.name, error))
        except Exception as error:
            self._fail(error)
            raise
        else:
            self._failures = 0


def sleep_until_moved(hub: Hub, moves: int, seconds: float) -> bool:
    """Sleeps until the hub has made another move than these. False: it has not, for so many seconds."""
    bed = threading.Lock()
    bed.acquire()
    sleepers = hub.sleepers
    sleepers.append(bed.release)
    if hub.moves != moves or bed.acquire(timeout=seconds):
        return True
    with contextlib.suppress(ValueError):  # it may just have been woken
        sleepers.remove(bed.release)
    return False


class Pump:
    """Moves a store's cut over what others commit, for as long as anybody subscribes.

    It is a thread that waits for announcements and then has the heart look, which publishes what it finds. It looks
    without an announcement too, now and then: an announcement that was lost delays what it was about, and no more.

    Args:
        cache: whose cut it is; `cache.hub` is where subscriptions listen.
        log: where to wait.
        decode: decodes events for subscriptions.
        look: executes a command without effect, whose validation brings the news.
    """

    def __init__(self, cache: Cache, log: Log, decode: Decoder, look: Callable[[], object]) -> None:
        self.cache = cache
        self.log = log
        self.decode = decode
        self._look = look
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def subscribe(self, filter: Filter, after: After) -> Subscription[object]:
        """A new subscription. Asks the log where it begins."""
        subscription = Subscription[object](self, Feed(self.cache.hub, filter, self._head(after), self.decode))
        self.listen(subscription)
        return subscription

    def listen(self, listener: object) -> None:
        """Moves the cut on for as long as this one lives, or until it leaves."""
        with self._lock:
            self.cache.hub.subscriptions.add(listener)
            self.cache.hub.active = True
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="factfold pump", daemon=True)
                self._thread.start()

    def leave(self, listener: object) -> None:
        """It listens no more."""
        self.cache.hub.subscriptions.discard(listener)

    def stop(self) -> None:
        """Lets the thread end as soon as it can."""
        self._stopped.set()

    def join(self, timeout: float) -> None:
        """Waits until it has ended."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _head(self, after: After) -> Head:
        if after == "head":
            return self.log.head()
        return EMPTY if after == 0 else head_at(after, self.log.read(page_at(after)), self.log.name)

    def _run(self) -> None:
        failures = 0
        while self._is_wanted():
            try:
                self._turn()
            except StoreClosedError as error:
                self.cache.hub.end(str(error))
                self.stop()
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are not left alone
                failures += 1
                if failures == 1:
                    warn("News from %s are late, it is asked again and again: %s", self.log.name, error)
                self._stopped.wait(AWAY.delay(failures))
            else:
                failures = 0

    def _is_wanted(self) -> bool:
        with self._lock:
            if self._stopped.is_set() or not self.cache.hub.subscriptions:
                self.cache.hub.active = False
                self._thread = None  # this one ends: the next subscription starts another
                return False
            return True

    def _turn(self) -> None:
        """Waits for an announcement, and looks if it is about something that is not known yet."""
        known = self.cache.head
        position = 0 if known is None else self.log.wait(known.position, POLL)
        now = self.cache.head
        if known is None or now is None or position > now.position or position <= known.position:
            self._look()
        else:
            self._stopped.wait(PAUSE)


class Subscribable(ABC):
    """What subscribes to a log, from threads."""

    @abstractmethod
    def _pumped(self) -> Pump:
        """The pump, of what is opened at the first use."""

    @overload
    def subscribe(
        self,
        *,
        types: StreamType[S, E],
        category: str | None = None,
        streams: Stream[object, E] | Iterable[Stream[object, E]] | None = None,
        after: After = "head",
    ) -> Subscription[E]: ...
    @overload
    def subscribe(
        self,
        *,
        types: type[E],
        category: str | None = None,
        streams: Stream[object, E] | Iterable[Stream[object, E]] | None = None,
        after: After = "head",
    ) -> Subscription[E]: ...
    @overload
    def subscribe(
        self,
        *,
        category: str | None = None,
        streams: Stream[object, E] | Iterable[Stream[object, E]],
        after: After = "head",
    ) -> Subscription[E]: ...
    @overload
    def subscribe(
        self,
        *,
        types: object = None,
        category: str | None = None,
        streams: object = None,
        after: After = "head",
    ) -> Subscription[object]: ...

    def subscribe(
        self,
        *,
        types: object = None,
        category: str | None = None,
        streams: object = None,
        after: After = "head",
    ) -> Subscription[object]:
        """The log from now on, or from a position on, in order and without an end: an iterator that waits. Does I/O.

        First comes what is there, then what comes, without a gap or a repetition between the two, whoever writes it.

        Args:
            types: a class, a union of classes, a stream type, or handlers: only these events, decoded (a stream type's
                are those of its category; a class's not those of categories whose stream types have another class of
                its name). Without it, and without `streams`, `event` is the plain JSON value.
            category: only events that belong to a stream of this category.
            streams: a stream or several: only events that belong to one of them, and that its fold looks at (with
                `types`: only these).
            after: a position, or "head": only what is appended after this call.

        Raises:
            LogDivergedError: the log does not reach to `after`, so it is not the one that the position is of.
            DefinitionError: a handler is `async def`.
        """
        refuse_inside_command()
        filter = Filter.of(types, category, streams)
        check_after(after)
        if isinstance(types, HandlerSet):
            types.refuse_async("store.subscribe(types=handlers)")
        return self._pumped().subscribe(filter, after)
