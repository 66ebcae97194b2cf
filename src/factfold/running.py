"""What a `Store` does with projections and reactions: runs them, waits for them, and tells how they are."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

from factfold.checkpoints import ParkedEvent
from factfold.consumers import Consumer
from factfold.consuming import Consumption
from factfold.errands import Errands
from factfold.errors import FactfoldError, NestedExecutionError, StoreClosedError
from factfold.handling import AnyConsumer
from factfold.inline import InlineProjections, check_inline, withdrawing
from factfold.job import check_count
from factfold.projections import Projection
from factfold.receipt import Receipt
from factfold.statuses import ConsumerStatus, Health, discard, parked_by, reached, replay, statuses
from factfold.workers import Crew, Worker

R = TypeVar("R")

FIRST_PAUSE = 2e-3
LONGEST_PAUSE = 50e-3
"""Seconds between two looks at what is waited for: the first one, and what it grows to."""


class Runner(ABC):
    """What runs consumers in threads."""

    @abstractmethod
    def _crewed(self) -> Crew:
        """The crew, of what is opened at the first use."""

    @property
    @abstractmethod
    def _where(self) -> str:
        """The storage, for messages."""

    @property
    @abstractmethod
    def durability(self) -> str:
        """What the storage promises."""

    def run(self, *consumers: AnyConsumer) -> None:
        """Runs projections and reactions until they are stopped: by `stop`, by `close`, or by Ctrl-C.

        Each has a thread of its own: one that stops does not stop the others.

        Raises:
            ConsumerStoppedError: one has stopped because an event failed; the others have gone on until they were
                stopped, too.
            DefinitionError: one of them is not for this store, or has handlers other than it was built by.
            ValueError: one of them is being run by this store already.
        """
        self._run_to_the_end(consumers, None)

    def catch_up(self, *consumers: AnyConsumer) -> None:
        """Runs projections and reactions until they have done what is in the log now. Does I/O.

        Raises as `run`.
        """
        head = self._crewed().log.head().position
        self._run_to_the_end(consumers, head)

    def start(self, *consumers: AnyConsumer) -> None:
        """Runs projections and reactions in the background, each in a thread, until `stop` or `close`. Does I/O.

        What becomes of them: `projections`, `reactions`, `health`, and `on_trouble` of each. Raises DefinitionError,
        ValueError as `run`.
        """
        self._run_all(consumers)

    def stop(self, *consumers: AnyConsumer) -> None:
        """Stops these, or all that this store runs, and waits for the handlers that are being called.

        Another process takes them over at once, if it runs them too.
        """
        self._crewed().stop(consumers)

    def wait_for(
        self, consumer: AnyConsumer, receipt: Receipt[object] | int | None, /, *, timeout: float = 10.0
    ) -> None:
        """Waits until a projection or reaction has done what a receipt, or a position, is about. Does I/O.

        So one reads one's own writes. A command that has appended nothing need not be waited for.

        Raises:
            ConsumerStoppedError: it has stopped before that.
            TimeoutError: it has not got there within so many seconds.
        """
        position = position_of(receipt)
        crew = self._crewed()
        deadline = time.monotonic() + timeout
        pause = FIRST_PAUSE
        while position and not self._follow(reached(consumer, position, crew.running(consumer))):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise too_late(consumer, position, timeout)
            time.sleep(min(pause, remaining))
            pause = min(LONGEST_PAUSE, pause * 1.5)

    def projections(self) -> tuple[ConsumerStatus, ...]:
        """How all projections are that this namespace knows, in whichever process they are run. Does I/O."""
        return tuple(status for status in self._statuses() if status.kind == "projection")

    def reactions(self) -> tuple[ConsumerStatus, ...]:
        """How all reactions are that this namespace knows, in whichever process they are run. Does I/O."""
        return tuple(status for status in self._statuses() if status.kind == "reaction")

    def parked(self, consumer: AnyConsumer, /) -> tuple[ParkedEvent, ...]:
        """The events that a projection or reaction could not handle and has left aside, in order. Does I/O."""
        return self._follow(parked_by(consumer))

    def replay(self, consumer: AnyConsumer, position: int, /) -> bool:
        """Has a parked event handled now, exactly once as all others. False: it is not parked (any more). Does I/O.

        Raises what the handler raises, and LookupError when it does not handle that event any more; then it stays
        parked.
        """
        check_count("position", position)
        crew = self._crewed()
        return self._follow(replay(consumer, position, crew.decode, crew.transactions, crew.place(self)))

    def discard(self, consumer: AnyConsumer, position: int, /) -> bool:
        """Forgets a parked event without having it handled. False: it is not parked (any more). Does I/O."""
        check_count("position", position)
        return self._follow(discard(consumer, position))

    def withdraw(self, projection: Projection | str, /) -> None:
        """Has a projection not run inline any more, in no writer. It may be run like others from then on. Does I/O.

        Other stores that run it inline cannot append any more: open them anew without it. Raises LookupError when it
        does not run inline.
        """
        crew = self._crewed()
        name = projection if isinstance(projection, str) else projection.name
        self._follow(withdrawing(name, crew.log.name, crew.inside))
        if crew.inline is not None:
            crew.accompany(crew.inline.without(name))

    def health(self) -> Health:
        """Whether the storage answers, and how the consumers are. Does I/O; raises nothing but StoreClosedError."""
        try:
            crew = self._crewed()
        except (NestedExecutionError, StoreClosedError):
            raise
        except FactfoldError as failed:
            return Health(False, self._where, None, str(failed), self.durability, ())
        try:
            head, consumers, error = crew.log.head().position, self._statuses(), ""
        except FactfoldError as failed:
            head, consumers, error = None, (), str(failed)
        sound = all(one.error is None and not one.is_stalled for one in crew.consumptions())
        return Health(head is not None and sound, crew.log.name, head, error, self.durability, consumers)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _begin_inline(self, crew: Crew, projections: Sequence[Projection]) -> None:
        """Sees to it that every append of this store, and of all others, is accompanied by these."""
        check_inline(projections, crew.log.name, transactions=crew.transactions, asynchronous=False)
        place = crew.place(self)
        inline = InlineProjections(projections, crew.decode, place, crew.log.name)
        for projection in crew.follow(inline.missing()):
            head = crew.log.head().position
            workers = crew.start([crew.consumption(projection, place, head)])
            workers[0].wait()
            if projection in crew.follow(inline.missing()):  # nobody else was faster
                raise_failed([worker.consumption for worker in workers])
                crew.follow(inline.activate(projection, crew.inside))
        crew.accompany(inline)

    def _run_to_the_end(self, consumers: Sequence[AnyConsumer], until: int | None) -> None:
        crew = self._crewed()
        try:
            workers = self._run_all(consumers, until)
            try:
                for worker in workers:
                    worker.wait()
            finally:
                crew.leave(workers)
        except KeyboardInterrupt:
            crew.stop(consumers)  # it may have come before anybody waited for them
            raise
        raise_failed([worker.consumption for worker in workers])

    def _run_all(self, consumers: Sequence[AnyConsumer], until: int | None = None) -> list[Worker]:
        check_consumers(consumers, asynchronous=False)
        crew = self._crewed()
        place = crew.place(self)
        return crew.start([crew.consumption(consumer, place, until) for consumer in consumers])

    def _statuses(self) -> tuple[ConsumerStatus, ...]:
        return self._follow(statuses(self._crewed().consumptions()))

    def _follow(self, errands: Errands[R]) -> R:
        return self._crewed().follow(errands)


# -- The same for threads and tasks ------------------------------------------------------------------------------------


def check_consumers(consumers: Sequence[object], *, asynchronous: bool) -> None:
    """Refuses what cannot be run. Raises TypeError, DefinitionError, ValueError."""
    if not consumers:
        raise ValueError("Nothing to run: give one or more projections or reactions.")
    for consumer in consumers:
        if not isinstance(consumer, Consumer):
            raise TypeError(f"{consumer!r} is neither a Projection nor a Reaction, and cannot be run.")
        consumer.check_store(asynchronous=asynchronous)


def position_of(receipt: Receipt[object] | int | None) -> int:
    """The position that is meant; 0 for none."""
    position = receipt.position if isinstance(receipt, Receipt) else receipt
    if position is None:
        return 0
    check_count("position", position)
    return position


def too_late(consumer: AnyConsumer, position: int, timeout: float) -> TimeoutError:
    """What is raised when a consumer has not got somewhere in time."""
    return TimeoutError(
        f"{consumer.label} has not come to position {position} within {timeout:g} seconds. It may be behind, or nobody "
        "runs it: store.projections() tells."
    )


def raise_failed(consumptions: Sequence[Consumption]) -> None:
    """Raises the error of the first one that has failed; the others are noted in it."""
    failed = [error for consumption in consumptions if (error := consumption.error) is not None]
    if failed:
        for other in failed[1:]:
            failed[0].add_note(f"And: {other}")
        raise failed[0]
