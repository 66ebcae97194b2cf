"""Strategies make what the stream type or the class says."""

from __future__ import annotations

from typing import NewType, assert_type

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from factfold.testing import scenario
from factfold.testing.strategies import events, histories
from tests.typing.domain import Account, Defined, Deposited, Enrolled, Opened, accounts, courses

Cents = NewType("Cents", int)


def what_events_are() -> None:
    assert_type(events(accounts), SearchStrategy[Opened | Deposited])
    assert_type(events(Opened), SearchStrategy[Opened])
    assert_type(events(Opened | Deposited), SearchStrategy[object])


def what_histories_are() -> None:
    assert_type(histories(accounts), SearchStrategy[tuple[Opened | Deposited, ...]])
    assert_type(histories(courses("c"), min_size=1, max_size=5), SearchStrategy[tuple[Defined | Enrolled, ...]])


def what_is_used() -> None:
    made = {Opened: st.builds(Opened)}
    events(accounts, using=made)
    histories(accounts, using={Cents: st.integers(0), Account: st.builds(Account), str: st.text()})


def what_was_given(history: tuple[Opened | Deposited, ...]) -> None:
    scenario().given(accounts("a"), *history)
