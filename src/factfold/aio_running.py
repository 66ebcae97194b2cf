"""What an `AsyncStore` does with projections and reactions: runs them, waits for them, and tells how they are."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

from factfold.aio_workers import AsyncCrew, AsyncWorker
from factfold.checkpoints import ParkedEvent
from factfold.errands import Errands
from factfold.errors import FactfoldError, NestedExecutionError, StoreClosedError
from factfold.handling import AnyConsumer
from factfold.inline import InlineProjections, check_inline, withdrawing
from factfold.job import check_count
from factfold.projections import Projection
from factfold.receipt import Receipt
from factfold.running import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    check_consumers,
    position_of,
    raise_failed,
    too_late,
)
from factfold.statuses import ConsumerStatus, Health, discard, parked_by, reached, replay, statuses

R = TypeVar("R")


class AsyncRunner(ABC):
    """What runs consumers in tasks: as `Runner`, with `async def`."""

    @abstractmethod
    async def _crewed(self) -> AsyncCrew:
        """The crew, of what is opened at the first use."""

    @property
    @abstractmethod
    def _where(self) -> str:
        """The storage, for messages."""

    @property
    @abstractmethod
    def durability(self) -> str:
        """What the storage promises."""

    async def run(self, *consumers: AnyConsumer) -> None:
        """Runs projections and reactions until they are stopped: by `stop`, by `close`, or by cancelling the caller.

        Each has a task of its own: one that stops does not stop the others.

        Raises:
            ConsumerStoppedError: one has stopped because an event failed; the others have gone on until they were
                stopped, too.
            DefinitionError: one of them is not for this store, or has handlers other than it was built by.
            ValueError: one of them is being run by this store already.
        """
        await self._run_to_the_end(consumers, None)

    async def catch_up(self, *consumers: AnyConsumer) -> None:
        """Runs projections and reactions until they have done what is in the log now. Does I/O.

        Raises as `run`.
        """
        head = (await (await self._crewed()).log.head()).position
        await self._run_to_the_end(consumers, head)

    async def start(self, *consumers: AnyConsumer) -> None:
        """Runs projections and reactions in the background, each in a task, until `stop` or `close`. Does I/O.

        What becomes of them: `projections`, `reactions`, `health`, and `on_trouble` of each. Raises DefinitionError,
        ValueError as `run`.
        """
        await self._run_all(consumers)

    async def stop(self, *consumers: AnyConsumer) -> None:
        """Stops these, or all that this store runs, and waits for the handlers that are being called.

        Another process takes them over at once, if it runs them too.
        """
        await (await self._crewed()).stop(consumers)

    async def wait_for(
        self, consumer: AnyConsumer, receipt: Receipt[object] | int | None, /, *, timeout: float = 10.0
    ) -> None:
        """Waits until a projection or reaction has done what a receipt, or a position, is about. Does I/O.

        So one reads one's own writes. A command that has appended nothing need not be waited for.

        Raises:
            ConsumerStoppedError: it has stopped before that.
            TimeoutError: it has not got there within so many seconds.
        """
        position = position_of(receipt)
        crew = await self._crewed()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        pause = FIRST_PAUSE
        while position and not await self._follow(reached(consumer, position, crew.running(consumer))):
            remaining = deadline - loop.time()
            if remaining <= 0:
                raise too_late(consumer, position, timeout)
            await asyncio.sleep(min(pause, remaining))
            pause = min(LONGEST_PAUSE, pause * 1.5)

    async def projections(self) -> tuple[ConsumerStatus, ...]:
        """How all projections are that this namespace knows, in whichever process they are run. Does I/O."""
        return tuple(status for status in await self._statuses() if status.kind == "projection")

    async def reactions(self) -> tuple[ConsumerStatus, ...]:
        """How all reactions are that this namespace knows, in whichever process they are run. Does I/O."""
        return tuple(status for status in await self._statuses() if status.kind == "reaction")

    async def parked(self, consumer: AnyConsumer, /) -> tuple[ParkedEvent, ...]:
        """The events that a projection or reaction could not handle and has left aside, in order. Does I/O."""
        return await self._follow(parked_by(consumer))

    async def replay(self, consumer: AnyConsumer, position: int, /) -> bool:
        """Has a parked event handled now, exactly once as all others. False: it is not parked (any more). Does I/O.

        Raises what the handler raises, and LookupError when it does not handle that event any more; then it stays
        parked.
        """
        check_count("position", position)
        crew = await self._crewed()
        return await self._follow(replay(consumer, position, crew.decode, crew.transactions, crew.place(self)))

    async def discard(self, consumer: AnyConsumer, position: int, /) -> bool:
        """Forgets a parked event without having it handled. False: it is not parked (any more). Does I/O."""
        check_count("position", position)
        return await self._follow(discard(consumer, position))

    async def withdraw(self, projection: Projection | str, /) -> None:
        """Has a projection not run inline any more, in no writer. It may be run like others from then on. Does I/O.

        Other stores that run it inline cannot append any more: open them anew without it. Raises LookupError when it
        does not run inline.
        """
        crew = await self._crewed()
        name = projection if isinstance(projection, str) else projection.name
        await self._follow(withdrawing(name, crew.log.name, crew.inside))
        if crew.inline is not None:
            await crew.accompany(crew.inline.without(name))

    async def health(self) -> Health:
        """Whether the storage answers, and how the consumers are. Does I/O; raises nothing but StoreClosedError."""
        try:
            crew = await self._crewed()
        except (NestedExecutionError, StoreClosedError):
            raise
        except FactfoldError as failed:
            return Health(False, self._where, None, str(failed), self.durability, ())
        try:
            head, consumers, error = (await crew.log.head()).position, await self._statuses(), ""
        except FactfoldError as failed:
            head, consumers, error = None, (), str(failed)
        sound = all(one.error is None and not one.is_stalled for one in crew.consumptions())
        return Health(head is not None and sound, crew.log.name, head, error, self.durability, consumers)

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _begin_inline(self, crew: AsyncCrew, projections: Sequence[Projection]) -> None:
        """Sees to it that every append of this store, and of all others, is accompanied by these."""
        check_inline(projections, crew.log.name, transactions=crew.transactions, asynchronous=True)
        place = crew.place(self)
        inline = InlineProjections(projections, crew.decode, place, crew.log.name)
        for projection in await crew.follow(inline.missing()):
            head = (await crew.log.head()).position
            workers = await crew.start([await crew.consumption(projection, place, head)])
            await asyncio.wait([worker.task for worker in workers])
            if projection in await crew.follow(inline.missing()):  # nobody else was faster
                raise_failed([worker.consumption for worker in workers])
                await crew.follow(inline.activate(projection, crew.inside))
        await crew.accompany(inline)

    async def _run_to_the_end(self, consumers: Sequence[AnyConsumer], until: int | None) -> None:
        crew = await self._crewed()
        workers = await self._run_all(consumers, until)
        try:
            await asyncio.wait([worker.task for worker in workers])
        finally:
            await crew.leave(workers)
        raise_failed([worker.consumption for worker in workers])

    async def _run_all(self, consumers: Sequence[AnyConsumer], until: int | None = None) -> list[AsyncWorker]:
        check_consumers(consumers, asynchronous=True)
        crew = await self._crewed()
        place = crew.place(self)
        return await crew.start([await crew.consumption(consumer, place, until) for consumer in consumers])

    async def _statuses(self) -> tuple[ConsumerStatus, ...]:
        return await self._follow(statuses((await self._crewed()).consumptions()))

    async def _follow(self, errands: Errands[R]) -> R:
        return await (await self._crewed()).follow(errands)
