"""`AsyncStore`: tasks around the heart. One task of the store's own leads while there is work; others load."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Never, ParamSpec, Self, TypeVar, cast

from factfold.aio_connections import AsyncConnections
from factfold.aio_readers import AsyncReader
from factfold.aio_running import AsyncRunner
from factfold.aio_saver import AsyncSaver
from factfold.aio_subscriptions import AsyncDelivery, AsyncPump
from factfold.aio_workers import AsyncCrew
from factfold.batch import Heart
from factfold.codec import Transform
from factfold.deliveries import After
from factfold.errors import FactfoldError, StoreClosedError
from factfold.feed import Filter
from factfold.job import DONE, Job, refuse_inside_command
from factfold.loads import LoadTask
from factfold.observing import Observer
from factfold.once import Once
from factfold.reading import event_decoder
from factfold.receipt import Receipt
from factfold.requests import perform
from factfold.retry import Retry
from factfold.settings import Settings, do_nothing, read_to_save, read_version, stats_of, utc_now
from factfold.snapshots import PLACE, Snapshot, codec_of, last_page
from factfold.stats import Stats
from factfold.storage import _fork
from factfold.storage.base import AsyncLog, Capabilities, Storage
from factfold.streams import Stream
from factfold.transaction import Transaction
from factfold.watching import Watch, loading_async

if TYPE_CHECKING:
    from factfold.projections import Projection

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class AsyncStore(AsyncReader, AsyncRunner):
    """Executes commands against one namespace of a storage, from any number of tasks of one event loop.

    It opens when it is entered, or at its first use, in the loop that runs then. Commands are plain functions: they
    run on the loop, in batches of at most about ten milliseconds, and never wait for anything.

    Args:
        storage: a url (`memory:`, `sqlite:///bank.db`) or a storage object (`Memory()`, `SQLite("bank.db")`).
        namespace: one total order of events, one unit of atomicity; many fit in one database.
        cache_size: of how many streams the folded states are kept in memory, while no command needs them.
        retry: how often a command is decided again when others were faster.
        clock: gives `tx.now`, an aware datetime.
        transform: rewrites the JSON of events before they are stored, and back: for encryption or compression.
        inline: projections that every append writes in its own transaction, in an SQL database.
        observer: is told what the store does, for traces and metrics; it costs nothing while there is none.

    Raises:
        InvalidUrlError, InvalidNamespaceError: the arguments cannot be used.
        MissingDriverError: the storage needs a package that is not installed.
    """

    def __init__(
        self,
        storage: str | Storage,
        *,
        namespace: str = "default",
        cache_size: int = 10_000,
        retry: Retry = Retry(),  # noqa: B008 - it is immutable
        clock: Callable[[], datetime] = utc_now,
        transform: Transform | None = None,
        inline: Sequence[Projection] = (),
        observer: Observer | None = None,
    ) -> None:
        self._settings = Settings.checked(storage, namespace, cache_size, retry, clock, transform, inline, observer)
        self._connections: AsyncConnections[AsyncStore] = AsyncConnections(self._settings.storage)
        self._owner = True
        self._begin()
        self._connections.share(self, namespace)

    def _begin(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heart: Heart | None = None
        self._watch = Watch.of(self._settings)
        self._log: AsyncLog | None = None
        self._saver: AsyncSaver | None = None
        self._pump: AsyncPump | None = None
        self._crew: AsyncCrew | None = None
        self._beginnings: set[asyncio.Task[AsyncDelivery[object]]] = set()
        self._capabilities: Capabilities | None = None
        self._leader: asyncio.Task[None] | None = None
        self._loaders: set[asyncio.Task[None]] = set()
        self._prepares = False
        self._opening = asyncio.Lock()
        self._closed = False
        self._ended = False
        _fork.register(self)

    async def __aenter__(self) -> Self:
        """Opens the store, so that what is wrong with the storage shows now."""
        refuse_inside_command()
        await self._ready()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncStore({self._settings.storage.name!r}, namespace={self._settings.namespace!r})"

    # -- commands --------------------------------------------------------------------------------------------------

    async def execute(
        self, command: Callable[Concatenate[Transaction, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Receipt[R]:
        """Runs a command and writes what it appended, all or nothing. Does I/O.

        The command may run more than once. It starts no thread: one that uses a store would wait for the command, and
        the command for it. When this returns, what was appended is durable. If the caller is cancelled before the
        command was begun, it never runs; after that its outcome is unknown to this caller: `execute_once` finds it out.

        Raises:
            Exception: what the command raised, unchanged; then nothing was written.
            InvalidCommandError, ImpureCommandError, EncodingError: the command does what a command must not.
            ConflictError: other writers were faster too often.
            OutcomeUnknownError: the connection broke and could not be restored.
            StoreUnavailableError, AppendRefusedError, LogDivergedError: the storage cannot; nothing was written.
            NestedExecutionError: called inside a command.
        """
        job = self._settings.job(command, args, kwargs)
        if self._watch is not None:
            return await self._watched(self._watch, job)
        heart = self._heart  # most of the time it is there, and `_ready` need not be awaited
        if heart is None or self._closed or asyncio.get_running_loop() is not self._loop:
            heart = (await self._ready())[0]
        return await self._serve(heart, job)

    async def execute_once(
        self, key: str, command: Callable[Concatenate[Transaction, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Receipt[R]:
        """Runs a command once per key, for ever and in any process; a repetition gives the first run's receipt.

        A command that raises leaves the key free. The result is stored as JSON: annotate what the command returns.
        Commands are told apart by their names, not by their arguments, nor by what a function encloses.

        Raises:
            KeyReusedError: the key was used with another command.
            InvalidStreamIdError: the key is empty, too long, or holds control characters.
            InvalidCommandError: it is a lambda, which has no name, or no command.
            EncodingError: the result cannot be stored, or would come back as something else.
            Exception: as `execute`.
        """
        once = Once(key, command, args, kwargs)
        receipt = once.receipt(await self.execute(once))
        if not isinstance(receipt, Receipt):
            log = (await self._ready())[1]
            (stored,) = await log.read_stream(once.last_page())
            events = await log.read(once.events_page(stored, receipt)) if receipt.events else ()
            receipt = once.repeated(receipt, events, self._settings.transform)
        return cast("Receipt[R]", receipt)  # once keeps the result of the command

    # -- reading ---------------------------------------------------------------------------------------------------

    async def state(self, stream: Stream[S, Never], /, *, max_age: float | None = None) -> S:
        """The folded state, not older than any commit acknowledged before the call. Does I/O.

        With `max_age` it may be as old as so many seconds, and comes from the cache while that is known to have been
        current since; calls that have to load it share one load.
        """
        job = self._settings.reading(stream, max_age)
        if self._watch is not None:
            receipt: Receipt[S] = await self._watched(self._watch, job)
        else:
            receipt = await self._serve((await self._ready())[0], job)
        return receipt.result

    async def version(self, stream: Stream[object, Never], /) -> int:
        """The version of the stream's last event that its fold looks at, 0 if there is none. Does I/O."""
        return (await self.execute(read_version, stream)).result

    async def snapshot(self, stream: Stream[object, Never], /) -> int:
        """Saves the state of a stream, fresh, as a snapshot; gives its version. Does I/O.

        Raises:
            DefinitionError: the stream type has no `snapshot_every`, so that nobody would look for it.
            EncodingError: the state does not come back from JSON as what it was.
        """
        refuse_inside_command()
        codec_of(stream)
        state, version = (await self.execute(read_to_save, stream)).result
        log, saver = (await self._ready())[1], self._saver
        assert saver is not None
        stored = await log.read_stream(last_page(stream, version)) if version else ()
        await saver.save(Snapshot.of(stream, state, version, stored))
        return version

    @property
    def _where(self) -> str:
        return self._settings.storage.name

    @property
    def durability(self) -> str:
        """What the storage promises to those whose commands were acknowledged, in words; empty before it is opened."""
        return "" if self._capabilities is None else self._capabilities.durability_in_words

    def stats(self) -> Stats:
        """What this store has done so far; also when it is closed. No I/O."""
        refuse_inside_command()
        return stats_of(self._heart)

    # -- life ------------------------------------------------------------------------------------------------------

    def namespace(self, name: str) -> AsyncStore:
        """A store for another namespace of the same storage, which shares the connections and threads.

        While somebody has it and it is open, the same name gives the same store, and the first store's own name gives
        that one: two would be rivals. It is closed with the first store, which has the connections, or on its own.

        Raises:
            InvalidNamespaceError: the name cannot be used.
            StoreClosedError: this store is closed.
        """
        refuse_inside_command()
        self._check_open()
        settings = self._settings.sibling(name)
        if (found := self._connections.by_namespace.get(name)) is not None:
            return found
        sibling = AsyncStore.__new__(AsyncStore)
        sibling._settings = settings
        sibling._connections = self._connections
        sibling._owner = False
        sibling._begin()
        self._connections.share(sibling, name)
        return sibling

    async def close(self) -> None:
        """Finishes the commands that were begun, then closes the connections. Closing twice is allowed."""
        refuse_inside_command()
        for sibling in list(self._connections.sharing) if self._owner else ():
            if sibling is not self:
                await sibling.close()
        self._connections.leave(self, self._settings.namespace)
        if self._crew is not None:
            await self._crew.close()  # handlers that are being called may still execute commands
        self._closed = True
        heart = self._heart
        if heart is not None and self._pump is not None:
            heart.cache.hub.end(f"{self!r} was closed, and its subscriptions with it: open another one")
            await self._pump.stop()
        if heart is not None and not self._ended:
            with contextlib.suppress(FactfoldError):
                await self._look(heart)
            heart.close(StoreClosedError(f"{self!r} was closed while the command waited; it was not begun"))
            if self._leader is not None:
                await asyncio.wait([self._leader])
            for loader in self._loaders:
                loader.cancel()
        if self._saver is not None:
            await self._saver.close()
        if self._owner:
            await self._connections.close()
        if self._watch is not None:
            self._watch.closed()
        self._ended = True

    def before_fork(self) -> None:
        """Nothing to do: the child begins anew."""

    def after_fork_in_parent(self) -> None:
        """Nothing to do."""

    def after_fork_in_child(self) -> None:
        """Takes nothing over from the parent: its loop, its tasks and its callers do not exist here."""
        if self._heart is not None:
            self._heart.cache.hub.end(
                "It was subscribed in the process that this one was forked from. Subscribe again."
            )
        closed = self._closed
        self._begin()
        self._closed = closed

    # -- inside: opening -------------------------------------------------------------------------------------------

    async def _ready(self) -> tuple[Heart, AsyncLog]:
        """The heart and the log, opened at the first use."""
        self._check_open()
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise StoreClosedError(
                    f"{self!r} belongs to the event loop in which it was opened, and was used in another one. "
                    "Open one store in each loop; close it before its loop ends."
                )
            self._loop = loop
        if self._heart is None or self._log is None:
            async with self._opening:
                if self._heart is None or self._log is None:  # somebody else may have been faster
                    return await self._open()
        return self._heart, self._log

    async def _open(self) -> tuple[Heart, AsyncLog]:
        engine = await self._connections.engine()
        log = self._log = await engine.log(self._settings.namespace)
        capabilities = self._capabilities = engine.capabilities
        heart = self._settings.heart(
            capabilities,
            contextlib.nullcontext(),
            notify=_notify,
            interrupts=_interrupts,
            overlaps=_overlaps(capabilities),
        )
        self._saver = AsyncSaver(heart.snapshots, log)
        decode = event_decoder(self._settings.transform)
        pump = self._pump = AsyncPump(heart.cache, log, decode, partial(self._look, heart))
        crew = self._crew = AsyncCrew(
            log, pump, namespace=self._settings.namespace, transactions=capabilities.transactions, watch=self._watch
        )
        if self._settings.inline:
            try:
                await self._begin_inline(crew, self._settings.inline)
            except BaseException:
                await crew.close()
                await pump.stop()
                raise
        self._heart = heart
        if self._watch is not None:
            self._watch.opened(heart)
        return heart, log

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError(f"{self!r} is closed: open another one")

    async def _crewed(self) -> AsyncCrew:
        refuse_inside_command()
        await self._ready()
        assert self._crew is not None
        return self._crew

    def _beginning(self, filter: Filter, after: After) -> asyncio.Task[AsyncDelivery[object]]:
        async def begin() -> AsyncDelivery[object]:
            await self._ready()
            assert self._pump is not None
            return await self._pump.subscribe(filter, after)

        beginning = asyncio.get_running_loop().create_task(begin())
        self._beginnings.add(beginning)
        beginning.add_done_callback(self._has_begun)
        return beginning

    def _has_begun(self, beginning: asyncio.Task[AsyncDelivery[object]]) -> None:
        """A subscription knows where it begins, or cannot begin; nobody may be there any more to hear why."""
        self._beginnings.discard(beginning)
        if not beginning.cancelled():
            beginning.exception()

    # -- inside: the tasks around the heart ------------------------------------------------------------------------

    async def _watched(self, watch: Watch, job: Job) -> Receipt[Any]:
        """Queues a job and waits for its end, and tells the observer about it."""
        with watch.execution(job):
            return await self._serve((await self._ready())[0], job)

    async def _serve(self, heart: Heart, job: Job) -> Receipt[Any]:
        """Queues a job and waits for its end."""
        job.waiter = answered = asyncio.get_running_loop().create_future()
        heart.submit(job)
        self._appoint_leader(heart)
        try:
            await answered
        except BaseException:
            heart.leave(job)
            raise
        return job.receipt()

    async def _look(self, heart: Heart) -> None:
        """Hears what others have committed."""
        await self._serve(heart, Job.of(do_nothing, (), {}, self._settings.clock))

    def _appoint(self, heart: Heart) -> None:
        """Sees to it that somebody leads, prepares and loads, when there is need."""
        self._appoint_leader(heart)
        while heart.missing.loadings and (task := heart.next_load()) is not None:
            loader = self._start(self._load(heart, task))
            self._loaders.add(loader)
            loader.add_done_callback(partial(self._loaded, heart, task))

    def _appoint_leader(self, heart: Heart) -> None:
        """Sees to it that somebody leads and prepares: all that has to be done when a command is queued."""
        if self._leader is None and heart.has_work:
            self._leader = self._start(self._lead(heart))
            self._leader.add_done_callback(partial(self._led, heart))
        if not self._prepares and heart.can_prepare:
            self._prepare_soon(heart)

    async def _lead(self, heart: Heart) -> None:
        """Serves one batch after the other, as long as there is work."""
        while heart.has_work:
            if self._beginnings:
                await asyncio.wait(list(self._beginnings))  # what was called later comes later
            await self._batch(heart)
            self._appoint(heart)
            if not heart.hurries:
                await asyncio.sleep(0)  # whoever was just answered may have more to do: let it be in the next batch

    def _prepare_soon(self, heart: Heart) -> None:
        """Has the next batch decided, as far as it can be, when those who are about to call have called."""
        self._prepares = True
        asyncio.get_running_loop().call_soon(self._prepare, heart)

    def _prepare(self, heart: Heart) -> None:
        there_is_more = False
        try:
            there_is_more = heart.prepare()
            self._appoint(heart)  # what these commands miss is loaded meanwhile
        finally:
            self._prepares = False
        if there_is_more:
            self._prepare_soon(heart)  # in between the loop looks whether the leader has got its answer

    def _led(self, heart: Heart, leader: asyncio.Task[None]) -> None:
        """The leading task has ended; there is work left if somebody cancelled it, perhaps before it began."""
        self._leader = None
        self._appoint(heart)

    async def _batch(self, heart: Heart) -> None:
        log = self._log
        assert log is not None
        steps = heart.lead()
        ask = perform if self._watch is None else self._watch.performing_async(heart)
        try:
            request = next(steps)
            while True:
                self._appoint(heart)  # what the commands of this batch miss is loaded meanwhile
                try:
                    answer = await ask(request, log, asyncio.sleep)
                except Exception as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(answer)
        except StopIteration:
            pass
        except Exception as error:
            await log.unlock()
            heart.crash(error)
        except BaseException:
            heart.abandon()
            await log.unlock()
            raise

    async def _load(self, heart: Heart, task: LoadTask) -> None:
        log = self._log
        assert log is not None
        try:
            with loading_async(self._watch, task):
                if task.asked:
                    task.resume(await log.get(PLACE, task.asked), heart.snapshots)
                task.fold(await log.load(task.load), heart.decode)
        except Exception as error:
            heart.load_failed(task, error)
        else:
            heart.loaded(task)
            if heart.snapshots.waiting and self._saver is not None:
                self._saver.wake()

    def _loaded(self, heart: Heart, task: LoadTask, loader: asyncio.Task[None]) -> None:
        """A loading task has ended; it has not loaded if somebody cancelled it, perhaps before it began."""
        self._loaders.discard(loader)
        heart.load_abandoned(task)
        if not self._closed:
            self._appoint(heart)

    @staticmethod
    def _start(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)


def _notify(job: Job) -> None:
    """Wakes a job's caller when it is answered: loading and leading are not its business."""
    waiter = job.waiter
    if waiter is not None and job.turn is DONE and not waiter.done():
        waiter.set_result(None)


def _overlaps(capabilities: Capabilities) -> bool:
    """Whether the next batch is decided while an append is on its way. In one process the two would only take turns."""
    return capabilities.elsewhere


def _interrupts(job: Job) -> bool:
    """Commands run on the loop, where asyncio turns Ctrl-C into a cancellation."""
    return False
