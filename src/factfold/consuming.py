"""How a consumer goes along the log: lease, checkpoint, batches, errors. It does no I/O and knows no threads.

`Consumption.steps` is a generator of errands: it is sent the answer of each, or thrown the error. `workers` and
`aio_workers` run them, in a thread and in a task. Nothing rests on what the process remembers: whenever the
storage was lost, the way is taken up again from the checkpoint that is found there.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias
from uuid import uuid4

import msgspec

from factfold.checkpoints import (
    CHECKPOINTS,
    LEASES,
    SERVING,
    Checkpoint,
    Failure,
    encode_failure,
    parked_key,
    parked_place,
)
from factfold.consumers import Consumer, HandlerFailedError, Place
from factfold.deliveries import AWAY
from factfold.errands import Call, Errands, ReadEntries, ReadValues, Rest, Transact
from factfold.errors import (
    ConsumerStoppedError,
    DefinitionError,
    FactfoldError,
    OutcomeUnknownError,
    StoreClosedError,
    StoreUnavailableError,
)
from factfold.events import RecordedEvent
from factfold.feed import Feed
from factfold.hub import POLL, Decoder, Hub, Published
from factfold.notices import warn
from factfold.requests import AskHead
from factfold.storage.base import EMPTY, Check, Entry, Head, Put, Swap
from factfold.watching import Watch

BATCH = 1000
"""How many events are handled in one transaction at most."""

SKIPPED = 1000
"""How many events a checkpoint may stay behind that are not for its consumer, while others come."""

AnyConsumer: TypeAlias = Consumer[Any]

State: TypeAlias = Literal["waiting", "catching up", "live", "retrying", "failed", "superseded", "stopped"]
"""What a consumer does, as seen from the process that runs it."""


class LeaseLostError(Exception):
    """Somebody else runs the consumer by now."""


class Ended(Exception):  # noqa: N818 - it is no error
    """The consumer is to stop."""


# -- The way -----------------------------------------------------------------------------------------------------------


class Consumption:
    """One consumer on its way, in one process.

    Attributes:
        state: what it does.
        position: up to where everything is done, or not for it.
        error: why it has failed.
        stopping: set to make it end. Wake the hub, too.
        until: a position at which it ends by itself.
        lease_lost: set by whoever has tried to renew the lease, and could not.
        stalled_for: seconds without progress although there is something to do.
    """

    def __init__(
        self,
        consumer: AnyConsumer,
        hub: Hub,
        decode: Decoder,
        *,
        log: str,
        place: Place,
        transactions: bool,
        until: int | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.consumer = consumer
        self.state: State = "waiting"
        self.position = 0
        self.error: Exception | None = None
        self.stopping = False
        self.until = until
        self.lease: bytes | None = None
        self.lease_lost = False
        self.stalled_for = 0.0
        self._owner = uuid4().hex
        self._beats = 0
        self._hub = hub
        self._decode = decode
        self._log = log
        self._place = place
        self._watch = watch
        self._transactions = transactions and consumer.kind == "projection"
        self._filter = consumer.filter()
        self._checkpoint = Checkpoint(0, "", ())
        self._stored: bytes | None = None
        self._serves = False

    @property
    def name(self) -> str:
        """What it is, for messages."""
        return f"{self.consumer.label} of {self._log}"

    @property
    def is_stalled(self) -> bool:
        """Whether it does not get on."""
        return self.stalled_for >= self.consumer.patience

    def steps(self) -> Errands[None]:
        """The whole way, until it is stopped, or stops."""
        failures = 0
        while not self.stopping:
            before = self.position
            try:
                if (yield from self._claim()):
                    yield from self._consume()
            except (LeaseLostError, StoreUnavailableError, OutcomeUnknownError) as error:
                self.state = "waiting"
                failures = 1 if self.position > before else failures + 1
                if failures == 1 and not isinstance(error, LeaseLostError):
                    warn("%s waits until the storage can be reached again: %s", self.name, error)
                yield Rest(None, AWAY.delay(failures))
            except Ended:
                break
            except StoreClosedError:
                break
            except ConsumerStoppedError as error:
                self.fail(error)
                break
            except FactfoldError as error:
                self.fail(error)
                yield from self._note_failure(Failure(self.position, "", _told(error), datetime.now(UTC)))
                break
        if self.state not in ("failed", "superseded"):
            self.state = "stopped"

    def renewal(self) -> Swap | None:
        """What keeps the lease alive; to be told to `renewed` when it was done. None: there is no lease to be kept."""
        if self.lease is None or self.lease_lost:
            return None
        return Swap(Put(LEASES, self.consumer.key, self._next_lease()), self.lease)

    def renewed(self, swap: Swap, done: bool) -> None:
        """What became of a renewal."""
        if self.lease == swap.expected:
            if done:
                self.lease = swap.put.value
            else:
                self.lease_lost = True

    def not_renewed(self, swap: Swap, error: FactfoldError) -> None:
        """Whether a renewal was done is not known: the lease is found out, or taken, anew."""
        if self.lease == swap.expected and isinstance(error, OutcomeUnknownError):
            self.lease_lost = True

    def release(self) -> Swap | None:
        """What gives the lease back, so that others need not wait for its end."""
        lease, self.lease = self.lease, None
        return None if lease is None else Swap(Put(LEASES, self.consumer.key, None), lease)

    # -- Whose turn it is ------------------------------------------------------------------------------------------

    def _next_lease(self) -> bytes:
        self._beats += 1
        return f"{self._owner} {self._beats}".encode()

    def _claim(self) -> Errands[bool]:
        """Takes the lease and the checkpoint, if nobody else has them."""
        key = self.consumer.key
        entries: Sequence[Entry] = yield ReadEntries(LEASES)
        found = next((entry for entry in entries if entry.key == key), None)
        if found is not None and not found.value.startswith(self._owner.encode()) and found.age < self.consumer.lease:
            self.state = "waiting"
            self.lease = None
            if self.until is not None and (yield from self._is_done_elsewhere()):
                raise Ended
            yield Rest(None, min(self.consumer.lease - found.age + 0.01, self.consumer.lease / 2, POLL))
            return False
        lease = self._next_lease()
        if not (yield Swap(Put(LEASES, key, lease), None if found is None else found.value)):
            return False
        self.lease, self.lease_lost = lease, False
        yield from self._take_checkpoint()
        return True

    def _is_done_elsewhere(self) -> Errands[bool]:
        """Whether somebody else has brought it to where this was to end."""
        values: Mapping[str, bytes] = yield ReadValues(CHECKPOINTS, (self.consumer.key,))
        stored = values.get(self.consumer.key)
        if stored is not None:
            self.position = Checkpoint.decode(stored).position
        return self.until is not None and self.position >= self.until

    def _take_checkpoint(self) -> Errands[None]:
        consumer = self.consumer
        values: Mapping[str, bytes] = yield ReadValues(CHECKPOINTS, (consumer.key,))
        stored = values.get(consumer.key)
        types = consumer.stored_types
        if stored is None:
            head: Head = EMPTY if consumer.start == "beginning" else (yield AskHead())
            found = Checkpoint(0, "", types).moved(head)
        else:
            found = Checkpoint.decode(stored)
        if found.types != types:
            raise DefinitionError(
                f"{self.name} handles {', '.join(types)}, and was built by handlers of {', '.join(found.types)}. Give "
                "it a higher version, so that it is built anew beside the other one."
            )
        if found.course == "inline":
            raise DefinitionError(f"{self.name} runs inline, within every append. It needs nobody to run it.")
        serving = yield from self._serving()
        if serving > consumer.version:
            self.state = "superseded"
            warn("%s is not run: version %d serves.", self.name, serving)
            raise Ended
        self._serves = serving == consumer.version
        claimed = msgspec.structs.replace(
            found, epoch=found.epoch + 1, owner=self._owner, ready=True, course="running", failure=None
        )
        swap = Swap(Put(CHECKPOINTS, consumer.key, claimed.encode()), stored)
        if not found.ready:
            self._serves = self._serves or serving == 0
            if self._serves:
                swap = msgspec.structs.replace(swap, others=(self._as_serving(),))
            yield from self._set_up(swap, switch=self._serves)
        elif not (yield swap):
            raise LeaseLostError
        self._checkpoint, self._stored, self.position = claimed, swap.put.value, claimed.position
        self.state = "catching up"

    def _set_up(self, swap: Swap, *, switch: bool) -> Errands[None]:
        """What comes before the first event, in one transaction with the first checkpoint."""
        if not self._transactions:
            done: bool = yield swap
        else:
            try:
                done = yield Transact(
                    swap, lambda connection: self.consumer.set_up(self._place.on(connection), switch=switch)
                )
            except HandlerFailedError as error:
                cause = error.__cause__ or error
                raise ConsumerStoppedError(self.name, 0, f"its tables could not be made ({_told(cause)}).") from cause
        if not done:
            raise LeaseLostError

    def _serving(self) -> Errands[int]:
        """The version that serves; 0 when none does."""
        values: Mapping[str, bytes] = yield ReadValues(SERVING, (self.consumer.name,))
        return int(values.get(self.consumer.name, b"0")) if self.consumer.kind == "projection" else 1

    def _as_serving(self) -> Put:
        return Put(SERVING, self.consumer.name, b"%d" % self.consumer.version)

    # -- Along the log ---------------------------------------------------------------------------------------------

    def _consume(self) -> Errands[None]:
        """Handles what is there and what comes."""
        feed = Feed(self._hub, self._filter, self._checkpoint.head, self._decode)
        quiet = False
        while True:
            moves = self._hub.moves
            batch = yield from self._gather(feed)
            self._check_whether_to_go_on()
            if batch:
                yield from self._handle(feed, batch)
                self.position = max(self.position, self._checkpoint.position)
                if not self._serves and len(batch) < BATCH and feed.request() is None:
                    yield from self._take_over(self._checkpoint.head)
                continue
            self.position = max(self.position, feed.position)
            if self.until is not None:
                yield from self._pass_over(feed.head)
                if not self._serves:
                    yield from self._take_over(feed.head)
                raise Ended
            if quiet or feed.head.position - self._checkpoint.position >= SKIPPED:
                yield from self._pass_over(feed.head)
            if not self._serves:
                yield from self._take_over(feed.head)
            self.state = "live"
            quiet = not (yield Rest(moves, POLL))
            if quiet:
                feed.doubt()
                yield from self._look_for_a_successor()

    def _check_whether_to_go_on(self) -> None:
        if self._hub.ended:
            raise StoreClosedError(self._hub.ended)
        if self.lease_lost:
            raise LeaseLostError
        if self.stopping:
            raise Ended

    def _gather(self, feed: Feed) -> Errands[list[Published]]:
        """The next events, as many as are at hand; none when there are none."""
        batch: list[Published] = []
        while len(batch) < BATCH:
            published = feed.next()
            if published is not None:
                batch.append(published)
                continue
            request = feed.request()
            if request is None or (batch and isinstance(request, Check)):
                break
            if isinstance(request, Check):
                feed.heard((yield request))
            else:
                feed.read((yield request))
                self.position = max(self.position, feed.position if not batch else 0)
            self._check_whether_to_go_on()
        return batch

    def _handle(self, feed: Feed, batch: list[Published]) -> Errands[None]:
        """Has a batch handled. What cannot be handled is tried again alone, and then parked, or all ends there."""
        while batch:
            events: list[RecordedEvent[object]] = []
            undecodable: Exception | None = None
            for published in batch:
                try:
                    events.append(feed.recorded(published))
                except Exception as error:  # noqa: BLE001 - a user's transform may raise anything
                    undecodable = error
                    break
            if events:
                done = yield from self._advance(batch, events)
            else:
                assert undecodable is not None
                yield from self._give_up(batch[0], undecodable)
                done = 1
            batch = batch[done:]
            self._check_whether_to_go_on()

    def _advance(self, batch: Sequence[Published], events: Sequence[RecordedEvent[object]]) -> Errands[int]:
        """Has events handled, one of them at least: as many as can be before one that fails. Says how many."""
        try:
            yield from self._attempt(events, batch[len(events) - 1].head)
            return len(events)
        except HandlerFailedError as error:
            failed = error
        done = len(events) // 2 if failed.index is None else failed.index
        if done == 0:
            yield from self._attempt_alone(batch[0], events[0], failed)
            return 1
        if self._transactions or failed.index is None:
            return (yield from self._advance(batch, events[:done]))
        yield from self._move(batch[done - 1].head)  # those before it are done
        return done

    def _attempt(self, events: Sequence[RecordedEvent[object]], head: Head) -> Errands[None]:
        """Has events handled, and moves the checkpoint behind them."""
        swap, moved = self._swap_to(head)
        work, place = self.consumer.work, self._place
        began = 0.0 if self._watch is None else time.perf_counter()
        if self._transactions:
            done = yield Transact(swap, lambda connection: work(events, self._place.on(connection)))
        else:
            yield Call(lambda: work(events, place))
            done = yield swap
        self._swapped(swap, moved, done)
        if self._watch is not None:
            self._watch.consumed(self.consumer.name, len(events), time.perf_counter() - began)

    def _attempt_alone(
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
        cause = failed.__cause__
        yield from self._give_up(published, cause if isinstance(cause, Exception) else failed)

    def _give_up(self, published: Published, error: Exception) -> Errands[None]:
        """An event cannot be handled: parks it, or raises ConsumerStoppedError."""
        position, type = published.head.position, published.stored.type
        told = "".join(traceback.format_exception(error))[-4000:]
        failure = Failure(position, type, _told(error), datetime.now(UTC), told)
        if self.consumer.on_error == "park":
            parked = Put(parked_place(self.consumer.key), parked_key(position), encode_failure(failure))
            yield from self._move(published.head, parked)
            warn("%s has parked the event at position %d (%s): %s", self.name, position, type, failure.error)
            return
        yield from self._note_failure(failure)
        raise ConsumerStoppedError(
            self.name, self._checkpoint.position, f"the event at position {position} ({type}) failed: {failure.error}."
        ) from error

    def _note_failure(self, failure: Failure) -> Errands[None]:
        if self._stored is not None:
            failed = msgspec.structs.replace(self._checkpoint, course="failed", failure=failure)
            swap = Swap(Put(CHECKPOINTS, self.consumer.key, failed.encode()), self._stored)
            try:
                yield swap
            except (StoreUnavailableError, OutcomeUnknownError, StoreClosedError):
                return  # who runs it is told anyway

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

    # -- Versions --------------------------------------------------------------------------------------------------

    def _take_over(self, head: Head) -> Errands[None]:
        """It has caught up: from now on this version serves."""
        swap, moved = self._swap_to(head, self._as_serving())
        if self._transactions:
            try:
                done = yield Transact(swap, lambda connection: self.consumer.switch(self._place.on(connection)))
            except HandlerFailedError as error:
                cause = error.__cause__ or error
                reason = f"its views could not be switched ({_told(cause)})."
                raise ConsumerStoppedError(self.name, self._checkpoint.position, reason) from cause
        else:
            done = yield swap
        self._swapped(swap, moved, done)
        self._serves = True

    def _look_for_a_successor(self) -> Errands[None]:
        if self.consumer.kind == "projection" and (yield from self._serving()) > self.consumer.version:
            self.state = "superseded"
            raise Ended


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
