"""A scenario takes the events of each stream, and what comes of a command has the command's types."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar, assert_type

from factfold import Projection, Reaction, Store, Stream
from factfold.testing import Clock, Outcome, Projected, Reacted, Scenario, assert_pure, nth_id, scenario
from tests.typing.accepted.commands import Raise, deposit, find, open_account, total
from tests.typing.domain import (
    Account,
    AccountEvent,
    Defined,
    Deposited,
    Enrolled,
    Item,
    Opened,
    accounts,
    carts,
    clocks,
    counters,
    courses,
    students,
)

S = TypeVar("S")
E = TypeVar("E")


def what_happened_before(history: list[AccountEvent], one: AccountEvent, anything: Any) -> None:
    assert_type(scenario(), Scenario)
    given = scenario(now=datetime(2026, 1, 1, tzinfo=UTC)).given(accounts("a"), Opened("ann"))
    assert_type(given.given(accounts("a"), Opened("ann"), Deposited(1)), Scenario)
    given.given(accounts("a"), Opened("ann"), Deposited(1), Deposited(2), Opened("bob"), Deposited(3))
    given.given(accounts("a"), *history)
    given.given(accounts("a"), one, *history)
    given.given(accounts("a"), Opened("ann"), *(Deposited(amount) for amount in range(3)))
    given.given(accounts("a"), anything)
    given.given(counters("a"), Deposited(1)).given(courses("c"), Defined(30), Enrolled("c", "s"))
    given.given_shared(Enrolled("c", "s"), courses("c"), students("s")).given(carts("a"), Item("tea"))
    given.given_shared(Deposited(1), accounts("a"), counters("a"))


def what_is_done(given: Scenario) -> None:
    assert_type(given.when(open_account, "a", owner="ann"), Outcome[None])
    assert_type(given.when(deposit, "a", 5, note="rent"), Outcome[int])
    assert_type(given.when(total, "a", "b"), Outcome[tuple[int, str]])
    assert_type(given.when(find, "a"), Outcome[str | None])
    assert_type(given.when(Raise(5), "a", at_most=7), Outcome[int])


def what_has_to_come_of_it(given: Scenario, history: list[AccountEvent]) -> None:
    outcome = given.when(deposit, "a", 5)
    assert_type(outcome.then(accounts("a"), Deposited(5), Opened("ann"), Deposited(7)), Outcome[int])
    outcome.then(accounts("a")).then(accounts("a"), *history).then(counters("a"), Deposited(5))
    outcome.then_shared(Enrolled("c", "s"), courses("c"), students("s")).then_nothing().then_nothing_else()
    outcome.then_result(5).then_raises(ValueError).then_raises(OSError, errno=5)
    outcome.then_state(accounts("a"), Account("ann", 5)).then_state(counters("a"), 1).then_state(clocks("a"), 1.0)
    outcome.then_state(students("s"), frozenset({"c"})).then_state(carts("a"), ()).then_state(
        carts("a"), (Item("tea"),)
    )
    given.when(find, "a").then_result("ann").then_result(None)
    given.when(open_account, "a", "ann").then_result(None)


def what_a_projection_makes_of_it(given: Scenario, projection: Projection, rows: list[tuple[str, int]]) -> None:
    projected = given.when_projected(projection)
    assert_type(projected, Projected)
    assert_type(projected.then_rows("balances", [("ann", 5), ("bob", None)]), Projected)
    projected.then_rows("balances", rows).then_rows("balances", []).then_rows("balances", [{"owner": "ann", "n": 5}])
    projected.then_query("SELECT 1", ((1,),)).then_query("SELECT 1", tuple(rows))
    projected.then_parked(Deposited(5), ValueError).then_parked(3, OSError).then_all_handled()
    projected.then_stopped(Deposited(5), OSError, errno=5).then_stopped(3, ValueError)


def what_a_reaction_does(given: Scenario, reaction: Reaction, history: list[AccountEvent]) -> None:
    reacted = given.when_reacted(reaction)
    assert_type(reacted, Reacted)
    assert_type(reacted.then(accounts("a"), Deposited(5), Opened("ann"), *history), Reacted)
    reacted.then_shared(Enrolled("c", "s"), courses("c"), students("s")).then_nothing().then_nothing_else()
    reacted.then_raises(OSError, errno=5).then_parked(Deposited(5), ValueError).then_state(accounts("a"), Account())


def a_helper_over_any_stream(given: Scenario, stream: Stream[S, E], event: E, state: S) -> None:
    given.given(stream, event, event).when(total).then(stream, event).then_state(stream, state)


def whether_it_is_pure(given: Scenario) -> None:
    assert_type(assert_pure(deposit, "a", 5, note="rent"), None)
    assert_pure(given, deposit, "a", amount=5)
    assert_pure(given, Raise(5), "a")


def time_and_ids() -> None:
    clock = Clock(datetime(2026, 1, 1, tzinfo=UTC))
    with Store("memory:", clock=clock) as store:
        scenario(store, now=clock())
    assert_type(clock.advance(0.5), datetime)
    assert_type(nth_id(1).hex, str)
