"""Scenarios: what happened before, what is done, and what has to come of it; what fails says what came instead."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from factfold import EncodingError, InvalidCommandError, Store, Transaction, WrongStreamsError, stream
from factfold.testing import NOW, Outcome, Scenario, nth_id, scenario
from tests.ledger import (
    Account,
    Deposited,
    Opened,
    Renamed,
    Transferred,
    Withdrawn,
    accounts,
    balances,
    deposit,
    deposits,
    open_account,
    owners,
    rename,
    transfer,
)

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parent.parent

ANN = scenario().given(accounts("ann"), Opened("Ann"), Deposited(100))
"""Several tests start from here: a scenario is never changed."""


class TooLittleError(Exception):
    """Has attributes, as a domain's own errors do."""

    def __init__(self, id: str, missing: int) -> None:
        super().__init__(f"{id} lacks {missing}")
        self.id = id
        self.missing = missing


def spend(tx: Transaction, id: str, amount: int) -> int:
    account = tx.read(accounts(id))
    if account.state.balance < amount:
        raise TooLittleError(id, amount - account.state.balance)
    account.append(Withdrawn(amount))
    return account.state.balance


def move(tx: Transaction, source: str, target: str, amount: int) -> None:
    """As two events, of which each belongs to one account."""
    giver, taker = tx.read(accounts(source), accounts(target))
    giver.append(Withdrawn(amount))
    taker.append(Deposited(amount))


def fails(outcome: Outcome[Any], call: str, *arguments: Any, **named: Any) -> str:
    """What the assertion says when it fails."""
    with pytest.raises(AssertionError) as caught:
        getattr(outcome, call)(*arguments, **named)
    return str(caught.value)


# -- What holds --------------------------------------------------------------------------------------------------------


def test_a_command_is_decided_on_what_was_given() -> None:
    (
        ANN.when(spend, "ann", 30)
        .then(accounts("ann"), Withdrawn(30))
        .then_nothing_else()
        .then_result(70)
        .then_state(accounts("ann"), Account("Ann", 70))
    )


def test_shared_events_are_given_and_expected_in_all_their_streams() -> None:
    given = ANN.given_shared(Transferred("ann", "ben", 60), accounts("ann"), accounts("ben"))
    (
        given.when(transfer, "ben", "ann", 50)
        .then_shared(Transferred("ben", "ann", 50), accounts("ben"), accounts("ann"))
        .then_nothing_else()
        .then_state(accounts("ben"), Account("", 10))
        .then_state(accounts("ann"), Account("Ann", 90))
    )


def test_a_shared_event_is_among_the_events_of_each_of_its_streams() -> None:
    moved = Transferred("ann", "ben", 5)
    outcome = ANN.when(transfer, "ann", "ben", 5)
    outcome.then(accounts("ann"), moved).then(accounts("ben"), moved).then_nothing_else()


def test_two_equal_shared_events_are_named_one_by_one() -> None:
    def twice(tx: Transaction) -> None:
        tx.call(transfer, "ann", "ben", 5)
        tx.call(transfer, "ann", "ben", 5)

    moved = Transferred("ann", "ben", 5)
    outcome = ANN.when(twice).then_shared(moved, accounts("ann"), accounts("ben"))
    assert "appended more than was expected" in fails(outcome, "then_nothing_else")
    outcome.then_shared(moved, accounts("ben"), accounts("ann")).then_nothing_else()
    assert "did not append this event" in fails(outcome, "then_shared", moved, accounts("ann"), accounts("ben"))


def test_a_command_that_raises_has_appended_nothing() -> None:
    (
        ANN.when(spend, "ann", 130)
        .then_raises(TooLittleError, id="ann", missing=30)
        .then_nothing()
        .then(accounts("ann"))
        .then_nothing_else()
        .then_state(accounts("ann"), Account("Ann", 100))
    )
    ANN.when(spend, "ann", 130).then_raises(Exception)


def test_a_scenario_needs_no_history() -> None:
    scenario().when(open_account, "ann", "Ann").then(accounts("ann"), Opened("Ann")).then_result(None)
    scenario().when(spend, "ann", 1).then_raises(TooLittleError)


def test_a_scenario_is_not_changed_by_what_starts_from_it() -> None:
    ANN.given(accounts("ann"), Deposited(1)).when(deposit, "ann", 1).then_result(102)
    ANN.when(deposit, "ann", 1).then_result(101)
    ANN.when(deposit, "ann", 1).then_result(101)


def test_what_was_given_is_in_one_log_in_order() -> None:
    given = (
        scenario()
        .given(accounts("ann"), Opened("Ann"))
        .given(accounts("ben"), Opened("Ben"), Deposited(7))
        .given(owners("ann"), Renamed("Anna"))
    )

    def look(tx: Transaction) -> list[tuple[str, int]]:
        return [(view.state.owner, view.version) for view in tx.read(accounts("ann"), accounts("ben"))]

    given.when(look).then_result([("Anna", 2), ("Ben", 2)]).then_nothing()


def test_a_stream_is_looked_at_through_the_fold_that_names_it() -> None:
    renamed = ANN.when(rename, "ann", "Anna").then(owners("ann"), Renamed("Anna")).then(balances("ann"))
    renamed.then_nothing_else().then_state(balances("ann"), 100)

    deposited = ANN.when(deposit, "ann", 5).then(owners("ann"))
    assert "appended more than was expected" in fails(deposited, "then_nothing_else")
    deposited.then(deposits("ann"), Deposited(5)).then_nothing_else()


@dataclass(frozen=True)
class Noted:
    id: UUID
    at: datetime


@stream("note", initial=())
def notes(state: tuple[Noted, ...], event: Noted) -> tuple[Noted, ...]:
    return (*state, event)


def note(tx: Transaction, id: str) -> None:
    tx.read(notes(id)).append(Noted(tx.new_id(), tx.now), Noted(tx.new_id(), tx.now))


def test_time_and_ids_are_known_before() -> None:
    scenario().when(note, "a").then(notes("a"), Noted(nth_id(1), NOW), Noted(nth_id(2), NOW))
    assert (nth_id(1).version, nth_id(1).variant) == (7, UUID(int=1 << 63).variant)


def test_a_scenario_has_a_time_of_its_own() -> None:
    summer = datetime(2020, 7, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    expected = [Noted(nth_id(n), datetime(2020, 7, 1, 12, tzinfo=UTC)) for n in (1, 2)]
    scenario(now=summer).when(note, "a").then(notes("a"), *expected)


def test_a_scenario_runs_on_the_engine_of_a_store(rival: Store) -> None:
    for _ in range(2):
        given = scenario(rival).given(accounts("ann"), Opened("Ann"), Deposited(100))
        given.when(spend, "ann", 30).then(accounts("ann"), Withdrawn(30)).then_state(balances("ann"), 70)
    assert rival.head() == 0


async def test_a_scenario_runs_inside_an_event_loop() -> None:
    ANN.when(spend, "ann", 30).then_result(70)


def test_times_are_compared_as_moments() -> None:
    def later(tx: Transaction) -> datetime:
        return tx.now.astimezone(timezone(timedelta(hours=5)))

    scenario().when(later).then_result(NOW)


# -- What fails, and what it says --------------------------------------------------------------------------------------


def test_other_events_than_expected_are_shown_as_a_difference() -> None:
    assert fails(ANN.when(move, "ann", "ben", 30), "then", accounts("ann"), Withdrawn(20)) == (
        "tests.test_scenario.move appended other events to ledger:ann than expected (- expected, + appended):\n"
        "- Withdrawn(amount=20)\n"
        "?                  ^\n"
        "+ Withdrawn(amount=30)\n"
        "?                  ^\n"
        "All that it appended:\n"
        "  to ledger:ann:\n"
        "    Withdrawn(amount=30)\n"
        "  to ledger:ben:\n"
        "    Deposited(amount=30)"
    )


@pytest.mark.parametrize(
    "expected",
    [(), (Withdrawn(30), Withdrawn(30)), (Deposited(30),)],
    ids=["fewer", "more", "another class"],
)
def test_all_events_of_a_stream_have_to_be_named(expected: tuple[Any, ...]) -> None:
    message = fails(ANN.when(move, "ann", "ben", 30), "then", accounts("ann"), *expected)
    assert "move appended other events to ledger:ann than expected" in message


def test_the_order_of_events_counts() -> None:
    def both(tx: Transaction) -> None:
        tx.read(accounts("ann")).append(Deposited(1), Withdrawn(1))

    outcome = scenario().when(both).then(accounts("ann"), Deposited(1), Withdrawn(1))
    fails(outcome, "then", accounts("ann"), Withdrawn(1), Deposited(1))


def test_an_event_in_another_stream_is_pointed_out() -> None:
    message = fails(ANN.when(deposit, "ann", 5), "then", accounts("ben"), Deposited(5))
    assert "- Deposited(amount=5)\nAll that it appended:\n  to ledger:ann:\n    Deposited(amount=5)" in message


def test_what_nobody_has_named_is_found() -> None:
    outcome = ANN.when(move, "ann", "ben", 30).then(accounts("ann"), Withdrawn(30))
    message = fails(outcome, "then_nothing_else")
    assert "move appended more than was expected:\n  to ledger:ben:\n    Deposited(amount=30)\n" in message
    outcome.then(accounts("ben"), Deposited(30)).then_nothing_else()


def test_a_command_that_appended_has_not_appended_nothing() -> None:
    assert "should have appended nothing" in fails(ANN.when(deposit, "ann", 5), "then_nothing")


def test_a_shared_event_is_in_exactly_its_streams() -> None:
    outcome = ANN.when(transfer, "ann", "ben", 5)
    moved = Transferred("ann", "ben", 5)
    for streams in ([accounts("ann")], [accounts("ann"), accounts("ben"), accounts("cid")]):
        message = fails(outcome, "then_shared", moved, *streams)
        assert "did not append this event to ledger:ann" in message
        assert "to ledger:ann, ledger:ben:\n    Transferred(source='ann', target='ben', amount=5)" in message


def test_another_result_is_shown_as_a_difference() -> None:
    assert "- 71\n+ 70\n" in fails(ANN.when(spend, "ann", 30), "then_result", 71)


def test_another_state_is_shown_as_a_difference() -> None:
    message = fails(ANN.when(spend, "ann", 30), "then_state", accounts("ann"), Account("Ann", 71))
    assert "left ledger:ann in another state than expected" in message
    assert "- Account(owner='Ann', balance=71)\n" in message
    assert "+ Account(owner='Ann', balance=70)\n" in message


def test_a_command_that_should_have_raised_is_told_of() -> None:
    message = fails(ANN.when(spend, "ann", 30), "then_raises", TooLittleError)
    assert "spend raised nothing, and TooLittleError was expected. It returned 70" in message


def test_another_error_than_expected_is_told_of_and_is_the_cause() -> None:
    with pytest.raises(AssertionError, match="raised TooLittleError.*and ValueError was expected") as caught:
        ANN.when(spend, "ann", 130).then_raises(ValueError)
    assert isinstance(caught.value.__cause__, TooLittleError)


def test_an_error_with_other_attributes_is_shown_as_a_difference() -> None:
    message = fails(ANN.when(spend, "ann", 130), "then_raises", TooLittleError, id="ann", missing=20)
    assert "raised TooLittleError with other attributes than expected" in message
    assert "  id='ann'\n- missing=20\n" in message
    assert "+ missing=30\n" in message


def test_an_error_without_the_attribute_tells_which_it_has() -> None:
    message = fails(ANN.when(spend, "ann", 130), "then_raises", TooLittleError, lacking=30)
    assert "which has no attribute 'lacking'. Its attributes: id, missing" in message


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("then", (accounts("ann"),)),
        ("then_shared", (Transferred("ann", "ben", 1), accounts("ann"), accounts("ben"))),
        ("then_nothing", ()),
        ("then_nothing_else", ()),
        ("then_result", (70,)),
        ("then_state", (accounts("ann"), Account("Ann", 100))),
    ],
)
def test_an_error_that_nobody_expected_is_raised_as_it_is(call: str, arguments: tuple[Any, ...]) -> None:
    outcome = ANN.when(spend, "ann", 130)
    for _ in range(2):
        with pytest.raises(TooLittleError) as caught:
            getattr(outcome, call)(*arguments)
        (note,) = caught.value.__notes__
        assert ".then_raises(TooLittleError)" in note


def test_a_command_that_raised_has_no_result() -> None:
    outcome = ANN.when(spend, "ann", 130).then_raises(TooLittleError)
    assert "returned nothing\nIt appended nothing, as it raised TooLittleError" in fails(outcome, "then_result", None)


@dataclass(frozen=True)
class Described:
    title: str
    text: str
    tags: tuple[str, ...]


@stream("page", initial="")
def pages(state: str, event: Described) -> str:
    return event.text


def test_a_long_event_is_shown_field_by_field() -> None:
    tags = tuple(f"a rather long tag, which is number {number}" for number in range(4))

    def describe(tx: Transaction) -> None:
        tx.read(pages("a")).append(Described("About", "x" * 60, tags))

    message = fails(scenario().when(describe), "then", pages("a"), Described("About us", "x" * 60, tags))
    assert "  Described(\n-     title='About us',\n" in message
    assert "+     title='About',\n      text='xxx" in message


class Vague:
    """Is equal to itself alone, and looks like all others."""

    def __repr__(self) -> str:
        return "<Vague>"


def test_what_looks_the_same_and_is_not_equal_is_pointed_out() -> None:
    def vague(tx: Transaction) -> Vague:
        return Vague()

    assert "They look the same, and are not equal" in fails(scenario().when(vague), "then_result", Vague())


# -- Wrong use ---------------------------------------------------------------------------------------------------------

anything: Any = scenario()
"""A scenario, for calls that a type checker would refuse."""

spent: Any = ANN.when(spend, "ann", 30)
"""An outcome, for the same."""

WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a stream type": (lambda: anything.given(accounts, Opened("Ann")), r"given\(\).*call it with an id"),
    "no stream": (lambda: anything.given("ledger:ann", Opened("Ann")), r"given\(\).*such as accounts\('alice'\)"),
    "an event before its stream": (lambda: anything.given(Opened("Ann"), accounts("ann")), r"given\(\).*streams"),
    "a class": (lambda: anything.given(accounts("ann"), Opened), r"It is a class: make an event of it, Opened\(\.\.\."),
    "a list": (lambda: anything.given(accounts("ann"), [Opened("Ann")]), r"one by one: \.given\(stream, \*events\)"),
    "no event of it": (
        lambda: anything.given(owners("ann"), Deposited(1)),
        r"owners looks at Opened, Renamed, and not",
    ),
    "no event at all": (lambda: anything.given(accounts("ann")), r"missing 1 required positional argument: 'event'"),
    "a shared event last": (
        lambda: anything.given_shared(accounts("ann"), Transferred("ann", "ben", 1)),
        r"given_shared\(\).*Transferred",
    ),
    "a shared event of others": (
        lambda: anything.given_shared(Transferred("ann", "ben", 1), accounts("ann"), owners("ben")),
        r"given_shared\(ledger:ben, \.\.\.\).*owners looks at Opened, Renamed",
    ),
    "a called command": (lambda: anything.when(None), "None is no command"),
    "nothing done": (lambda: anything.then_nothing(), r"no 'then_nothing': say first what is done, \.when\(command"),
    "no method": (lambda: anything.gvien(), "^A scenario has no 'gvien'$"),
    "a stream type afterwards": (lambda: spent.then(accounts, Withdrawn(30)), r"then\(\).*call it with an id"),
    "a class afterwards": (lambda: spent.then(accounts("ann"), Withdrawn), "It is a class"),
    "no event of it afterwards": (lambda: spent.then(owners("ann"), Withdrawn(30)), "owners looks at Opened, Renamed"),
    "no shared event of it": (lambda: spent.then_shared(Withdrawn(30), owners("ann")), "owners looks at"),
    "a state alone": (lambda: spent.then_state(Account(), accounts("ann")), r"then_state\(\) reads streams"),
    "an error's name": (lambda: spent.then_raises("TooLittle"), r"then_raises\(InsufficientFunds, amount=30\)"),
    "an error": (lambda: spent.then_raises(TooLittleError("ann", 5)), "the class of the error is needed"),
    "an event as an error": (lambda: spent.then_raises(Withdrawn), "the class of the error is needed"),
    "a url": (lambda: scenario("memory:"), "on the engine of a Store"),  # type: ignore[arg-type]
    "no time": (lambda: scenario(now="noon"), r"now is an aware datetime, such as datetime\("),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_use_says_what_to_do(wrong: str) -> None:
    call, message = WRONG[wrong]
    with pytest.raises((TypeError, AttributeError, InvalidCommandError), match=message):
        call()


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone: give it one"):
        scenario(now=datetime(2026, 1, 1))  # noqa: DTZ001 (it is what is refused)


@pytest.mark.parametrize("n", [0, -1, True, 1 << 62, 1.0])
def test_ids_are_counted_from_one(n: Any) -> None:
    with pytest.raises(ValueError, match="1 is the first"):
        nth_id(n)


def test_what_is_given_is_checked_as_it_is_in_earnest() -> None:
    given = scenario().given(accounts("ann"), Deposited("5"))  # type: ignore[arg-type]
    with pytest.raises(EncodingError, match="Expected `int`, got `str`") as caught:
        given.when(spend, "ann", 1)
    assert caught.value.__notes__ == [
        "This was raised while the scenario appended what was given: Deposited(amount='5') to ledger:ann"
    ]


def test_a_shared_event_that_is_given_to_one_stream_says_how_to_give_it() -> None:
    given = scenario().given(accounts("ann"), Transferred("ann", "ben", 5))
    with pytest.raises(WrongStreamsError) as caught:
        given.when(spend, "ann", 1)
    assert caught.value.__notes__[-1] == "In a scenario: .given_shared(event, stream, other_stream)"


def test_a_scenario_shows_what_it_was_given() -> None:
    given = scenario().given(accounts("ann"), Opened("Ann"))
    assert repr(given) == "Scenario(given=[\"Opened(owner='Ann') to ledger:ann\"])"
    assert isinstance(given, Scenario)


# -- Where it runs -----------------------------------------------------------------------------------------------------

WITHOUT_PYTEST = """
import sys
sys.modules.update(pytest=None, hypothesis=None)
import unittest
import factfold.testing
from factfold.testing import Clock, assert_pure, scenario
from tests.ledger import Deposited, Opened, accounts, deposit

class TestDeposit(unittest.TestCase):
    def test_deposit(self):
        scenario().given(accounts("ann"), Opened("Ann")).when(deposit, "ann", 5).then(accounts("ann"), Deposited(5))
        assert_pure(deposit, "ann", 5)

    def test_failure(self):
        scenario().when(deposit, "ann", 5).then_nothing()

    def test_contract(self):
        with self.assertRaisesRegex(ModuleNotFoundError, "StorageContract needs pytest: pip install"):
            factfold.testing.StorageContract

unittest.main()
"""


def test_scenarios_need_no_pytest() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PYTEST], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Ran 3 tests" in done.stderr
    assert "FAILED (failures=1)" in done.stderr, done.stderr
    assert "AssertionError: tests.ledger.deposit should have appended nothing" in done.stderr
    assert "outcome.py" not in done.stderr


def test_a_failure_points_at_the_line_of_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from factfold.testing import scenario
        from tests.ledger import Deposited, accounts, deposit

        def test_deposit():
            scenario().when(deposit, "ann", 5).then(accounts("ann"), Deposited(6))
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio")
    result.assert_outcomes(failed=1)
    shown = result.stdout.str()
    assert "E       AssertionError: tests.ledger.deposit appended other events to ledger:ann than expected" in shown
    assert "outcome.py" not in shown
