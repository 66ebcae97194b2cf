"""Strategies for events and histories: what they make can be stored and folded, and they reach what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from factfold import DefinitionError, Store, stream
from factfold.codec import event_type
from factfold.testing import scenario
from factfold.testing.strategies import events, histories
from tests.ledger import Deposited, Opened, Renamed, Transferred, Withdrawn, accounts, balances, deposit, owners

T = TypeVar("T")
Cents = NewType("Cents", int)
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Place(NamedTuple):
    x: int
    y: float | None


@dataclass(frozen=True)
class Box(Generic[T]):
    inside: T


@dataclass(frozen=True)
class Tree:
    name: str
    branches: tuple[Tree, ...] = ()


class Card(msgspec.Struct, frozen=True, tag=True):
    number: str


class Cash(msgspec.Struct, frozen=True, tag=True):
    amount: Decimal


@dataclass(frozen=True)
class Everything:
    flag: bool
    number: int
    share: float
    price: Decimal
    text: str
    data: bytes
    at: datetime
    on: date
    about: time
    lasted: timedelta
    key: UUID
    colour: Colour
    kind: Literal["a", "b"]
    maybe: int | None
    pair: tuple[int, str]
    nothing: tuple[()]
    many: tuple[Place, ...]
    tags: frozenset[str]
    stock: Mapping[str, int]
    box: Box[Cents]
    tree: Tree
    paid: Card | Cash | None
    counted: int = field(init=False, default=7)


class Struct(msgspec.Struct, frozen=True, rename="camel"):
    first_name: str
    amount: Annotated[int, msgspec.Meta(gt=0, lt=100, multiple_of=5)]
    share: Annotated[float, msgspec.Meta(ge=0, le=1)]
    code: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
    few: Annotated[tuple[int, ...], msgspec.Meta(min_length=1, max_length=2)]
    local: Annotated[datetime, msgspec.Meta(tz=False)]


@attrs.frozen
class Attrs:
    number: int
    hidden: int = attrs.field(init=False, default=3)


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    amount: int = pydantic.Field(ge=1, le=9)
    name: str = pydantic.Field(alias="fullName", min_length=1, max_length=3)
    cash: Decimal


@dataclass(frozen=True)
class Even:
    """Refuses values, as a domain's own classes do."""

    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("odd")


@pytest.mark.parametrize("cls", [Everything, Struct, Attrs, Model, Even], ids=lambda cls: cls.__name__)
def test_every_event_that_is_made_can_be_stored(cls: type[object]) -> None:
    encode = event_type(cls).encode

    @QUICK
    @given(events(cls))
    def check(event: object) -> None:
        assert type(event) is cls
        encode(event)

    check()


@QUICK
@given(events(Struct))
def test_the_limits_of_fields_are_kept(event: Struct) -> None:
    assert event.amount in range(5, 100, 5)
    assert 0 <= event.share <= 1
    assert re.search("^[A-Z]{3}$", event.code)
    assert 1 <= len(event.few) <= 2
    assert event.local.tzinfo is None


def finds(strategy: SearchStrategy[T], condition: Callable[[T], bool]) -> T:
    """An example, the first that there is: to make it smaller takes long."""
    first = settings(max_examples=2000, deadline=None, database=None, phases=[Phase.generate])
    return find(strategy, condition, settings=first)


@pytest.mark.parametrize("cls", [Opened, Deposited])
def test_events_are_of_every_class_of_a_union(cls: type[object]) -> None:
    assert isinstance(finds(events(Opened | Deposited), lambda event: type(event) is cls), cls)


@pytest.mark.parametrize("cls", [Opened, Renamed, Deposited, Withdrawn, Transferred])
def test_events_are_of_every_class_of_a_stream_type(cls: type[object]) -> None:
    assert isinstance(finds(events(accounts), lambda event: type(event) is cls), cls)


@dataclass(frozen=True)
class Planted:
    tree: Tree
    paid: Card | Cash | None
    at: datetime


def test_every_kind_of_value_is_reached() -> None:
    planted = events(Planted)
    assert finds(planted, lambda event: event.paid is None).at.tzinfo is UTC
    assert isinstance(finds(planted, lambda event: isinstance(event.paid, Cash)).paid, Cash)
    assert finds(planted, lambda event: len(event.tree.branches) > 1).tree.branches
    assert finds(planted, lambda event: any(tree.branches for tree in event.tree.branches)).tree.branches


@QUICK
@given(events(Everything, using={Cents: st.just(Cents(5)), str: st.just("x"), Tree: st.builds(Tree, st.just("oak"))}))
def test_strategies_of_ones_own_are_used_wherever_they_fit(event: Everything) -> None:
    assert event.box == Box(5)
    assert event.text == "x"
    assert event.tree == Tree("oak")


@QUICK
@given(events(accounts, using={Opened: st.builds(Opened, st.just("Ann"))}))
def test_a_strategy_of_ones_own_for_an_event_is_used(event: object) -> None:
    assert not isinstance(event, Opened) or event == Opened("Ann")


# -- Histories ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Started:
    pass


@dataclass(frozen=True)
class Moved:
    by: int


@dataclass(frozen=True)
class Ended:
    pass


class CannotHappenError(Exception):
    """What the strict fold raises."""


@dataclass(frozen=True)
class Journey:
    started: bool = False
    ended: bool = False
    moved: int = 0


@stream("journey", initial=Journey())
def journeys(state: Journey, event: Started | Moved | Ended) -> Journey:
    match event:
        case Started() if not state.started:
            return replace(state, started=True)
        case Moved(by) if state.started and not state.ended and 0 < by < 100:
            return replace(state, moved=state.moved + by)
        case Ended() if state.started and not state.ended:
            return replace(state, ended=True)
    raise CannotHappenError


@QUICK
@given(histories(journeys, max_size=5, using={Moved: st.builds(Moved, st.integers(-5, 200))}))
def test_the_fold_takes_every_history(history: tuple[Started | Moved | Ended, ...]) -> None:
    assert len(history) <= 5
    if history:
        with Store("memory:") as store:
            store.execute(lambda tx: tx.read(journeys("a")).append(*history))
            assert store.state(journeys("a")).started


def test_histories_grow() -> None:
    steps = {Moved: st.builds(Moved, st.integers(-5, 200))}
    long = finds(histories(journeys, min_size=4, using=steps), lambda history: Ended() in history)
    assert long[0] == Started()
    assert len(long) >= 4
    assert finds(histories(journeys), lambda history: not history) == ()


@QUICK
@given(histories(journeys, min_size=1, max_size=3))
def test_histories_are_at_least_as_long_as_they_are_asked_for(history: tuple[object, ...]) -> None:
    assert 1 <= len(history) <= 3


@dataclass(frozen=True)
class Named:
    id: str


@stream("own", initial=0)
def owned(state: int, event: Named, id: str) -> int:
    if event.id != id:
        raise CannotHappenError
    return state + 1


@QUICK
@given(histories(owned("a"), min_size=1, using={str: st.sampled_from(["a", "b"])}))
def test_a_history_may_be_that_of_one_stream(history: tuple[Named, ...]) -> None:
    assert set(history) == {Named("a")}


@QUICK
@given(histories(balances("ann"), min_size=1, using={Transferred: st.nothing()}), st.integers(1, 100))
def test_a_history_may_be_what_was_given(history: tuple[Deposited | Withdrawn | Transferred, ...], amount: int) -> None:
    before = sum(event.amount if isinstance(event, Deposited) else -event.amount for event in history)
    scenario().given(balances("ann"), *history).when(deposit, "ann", amount).then_result(before + amount)


# -- Wrong use ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Odd:
    odd: range


anything: Any = None
WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a stream": (lambda: events(owners("ann")), r"give the stream type, events\(owners\)"),
    "no class": (lambda: events(5), "events.*no class"),
    "a class that is no event": (lambda: events(list), "not known to be immutable|can be changed"),
    "no stream type": (lambda: histories(anything), r"histories\(\) reads streams"),
    "a strategy": (lambda: events(Opened, using=st.text()), "using=.*a mapping is needed"),  # type: ignore[call-overload]
    "a value": (lambda: events(Opened, using={str: "x"}), "a strategy is needed, such as"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_use_says_what_to_do(wrong: str) -> None:
    call, message = WRONG[wrong]
    with pytest.raises((TypeError, DefinitionError), match=message):
        call()


@pytest.mark.parametrize("sizes", [(-1, 5), (5, 4), ("1", 5)])
def test_sizes_are_a_range(sizes: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="whole numbers, 0 <= min_size <= max_size"):
        histories(owners, min_size=sizes[0], max_size=sizes[1])


def test_without_hypothesis_it_says_what_to_install() -> None:
    script = "import sys; sys.modules['hypothesis'] = None; import factfold.testing.strategies"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert "ModuleNotFoundError: factfold.testing.strategies needs hypothesis" in done.stderr
    assert "pip install 'factfold[test]'" in done.stderr
