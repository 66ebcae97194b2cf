"""Scenarios that the type checkers refuse: each marked line, and no other."""

from __future__ import annotations

from datetime import date
from typing import TypeVar

from factfold import AsyncStore, Projection, Reaction, Stream
from factfold.testing import Clock, Outcome, Projected, Reacted, Scenario, assert_pure, nth_id, scenario
from tests.typing.accepted.commands import Raise, deposit, find, open_account
from tests.typing.domain import (
    Account,
    AccountEvent,
    Defined,
    Deposited,
    Enrolled,
    Opened,
    accounts,
    carts,
    counters,
    courses,
    students,
)

S = TypeVar("S")
E = TypeVar("E")


def what_cannot_have_happened(given: Scenario, history: list[AccountEvent], others: list[Defined]) -> None:
    given.given(accounts("a"), Defined(1))  # type: ignore[misc]
    given.given(accounts("a"), Opened("ann"), Defined(1))  # type: ignore[misc]
    given.given(accounts("a"), Opened("ann"), Deposited(1), Deposited(1), Deposited(1), Defined(1))  # type: ignore[misc]
    given.given(accounts("a"), *others)  # type: ignore[misc]
    given.given(counters("a"), *history)  # type: ignore[misc]
    given.given(counters("a"), Opened("ann"))  # type: ignore[misc]
    given.given(accounts("a"), history)  # type: ignore[misc]
    given.given(accounts("a"), Opened)  # type: ignore[misc]
    given.given(accounts("a"))  # type: ignore[call-arg]
    given.given(accounts, Opened("ann"))  # type: ignore[arg-type]
    given.given("account:a", Opened("ann"))  # type: ignore[arg-type]
    given.given(Opened("ann"), accounts("a"))  # type: ignore[arg-type]
    given.given_shared(Enrolled("c", "s"), accounts("a"), students("s"))  # type: ignore[misc]
    given.given_shared(Enrolled("c", "s"), courses("c"), accounts("a"))  # type: ignore[misc]
    given.given_shared(courses("c"), Enrolled("c", "s"))  # type: ignore[arg-type]


def what_cannot_be_done(given: Scenario) -> None:
    given.when(deposit)  # type: ignore[call-arg]
    given.when(deposit, 5)  # type: ignore[arg-type]
    given.when(deposit, "a", "5")  # type: ignore[arg-type]
    given.when(deposit, "a", sum=5)  # type: ignore[call-arg]
    given.when(Raise(5), 7)  # type: ignore[arg-type]
    given.when("deposit", "a")  # type: ignore[arg-type]
    scenario().given(accounts("a"), Opened("ann")).then_nothing()  # type: ignore[attr-defined]


def what_cannot_come_of_it(outcome: Outcome[int], given: Scenario) -> None:
    outcome.then(accounts("a"), Defined(1))  # type: ignore[misc]
    outcome.then(accounts("a"), Deposited(1), Defined(1))  # type: ignore[misc]
    outcome.then(accounts, Deposited(1))  # type: ignore[arg-type]
    outcome.then_shared(Enrolled("c", "s"), courses("c"), accounts("a"))  # type: ignore[misc]
    outcome.then_result("5")  # type: ignore[arg-type]
    given.when(find, "a").then_result(5)  # type: ignore[arg-type]
    given.when(open_account, "a", "ann").then_result("ann")  # type: ignore[arg-type]
    outcome.then_state(accounts("a"), 5)  # type: ignore[misc]
    outcome.then_state(counters("a"), Account())  # type: ignore[misc]
    outcome.then_state(carts("a"), None)  # type: ignore[misc]
    outcome.then_raises(ValueError("amount"))  # type: ignore[arg-type]
    outcome.then_raises("ValueError")  # type: ignore[arg-type]
    outcome.given(accounts("a"), Opened("ann"))  # type: ignore[attr-defined]


def what_is_run(given: Scenario, projection: Projection, reaction: Reaction) -> None:
    given.when_projected(reaction)  # type: ignore[arg-type]
    given.when_projected(deposit)  # type: ignore[arg-type]
    given.when_reacted(projection)  # type: ignore[arg-type]
    given.when_reacted(reaction, "a")  # type: ignore[call-arg]
    given.when(projection)  # type: ignore[arg-type]


def what_no_projection_makes_of_it(projected: Projected) -> None:
    projected.then_rows([("ann", 5)])  # type: ignore[call-arg,arg-type]
    projected.then_rows("balances", ("ann", 5))  # type: ignore[arg-type]
    projected.then_rows("balances", [["ann", 5]])  # type: ignore[list-item]
    projected.then_query("SELECT 1", 1)  # type: ignore[arg-type]
    projected.then_parked(Deposited(5), ValueError("amount"))  # type: ignore[arg-type]
    projected.then_stopped(Deposited(5))  # type: ignore[call-arg]
    projected.then(accounts("a"))  # type: ignore[attr-defined]


def what_no_reaction_does(reacted: Reacted) -> None:
    reacted.then(accounts("a"), Defined(1))  # type: ignore[misc]
    reacted.then_state(accounts("a"), 5)  # type: ignore[misc]
    reacted.then_result(5)  # type: ignore[attr-defined]
    reacted.then_rows("balances", [])  # type: ignore[attr-defined]
    reacted.then_parked(Deposited(5), "ValueError")  # type: ignore[arg-type]


def a_helper_over_any_stream(given: Scenario, stream: Stream[S, E], event: E, state: S) -> None:
    given.given(stream, state)  # type: ignore[misc]
    given.when(find, "a").then_state(stream, event)  # type: ignore[misc]


def what_is_no_command(given: Scenario) -> None:
    assert_pure(given, "deposit")  # type: ignore[call-overload]
    assert_pure(deposit, "a", "5")  # type: ignore[call-overload]
    assert_pure(given, deposit, "a", "5")  # type: ignore[call-overload]
    assert_pure(given, deposit)  # type: ignore[call-overload]


def time_and_ids(store: AsyncStore) -> None:
    scenario(store)  # type: ignore[arg-type]
    scenario(now="noon")  # type: ignore[arg-type]
    Clock(date(2026, 1, 1))  # type: ignore[arg-type]
    Clock().advance("1")  # type: ignore[arg-type]
    nth_id("1")  # type: ignore[arg-type]
