"""A clock that a test moves on."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from factfold import Store, Transaction
from factfold.testing import NOW, Clock
from tests.racing import race


def now(tx: Transaction) -> datetime:
    return tx.now


def test_it_stands_still_until_it_is_told_to_advance() -> None:
    clock = Clock()
    with Store("memory:", clock=clock) as store:
        assert [store.execute(now).result for _ in range(2)] == [NOW, NOW]
        assert clock.advance(90) == NOW + timedelta(seconds=90)
        assert store.execute(now).result == NOW + timedelta(seconds=90)
        clock.advance(0.5)
        assert store.execute(now).result == NOW + timedelta(seconds=90.5)
    assert repr(clock) == "Clock(2026-01-01T12:01:30.500000+00:00)"


def test_it_starts_when_it_is_told_to_and_tells_utc() -> None:
    clock = Clock(datetime(2020, 7, 1, 14, tzinfo=timezone(timedelta(hours=2))))
    assert clock() == datetime(2020, 7, 1, 12, tzinfo=UTC)
    assert clock().tzinfo is UTC


def test_every_thread_that_advances_it_counts() -> None:
    clock = Clock()

    def advance() -> None:
        for _ in range(500):
            clock.advance(1)

    race([advance] * 4)
    assert clock() == NOW + timedelta(seconds=2000)


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, True, "1", None])
def test_what_is_no_step_forward_is_refused(seconds: Any) -> None:
    clock = Clock()
    with pytest.raises(ValueError, match=r"a number of seconds is needed, 0 or more, as in advance\(3600\)"):
        clock.advance(seconds)
    assert clock() == NOW


def test_what_is_no_time_is_refused() -> None:
    anything: Any = 1_700_000_000
    with pytest.raises(TypeError, match=r"Clock\(start\) is an aware datetime, such as datetime\("):
        Clock(anything)
    with pytest.raises(ValueError, match="has no time zone: give it one"):
        Clock(datetime(2026, 1, 1))  # noqa: DTZ001 (it is what is refused)
