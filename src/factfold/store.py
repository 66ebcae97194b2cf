"""`Store`: threads around the heart. The calling threads do the work: one of them leads, in order of their arrival."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Never, ParamSpec, Self, TypeVar, cast

from factfold.batch import Heart
from factfold.codec import Transform
from factfold.connections import Connections
from factfold.errors import FactfoldError, StoreClosedError
from factfold.job import DONE, LEADING, LOADING, WAITING, Job, refuse_inside_command
from factfold.observing import Observer
from factfold.once import Once
from factfold.readers import Reader
from factfold.reading import event_decoder
from factfold.receipt import Receipt
from factfold.requests import perform
from factfold.retry import Retry
from factfold.running import Runner
from factfold.saver import Saver
from factfold.settings import Settings, do_nothing, read_to_save, read_version, stats_of, utc_now
from factfold.snapshots import PLACE, Snapshot, codec_of, last_page
from factfold.stats import Stats
from factfold.storage import _fork
from factfold.storage.base import Capabilities, Log, Storage
from factfold.streams import Stream
from factfold.subscriptions import Pump
from factfold.transaction import Transaction
from factfold.watching import Watch, loading
from factfold.workers import Crew

if TYPE_CHECKING:
    from factfold.projections import Projection

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

JOIN = 5.0
"""Seconds that closing waits for the thread that waits for others' commits."""


LONGEST_SLEEP = 1.0
"""Seconds that a thread sleeps without looking up."""


class Store(Reader, Runner):
    """Executes commands against one namespace of a storage, from any number of threads.

    It opens when it is entered, or at its first use, and lives as long as its process.

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
        self._connections: Connections[Store] = Connections(self._settings.storage)
        self._owner = True
        self._begin()
        _fork.register(self)
        self._connections.share(self, namespace)

    def _begin(self) -> None:
        self._guard = threading.Lock()
        self._opening = threading.Lock()
        self._leader: Job | None = None
        self._heart: Heart | None = None
        self._watch = Watch.of(self._settings)
        self._log: Log | None = None
        self._saver: Saver | None = None
        self._pump: Pump | None = None
        self._crew: Crew | None = None
        self._capabilities: Capabilities | None = None
        self._closed = False
        self._ended = False

    def __enter__(self) -> Self:
        """Opens the store, so that what is wrong with the storage shows now."""
        refuse_inside_command()
        self._ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self._settings.storage.name!r}, namespace={self._settings.namespace!r})"

    # -- commands --------------------------------------------------------------------------------------------------

    def execute(
        self, command: Callable[Concatenate[Transaction, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Receipt[R]:
        """Runs a command and writes what it appended, all or nothing. Does I/O.

        The command may run more than once, and it may run on another thread. It starts none: one that uses the store
        would wait for the command, and the command for it. When this returns, what was appended is durable.

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
            return self._watched(self._watch, job)
        heart = self._heart  # most of the time it is there
        if heart is None or self._closed:
            heart = self._ready()[0]
        return self._serve(heart, job)

    def execute_once(
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
        receipt = once.receipt(self.execute(once))
        if not isinstance(receipt, Receipt):
            log = self._ready()[1]
            (stored,) = log.read_stream(once.last_page())
            events = log.read(once.events_page(stored, receipt)) if receipt.events else ()
            receipt = once.repeated(receipt, events, self._settings.transform)
        return cast("Receipt[R]", receipt)  # once keeps the result of the command

    # -- reading ---------------------------------------------------------------------------------------------------

    def state(self, stream: Stream[S, Never], /, *, max_age: float | None = None) -> S:
        """The folded state, not older than any commit acknowledged before the call. Does I/O.

        With `max_age` it may be as old as so many seconds, and comes from the cache while that is known to have been
        current since; calls that have to load it share one load.
        """
        job = self._settings.reading(stream, max_age)
        if self._watch is not None:
            receipt: Receipt[S] = self._watched(self._watch, job)
        else:
            receipt = self._serve(self._ready()[0], job)
        return receipt.result

    def version(self, stream: Stream[object, Never], /) -> int:
        """The version of the stream's last event that its fold looks at, 0 if there is none. Does I/O."""
        return self.execute(read_version, stream).result

    def snapshot(self, stream: Stream[object, Never], /) -> int:
        """Saves the state of a stream, fresh, as a snapshot; gives its version. Does I/O.

        Raises:
            DefinitionError: the stream type has no `snapshot_every`, so that nobody would look for it.
            EncodingError: the state does not come back from JSON as what it was.
        """
        refuse_inside_command()
        codec_of(stream)
        state, version = (self.execute(read_to_save, stream)).result
        log, saver = self._ready()[1], self._saver
        assert saver is not None
        saver.save(Snapshot.of(stream, state, version, log.read_stream(last_page(stream, version)) if version else ()))
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

    def namespace(self, name: str) -> Store:
        """A store for another namespace of the same storage, which shares the connections.

        While somebody has it and it is open, the same name gives the same store, and the first store's own name gives
        that one: two would be rivals. It is closed with the first store, which has the connections, or on its own.

        Raises:
            InvalidNamespaceError: the name cannot be used.
            StoreClosedError: this store is closed.
        """
        refuse_inside_command()
        self._check_open()
        settings = self._settings.sibling(name)
        if (found := self._connections.of(name)) is not None:
            return found
        sibling = Store.__new__(Store)
        sibling._settings = settings
        sibling._connections = self._connections
        sibling._owner = False
        sibling._begin()
        _fork.register(sibling)
        return self._connections.share(sibling, name)

    def close(self) -> None:
        """Finishes the commands that were begun, then closes the connections. Closing twice is allowed."""
        refuse_inside_command()
        siblings = [each for each in self._connections.sharing() if each is not self] if self._owner else []
        for sibling in siblings:
            sibling.close()
        self._connections.leave(self, self._settings.namespace)
        if self._crew is not None:
            self._crew.close()  # handlers that are being called may still execute commands
        with self._guard:
            self._closed = True
            heart, pump = self._heart, self._pump
        if heart is not None and pump is not None:
            heart.cache.hub.end(f"{self!r} was closed, and its subscriptions with it: open another one")
            pump.stop()
        if heart is not None and not self._ended:
            with contextlib.suppress(FactfoldError):
                self._look(heart)
            with self._guard:
                heart.close(StoreClosedError(f"{self!r} was closed while the command waited; it was not begun"))
        if self._saver is not None:
            self._saver.close()
        if self._owner:
            self._connections.close()  # which wakes those that wait for news
            for each in (self, *siblings):
                if each._pump is not None:
                    each._pump.join(JOIN)
        if self._watch is not None:
            self._watch.closed()
        self._ended = True

    def before_fork(self) -> None:
        """Nothing to do: the child begins anew."""

    def after_fork_in_parent(self) -> None:
        """Nothing to do."""

    def after_fork_in_child(self) -> None:
        """Takes nothing over from the parent: its callers, and its leader, do not exist here."""
        if self._heart is not None:
            self._heart.cache.hub.end(
                "It was subscribed in the process that this one was forked from. Subscribe again."
            )
        closed = self._closed
        self._begin()
        self._closed = closed

    # -- inside: opening -------------------------------------------------------------------------------------------

    def _ready(self) -> tuple[Heart, Log]:
        """The heart and the log, opened at the first use."""
        self._check_open()
        if self._heart is not None and self._log is not None:
            return self._heart, self._log
        with self._opening:
            if self._heart is None or self._log is None:
                engine = self._connections.engine()
                self._log = engine.log(self._settings.namespace)
                self._capabilities = engine.capabilities
                heart = self._settings.heart(
                    self._capabilities, self._guard, notify=_notify, interrupts=self._interrupts, overlaps=False
                )
                self._saver = Saver(heart.snapshots, self._log, self._guard)
                decode = event_decoder(self._settings.transform)
                self._pump = Pump(heart.cache, self._log, decode, partial(self._look, heart))
                self._crew = Crew(
                    self._log,
                    self._pump,
                    namespace=self._settings.namespace,
                    transactions=self._capabilities.transactions,
                    watch=self._watch,
                )
                self._accompany(self._pump, self._crew)
                self._heart = heart
                if self._watch is not None:
                    self._watch.opened(heart)
            return self._heart, self._log

    def _accompany(self, pump: Pump, crew: Crew) -> None:
        """Begins with the inline projections, before anything is executed."""
        if self._settings.inline:
            try:
                self._begin_inline(crew, self._settings.inline)
            except BaseException:
                crew.close()
                pump.stop()
                pump.join(JOIN)
                raise

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError(f"{self!r} is closed: open another one")

    def _crewed(self) -> Crew:
        refuse_inside_command()
        self._ready()
        assert self._crew is not None
        return self._crew

    def _pumped(self) -> Pump:
        self._ready()
        assert self._pump is not None
        return self._pump

    # -- inside: the threads around the heart ----------------------------------------------------------------------

    def _watched(self, watch: Watch, job: Job) -> Receipt[Any]:
        """Brings a job to its end, and tells the observer about it."""
        with watch.execution(job):
            return self._serve(self._ready()[0], job)

    def _serve(self, heart: Heart, job: Job) -> Receipt[Any]:
        """Brings a job to its end: leads, loads or sleeps, as its turn says."""
        log = self._log
        assert log is not None
        try:
            with self._guard:
                heart.submit(job)
                if self._leader is None:
                    self._leader = job
                    job.turn = LEADING
            while job.turn is not DONE:
                if job.turn is LEADING:
                    self._lead(heart, log, job)
                elif job.turn is LOADING:
                    self._load(heart, log, job)
                else:
                    self._sleep(heart, job)
        except BaseException:
            with self._guard:
                heart.leave(job)
                if self._leader is job:
                    self._leader = None
                self._appoint(heart)
            raise
        return job.receipt()

    def _look(self, heart: Heart) -> None:
        """Hears what others have committed."""
        self._serve(heart, Job.of(do_nothing, (), {}, self._settings.clock))

    def _lead(self, heart: Heart, log: Log, job: Job) -> None:
        """Serves one batch, and hands the lead on to who has waited longest."""
        steps = heart.lead()
        ask = perform if self._watch is None else self._watch.performing(heart)
        try:
            request = next(steps)
            while True:
                try:
                    answer = ask(request, log, time.sleep)
                except Exception as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(answer)
        except StopIteration:
            pass
        except Exception as error:
            log.unlock()
            heart.crash(error)
        except BaseException:
            heart.abandon()
            log.unlock()
            raise
        finally:
            with self._guard:
                self._leader = None
                if job.turn is LEADING:
                    job.turn = WAITING
                self._appoint(heart)

    def _load(self, heart: Heart, log: Log, job: Job) -> None:
        """Loads what the job misses and nobody else loads yet; sleeps while others do."""
        with self._guard:
            task = heart.next_load(job)
        if task is None:
            self._sleep(heart, job)
            return
        try:
            with loading(self._watch, task) as run:
                if task.asked:
                    task.resume(run(log.get, PLACE, task.asked), heart.snapshots)
                task.fold(run(log.load, task.load), heart.decode)
        except Exception as error:
            with self._guard:
                heart.load_failed(task, error)
        else:
            with self._guard:
                heart.loaded(task)
                if heart.snapshots.waiting and self._saver is not None:
                    self._saver.wake()
        finally:
            with self._guard:
                self._appoint(heart)

    def _sleep(self, heart: Heart, job: Job) -> None:
        """Sleeps until it is the job's turn."""
        bed = threading.Lock()
        bed.acquire()
        with self._guard:
            if job.turn in (LEADING, DONE) or (job.turn is LOADING and heart.missing.can_load(job)):
                return
            job.wake = bed.release
        while not bed.acquire(timeout=LONGEST_SLEEP):
            pass  # a signal that came just before it fell asleep is heard now

    def _appoint(self, heart: Heart) -> None:
        """Wakes whoever has to lead, and whoever has to load, when nobody does. The guard is held."""
        if heart.has_work and self._leader is None and (leader := heart.next_leader()) is not None:
            self._leader = leader
            leader.turn = LEADING
        if self._leader is not None:
            _notify(self._leader)
        if heart.missing.loadings and (loader := heart.missing.next_loader()) is not None:
            _notify(loader)

    def _interrupts(self, job: Job) -> bool:
        """Ctrl-C while the main thread runs the command of another thread is meant for the main thread."""
        return job is not self._leader and threading.current_thread() is threading.main_thread()


def _notify(job: Job) -> None:
    """Wakes a job's caller, unless it would only go to sleep again. The guard is held."""
    if job.turn is not WAITING and job.wake is not None:
        wake, job.wake = job.wake, None
        wake()
