"""Tasks that run the consumers of an `AsyncStore`, and the one that keeps their leases alive and watches over them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import TypeVar

from factfold.aio_subscriptions import AsyncPump, sleep_until_moved_async
from factfold.consumers import Place
from factfold.consuming import Consumption
from factfold.errands import Errands, Rest, run_async
from factfold.errors import FactfoldError, StoreClosedError
from factfold.handling import ENDS, AnyConsumer
from factfold.inline import InlineProjections
from factfold.notices import warn
from factfold.statuses import age_after
from factfold.storage.base import AsyncLog, AsyncTransactionalLog, Head
from factfold.watchdog import Watchdog
from factfold.watching import Watch
from factfold.workers import LEAVING

R = TypeVar("R")


class AsyncWorker:
    """A consumer in a task of its own."""

    def __init__(self, consumption: Consumption, log: AsyncLog, pump: AsyncPump) -> None:
        self.consumption = consumption
        self._log = log
        self._pump = pump
        pump.listen(consumption)
        self.task = asyncio.get_running_loop().create_task(self._run(), name=f"factfold {consumption.consumer.key}")

    def tell_to_stop(self) -> None:
        """It ends after the handler that is being called."""
        self.consumption.stopping = True
        self._pump.cache.hub.wake()

    async def _run(self) -> None:
        consumption = self.consumption
        try:
            await run_async(consumption.steps(), self._log, self._rest)
        except Exception as error:  # noqa: BLE001 - nobody else would hear of it
            consumption.fail(error)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and self.task.cancelling():
                consumption.state = "stopped"
                raise
            consumption.fail(RuntimeError(f"its handler raised {error!r}"))
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
        finally:
            self._pump.leave(consumption)
            await self._give_back()

    async def _give_back(self) -> None:
        try:
            await run_async(self.consumption.lease.give_back(), self._log, _no_rest)
        except FactfoldError as error:
            warn("%s could not give its lease back, others wait for its end: %s", self.consumption.name, error)

    async def _rest(self, rest: Rest) -> bool:
        hub = self._pump.cache.hub
        loop = asyncio.get_running_loop()
        deadline = loop.time() + rest.seconds
        while not self.consumption.stopping:
            moves = hub.moves if rest.moves is None else rest.moves
            remaining = deadline - loop.time()
            if remaining <= 0:
                self._pump.start()  # somebody may have cancelled it
                return False
            if await sleep_until_moved_async(hub, moves, remaining) and rest.moves is not None:
                await asyncio.sleep(0)  # a crowd of moves must not keep the loop from others
                return True
        return True


async def _no_rest(rest: Rest) -> bool:
    raise AssertionError("nothing here rests")


class AsyncCrew:
    """All consumers that a store runs."""

    def __init__(
        self, log: AsyncLog, pump: AsyncPump, *, namespace: str, transactions: bool, watch: Watch | None
    ) -> None:
        self.log = log
        self.pump = pump
        self.decode = pump.decode
        self.namespace = namespace
        self.transactions = transactions
        self._watch = watch
        self.inline: InlineProjections | None = None
        self._workers: dict[str, AsyncWorker] = {}
        self._closed = False
        self._keeper: asyncio.Task[None] | None = None
        self._watchdog = Watchdog()

    def place(self, store: object) -> Place:
        """Where the events of this store's consumers are handled."""
        return Place(None, store, self.namespace)

    async def consumption(self, consumer: AnyConsumer, place: Place, until: int | None) -> Consumption:
        """A consumer on its way, to be started: if it begins with what comes, with what comes from now on."""
        return Consumption(
            consumer,
            self.pump.cache.hub,
            self.decode,
            log=self.log.name,
            place=place,
            transactions=self.transactions,
            head=await self.log.head() if consumer.start == "head" else None,
            until=until,
            watch=self._watch,
        )

    async def follow(self, errands: Errands[R]) -> R:
        """Runs errands of which none rests."""
        return await run_async(errands, self.log, _no_rest)

    def inside(self, errands: Errands[object]) -> Coroutine[object, object, object]:
        """Runs errands within a transaction."""
        return self.follow(errands)

    async def accompany(self, inline: InlineProjections) -> None:
        """From now on all appends are accompanied by these."""
        self.inline = inline
        if isinstance(self.log, AsyncTransactionalLog):
            await self.log.accompany(inline.accompaniment)

    async def start(self, consumptions: Sequence[Consumption]) -> list[AsyncWorker]:
        """Runs consumers. Raises ValueError when one of them is being run here already."""
        for consumption in consumptions:
            known = self._workers.get(consumption.consumer.key)
            if known is not None and known.consumption.state in ENDS:
                await asyncio.wait([known.task], timeout=LEAVING)  # it gives its lease back
        if self._closed:
            raise StoreClosedError(f"{self.log.name}: the store is closed.")
        keys = [consumption.consumer.key for consumption in consumptions]
        for index, key in enumerate(keys):
            known = self._workers.get(key)
            if key in keys[:index] or (known is not None and not known.task.done()):
                raise ValueError(f"{consumptions[index].name} is being run by this store already.")
        workers = [AsyncWorker(consumption, self.log, self.pump) for consumption in consumptions]
        self._workers.update(zip(keys, workers, strict=True))
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="factfold keeper")
        return workers

    def consumptions(self) -> list[Consumption]:
        """Those that have been run here, the last one of each consumer."""
        return [worker.consumption for worker in self._workers.values()]

    def running(self, consumer: AnyConsumer) -> Consumption | None:
        """This consumer, if it is (or was, at last) run here."""
        worker = self._workers.get(consumer.key)
        return None if worker is None else worker.consumption

    async def stop(self, consumers: Sequence[AnyConsumer] = ()) -> None:
        """Stops these, or all, and waits for their handlers, for a while."""
        chosen = {consumer.key for consumer in consumers} or set(self._workers)
        await self.leave([worker for key, worker in self._workers.items() if key in chosen])

    async def leave(self, workers: Sequence[AsyncWorker]) -> None:
        """Stops these, and waits for their handlers, for a while; then it cancels them."""
        for worker in workers:
            worker.tell_to_stop()
        tasks = [worker.task for worker in workers if worker.task is not asyncio.current_task()]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=LEAVING)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=LEAVING)

    async def close(self) -> None:
        """Stops all, for good."""
        self._closed = True
        await self.stop()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])

    async def _keep(self) -> None:
        """Renews the leases, and looks whether all get on."""
        loop = asyncio.get_running_loop()
        while running := [worker.consumption for worker in self._workers.values() if not worker.task.done()]:
            for consumption in running:
                if self._watchdog.is_due(consumption, loop.time()):
                    await self._renew(consumption)
            head = self.pump.cache.head
            self._watchdog.look(running, 0 if head is None else head.position, loop.time())
            if self._watch is not None and head is not None:
                await self._tell(self._watch, running, head)
            await asyncio.sleep(self._watchdog.interval(running))

    async def _tell(self, watch: Watch, running: Sequence[Consumption], head: Head) -> None:
        """Tells the observer how far behind they are."""
        for consumption in running:
            position = consumption.position
            try:
                age = await self.follow(age_after(position, head.position))
            except FactfoldError:
                return  # it is told the next time
            watch.lag(consumption.consumer.name, max(0, head.position - position), age)

    async def _renew(self, consumption: Consumption) -> None:
        try:
            await self.follow(consumption.lease.renew())
        except FactfoldError:
            return  # it ends, if it cannot be renewed in time
        except Exception as error:  # noqa: BLE001 - the leases of others are to be kept
            warn("The lease of %s could not be renewed: %r", consumption.name, error)
