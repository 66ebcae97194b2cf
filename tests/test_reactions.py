"""Reactions: commands exactly once for each event and call, with what led to them, whatever crashes."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from factfold import (
    AsyncReactionContext,
    AsyncStore,
    ConsumerStoppedError,
    DefinitionError,
    OutcomeUnknownError,
    Reaction,
    ReactionContext,
    Retry,
    Store,
    StoreUnavailableError,
    Transaction,
    metadata,
    stream,
)
from factfold.storage.base import Storage
from factfold.storage.memory import Memory
from factfold.storage.sqlite import SQLite
from tests.faults import Faulty, raising
from tests.ledger import Deposited, Opened, accounts, deposit, open_account, withdraw
from tests.looping import store_of
from tests.racing import eventually, start
from tests.read_models import SQL_ENGINES
from tests.runners import children, opened

QUICK = Retry(max_attempts=3, base=1e-3, cap=2e-3)


@dataclass(frozen=True)
class Welcomed:
    amount: int


@stream("welcome", initial=0)
def welcomes(state: int, event: Welcomed) -> int:
    """How much an account was given as a welcome."""
    return state + event.amount


def welcome(tx: Transaction, id: str, amount: int) -> int:
    gift = tx.read(welcomes(id))
    gift.append(Welcomed(amount))
    return gift.state  # with this gift


def welcoming(
    flavour: str = "threads",
    *,
    start: Any = "beginning",
    hook: Callable[[Opened, int], object] | None = None,
    **options: Any,
) -> Reaction:
    """Gives two presents for each account that is opened, by two calls of one command."""
    reaction = Reaction("welcoming", start=start, **options)
    if flavour == "threads":

        @reaction.on
        def _(event: Opened, context: ReactionContext) -> None:
            context.execute(welcome, event.owner, 10)
            if hook is not None:
                hook(event, context.recorded.position)
            context.execute(welcome, event.owner, 5)
    else:

        @reaction.on
        async def _(event: Opened, context: AsyncReactionContext) -> None:
            await context.execute(welcome, event.owner, 10)
            if hook is not None:
                hook(event, context.recorded.position)
            await context.execute(welcome, event.owner, 5)

    return reaction


@pytest.fixture
def store(storage: Storage, flavour: str) -> Iterator[Store]:
    """A store, of threads or of a loop that runs in the background."""
    with store_of(flavour, storage) as store:
        yield store


# -- Exactly once ------------------------------------------------------------------------------------------------------


def test_each_event_is_reacted_to(store: Store, rival: Store, flavour: str) -> None:
    reaction = welcoming(flavour)
    rival.execute(open_account, "ann", "ann")
    store.start(reaction)
    receipt = rival.execute(open_account, "bob", "bob")
    store.execute(deposit, "bob")
    store.wait_for(reaction, receipt)
    assert [store.state(welcomes(id)) for id in ("ann", "bob")] == [15, 15]
    (status,) = store.reactions()
    assert (status.kind, status.name, status.version, status.serving) == ("reaction", "welcoming", 1, True)
    assert store.projections() == ()


def test_what_was_done_is_not_done_again_when_a_handler_is_called_again(store: Store, flavour: str) -> None:
    calls: list[int] = []

    def fail_twice(event: Opened, position: int) -> None:
        calls.append(position)
        if len(calls) < 3:
            raise LookupError("not yet")

    store.execute(open_account, "ann", "ann")
    store.catch_up(welcoming(flavour, hook=fail_twice, retry=QUICK))
    assert calls == [1, 1, 1]
    assert store.state(welcomes("ann")) == 15


def test_a_repeated_call_gives_the_first_ones_receipt(store: Store, flavour: str) -> None:
    results: list[tuple[int, bool]] = []
    reaction = Reaction("counting", start="beginning", retry=QUICK)

    if flavour == "threads":

        @reaction.on
        def react(event: Opened, context: ReactionContext) -> None:
            for _ in range(2):
                receipt = context.execute(welcome, "ann", len(results) + 1)
                results.append((receipt.result, receipt.repeated))
            if len(results) < 4:
                raise LookupError
            assert context.state(welcomes("ann")) == 3
    else:

        @reaction.on
        async def react_async(event: Opened, context: AsyncReactionContext) -> None:
            for _ in range(2):
                receipt = await context.execute(welcome, "ann", len(results) + 1)
                results.append((receipt.result, receipt.repeated))
            if len(results) < 4:
                raise LookupError
            assert await context.state(welcomes("ann")) == 3

    store.execute(open_account, "ann", "ann")
    store.catch_up(reaction)
    assert results == [(1, False), (3, False), (1, True), (3, True)]


def test_a_key_of_ones_own_is_for_all_events(store: Store, flavour: str) -> None:
    reaction = Reaction("once", start="beginning")

    if flavour == "threads":

        @reaction.on
        def react(event: Opened, context: ReactionContext) -> None:
            context.execute_as(f"welcome {event.owner}", welcome, event.owner, 7)
    else:

        @reaction.on
        async def react_async(event: Opened, context: AsyncReactionContext) -> None:
            await context.execute_as(f"welcome {event.owner}", welcome, event.owner, 7)

    for _ in range(3):
        store.execute(open_account, "x", "ann")
    store.catch_up(reaction)
    assert store.state(welcomes("ann")) == 7


def test_names_of_commands_may_be_long_and_odd(storage: Storage) -> None:
    def command(tx: Transaction) -> int:
        return welcome(tx, "ann", 1)

    command.__qualname__ = "<é%>" * 100
    reaction = Reaction("r" * 64, start="beginning")

    @reaction.on
    def _(event: Opened, context: ReactionContext) -> None:
        context.execute(command)

    with Store(storage) as store:
        store.execute(open_account, "ann", "ann")
        store.catch_up(reaction)
        assert store.state(welcomes("ann")) == 1


# -- What led to it ----------------------------------------------------------------------------------------------------


def test_what_led_to_a_command_stands_beside_its_events(store: Store, rival: Store, flavour: str) -> None:
    with metadata(actor="ann", correlation_id="request 7"):
        first = rival.execute(open_account, "ann", "ann").events[0]
    second = rival.execute(open_account, "bob", "bob").events[0]
    store.catch_up(welcoming(flavour))
    (known, *_), (alone, *_) = (list(rival.events(welcomes(id))) for id in ("ann", "bob"))
    assert (known.metadata.actor, known.metadata.correlation_id) == ("ann", "request 7")
    assert known.metadata.causation_id == first.id
    assert (alone.metadata.actor, alone.metadata.correlation_id) == (None, second.id)
    assert alone.metadata.causation_id == second.id


# -- Where it begins ---------------------------------------------------------------------------------------------------


def test_it_begins_with_what_comes_when_it_is_asked_to(store: Store, rival: Store, flavour: str) -> None:
    """From the call on: nothing that is executed after it is missed."""
    reaction = welcoming(flavour, start="head")
    rival.execute(open_account, "old", "old")
    store.start(reaction)
    receipt = store.execute(open_account, "ann", "ann")
    store.wait_for(reaction, receipt)
    store.stop()
    later = rival.execute(open_account, "bob", "bob")
    store.catch_up(reaction)
    store.wait_for(reaction, later)
    assert [store.state(welcomes(id)) for id in ("old", "ann", "bob")] == [0, 15, 15]


def test_a_reaction_may_handle_other_events_than_before(store: Store, flavour: str) -> None:
    """It has no read model that would have to be built anew: from where it is on, it handles others."""
    store.execute(open_account, "ann", "ann")
    store.execute(deposit, "ann", 1)
    store.catch_up(welcoming(flavour))
    other, seen = Reaction("welcoming", start="beginning"), list[object]()

    @other.on
    def _(event: Opened | Deposited, context: Any) -> None:
        seen.append(event)

    store.execute(deposit, "ann", 2)
    store.catch_up(other)
    assert seen == [Deposited(2)]


# -- Trouble -----------------------------------------------------------------------------------------------------------


def test_what_a_command_raises_is_the_handlers(store: Store, flavour: str) -> None:
    reaction = Reaction("withdrawing", start="beginning", retry=QUICK, on_error="park")
    if flavour == "threads":

        @reaction.on
        def _(event: Opened, context: ReactionContext) -> None:
            context.execute(withdraw, event.owner, 5)
    else:

        @reaction.on
        async def _(event: Opened, context: AsyncReactionContext) -> None:
            await context.execute(withdraw, event.owner, 5)

    store.execute(open_account, "ann", "ann")
    store.catch_up(reaction)
    (parked,) = store.parked(reaction)
    assert parked.failure.error == "InsufficientFundsError: ('ann', 0, 5)"
    store.execute(deposit, "ann", 5)
    assert store.replay(reaction, parked.position)
    assert store.state(accounts("ann")).balance == 0
    assert store.parked(reaction) == ()


@pytest.mark.parametrize(
    "error", [StoreUnavailableError("away"), OutcomeUnknownError("lost")], ids=lambda error: str(error)
)
def test_an_outage_does_not_stop_it(flavour: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it count as a try: the event is handled when the storage is there again."""
    monkeypatch.setattr("factfold.consuming.AWAY", Retry(base=1e-3, cap=2e-3))
    faulty = Faulty(Memory())
    reaction = welcoming(flavour, retry=Retry(max_attempts=1))
    with store_of(flavour, faulty) as store:
        store.start(reaction)
        store.execute(deposit, "ann")
        faulty.before["load"] = raising(error)
        with Store(faulty._storage) as other:
            receipt = other.execute(open_account, "ann", "ann")
        eventually(lambda: store.reactions()[0].state == "retrying")
        faulty.before.clear()
        store.wait_for(reaction, receipt)
        assert store.state(welcomes("ann")) == 15


def test_one_that_fails_stops_and_says_so(store: Store, flavour: str) -> None:
    def fail(event: Opened, position: int) -> None:
        raise LookupError("bad luck")

    reaction = welcoming(flavour, hook=fail, retry=QUICK)
    store.execute(open_account, "ann", "ann")
    with pytest.raises(ConsumerStoppedError, match="reaction welcoming .* the event at position 1 .Opened. failed"):
        store.run(reaction)
    assert store.state(welcomes("ann")) == 10
    store.catch_up(welcoming(flavour))
    assert store.state(welcomes("ann")) == 15


def test_stopping_does_not_wait_for_the_whole_batch(store: Store, flavour: str) -> None:
    """It ends after the event that is being handled; what is done is not done again."""
    handled: list[int] = []

    def slow(event: Opened, position: int) -> None:
        handled.append(position)
        time.sleep(0.02)

    for _ in range(50):
        store.execute(open_account, "ann", "ann")
    store.start(welcoming(flavour, hook=slow))
    eventually(lambda: len(handled) >= 3)
    store.stop()
    assert len(handled) < 50
    before = len(handled)
    store.catch_up(welcoming(flavour, hook=lambda event, position: handled.append(position)))
    assert handled == list(range(1, 51))
    assert before < 50
    assert store.state(welcomes("ann")) == 750


def test_a_reaction_may_stop_others_and_itself(store: Store, flavour: str) -> None:
    """As a handler that has seen enough does."""
    reaction = Reaction("last", start="beginning")
    seen: list[int] = []
    if flavour == "threads":

        @reaction.on
        def _(event: Opened, context: ReactionContext) -> None:
            seen.append(context.recorded.position)
            context.store.stop()
    else:

        @reaction.on
        async def _(event: Opened, context: AsyncReactionContext) -> None:
            seen.append(context.recorded.position)
            await context.store.stop()

    for owner in ("ann", "bob", "cid"):
        store.execute(open_account, owner, owner)
    start(lambda: store.run(reaction)).result()
    assert seen == [1]
    assert [status.state for status in store.reactions()] == ["stopped"]


# -- Definitions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "a", "start": "now"}, "start is 'beginning' or 'head'"),
        ({"name": "a b", "start": "head"}, "cannot be the name of a reaction"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Reaction(**arguments)


async def test_contexts_are_those_of_the_store() -> None:
    with Store("memory:") as store, pytest.raises(DefinitionError, match="is `async def`"):
        store.run(welcoming("loop"))
    sync_context, plain_context = welcoming("threads"), Reaction("r", start="head")

    @plain_context.on  # type: ignore[arg-type]  # that is what is refused at run time, too
    def _(event: Opened, context: AsyncReactionContext) -> None: ...

    async with AsyncStore("memory:") as async_store:
        with pytest.raises(
            DefinitionError, match="takes a ReactionContext, and this store gives .* AsyncReactionContext"
        ):
            await async_store.run(sync_context)
        with pytest.raises(DefinitionError, match="nothing awaits them in a plain `def`"):
            await async_store.run(plain_context)
    with Store("memory:") as store, pytest.raises(DefinitionError, match="takes a AsyncReactionContext"):
        store.run(plain_context)


# -- Crashes -----------------------------------------------------------------------------------------------------------

KILLS = 10


def react(storage: Storage, flavour: str) -> None:
    """Runs the reaction for ever; the target of a process."""
    reaction = welcoming(flavour, lease=0.2)
    if flavour == "threads":
        opened(storage).run(reaction)
    else:
        asyncio.run(_react_async(storage, reaction))


async def _react_async(storage: Storage, reaction: Reaction) -> None:
    async with AsyncStore(storage) as store:
        await store.run(reaction)


@pytest.mark.parametrize("engine", [*SQL_ENGINES, "valkey"])
def test_commands_are_executed_exactly_once_whenever_it_is_killed(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    storage: Storage = SQLite(tmp_path / "log.db", synchronous="normal")
    if engine != "sqlite":
        storage = replace(request.getfixturevalue("direct" if engine == "postgres" else "valkey"), timeout=2.0)
    chance, ids = random.Random(3), [f"a{number}" for number in range(40)]
    stop = threading.Event()
    with Store(storage) as store, children() as processes:

        def write() -> None:
            for id in ids:
                store.execute(open_account, id, id)
                stop.wait(0.02)

        writer = start(write)
        runners = [processes.start(react, storage, flavour) for flavour in ("threads", "loop", "threads")]
        eventually(lambda: store.reactions())
        for number in range(KILLS):
            time.sleep(chance.uniform(0.02, 0.15))  # a moment that nobody has chosen
            processes.kill(runners.pop(chance.randrange(3)))
            runners.append(processes.start(react, storage, ("threads", "loop")[number % 2]))
        writer.result()
        for runner in runners:
            processes.kill(runner)
        store.catch_up(welcoming(lease=0.2))
        assert [store.state(welcomes(id)) for id in ids] == [15] * len(ids)
        assert sum(1 for _ in store.log(types=Welcomed)) == 2 * len(ids)
