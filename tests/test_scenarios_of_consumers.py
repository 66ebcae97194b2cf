"""Scenarios of projections and reactions: what they make of what happened, once; what fails says what came instead."""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from factfold import (
    AsyncReactionContext,
    ConsumerStoppedError,
    DefinitionError,
    FactfoldError,
    Projection,
    ProjectionContext,
    Reaction,
    ReactionContext,
    ReadModel,
    RecordedEvent,
    Retry,
    Store,
    Transaction,
)
from factfold.storage.postgres import Postgres
from factfold.testing import NOW, Projected, Reacted, noting, nth_id, scenario
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
    rename,
    transfer,
)

Connection = sqlite3.Connection
ANN = scenario().given(accounts("ann"), Opened("Ann"), Deposited(100))


class TooLittleError(Exception):
    """Has attributes, as a domain's own errors do."""

    def __init__(self, amount: int) -> None:
        super().__init__(f"{amount} is too little")
        self.amount = amount


class MuchTooLittleError(TooLittleError):
    """A special case of it."""


# -- Projections -------------------------------------------------------------------------------------------------------


def projection(name: str = "sheet", **options: Any) -> Projection:
    """A projection with a table of its own, which no handler writes yet."""
    sheet = Projection(name, **options)

    @sheet.setup
    def _(model: ReadModel[Connection]) -> None:
        table = model.table(name)
        model.connection.execute(f"CREATE TABLE {table} (account TEXT PRIMARY KEY, owner TEXT, balance INTEGER)")

    return sheet


def booked() -> Projection:
    """The balances of all accounts. It refuses deposits of less than 10."""
    sheet = projection()

    @sheet.on
    def _(event: Opened, context: ProjectionContext[Connection]) -> None:
        (account,) = accounts.of(context.recorded)
        context.connection.execute(
            f"INSERT INTO {context.table('sheet')} VALUES (?, ?, 0)", (account.suffix, event.owner)
        )

    @sheet.on
    def _(event: Deposited, context: ProjectionContext[Connection]) -> None:
        (account,) = accounts.of(context.recorded)
        if event.amount < 10:
            raise MuchTooLittleError(event.amount)
        context.connection.execute(
            f"UPDATE {context.table('sheet')} SET balance = balance + ? WHERE account = ?",
            (event.amount, account.suffix),
        )

    return sheet


def forgiving(name: str = "forgiving") -> Projection:
    """Parks deposits of less than 10; writes nothing, but counts how often it was tried."""
    picky = Projection(name, tables=(), on_error="park", retry=Retry(max_attempts=3, base=60))

    @picky.on
    def _(event: Deposited, context: ProjectionContext[Connection]) -> None:
        ATTEMPTS[event.amount] += 1
        if event.amount < 10:
            raise MuchTooLittleError(event.amount)

    return picky


ATTEMPTS = Counter[int]()


def fails(outcome: Projected | Reacted, call: str, *arguments: Any, **named: Any) -> str:
    """What the assertion says when it fails."""
    with pytest.raises(AssertionError) as caught:
        getattr(outcome, call)(*arguments, **named)
    return str(caught.value)


def test_a_projection_has_rows() -> None:
    given = ANN.given(accounts("ben"), Opened("Ben")).given(accounts("ann"), Deposited(20), Withdrawn(7))
    (
        given.when_projected(booked())
        .then_rows("sheet", [("ben", "Ben", 0), ("ann", "Ann", 120)])
        .then_rows("sheet", [{"owner": "Ann", "balance": 120, "account": "ann"}, {**EMPTY, "account": "ben"}])
        .then_query("SELECT owner FROM sheet ORDER BY balance DESC", [("Ann",), ("Ben",)])
        .then_query("SELECT balance AS b FROM {sheet} WHERE account = 'ann'", [{"b": 120}])
        .then_all_handled()
    )


EMPTY = {"owner": "Ben", "balance": 0}


def test_other_rows_than_expected_are_shown_as_a_difference() -> None:
    projected = ANN.when_projected(booked())
    assert fails(projected, "then_rows", "sheet", [("ann", "Ann", 200)]) == (
        "projection sheet (version 1) has other rows in sheet than expected (- expected, + found):\n"
        "- ('ann', 'Ann', 200)\n"
        "?                ^\n"
        "+ ('ann', 'Ann', 100)\n"
        "?                ^"
    )
    assert "+ {'account': 'ann', 'owner'" in fails(projected, "then_rows", "sheet", [{"account": "ann"}])
    for rows in ([], [("ann", "Ann", 100)] * 2):
        assert "other rows in sheet" in fails(projected, "then_rows", "sheet", rows)


def test_the_rows_of_a_query_have_an_order() -> None:
    projected = ANN.given(accounts("ben"), Opened("Ben")).when_projected(booked())
    message = fails(projected, "then_query", "SELECT owner FROM sheet ORDER BY owner", [("Ben",), ("Ann",)])
    assert (
        "has other rows than expected (- expected, + found) in\n  SELECT owner FROM sheet ORDER BY owner\n" in message
    )


def test_a_projection_needs_no_history() -> None:
    scenario().when_projected(booked()).then_rows("sheet", [])


def test_what_is_parked_has_to_be_named() -> None:
    ATTEMPTS.clear()
    projected = ANN.given(accounts("ann"), Deposited(5), Deposited(6), Deposited(70)).when_projected(forgiving())
    assert ATTEMPTS == {100: 1, 5: 3, 6: 3, 70: 1}
    assert "Where it has to, say so first: .then_parked(Deposited(amount=5), MuchTooLittleError)" in fails(
        projected, "then_all_handled"
    )
    assert fails(projected, "then_parked", Deposited(5), KeyError) == (
        "projection forgiving (version 1) parked the event at position 3, Deposited(amount=5), because of "
        "MuchTooLittleError: 5 is too little, and not of KeyError"
    )
    assert "did not park Deposited(amount=70)\nAll that it parked:\n    Deposited(amount=5)\n    Deposited" in fails(
        projected, "then_parked", Deposited(70), TooLittleError
    )
    projected.then_parked(Deposited(5), TooLittleError)
    assert "did not park Deposited(amount=5)" in fails(projected, "then_parked", Deposited(5), TooLittleError)
    projected.then_parked(4, MuchTooLittleError).then_all_handled()


def test_where_a_projection_stops_has_to_be_named() -> None:
    projected = ANN.given(accounts("ann"), Withdrawn(1), Deposited(5)).when_projected(booked())
    calls: list[tuple[str, tuple[object, ...]]] = [
        ("then_all_handled", ()),
        ("then_rows", ("sheet", [])),
        ("then_query", ("SELECT 1", [])),
        ("then_parked", (Deposited(5), TooLittleError)),
    ]
    for call, arguments in calls:
        with pytest.raises(ConsumerStoppedError, match="the event at position 4") as caught:
            getattr(projected, call)(*arguments)
        assert isinstance(caught.value.__cause__, MuchTooLittleError)
        (note,) = caught.value.__notes__
        assert note.endswith(".then_stopped(Deposited(amount=5), MuchTooLittleError)")
    assert "stopped at Deposited(amount=5), and not at Deposited(amount=100)" in fails(
        projected, "then_stopped", Deposited(100), TooLittleError
    )
    assert "raised MuchTooLittleError" in fails(projected, "then_stopped", 4, KeyError)
    assert "- amount=6" in fails(projected, "then_stopped", 4, TooLittleError, amount=6)
    projected.then_stopped(4, MuchTooLittleError).then_rows("sheet", [("ann", "Ann", 100)])
    projected.then_stopped(Deposited(5), TooLittleError, amount=5)
    assert "did not stop, and should have at Opened(owner='Ann'), by KeyError" in fails(
        ANN.when_projected(booked()), "then_stopped", Opened("Ann"), KeyError
    )


def test_a_projection_that_would_not_be_the_same_again_is_found_out() -> None:
    numbers = itertools.count(1)
    sheet = projection()

    @sheet.on
    def _(event: Opened, context: ProjectionContext[Connection]) -> None:
        context.connection.execute(f"INSERT INTO {context.table('sheet')} VALUES ('ann', ?, ?)", ("Ann", next(numbers)))

    message = fails(ANN.when_projected(sheet), "then_rows", "sheet", [("ann", "Ann", 2)])
    assert message.startswith(
        "projection sheet (version 1) has other rows in sheet when it is built again from the same events, all at "
        "once (- first, + second time):\n- ('ann', 'Ann', 1)\n"
    )


def test_a_batch_handler_has_to_bear_other_batches() -> None:
    sheet = projection()

    @sheet.on_batch
    def _(events: Sequence[RecordedEvent[Deposited]], model: ReadModel[Connection]) -> None:
        total = sum(recorded.event.amount for recorded in events)
        model.connection.execute(f"INSERT OR REPLACE INTO {model.table('sheet')} VALUES ('all', '', ?)", (total,))

    ANN.when_projected(sheet).then_rows("sheet", [("all", "", 100)])
    again = ANN.given(accounts("ann"), Deposited(20)).when_projected(sheet)
    assert "- ('all', '', 20)" in fails(again, "then_rows", "sheet", [("all", "", 120)])


def test_a_projection_that_cannot_be_built_beside_itself_is_found_out() -> None:
    sheet = Projection("sheet")

    @sheet.setup
    def _(model: ReadModel[Connection]) -> None:
        model.connection.execute("CREATE TABLE sheet_v1 (account TEXT)")

    @sheet.on
    def _(event: Opened, context: ProjectionContext[Connection]) -> None: ...

    message = fails(ANN.when_projected(sheet), "then_all_handled")
    assert "could not be built again from the same events, as another version beside this one: its tables" in message
    assert "table sheet_v1 already exists" in message


def test_tables_that_cannot_be_made_are_told_of_at_once() -> None:
    sheet = Projection("sheet")

    @sheet.setup
    def _(model: ReadModel[Connection]) -> None:
        model.connection.execute("CREATE TABLE ()")

    @sheet.on
    def _(event: Opened, context: ProjectionContext[Connection]) -> None: ...

    with pytest.raises(ConsumerStoppedError, match="its tables could not be made"):
        ANN.when_projected(sheet)


def test_a_connection_of_another_engine_is_told_of() -> None:
    sheet = Projection("sheet")

    @sheet.on
    def _(event: Opened, context: ProjectionContext[threading.Thread]) -> None: ...

    with pytest.raises(FactfoldError, match="wants a connection of the class Thread") as caught:
        ANN.when_projected(sheet).then_all_handled()
    assert "scenario(store) on the engine of a store" in caught.value.__notes__[0]


def test_handlers_in_an_event_loop_run_in_a_plain_function() -> None:
    sheet = projection()

    @sheet.on
    async def _(event: Opened, context: ProjectionContext[Connection]) -> None:
        context.connection.execute(f"INSERT INTO {context.table('sheet')} VALUES ('ann', ?, 0)", (event.owner,))

    ANN.when_projected(sheet).then_rows("sheet", [("ann", "Ann", 0)])


async def test_and_inside_of_another_event_loop() -> None:
    test_handlers_in_an_event_loop_run_in_a_plain_function()


def test_a_projection_runs_on_the_engine_of_a_store(rival: Store) -> None:
    seen: list[Opened] = []
    elsewhere = Projection("elsewhere", tables=())

    @elsewhere.on
    def _(event: Opened, context: ProjectionContext[object]) -> None:
        seen.append(event)

    given = scenario(rival).given(accounts("ann"), Opened("Ann"))
    given.when_projected(elsewhere).then_all_handled()
    assert seen == [Opened("Ann")]
    assert rival.head() == 0


def test_a_projection_has_rows_on_the_engine_of_a_store(tmp_path: Path) -> None:
    with Store(f"sqlite:///{tmp_path}/ledger.db") as store:
        for _ in range(2):
            projected = scenario(store).given(accounts("ann"), Opened("Ann"), Deposited(30)).when_projected(booked())
            projected.then_rows("sheet", [("ann", "Ann", 30)]).then_query("SELECT balance FROM {sheet}", [(30,)])


def test_a_projection_has_rows_in_postgres(direct: Postgres) -> None:
    """A name of a table as long as may be, and handlers of both kinds."""
    name = "sheet_of_balances_with_quite_a_long_name"
    sheets = Projection(name), Projection(name)

    @sheets[0].setup
    def _(model: ReadModel[psycopg.Connection]) -> None:
        model.connection.execute(f"CREATE TABLE {model.table(name)} (owner TEXT, facts JSONB)".encode())

    @sheets[0].on
    def _(event: Opened, context: ProjectionContext[psycopg.Connection]) -> None:
        insert = f"INSERT INTO {context.table(name)} VALUES (%s, %s)".encode()
        context.connection.execute(insert, (event.owner, Jsonb({"at": 1})))

    @sheets[1].setup
    async def _(model: ReadModel[psycopg.AsyncConnection]) -> None:
        await model.connection.execute(f"CREATE TABLE {model.table(name)} (owner TEXT, facts JSONB)".encode())

    @sheets[1].on
    async def _(event: Opened, context: ProjectionContext[psycopg.AsyncConnection]) -> None:
        insert = f"INSERT INTO {context.table(name)} VALUES (%s, %s)".encode()
        await context.connection.execute(insert, (event.owner, Jsonb({"at": 1})))

    with Store(direct) as store:
        for sheet in sheets:
            (
                scenario(store)
                .given(accounts("ann"), Opened("Ann"))
                .when_projected(sheet)
                .then_rows(name, [("Ann", {"at": 1})])
                .then_query(f"SELECT facts->>'at' AS at FROM {{{name}}}", [{"at": "1"}])
            )


# -- Reactions ---------------------------------------------------------------------------------------------------------


def welcoming(**options: Any) -> Reaction:
    """Gives 50 to who opens an account; then takes a fee of 1, once, from those who got that much."""
    welcome = Reaction("welcome", start="head", **options)

    @welcome.on
    def _(event: Opened, context: ReactionContext) -> None:
        (account,) = accounts.of(context.recorded)
        context.execute(deposit, account.suffix, 50)

    @welcome.on
    def _(event: Deposited, context: ReactionContext) -> None:
        (account,) = accounts.of(context.recorded)
        if event.amount < 10:
            raise MuchTooLittleError(event.amount)
        if event.amount == 50:
            context.execute(transfer, account.suffix, "bank", 1)

    return welcome


def test_a_reaction_acts_on_what_was_given_and_on_what_follows() -> None:
    (
        scenario()
        .given(accounts("ann"), Opened("Ann"))
        .when_reacted(welcoming())
        .then(accounts("ann"), Deposited(50), Transferred("ann", "bank", 1))
        .then_shared(Transferred("ann", "bank", 1), accounts("ann"), accounts("bank"))
        .then_nothing_else()
        .then_state(accounts("ann"), Account("Ann", 49))
        .then_state(balances("bank"), 1)
    )


def test_a_reaction_may_have_nothing_to_do() -> None:
    scenario().given(accounts("ann"), Renamed("Ann")).when_reacted(welcoming()).then_nothing().then(accounts("ann"))
    scenario().when_reacted(welcoming()).then_nothing()


def test_what_a_reaction_appended_is_shown() -> None:
    reacted = scenario().given(accounts("ann"), Opened("Ann")).when_reacted(welcoming())
    message = fails(reacted, "then", accounts("ann"), Deposited(50))
    assert message.startswith("reaction welcome appended other events to ledger:ann than expected")
    assert message.endswith(
        "All that it appended:\n  to ledger:ann:\n    Deposited(amount=50)\n"
        "  to ledger:ann, ledger:bank:\n    Transferred(source='ann', target='bank', amount=1)"
    )


def test_an_error_of_a_handler_is_that_of_the_reaction() -> None:
    given = scenario().given(accounts("ann"), Opened("Ann"), Deposited(5))
    reacted = given.when_reacted(welcoming())
    with pytest.raises(MuchTooLittleError) as caught:
        reacted.then_nothing()
    assert caught.value.__notes__[0].endswith(".then_raises(MuchTooLittleError)")
    reacted.then_raises(TooLittleError, amount=5).then(accounts("ann"), Deposited(50)).then_nothing_else()
    calm = scenario().given(accounts("ann"), Opened("Ann")).when_reacted(welcoming())
    assert "raised nothing, and KeyError was expected.\nAll that it" in fails(calm, "then_raises", KeyError)


def test_what_a_reaction_parks_has_to_be_named() -> None:
    reacted = ANN.given(accounts("ann"), Deposited(5)).when_reacted(welcoming(on_error="park"))
    assert "parked the event at position 3, Deposited(amount=5)" in fails(reacted, "then_nothing")
    assert "did not park the event at position 2" in fails(reacted, "then_parked", 2, TooLittleError)
    reacted.then_parked(Deposited(5), TooLittleError).then_state(balances("ann"), 154)


def test_a_handler_that_does_something_twice_is_found_out() -> None:
    careless = Reaction("careless", start="beginning")

    @careless.on
    def _(event: Opened, context: ReactionContext) -> None:
        context.store.execute(deposit, "ann", 50)

    assert fails(ANN.when_reacted(careless), "then", accounts("ann"), Deposited(50)).startswith(
        "reaction careless did something else when its handlers were called again with the same events, as after a "
        "crash:\n"
        "for Opened(owner='Ann') at position 1\n"
        "  to ledger:ann:\n"
        "    Deposited(amount=50)\n"
        "They append by context.execute(...)"
    )


def test_a_handler_that_decides_by_a_state_is_found_out() -> None:
    wavering = Reaction("wavering", start="beginning")

    @wavering.on
    def _(event: Opened, context: ReactionContext) -> None:
        if context.state(balances("ann")) == 100:
            context.execute(deposit, "ann", 50)
        elif event.owner == "Ben":
            raise TooLittleError(0)
        else:
            context.execute(rename, "ann", "Anna")

    again = fails(ANN.when_reacted(wavering), "then_nothing")
    assert "for Opened(owner='Ann') at position 1\n  to ledger:ann:\n    Renamed(owner='Anna')\n" in again
    failing = scenario().given(accounts("ann"), Opened("Ben"), Deposited(100)).when_reacted(wavering)
    assert "at position 1\n  it raised TooLittleError('0 is too little')" in fails(failing, "then_nothing")


def test_a_reaction_without_end_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noting, "LIMIT", 20)
    endless = Reaction("endless", start="beginning", retry=Retry(max_attempts=1))

    @endless.on
    def _(event: Deposited, context: ReactionContext) -> None:
        context.execute(deposit, "ann", 1)

    reacted = ANN.when_reacted(endless).then_raises(RuntimeError)
    reacted.then(accounts("ann"), *[Deposited(1)] * 20)


def note(tx: Transaction, id: str) -> tuple[datetime, UUID]:
    tx.read(accounts(id)).append(Renamed(f"{tx.new_id()} {tx.new_id()} {tx.now}"))
    return tx.now, tx.new_id()


def test_time_and_ids_are_known_before() -> None:
    noting = Reaction("noting", start="beginning")

    @noting.on
    def _(event: Opened, context: ReactionContext) -> None:
        for _ in range(2):
            context.execute(note, "ann")

    ANN.when_reacted(noting).then(
        accounts("ann"),
        Renamed(f"{nth_id(1)} {nth_id(2)} {NOW}"),
        Renamed(f"{nth_id(4)} {nth_id(5)} {NOW}"),
    )


def gathering() -> Reaction:
    gather = Reaction("gather", start="beginning")

    @gather.on
    async def _(event: Opened, context: AsyncReactionContext) -> None:
        await context.execute(deposit, "ann", 50)

    @gather.on
    async def _(event: Withdrawn, context: AsyncReactionContext) -> None:
        await context.store.execute(deposit, "ann", event.amount)

    return gather


def test_a_reaction_in_an_event_loop_runs_in_a_plain_function() -> None:
    ANN.when_reacted(gathering()).then(accounts("ann"), Deposited(50)).then_state(balances("ann"), 150)
    twice = ANN.given(accounts("ann"), Withdrawn(7)).when_reacted(gathering())
    assert "for Withdrawn(amount=7) at position 3\n  to ledger:ann:\n    Deposited(amount=7)\n" in fails(
        twice, "then_nothing"
    )


async def test_and_so_it_does_inside_of_another_event_loop() -> None:
    test_a_reaction_in_an_event_loop_runs_in_a_plain_function()


def test_a_reaction_runs_on_the_engine_of_a_store(rival: Store) -> None:
    given = scenario(rival).given(accounts("ann"), Opened("Ann"))
    given.when_reacted(welcoming()).then_state(balances("ann"), 49)
    given.when_reacted(gathering()).then(accounts("ann"), Deposited(50))
    assert rival.head() == 0


def test_nothing_is_left_of_a_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(threading.enumerate())
    ANN.when_reacted(welcoming())
    ANN.when_reacted(gathering())
    ANN.when_projected(booked())
    assert [thread for thread in threading.enumerate() if thread not in before and thread.is_alive()] == []
    assert list(tmp_path.iterdir()) == []


# -- Wrong use ---------------------------------------------------------------------------------------------------------

anything: Any = ANN
"""A scenario, for calls that a type checker would refuse."""


@pytest.fixture(scope="module")
def done() -> Any:
    """What came of a projection, for the same."""
    return ANN.when_projected(booked())


@pytest.fixture(scope="module")
def reacted() -> Any:
    """And of a reaction."""
    return ANN.when_reacted(welcoming())


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a reaction": (lambda: anything.when_projected(welcoming()), r"Projection is needed.*\.when_reacted\(reaction\)"),
    "a projection": (lambda: anything.when_reacted(booked()), r"Reaction is needed.*\.when_projected\(projection\)"),
    "a command": (lambda: anything.when_reacted(deposit), r"Reaction is needed.*\.when\(command, \.\.\.\)"),
    "one for a command": (lambda: anything.when(booked()), r"command is needed.*\.when_projected\(projection\)"),
    "another one for a command": (lambda: anything.when(welcoming()), r"command is needed.*\.when_reacted\(reaction\)"),
    "nothing done": (lambda: anything.then_rows("sheet", []), r"no 'then_rows': say first.*\.when_projected\("),
}

WRONG_OF_A_PROJECTION: dict[str, tuple[Callable[[Any], object], str]] = {
    "one row": (
        lambda done: done.then_rows("sheet", ("ann", "Ann", 100)),
        "rows are a list of tuples, or one of dicts",
    ),
    "both": (lambda done: done.then_rows("sheet", [("ann",), {}]), "rows are a list of tuples, or one of dicts"),
    "a text": (lambda done: done.then_query("SELECT 1", "1"), r'then_query\(sql, \.\.\.\): rows.*\[\("alice", 100\)\]'),
    "another table": (lambda done: done.then_rows("table", []), "has no table 'table' but sheet"),
    "no query": (lambda done: done.then_query("DELETE FROM sheet_v1", []), "gives no rows: a query is needed"),
    "no sql": (lambda done: done.then_query("SELCT 1", []), "syntax error"),
    "a class": (lambda done: done.then_parked(Opened, KeyError), "make an event of it, Opened"),
    "another event": (lambda done: done.then_parked(Withdrawn(1), KeyError), "handles Opened, Deposited. Give such"),
    "an error": (lambda done: done.then_stopped(1, KeyError("1")), "the class of the error is needed"),
    "a text for an error": (lambda done: done.then_parked(1, "KeyError"), "the class of the error is needed"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_use_says_what_to_do(wrong: str) -> None:
    call, message = WRONG[wrong]
    with pytest.raises((TypeError, AttributeError), match=message):
        call()


@pytest.mark.parametrize("wrong", WRONG_OF_A_PROJECTION)
def test_wrong_use_of_a_projection_says_what_to_do(done: Any, wrong: str) -> None:
    call, message = WRONG_OF_A_PROJECTION[wrong]
    with pytest.raises((TypeError, ValueError, DefinitionError, sqlite3.Error), match=message):
        call(done)


def test_wrong_use_of_a_reaction_says_what_to_do(reacted: Any) -> None:
    with pytest.raises(TypeError, match="reaction welcome handles Opened, Deposited"):
        reacted.then_parked(Renamed("Ann"), KeyError)


def test_rows_need_tables() -> None:
    with pytest.raises(TypeError, match=r"makes no tables.*below @setup\. Ask by \.then_query\(\)"):
        ANN.when_projected(forgiving()).then_rows("forgiving", [])
    with Store("memory:") as store, pytest.raises(TypeError, match="ran on memory:, which has no SQL database"):
        scenario(store).when_projected(forgiving()).then_query("SELECT 1", [])


def test_a_store_without_inline_projections_is_needed() -> None:
    given: Any = scenario(Store("sqlite:///never-opened.db", inline=[booked()]))
    for call, consumer in (("when_projected", booked()), ("when_reacted", welcoming())):
        with pytest.raises(ValueError, match=rf"{call}\(\): Store\(.* a store without inline="):
            getattr(given, call)(consumer)
