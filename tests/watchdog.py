"""No test hangs the run: after `LIMIT` seconds it fails, tells where every thread stands, and the next one begins.

This is the net below the tests' own time-outs, which are shorter and know better what was waited for. It needs the main
thread to come back to Python: what stops it in an extension for ever is left to `faulthandler_timeout`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from tests.racing import stacks

LIMIT = 150.0
"""Seconds for each of a test's phases. The longest takes a few."""

AGAIN = 20.0
"""Seconds until it bites again: what a failing test cleans up may hang, too."""

SOAKING = os.environ.get("FACTFOLD_SOAK") == "1"
"""With the large budget the property tests take as long as they take."""


@contextmanager
def limited(seconds: float, again: float = AGAIN) -> Iterator[None]:
    """What is done inside of this fails when it takes longer. For the main thread."""

    def expired(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"it was not over after {seconds:g} seconds:\n{stacks()}")

    handler = signal.signal(signal.SIGALRM, expired)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, again)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)


class Watchdog:
    """Limits the phases of every test, as a plugin of pytest."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Generator[None]:
        with limited(LIMIT):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None]:
        with limited(LIMIT):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self) -> Generator[None]:
        with limited(LIMIT):
            return (yield)


def set_on(config: pytest.Config) -> None:
    """Has the watchdog look at this run, where it can."""
    if hasattr(signal, "setitimer") and not SOAKING:
        config.pluginmanager.register(Watchdog())
