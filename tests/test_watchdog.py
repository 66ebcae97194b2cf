"""The tests' own watchdog bites: what hangs is ended, with a message that tells where it stood."""

from __future__ import annotations

import signal
import threading

import pytest

from tests.racing import start
from tests.watchdog import limited


def test_a_test_that_waits_for_ever_fails_and_tells_where_every_thread_stands() -> None:
    never = threading.Event()
    other = start(never.wait)
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(pytest.fail.Exception, match="not over after 0.05 seconds") as caught, limited(0.05):
        threading.Event().wait()
    assert "MainThread" in str(caught.value)
    assert other.thread.name in str(caught.value)
    assert signal.getsignal(signal.SIGALRM) is before
    never.set()
    assert other.result()


def test_a_test_that_hangs_while_it_cleans_up_is_ended_too() -> None:
    never = threading.Event()
    with pytest.raises(pytest.fail.Exception, match="not over"), limited(0.05, again=0.05):
        try:
            never.wait()
        finally:
            never.wait()


def test_what_is_over_in_time_is_left_alone() -> None:
    left = signal.getitimer(signal.ITIMER_REAL)[0]
    with limited(60.0):
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 60.0
    assert signal.getitimer(signal.ITIMER_REAL)[0] <= left
