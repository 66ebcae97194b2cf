"""Handlers: chosen by the class that annotates their first parameter; what cannot work is refused at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from factfold import AsyncStore, Context, DefinitionError, Handlers, RecordedEvent, Store, event
from tests.ledger import Deposited, Opened, Renamed, Withdrawn, accounts, deposit, open_account, withdraw
from tests.sources import run


def recorded_events() -> list[RecordedEvent[Any]]:
    """Three decoded events: opened, deposited, withdrawn."""
    with Store("memory:") as store:
        store.execute(open_account, "ann", "Ann")
        store.execute(deposit, "ann", 5)
        store.execute(withdraw, "ann", 2)
        return list(store.log(types=accounts))


def test_an_event_goes_to_the_handler_of_its_class() -> None:
    handlers = Handlers()
    seen: list[tuple[str, int, object]] = []

    @handlers.on
    def _(event: Opened, context: Context) -> None:
        seen.append(("opened", context.recorded.position, event))

    @handlers.on
    def _(event: Deposited | Withdrawn, context: Context) -> None:
        seen.append(("money", context.recorded.position, event))

    for recorded in recorded_events():
        handlers.dispatch(recorded)
    assert seen == [("opened", 1, Opened("Ann")), ("money", 2, Deposited(5)), ("money", 3, Withdrawn(2))]
    assert handlers.types == (Opened, Deposited, Withdrawn)


def test_an_event_without_a_handler_is_left_alone() -> None:
    handlers = Handlers()
    seen: list[object] = []

    @handlers.on
    def withdrawn(event: Withdrawn, context: Context) -> None:
        seen.append(event)

    for recorded in recorded_events():
        handlers.dispatch(recorded)
    assert seen == [Withdrawn(2)]
    assert withdrawn.__name__ == "withdrawn", "the function stays as it is"


def test_what_a_handler_raises_reaches_the_caller() -> None:
    handlers = Handlers()

    @handlers.on
    def _(event: Opened, context: Context) -> None:
        raise ZeroDivisionError(event.owner)

    with pytest.raises(ZeroDivisionError, match="Ann"):
        handlers.dispatch(recorded_events()[0])


def test_plain_json_has_no_handler_and_that_is_said() -> None:
    handlers = Handlers()
    with Store("memory:") as store:
        store.execute(deposit, "ann")
        (recorded,) = store.log()
    with pytest.raises(TypeError, match=r"position 1 .* was not decoded"):
        handlers.dispatch(recorded)


def test_the_log_can_be_read_for_handlers() -> None:
    handlers = Handlers()

    @handlers.on
    def _(event: Opened | Withdrawn, context: Context) -> None: ...

    with Store("memory:") as store:
        store.execute(open_account, "ann", "Ann")
        store.execute(deposit, "ann", 5)
        store.execute(withdraw, "ann", 2)
        assert [each.event for each in store.log(types=handlers)] == [Opened("Ann"), Withdrawn(2)]


async def test_handlers_may_be_async() -> None:
    handlers = Handlers()
    seen: list[object] = []

    @handlers.on
    async def _(event: Opened, context: Context) -> None:
        seen.append(event)

    @handlers.on
    def _(event: Deposited, context: Context) -> None:
        seen.append(event)

    async with AsyncStore("memory:") as store:
        await store.execute(open_account, "ann", "Ann")
        await store.execute(deposit, "ann", 5)
        async with store.subscribe(types=handlers, after=0) as subscription:
            async for recorded in subscription:
                await handlers.dispatch_async(recorded)
                if len(seen) == 2:
                    break
    assert seen == [Opened("Ann"), Deposited(5)]


def test_an_async_handler_is_not_dispatched_without_being_awaited() -> None:
    handlers = Handlers()

    @handlers.on
    async def slow(event: Opened, context: Context) -> None:
        raise AssertionError("it is not begun")

    with pytest.raises(DefinitionError, match="slow is `async def`"):
        handlers.dispatch(recorded_events()[0])


def test_an_object_that_is_called_may_be_a_handler() -> None:
    seen: list[object] = []

    class Collecting:
        def __call__(self, event: Opened, context: Context) -> None:
            seen.append(event)

        async def later(self, event: Deposited, context: Context) -> None: ...

    handlers = Handlers()
    handlers.on(Collecting().later)
    with pytest.raises(DefinitionError, match="async def"):
        handlers.refuse_async("here")
    handlers = Handlers()
    collecting = Collecting()
    handlers.on(collecting.__call__)
    handlers.dispatch(recorded_events()[0])
    assert seen == [Opened("Ann")]


def test_annotations_are_resolved_as_for_folds() -> None:
    module = run(
        """
        from __future__ import annotations
        from dataclasses import dataclass
        from factfold import Context, Handlers

        def made():
            @dataclass(frozen=True)
            class Local:
                x: int

            AnyOf = Local
            handlers = Handlers()

            @handlers.on
            def _(event: AnyOf, context: Context) -> None: ...
            return handlers, Local
        """
    )
    handlers, local = module.made()
    assert handlers.types == (local,)


# -- What is refused ---------------------------------------------------------------------------------------------------


def one_parameter(event: Opened) -> None: ...


def three_parameters(event: Opened, context: Context, more: int) -> None: ...


def keyword_only(event: Opened, *, context: Context) -> None: ...


def wrong_context(event: Opened, context: int) -> None: ...


def no_class(event: Opened | None, context: Context) -> None: ...


def anything(event: object, context: Context) -> None: ...


def yields(event: Opened, context: Context) -> Iterator[None]:
    yield


async def yields_async(event: Opened, context: Context) -> AsyncIterator[None]:
    yield


REFUSED: list[tuple[Any, str]] = [
    (lambda event, context: None, "`event` has no annotation"),
    (one_parameter, "takes the event and its context"),
    (three_parameters, "takes the event and its context"),
    (keyword_only, "takes the event and its context"),
    (wrong_context, "`context` is a int, and handlers gives it a Context"),
    (no_class, "None is no event"),
    (anything, "does not say which events"),
    (yields, "yields"),
    (yields_async, "yields"),
    (5, "not above 5"),
]


@pytest.mark.parametrize(("handler", "reason"), REFUSED, ids=lambda value: getattr(value, "__name__", "")[:30])
def test_what_cannot_be_a_handler_is_refused(handler: Callable[..., None], reason: str) -> None:
    with pytest.raises(DefinitionError, match=reason):
        Handlers().on(handler)


def test_a_class_has_one_handler() -> None:
    handlers = Handlers()

    @handlers.on
    def first(event: Opened | Renamed, context: Context) -> None: ...

    with pytest.raises(DefinitionError, match=r"for Renamed handlers has .*first already"):

        @handlers.on
        def second(event: Deposited | Renamed, context: Context) -> None: ...

    assert handlers.types == (Opened, Renamed), "nothing of the second one is there"


def test_two_classes_of_one_stored_name_cannot_be_told_apart() -> None:
    @event(name="Opened")
    @dataclass(frozen=True)
    class OpenedAgain:
        owner: str

    handlers = Handlers()

    @handlers.on
    def _(event: Opened, context: Context) -> None: ...

    with pytest.raises(DefinitionError, match="both stand for 'Opened'"):

        @handlers.on
        def _(event: OpenedAgain, context: Context) -> None: ...

    with pytest.raises(DefinitionError, match="two of the classes that it handles both stand for 'Opened'"):

        @Handlers().on
        def _(event: Opened | OpenedAgain, context: Context) -> None: ...
