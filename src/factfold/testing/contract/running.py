"""Opens logs, and runs work beside the test: in threads, in processes, and in an event loop."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import threading
import traceback
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Generic, Protocol, TypeVar
from uuid import uuid4

import pytest

from factfold.errors import FactfoldError
from factfold.storage.base import AsyncLog, Capabilities, Log, Storage

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds after which a test stops waiting: something hangs."""

SPAWN = multiprocessing.get_context("spawn")


class Barrier(Protocol):
    """What barriers of threads and of processes have in common."""

    def wait(self, timeout: float | None = None) -> int: ...
    def abort(self) -> None: ...


def fresh_namespace() -> str:
    """A namespace that nobody has used, so that a storage may be kept from test to test."""
    return f"contract-{uuid4().hex}"


@contextmanager
def logs(storage: Storage, engines: int, namespace: str | None = None) -> Generator[tuple[Log, ...]]:
    """One namespace, seen through so many engines of their own."""
    namespace = namespace or fresh_namespace()
    with ExitStack() as stack:
        opened: list[Log] = []
        for _ in range(engines):
            engine = storage.open()
            stack.callback(engine.close)
            opened.append(engine.log(namespace))
        yield tuple(opened)


@contextmanager
def one_log(storage: Storage, namespace: str | None = None) -> Generator[Log]:
    """One namespace, seen through one engine."""
    with logs(storage, 1, namespace) as (log,):
        yield log


@asynccontextmanager
async def async_logs(
    storage: Storage, engines: int, namespace: str | None = None
) -> AsyncGenerator[tuple[AsyncLog, ...]]:
    """One namespace, seen through so many engines of the running event loop."""
    namespace = namespace or fresh_namespace()
    async with AsyncExitStack() as stack:
        opened: list[AsyncLog] = []
        for _ in range(engines):
            engine = await storage.open_async()
            stack.push_async_callback(engine.close)
            opened.append(await engine.log(namespace))
        yield tuple(opened)


def run(work: Coroutine[object, object, T]) -> T:
    """Runs a coroutine in an event loop of its own, and not for ever."""

    async def bounded() -> T:
        async with asyncio.timeout(PATIENCE):
            return await work

    return asyncio.run(bounded())


def capabilities(storage: Storage) -> Capabilities:
    """What the storage's engines promise."""
    engine = storage.open()
    try:
        return engine.capabilities
    finally:
        engine.close()


def skip_without_locks(storage: Storage) -> None:
    if not capabilities(storage).locks:
        pytest.skip(f"{storage.name} does not hold its lock across calls (capabilities.locks is False)")


def skip_without_transactions(storage: Storage) -> None:
    if not capabilities(storage).transactions:
        pytest.skip(f"{storage.name} has no transactions for read models (capabilities.transactions is False)")


def skip_unless_shared(storage: Storage) -> None:
    """Skips the test for a storage of one process. One that is shared must also reach the other processes."""
    if not capabilities(storage).shared:
        pytest.skip(f"{storage.name} is for one process (capabilities.shared is False)")
    assert is_picklable(storage), f"{storage.name} is shared by processes, so that it must be picklable"


def is_picklable(storage: Storage) -> bool:
    """Whether the storage reaches a process that is started by the "spawn" method."""
    try:
        pickle.dumps(storage)
    except Exception:  # noqa: BLE001 (pickle passes on whatever the object raises)
        return False
    return True


class Background(Generic[T]):
    """Work that runs in a thread of its own from now on."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._results: list[T] = []
        self._error: BaseException | None = None
        # A daemon: what hangs must not keep the whole test run from ending.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def ends_within(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self, timeout: float = PATIENCE) -> T:
        """What the work returned; its exception, if it raised one."""
        assert self.ends_within(timeout), f"a thread was still at work after {timeout} seconds"
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:  # noqa: BLE001 (raised again where the result is asked for)
            self._error = error


def together(work: Sequence[Callable[[], T]]) -> list[T]:
    """Runs each in a thread, all at once; what each returned. When all have ended, raises the error of one that failed.

    Who was left waiting at a barrier by another's failure tells nothing, so that its error comes last.
    """
    running = [Background(one) for one in work]
    results: list[T] = []
    errors: list[Exception] = []
    for one in running:
        try:
            results.append(one.result())
        except Exception as error:  # noqa: BLE001 (one of them is raised below)
            errors.append(error)
    if errors:
        raise min(errors, key=lambda failed: isinstance(failed, threading.BrokenBarrierError))
    return results


def outcome_of(work: Callable[[], T]) -> T | FactfoldError:
    """What the work returned, or the error of factfold's that it raised."""
    try:
        return work()
    except FactfoldError as error:
        return error


class Processes(Generic[T]):
    """Runs a module-level function in several processes, one for each tuple of arguments; kills them at the end."""

    def __init__(self, work: Callable[..., T], arguments: Sequence[tuple[object, ...]]) -> None:
        self._running: list[tuple[SpawnProcess, Connection]] = []
        self._returned: list[T] = []
        self._errors: list[str] = []
        for each in arguments:
            here, there = SPAWN.Pipe(duplex=False)
            process = SPAWN.Process(target=_answer, args=(there, work, each), daemon=True)
            process.start()
            there.close()
            self._running.append((process, here))

    def __enter__(self) -> Processes[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def wait(self, timeout: float = 2 * PATIENCE) -> None:
        """Waits until all have ended, well or not."""
        for process, answers in self._running[len(self._returned) + len(self._errors) :]:
            assert answers.poll(timeout), f"process {process.pid} was still at work after {timeout} seconds"
            try:
                result, error = answers.recv()
            except EOFError:
                self._errors.append(f"process {process.pid} died without an answer")
            else:
                if error is None:
                    self._returned.append(result)
                else:
                    self._errors.append(f"process {process.pid} failed:\n{error}")

    def results(self, timeout: float = 2 * PATIENCE) -> list[T]:
        """What each returned. Fails with the tracebacks of those that raised."""
        self.wait(timeout)
        assert not self._errors, "\n\n".join(self._errors)
        return self._returned

    def kill(self) -> None:
        """Ends them as a crash would (SIGKILL), and waits until they are gone."""
        for process, answers in self._running:
            process.kill()
            process.join()
            answers.close()


def _answer(answers: Connection, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
    try:
        answers.send((work(*arguments), None))
    except BaseException:  # noqa: BLE001 (told to the test, which fails with it)
        answers.send((None, traceback.format_exc()))
