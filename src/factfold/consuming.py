"""How a consumer goes along the log: lease, checkpoint, batches, versions. It does no I/O and knows no threads.

`Consumption.steps` is a generator of errands: it is sent the answer of each, or thrown the error. `workers` and
`aio_workers` run them, in a thread and in a task. Nothing rests on what the process remembers: whenever the
storage was lost, the way is taken up again from the checkpoint that is found there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from factfold.checkpoints import CHECKPOINTS, Checkpoint, as_serving, serving_version
from factfold.consumers import AWAY as AWAY_ERRORS
from factfold.consumers import HandlerFailedError, Place, is_in_use
from factfold.deliveries import AWAY
from factfold.errands import Call, Errands, ReadValues, Rest, Transact
from factfold.errors import ConsumerStoppedError, DefinitionError, FactfoldError, StoreClosedError
from factfold.feed import Feed, Filter
from factfold.handling import AnyConsumer, Ended, Handling, LeaseLostError, failure_of
from factfold.hub import POLL, Decoder, Hub, Published
from factfold.notices import warn
from factfold.requests import AskHead
from factfold.storage.base import EMPTY, Check, Head, Put, StoredEvent, Swap
from factfold.watching import Watch

BATCH_BYTES = 4 * 1024 * 1024
"""How many bytes of data the events of a batch have at most, but for the last one."""

SKIPPED = 1000
"""How many events a checkpoint may stay behind that are not for its consumer, while others come."""

LOOK = 2.0
"""Seconds for which it may stay behind them, and between two looks whether a higher version serves."""


class Consumption(Handling):
    """One consumer on its way, in one process.

    Args:
        consumer: whose way it is.
        hub, decode: where it listens, and how events are decoded.
        log: the name of the log.
        place: where events are handled.
        transactions: whether that is in the transaction that moves the checkpoint.
        head: where it begins if it begins with what comes, and nothing is known of it.
        until: a position at which it ends by itself.
        watch: who is told about it.
        clock: seconds that only go forward.

    Attributes:
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
        head: Head | None = None,
        until: int | None = None,
        watch: Watch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(consumer, hub, log=log, place=place, transactions=transactions, watch=watch, clock=clock)
        self.stalled_for = 0.0
        self._until = until
        self._head = head
        self._decode = decode
        self._filter = consumer.filter()
        self._serves = False
        self._looked = 0.0

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
            except (Ended, StoreClosedError):
                break
            except LeaseLostError:
                self.state = "waiting"
                yield Rest(None, AWAY.delay(1))
            except AWAY_ERRORS as error:
                self.state = "retrying"
                failures = 1 if self.position > before else failures + 1
                if failures == 1:
                    warn("%s waits until the storage can be reached again: %s", self.name, error)
                yield Rest(None, AWAY.delay(failures))
            except ConsumerStoppedError as error:
                self.fail(error)
                break
            except FactfoldError as error:
                self.fail(error)
                yield from self._note_failure(failure_of(error, self.position, ""))
                break
        if self.state not in ("failed", "superseded"):
            self.state = "stopped"

    # -- Whose turn it is ------------------------------------------------------------------------------------------

    def _claim(self) -> Errands[bool]:
        """Takes the lease and the checkpoint, if nobody else has them."""
        seconds: float = yield from self.lease.claim()
        if seconds > 0:
            self.state = "waiting"
            if self._until is not None and (yield from self._is_done_elsewhere(self._until)):
                raise Ended
            yield Rest(None, min(seconds, POLL))
            return False
        yield from self._take_checkpoint()
        return True

    def _is_done_elsewhere(self, position: int) -> Errands[bool]:
        """Whether somebody else has brought it to where this was to end."""
        values: Mapping[str, bytes] = yield ReadValues(CHECKPOINTS, (self.consumer.key,))
        stored = values.get(self.consumer.key)
        if stored is not None:
            self.position = Checkpoint.decode(stored).position
        return self.position >= position or (yield from nothing_between(self._filter, self.position, position))

    def _take_checkpoint(self) -> Errands[None]:
        consumer = self.consumer
        values: Mapping[str, bytes] = yield ReadValues(CHECKPOINTS, (consumer.key,))
        stored = values.get(consumer.key)
        found = (yield from self._new_checkpoint()) if stored is None else Checkpoint.decode(stored)
        types = consumer.stored_types
        if consumer.kind == "projection" and not consumer.handles_just(found.types):
            raise DefinitionError(
                f"{self.name} handles {', '.join(types)}, and was built by handlers of {', '.join(found.types)}. Give "
                "it a higher version, so that it is built anew beside the other one."
            )
        if found.course == "inline":
            raise DefinitionError(f"{self.name} runs inline, within every append. It needs nobody to run it.")
        serving = yield from self._look_for_a_successor()
        claimed = msgspec.structs.replace(
            found,
            types=types,
            epoch=found.epoch + 1,
            owner=self.lease.owner,
            ready=True,
            course="running",
            failure=None,
        )
        swap = Swap(Put(CHECKPOINTS, consumer.key, claimed.encode()), stored)
        done: bool = (yield swap) if found.ready else (yield from self._set_up(swap))
        if not done:
            raise LeaseLostError
        self._checkpoint, self._stored, self.position = claimed, swap.put.value, claimed.position
        self.state = "catching up"
        if serving == 0:
            yield from self._serve()  # until it has caught up, there is nothing better to be seen

    def _new_checkpoint(self) -> Errands[Checkpoint]:
        head = EMPTY
        if self.consumer.start == "head":
            head = self._head or (yield AskHead())
        return Checkpoint(0, "", self.consumer.stored_types).moved(head)

    def _set_up(self, swap: Swap) -> Errands[bool]:
        """What comes before the first event, where that can be in one transaction with the first checkpoint."""
        consumer, place = self.consumer, self._place
        try:
            if self._transactions:
                done: bool = yield Transact(swap, lambda connection: consumer.set_up(place.on(connection)))
            else:
                yield Call(lambda: consumer.set_up(place))
                done = yield swap
        except HandlerFailedError as error:
            cause = error.__cause__ or error
            told = failure_of(cause, 0, "").error
            raise ConsumerStoppedError(self.name, 0, f"its tables could not be made ({told}).") from cause
        return done

    # -- Along the log ---------------------------------------------------------------------------------------------

    def _consume(self) -> Errands[None]:
        """Handles what is there and what comes."""
        feed = Feed(self._hub, self._filter, self._checkpoint.head, self._decode)
        quiet = False
        while True:
            moves = self._hub.moves
            batch, all_of_it = yield from self._gather(feed)
            if batch:
                yield from self._handle(feed, batch)
            if all_of_it:
                self.position = max(self.position, feed.position)
                if not self._serves:
                    yield from self._pass_over(feed.head)
                    yield from self._serve()
            if self._until is not None and self.position >= self._until:
                if all_of_it:
                    yield from self._pass_over(feed.head)
                yield from self._serve()
                raise Ended
            yield from self._look_around(feed.head if all_of_it else self._checkpoint.head, quiet=quiet)
            if batch or not all_of_it:
                continue
            self.state = "live"
            quiet = not (yield Rest(moves, POLL))
            if quiet:
                feed.doubt()

    def _gather(self, feed: Feed) -> Errands[tuple[list[Published], bool]]:
        """The next events, as many as are at hand and may be; and whether that is all there is before the hub moves."""
        batch: list[Published] = []
        size = 0
        while len(batch) < self._size and size < BATCH_BYTES:
            published = feed.next()
            if published is not None:
                batch.append(published)
                size += len(published.stored.data)
                continue
            if not batch:
                self.position = max(self.position, feed.position)
            request = feed.request()
            if request is None:
                self._check_whether_to_go_on()
                return batch, True
            if batch and isinstance(request, Check):
                break
            if isinstance(request, Check):
                feed.heard((yield request))
            else:
                feed.read((yield request))
            self._check_whether_to_go_on()
        self._check_whether_to_go_on()
        return batch, False

    def _look_around(self, head: Head, *, quiet: bool) -> Errands[None]:
        """Now and then: lets others see how far it is, and looks whether it is still needed."""
        now = self._clock()
        if quiet or head.position - self._checkpoint.position >= SKIPPED or now - self._looked >= LOOK:
            yield from self._pass_over(head)
        if now - self._looked >= LOOK:
            self._looked = now
            yield from self._look_for_a_successor()

    # -- Versions --------------------------------------------------------------------------------------------------

    def _look_for_a_successor(self) -> Errands[int]:
        """Ends when a higher version serves. Says which one does, 0 when none."""
        if self.consumer.kind != "projection":
            self._serves = True
            return self.consumer.version
        serving = yield from serving_version(self.consumer.name)
        self._serves = serving == self.consumer.version
        if serving > self.consumer.version:
            self.state = "superseded"
            warn("%s is not run any more: version %d serves.", self.name, serving)
            raise Ended
        return serving

    def _serve(self) -> Errands[None]:
        """From now on this version serves, unless a higher one does: it has caught up."""
        while not self._serves:
            serving = yield from self._look_for_a_successor()
            if self._serves:
                return
            put = as_serving(self.consumer.name, self.consumer.version)
            swap = Swap(put, as_serving(self.consumer.name, serving).value if serving else None)
            try:
                if self._transactions:
                    self._serves = yield Transact(
                        swap, lambda connection: self.consumer.switch(self._place.on(connection))
                    )
                else:
                    self._serves = yield swap
            except HandlerFailedError as error:
                cause = error.__cause__ or error
                if is_in_use(cause):  # somebody reads what the other version shows, for long
                    self.state = "retrying"
                    yield Rest(None, LOOK)
                    self._check_whether_to_go_on()
                    continue
                failure = failure_of(cause, 0, "")
                why = msgspec.structs.replace(failure, error=f"its views could not be switched ({failure.error}).")
                yield from self._stop_with(why, cause)


def nothing_between(filter: Filter, after: int, last: int) -> Errands[bool]:
    """Whether none of the events above `after` and up to `last` passes a filter."""
    while True:
        page: Sequence[StoredEvent] = yield filter.page(after, FEW)
        for stored in page:
            if stored.position > last:
                return True
            if filter.takes(stored):
                return False
        if len(page) < FEW:
            return True
        after = page[-1].position


FEW = 10
"""How many events are looked at to see that there are some."""
