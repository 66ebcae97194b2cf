"""Uses of strategies that the type checkers refuse: each marked line, and no other."""

from __future__ import annotations

from hypothesis.strategies import SearchStrategy

from factfold.testing import scenario
from factfold.testing.strategies import events, histories
from tests.typing.domain import Defined, Deposited, Opened, accounts, counters, courses


def what_events_are() -> SearchStrategy[Defined]:
    one: SearchStrategy[Deposited] = events(Opened)  # type: ignore[assignment]
    events(Opened, using=Opened)  # type: ignore[call-overload]
    events(Opened, using={Opened: Opened("ann")})  # type: ignore[dict-item]
    print(one)
    return events(accounts)  # type: ignore[return-value]


def what_histories_are() -> None:
    histories(Opened)  # type: ignore[call-overload]
    histories("account:a")  # type: ignore[call-overload]
    histories(accounts, min_size="1")  # type: ignore[call-overload]


def what_was_given(history: tuple[Opened | Deposited, ...]) -> None:
    scenario().given(courses("c"), *history)  # type: ignore[misc]
    scenario().given(counters("c"), *history)  # type: ignore[misc]
