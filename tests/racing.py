"""Threads and tasks for tests: started, waited for with a limit, and never left behind unseen."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, wait
from traceback import format_stack
from typing import Generic, ParamSpec, TypeVar

from tests.faults import PATIENCE

P = ParamSpec("P")
R = TypeVar("R")


def stacks() -> str:
    """Where each thread stands: the last calls of all of them."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames().items()
    return "\n".join(f"{names.get(id)}:\n{''.join(format_stack(frame)[-8:])}" for id, frame in frames)


class Started(Generic[R]):
    """A call that runs in a thread of its own."""

    def __init__(self, call: Callable[[], R]) -> None:
        self._future: Future[R] = Future()
        self._call = call
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._future.set_result(self._call())
        except BaseException as error:
            self._future.set_exception(error)

    def result(self) -> R:
        """What the call returned or raised; TimeoutError when it has not ended in time."""
        self._wait()
        return self._future.result()

    def error(self) -> BaseException | None:
        """What the call raised, if it did."""
        self._wait()
        return self._future.exception()

    def _wait(self) -> None:
        wait([self._future], PATIENCE)
        if not self._future.done():
            raise TimeoutError(f"{self.thread.name} has not ended:\n{stacks()}")

    @property
    def ended(self) -> bool:
        return self._future.done()


def start(call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Started[R]:
    """Starts a call in a thread of its own."""
    return Started(lambda: call(*args, **kwargs))


def race(calls: Sequence[Callable[[], object]]) -> list[object]:
    """Makes all calls at the same moment, each in a thread of its own; gives what they returned or raised."""
    barrier = threading.Barrier(len(calls))

    def one(call: Callable[[], object]) -> object:
        barrier.wait(PATIENCE)
        return call()

    started = [start(one, call) for call in calls]
    return [each.error() or each.result() for each in started]


def eventually(condition: Callable[[], object]) -> None:
    """Returns as soon as the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the condition never came to hold")
        time.sleep(1e-4)


async def soon(condition: Callable[[], object]) -> None:
    """Returns as soon as the condition holds; other tasks run meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the condition never came to hold")
        await asyncio.sleep(1e-4)


async def within(work: Coroutine[object, object, R] | asyncio.Future[R]) -> R:
    """What the work gives; TimeoutError when it has not ended in time."""
    return await asyncio.wait_for(work, PATIENCE)
