"""How a consumer's events are handled: together in a transaction, or one by one; tried again, parked, or given up.

And how its checkpoint is moved behind them: always from the one that this runner has written last. It does no I/O.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, TypeAlias, cast

import msgspec

from factfold.checkpoints import CHECKPOINTS, Checkpoint, Failure, encode_failure, parked_key, parked_place
from factfold.consumers import Consumer, HandlerFailedError, Place
from factfold.errands import Call, Errands, Rest, Transact
from factfold.errors import ConsumerStoppedError, FactfoldError, StoreClosedError
from factfold.events import RecordedEvent
from factfold.feed import Feed
from factfold.hub import Hub, Published
from factfold.leases import Lease
from factfold.notices import warn
from factfold.storage.base import Head, Put, Swap
from factfold.watching import Watch

BATCH = 1000
"""How many events are handled in one transaction at most."""

FIRST_BATCH = 16
"""How many there are in the first one: nobody knows yet how long they take."""

TURN = 0.05
"""Seconds that handlers are given before what they have done is committed: others wait for that."""

AnyConsumer: TypeAlias = Consumer[Any]

State: TypeAlias = Literal["waiting", "catching up", "live", "retrying", "failed", "superseded", "stopped"]
"""What a consumer does, as seen from the process that runs it."""

ENDS: tuple[State, ...] = ("failed", "superseded", "stopped")
"""The states in which it does nothing any more."""


class LeaseLostError(Exception):
    """Somebody else runs the consumer by now, or may."""


class Ended(Exception):  # noqa: N818 - it is no error
    """The consumer is to stop."""


class Handling:
    """The work of one consumer, in one process.

    Attributes:
        consumer: whose work it is.
        lease: whether it is this one's turn.
        state: what it does.
        position: up to where everything is done, or not for it.
        error: why it has failed.
        stopping: set to make it end. Wake the hub, too.
    """

    def __init__(
        self,
        consumer: AnyConsumer,
        hub: Hub,
        *,
        log: str,
        place: Place,
        transactions: bool,
        watch: Watch | None,
        clock: Callable[[], float],
    ) -> None:
        self.consumer = consumer
        self.lease = Lease(consumer.key, consumer.lease, clock)
        self.state: State = "waiting"
        self.position = 0
        self.error: Exception | None = None
        self.stopping = False
        self.name = f"{consumer.label} of {log}"
        """What it is, for messages."""
        self._clock = clock
        self._hub = hub
        self._place = place
        self._transactions = transactions and consumer.kind == "projection"
        self._watch = watch
        self._size = FIRST_BATCH
        self._checkpoint = Checkpoint(0, "", ())
        self._stored: bytes | None = None

    def fail(self, error: Exception) -> None:
        """It has ended with this error."""
        self.state, self.error = "failed", error
        self.trouble(str(error) if isinstance(error, ConsumerStoppedError) else f"{self.name} has stopped: {error}")

    def trouble(self, what: str) -> None:
        """Says what is wrong, to the log of the program and to whoever asked for it."""
        warn("%s", what)
        if self.consumer.on_trouble is not None:
            try:
                self.consumer.on_trouble(what)
            except Exception as error:  # noqa: BLE001 - a user's function must not stand in the way
                warn("on_trouble of %s failed: %r", self.name, error)

    def _check_whether_to_go_on(self) -> None:
        """Raises what ends the work."""
        if self._hub.ended:
            raise StoreClosedError(self._hub.ended)
        if self.stopping:
            raise Ended
        if not self.lease.is_held:
            raise LeaseLostError

    # -- Batches ---------------------------------------------------------------------------------------------------

    def _handle(self, feed: Feed, batch: list[Published]) -> Errands[None]:
        """Has a batch handled. What cannot be handled is tried again alone, and then parked, or all ends there."""
        together = self._transactions or self.consumer.at_once
        while batch:
            events, undecodable = _decoded(feed, batch)
            if undecodable is not None and not events:
                yield from self._give_up(batch[0], undecodable)
                done = 1
            else:
                done = yield from (self._together if together else self._one_by_one)(batch, events)
            batch = batch[done:]
            self._check_whether_to_go_on()

    def _together(self, batch: Sequence[Published], events: Sequence[RecordedEvent[object]]) -> Errands[int]:
        """Has events handled as one, one of them at least: as many as can be before one that fails. Says how many."""
        count, failed = len(events), None
        while count:
            try:
                yield from self._attempt(events[:count], batch[count - 1].head)
            except HandlerFailedError as error:
                # Where nobody knows which one it was, fewer and fewer are tried.
                failed = error if error.index is not None or count == 1 else None
                count = count // 2 if error.index is None else error.index
            else:
                break
        if failed is None:
            return count
        yield from self._try_again(batch[count], events[count], failed)
        return count + 1

    def _one_by_one(self, batch: Sequence[Published], events: Sequence[RecordedEvent[object]]) -> Errands[int]:
        """Has events handled outside of transactions, for a while, and then moves the checkpoint. Says how many."""
        work, place = self.consumer.work, self._place
        began = self._clock()
        failed: HandlerFailedError | None = None
        done = 0
        while done < len(events) and (done == 0 or (self._may_handle_more() and self._clock() - began < TURN)):
            try:
                yield Call(partial(work, events[done : done + 1], place))
            except HandlerFailedError as error:
                failed = error
                break
            done += 1
        if done:
            yield from self._move(batch[done - 1].head)
            self._tell(done, began)
        if failed is None:
            return done
        yield from self._try_again(batch[done], events[done], failed)
        return done + 1

    def _may_handle_more(self) -> bool:
        return not self.stopping and self.lease.is_held

    def _attempt(self, events: Sequence[RecordedEvent[object]], head: Head) -> Errands[None]:
        """Has events handled, and moves the checkpoint behind them."""
        swap, moved = self._swap_to(head)
        began = self._clock()
        if self._transactions:
            try:
                done = yield Transact(swap, lambda connection: self._work(events, self._place.on(connection)))
            except (HandlerFailedError, FactfoldError):
                raise
            except Exception as error:  # what the driver raises at the commit, as for a deferred constraint
                raise HandlerFailedError(None) from error
        else:
            yield Call(lambda: self._work(events, self._place))
            done = yield swap
        self._swapped(swap, moved, done)
        self._tell(len(events), began)

    def _tell(self, count: int, began: float) -> None:
        if self._watch is not None:
            self._watch.consumed(self.consumer.name, count, self._clock() - began)

    def _work(self, events: Sequence[RecordedEvent[object]], place: Place) -> object:
        began = self._clock()
        returned = self.consumer.work(events, place)
        if isinstance(returned, Awaitable):
            work = cast("Awaitable[object]", returned)  # whatever it gives, nobody looks at it
            return self._finish(work, len(events), began)
        self._pace(len(events), began)
        return None

    async def _finish(self, work: Awaitable[object], count: int, began: float) -> None:
        await work
        self._pace(count, began)

    def _pace(self, count: int, began: float) -> None:
        """So many events were handled: from that follows how many there may be in the next batch."""
        affordable = int(count * TURN / max(self._clock() - began, 1e-6))
        self._size = max(1, min(affordable, 2 * self._size, BATCH))

    # -- What fails ------------------------------------------------------------------------------------------------

    def _try_again(
        self, published: Published, recorded: RecordedEvent[object], failed: HandlerFailedError
    ) -> Errands[None]:
        """Tries one event again, which has failed already, until it is done or given up."""
        retry = self.consumer.retry
        for attempt in range(1, retry.max_attempts):
            self.state = "retrying"
            yield Rest(None, retry.delay(attempt))
            self._check_whether_to_go_on()
            try:
                yield from self._attempt([recorded], published.head)
            except HandlerFailedError as error:
                failed = error
            else:
                self.state = "catching up"
                return
        yield from self._give_up(published, failed.__cause__ or failed)
        self.state = "catching up"

    def _give_up(self, published: Published, error: BaseException) -> Errands[None]:
        """An event cannot be handled: parks it, or raises ConsumerStoppedError."""
        failure = failure_of(error, published.head.position, published.stored.type)
        if self.consumer.on_error == "stop":
            yield from self._stop_with(failure, error)
        parked = Put(parked_place(self.consumer.key), parked_key(failure.position), encode_failure(failure))
        yield from self._move(published.head, parked)
        warn("%s has parked what it could not do: %s", self.name, failure.reason)

    def _stop_with(self, failure: Failure, error: BaseException) -> Errands[None]:
        """Keeps why it does not go on, and raises ConsumerStoppedError."""
        yield from self._note_failure(failure)
        raise ConsumerStoppedError(self.name, self._checkpoint.position, failure.reason) from error

    def _note_failure(self, failure: Failure) -> Errands[None]:
        if self._stored is not None:
            failed = msgspec.structs.replace(self._checkpoint, course="failed", failure=failure)
            try:
                yield Swap(Put(CHECKPOINTS, self.consumer.key, failed.encode()), self._stored)
            except FactfoldError:
                return  # who runs it is told anyway

    # -- The checkpoint --------------------------------------------------------------------------------------------

    def _pass_over(self, head: Head) -> Errands[None]:
        """Moves the checkpoint over what is not for this consumer."""
        if head.position > self._checkpoint.position:
            yield from self._move(head)

    def _move(self, head: Head, *others: Put) -> Errands[None]:
        swap, moved = self._swap_to(head, *others)
        self._swapped(swap, moved, (yield swap))

    def _swap_to(self, head: Head, *others: Put) -> tuple[Swap, Checkpoint]:
        moved = self._checkpoint.moved(head)
        return Swap(Put(CHECKPOINTS, self.consumer.key, moved.encode()), self._stored, others), moved

    def _swapped(self, swap: Swap, moved: Checkpoint, done: bool) -> None:
        if not done:
            raise LeaseLostError
        self._checkpoint, self._stored = moved, swap.put.value
        self.position = max(self.position, moved.position)


def _decoded(feed: Feed, batch: Sequence[Published]) -> tuple[list[RecordedEvent[object]], Exception | None]:
    """The events of a batch up to the first that cannot be decoded, and why that cannot."""
    events: list[RecordedEvent[object]] = []
    for published in batch:
        try:
            events.append(feed.recorded(published))
        except Exception as error:  # noqa: BLE001 - a user's transform may raise anything
            return events, error
    return events, None


def failure_of(error: BaseException, position: int, type: str) -> Failure:
    """What is kept of an error."""
    text = " ".join(str(error).split())
    told = f"{error.__class__.__name__}: {text}" if text else error.__class__.__name__
    return Failure(position, type, told, datetime.now(UTC), "".join(traceback.format_exception(error))[-4000:])
