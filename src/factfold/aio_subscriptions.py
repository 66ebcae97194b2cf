"""Subscriptions of an `AsyncStore`: asynchronous iterators, and the task that brings news of others."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Generic, Self, TypeVar, overload

from factfold.cache import Cache
from factfold.deliveries import AWAY, After, Delivery, check_after, head_at, page_at
from factfold.errors import FactfoldError, StoreClosedError, StoreUnavailableError
from factfold.events import RecordedEvent
from factfold.feed import Feed, Filter
from factfold.hub import CHUNK, POLL, Decoder, Hub
from factfold.job import refuse_inside_command
from factfold.notices import warn
from factfold.storage.base import EMPTY, AsyncLog, Check, Head
from factfold.streams import Stream, StreamType
from factfold.subscriptions import PAUSE

E_co = TypeVar("E_co", covariant=True)
S = TypeVar("S")
E = TypeVar("E")


class AsyncDelivery(Delivery[E_co]):
    """A delivery to a task, once it is known where it begins."""

    def __init__(self, pump: AsyncPump, feed: Feed) -> None:
        super().__init__(pump.cache.hub, feed)
        self._pump = pump
        self._given = 0

    async def next(self) -> RecordedEvent[E_co] | None:
        """What comes next; None when it was closed."""
        self._given += 1
        if self._given % CHUNK == 0:
            await asyncio.sleep(0)  # who has much to catch up with lets others go on, too
        while not self._closed:
            moves = self._hub.moves
            recorded = self._next()
            if recorded is not None:
                return recorded
            await self._go_on(moves)
        return None

    def close(self) -> None:
        """Ends the iteration, also one that waits in another task. Closing twice is allowed."""
        super().close()
        self._pump.left()

    async def _go_on(self, moves: int) -> None:
        """Asks the log for what comes next, or waits until the hub moves."""
        log = self._pump.log
        request = self._feed.request()
        if request is None:
            if not await sleep_until_moved_async(self._hub, moves, POLL):
                self._feed.doubt()
                self._pump.start()  # somebody may have cancelled it
            return
        try:
            if isinstance(request, Check):
                self._feed.heard(await log.check(request))
            else:
                self._feed.read(await log.read(request))
        except StoreUnavailableError as error:
            await sleep_until_moved_async(self._hub, moves, self._pause(log.name, error))
        except Exception as error:
            self._fail(error)
            raise
        else:
            self._failures = 0


async def sleep_until_moved_async(hub: Hub, moves: int, seconds: float) -> bool:
    """Sleeps until the hub has made another move than these. False: it has not, for so many seconds."""
    if hub.moves != moves:
        return True
    moved: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not moved.done():
            moved.set_result(None)

    hub.sleepers.append(wake)
    try:
        await asyncio.wait([moved], timeout=seconds)
    finally:
        with contextlib.suppress(ValueError):  # it may have been woken
            hub.sleepers.remove(wake)
    return moved.done()


class AsyncSubscription(Generic[E_co]):
    """Recorded events in the order of the log, each once: those that are there, then those that come. It has no end.

    Where it begins is found out in the background, before the store executes anything that is called later. To be sure
    of it before others go on, enter it with `async with`. For one consumer at a time. `close` ends the iteration; so
    does leaving an `async with` block. A consumer that is cancelled may go on later. While the storage is away it
    waits, and tries again. What ends it with an error does so for good. It is the iteration that raises.

    Raises:
        LogDivergedError: the log went backwards, or does not reach to where this was to begin.
        DecodingError: an event cannot be decoded.
        StoreClosedError: the store was closed, or this is the child of a fork.
    """

    def __init__(self, beginning: asyncio.Task[AsyncDelivery[E_co]]) -> None:
        self._beginning = beginning
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RecordedEvent[E_co]:
        delivery = await self._begun()
        recorded = None if delivery is None else await delivery.next()
        if recorded is None:
            raise StopAsyncIteration
        return recorded

    async def __aenter__(self) -> Self:
        await self._begun()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def position(self) -> int:
        """Up to where everything was handed over, or is not wanted: where another one would go on with `after=`."""
        delivery = self._known()
        if delivery is None:
            raise FactfoldError(
                "The position of a subscription is known when it was entered with `async with`, or has given an event."
            )
        return delivery.position

    def close(self) -> None:
        """Ends the iteration, also one that waits in another task. Closing twice is allowed."""
        self._closed = True
        self._beginning.cancel()
        if (delivery := self._known()) is not None:
            delivery.close()

    def _known(self) -> AsyncDelivery[E_co] | None:
        beginning = self._beginning
        known = beginning.done() and not beginning.cancelled() and beginning.exception() is None
        return beginning.result() if known else None

    async def _begun(self) -> AsyncDelivery[E_co] | None:
        """The delivery; None when this was closed before there was one."""
        if not self._beginning.done():
            await asyncio.wait([self._beginning])  # whoever is cancelled here has not ended it
        return None if self._closed else self._beginning.result()


class AsyncPump:
    """Moves a store's cut over what others commit, for as long as anybody subscribes: `Pump`, as a task."""

    def __init__(self, cache: Cache, log: AsyncLog, decode: Decoder, look: Callable[[], Awaitable[object]]) -> None:
        self.cache = cache
        self.log = log
        self.decode = decode
        self._look = look
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    async def subscribe(self, filter: Filter, after: After) -> AsyncDelivery[object]:
        """A new delivery. Asks the log where it begins."""
        hub = self.cache.hub
        head = await self._head(after)
        delivery = AsyncDelivery[object](self, Feed(hub, filter, head, self.decode))
        self.listen(delivery)
        return delivery

    def listen(self, listener: object) -> None:
        """Moves the cut on for as long as this one lives, or until it leaves."""
        self.cache.hub.subscriptions.add(listener)
        self.start()

    def leave(self, listener: object) -> None:
        """It listens no more."""
        self.cache.hub.subscriptions.discard(listener)
        self.left()

    def start(self) -> None:
        """Sees to it that the task runs, while it is needed."""
        if not self._stopped and (self._task is None or self._task.done()):
            self.cache.hub.active = True
            self._task = asyncio.get_running_loop().create_task(self._run())

    def left(self) -> None:
        """Somebody does not subscribe any more: ends the task if that was the last one."""
        if self._task is not None and not self.cache.hub.subscriptions:
            self.cache.hub.active = False
            self._task.cancel()
            self._task = None

    async def stop(self) -> None:
        """Ends the task for good."""
        self._stopped = True
        self.cache.hub.active = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _head(self, after: After) -> Head:
        if after == "head":
            return await self.log.head()
        return EMPTY if after == 0 else head_at(after, await self.log.read(page_at(after)), self.log.name)

    async def _run(self) -> None:
        failures = 0
        hub = self.cache.hub
        while hub.subscriptions:
            try:
                await self._turn()
            except StoreClosedError as error:
                hub.end(str(error))
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are not left alone
                failures += 1
                if failures == 1:
                    warn("News from %s are late, it is asked again and again: %s", self.log.name, error)
                await asyncio.sleep(AWAY.delay(failures))
            else:
                failures = 0
        hub.active = False

    async def _turn(self) -> None:
        """Waits for an announcement, and looks if it is about something that is not known yet."""
        known = self.cache.head
        position = 0 if known is None else await self.log.wait(known.position, POLL)
        now = self.cache.head
        if known is None or now is None or position > now.position or position <= known.position:
            await self._look()
        else:
            await asyncio.sleep(PAUSE)


class AsyncSubscribable(ABC):
    """What subscribes to a log, from the tasks of an event loop."""

    @abstractmethod
    def _beginning(self, filter: Filter, after: After) -> asyncio.Task[AsyncDelivery[object]]:
        """Finds out where a subscription begins, before anything is executed that is called later."""

    @overload
    def subscribe(
        self,
        *,
        types: StreamType[S, E],
        category: str | None = None,
        streams: Stream[object, E] | Iterable[Stream[object, E]] | None = None,
        after: After = "head",
    ) -> AsyncSubscription[E]: ...
    @overload
    def subscribe(
        self,
        *,
        types: type[E],
        category: str | None = None,
        streams: Stream[object, E] | Iterable[Stream[object, E]] | None = None,
        after: After = "head",
    ) -> AsyncSubscription[E]: ...
    @overload
    def subscribe(
        self,
        *,
        category: str | None = None,
        streams: Stream[object, E] | Iterable[Stream[object, E]],
        after: After = "head",
    ) -> AsyncSubscription[E]: ...
    @overload
    def subscribe(
        self,
        *,
        types: object = None,
        category: str | None = None,
        streams: object = None,
        after: After = "head",
    ) -> AsyncSubscription[object]: ...

    def subscribe(
        self,
        *,
        types: object = None,
        category: str | None = None,
        streams: object = None,
        after: After = "head",
    ) -> AsyncSubscription[object]:
        """The log from now on, or from a position on, in order and without an end: an iterator that waits.

        First comes what is there, then what comes, without a gap or a repetition between the two, whoever writes it.

        Args:
            types: a class, a union of classes, a stream type, or handlers: only these events, decoded (a stream type's
                are those of its category; a class's not those of categories whose stream types have another class of
                its name). Without it, and without `streams`, `event` is the plain JSON value.
            category: only events that belong to a stream of this category.
            streams: a stream or several: only events that belong to one of them, and that its fold looks at (with
                `types`: only these).
            after: a position, or "head": only what is appended after this call (by others: after it was entered with
                `async with`).
        """
        refuse_inside_command()
        filter = Filter.of(types, category, streams)
        check_after(after)
        return AsyncSubscription(self._beginning(filter, after))
