"""Threads that run the consumers of a `Store`, and the one that keeps their leases alive and watches over them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TypeVar

from factfold.consumers import Place
from factfold.consuming import Consumption
from factfold.errands import Errands, Rest, run
from factfold.errors import FactfoldError, StoreClosedError
from factfold.handling import ENDS, AnyConsumer
from factfold.hub import POLL
from factfold.inline import InlineProjections
from factfold.notices import warn
from factfold.statuses import age_after
from factfold.storage.base import Head, Log, TransactionalLog
from factfold.subscriptions import Pump, sleep_until_moved
from factfold.watchdog import Watchdog
from factfold.watching import Watch

R = TypeVar("R")

LEAVING = 10.0
"""Seconds that stopping waits for a handler that is being called."""


class Worker:
    """A consumer in a thread of its own; `ended` is set at its end.

    The thread itself is not joined: where Ctrl-C interrupts that, Python 3.11 and 3.12 take it for dead.
    """

    def __init__(self, consumption: Consumption, log: Log, pump: Pump) -> None:
        self.consumption = consumption
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"factfold {consumption.consumer.key}", daemon=True)
        self._log = log
        self._pump = pump

    def start(self) -> None:
        self._pump.listen(self.consumption)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether its thread was started, and has not ended."""
        return self._thread.ident is not None and not self.ended.is_set()

    @property
    def is_me(self) -> bool:
        """Whether this is called from its thread: by a handler."""
        return self._thread is threading.current_thread()

    def tell_to_stop(self) -> None:
        """It ends after the handler that is being called."""
        self.consumption.stopping = True
        self._pump.cache.hub.wake()

    def wait(self) -> None:
        """Waits for its end, in steps: a signal that comes just before a thread falls asleep does not wake it."""
        while not self.ended.wait(POLL):
            pass

    def _run(self) -> None:
        consumption = self.consumption
        try:
            run(consumption.steps(), self._log, self._rest)
        except BaseException as error:  # noqa: BLE001 - nobody else would hear of it
            consumption.fail(error if isinstance(error, Exception) else RuntimeError(f"its handler raised {error!r}"))
        finally:
            self._pump.leave(consumption)
            try:
                self._give_back()
            finally:
                self.ended.set()

    def _give_back(self) -> None:
        try:
            run(self.consumption.lease.give_back(), self._log, _no_rest)
        except FactfoldError as error:
            warn("%s could not give its lease back, others wait for its end: %s", self.consumption.name, error)

    def _rest(self, rest: Rest) -> bool:
        hub = self._pump.cache.hub
        deadline = time.monotonic() + rest.seconds
        while not self.consumption.stopping:
            moves = hub.moves if rest.moves is None else rest.moves
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            if sleep_until_moved(hub, moves, remaining) and rest.moves is not None:
                return True
        return True


def _no_rest(rest: Rest) -> bool:
    raise AssertionError("nothing here rests")


class Crew:
    """All consumers that a store runs."""

    def __init__(self, log: Log, pump: Pump, *, namespace: str, transactions: bool, watch: Watch | None) -> None:
        self.log = log
        self.pump = pump
        self.decode = pump.decode
        self.namespace = namespace
        self.transactions = transactions
        self._watch = watch
        self.inline: InlineProjections | None = None
        self._lock = threading.Lock()
        self._workers: dict[str, Worker] = {}
        self._closed = False
        self._over = threading.Event()
        self._keeper: threading.Thread | None = None
        self._watchdog = Watchdog()

    def place(self, store: object) -> Place:
        """Where the events of this store's consumers are handled."""
        return Place(None, store, self.namespace)

    def consumption(self, consumer: AnyConsumer, place: Place, until: int | None) -> Consumption:
        """A consumer on its way, to be started: if it begins with what comes, with what comes from now on."""
        return Consumption(
            consumer,
            self.pump.cache.hub,
            self.decode,
            log=self.log.name,
            place=place,
            transactions=self.transactions,
            head=self.log.head() if consumer.start == "head" else None,
            until=until,
            watch=self._watch,
        )

    def follow(self, errands: Errands[R]) -> R:
        """Runs errands of which none rests."""
        return run(errands, self.log, _no_rest)

    def inside(self, errands: Errands[object]) -> object:
        """Runs errands within a transaction."""
        return self.follow(errands)

    def accompany(self, inline: InlineProjections) -> None:
        """From now on all appends are accompanied by these."""
        self.inline = inline
        if isinstance(self.log, TransactionalLog):
            self.log.accompany(inline.accompaniment)

    def start(self, consumptions: Sequence[Consumption]) -> list[Worker]:
        """Runs consumers. Raises ValueError when one of them is being run here already."""
        for consumption in consumptions:
            known = self._workers.get(consumption.consumer.key)
            if known is not None and known.is_running and known.consumption.state in ENDS:
                known.ended.wait(LEAVING)  # it gives its lease back
        with self._lock:
            if self._closed:
                raise StoreClosedError(f"{self.log.name}: the store is closed.")
            workers = [Worker(consumption, self.log, self.pump) for consumption in consumptions]
            keys = [worker.consumption.consumer.key for worker in workers]
            for index, key in enumerate(keys):
                known = self._workers.get(key)
                if key in keys[:index] or (known is not None and known.is_running):
                    raise ValueError(f"{consumptions[index].name} is being run by this store already.")
            self._workers.update(zip(keys, workers, strict=True))
            for worker in workers:
                worker.start()
            if self._keeper is None or not self._keeper.is_alive():
                self._keeper = threading.Thread(target=self._keep, name="factfold keeper", daemon=True)
                self._keeper.start()
        return workers

    def consumptions(self) -> list[Consumption]:
        """Those that have been run here, the last one of each consumer."""
        with self._lock:
            return [worker.consumption for worker in self._workers.values()]

    def running(self, consumer: AnyConsumer) -> Consumption | None:
        """This consumer, if it is (or was, at last) run here."""
        worker = self._workers.get(consumer.key)
        return None if worker is None else worker.consumption

    def stop(self, consumers: Sequence[AnyConsumer] = ()) -> None:
        """Stops these, or all, and waits for their handlers, for a while."""
        with self._lock:
            chosen = {consumer.key for consumer in consumers} or set(self._workers)
            workers = [worker for key, worker in self._workers.items() if key in chosen]
        self.leave(workers)

    def leave(self, workers: Sequence[Worker]) -> None:
        """Stops these, and waits for their handlers, for a while."""
        for worker in workers:
            worker.tell_to_stop()
        deadline = time.monotonic() + LEAVING
        for worker in workers:
            if worker.is_running and not worker.is_me:
                worker.ended.wait(max(0.0, deadline - time.monotonic()))
                if worker.is_running:
                    warn("%s does not end: its handler has not returned.", worker.consumption.name)

    def close(self) -> None:
        """Stops all, for good."""
        with self._lock:
            self._closed = True
        self.stop()
        self._over.set()  # until now the leases of those that were ending had to be kept
        keeper = self._keeper
        if keeper is not None and keeper is not threading.current_thread():
            keeper.join(LEAVING)

    def _keep(self) -> None:
        """Renews the leases, and looks whether all get on."""
        while not self._over.is_set():
            with self._lock:
                running = [worker.consumption for worker in self._workers.values() if worker.is_running]
                if not running:
                    self._keeper = None  # the next one that is started brings another
                    return
            for consumption in running:
                if self._watchdog.is_due(consumption, time.monotonic()):
                    self._renew(consumption)
            head = self.pump.cache.head
            try:
                self._watchdog.look(running, 0 if head is None else head.position, time.monotonic())
            except SystemExit:  # an on_trouble that would end the process: here it would end the leases, and no more
                warn("on_trouble called sys.exit, which ends no process from a thread. Send it a signal: os.kill.")
            if self._watch is not None and head is not None:
                self._tell(self._watch, running, head)
            self._over.wait(self._watchdog.interval(running))

    def _tell(self, watch: Watch, running: Sequence[Consumption], head: Head) -> None:
        """Tells the observer how far behind they are."""
        for consumption in running:
            position = consumption.position
            try:
                age = self.follow(age_after(position, head.position))
            except FactfoldError:
                return  # it is told the next time
            watch.lag(consumption.consumer.name, max(0, head.position - position), age)

    def _renew(self, consumption: Consumption) -> None:
        try:
            self.follow(consumption.lease.renew())
        except FactfoldError:
            return  # it ends, if it cannot be renewed in time
        except Exception as error:  # noqa: BLE001 - the leases of others are to be kept
            warn("The lease of %s could not be renewed: %r", consumption.name, error)
