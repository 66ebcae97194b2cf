"""What a fold returns is a state as it is annotated: nothing else gets into the cache."""

from __future__ import annotations

import enum
import pathlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import msgspec
import pydantic
import pytest

from factfold import DefinitionError, Store, Transaction, stream

T = TypeVar("T")


@dataclass(frozen=True)
class Added:
    item: int


@dataclass(frozen=True)
class Empty:
    pass


@dataclass(frozen=True)
class Filled(Empty):
    items: list[int] = field(default_factory=list)


@stream("cart", initial=Empty())
def carts(state: Empty, event: Added) -> Empty:
    filled = state if isinstance(state, Filled) else Filled()
    filled.items.append(event.item)
    return filled


@stream("forgetful", initial=0)
def forgetful(state: int, event: Added) -> int:
    if event.item > 5:
        return state + event.item
    return None  # type: ignore[return-value]  # what comes where nothing is returned


def add(tx: Transaction, item: int) -> None:
    tx.read(carts("a")).append(Added(item))


def count(tx: Transaction, item: int) -> None:
    tx.read(forgetful("a")).append(Added(item))


def test_a_subclass_of_what_is_annotated_is_no_state(store: Store) -> None:
    with pytest.raises(DefinitionError) as caught:
        store.execute(add, 1)
    module = __name__
    assert str(caught.value) == (
        f"{module}.carts returned a {module}.Filled for the event {module}.Added, and the state that it returns is "
        "annotated as Empty. A subclass is another class, of which nobody knows whether it can be changed in place: "
        "list it, as in `Empty | Filled`."
    )
    assert store.head() == 0
    assert store.state(carts("a")) == Empty()


def test_a_fold_that_forgets_to_return_is_told_so(store: Store) -> None:
    store.execute(count, 7)
    with pytest.raises(DefinitionError, match=r"forgetful returned None for the event .*Added.*a `return` is missing"):
        store.execute(count, 1)
    assert store.head() == 1
    assert store.state(forgetful("a")) == 7


def test_an_initial_state_of_a_subclass_is_refused() -> None:
    def fold(state: Empty, event: Added) -> Empty:
        return state

    with pytest.raises(DefinitionError, match="the initial state is Filled"):
        stream("cart", initial=Filled())(fold)


class Suit(enum.Enum):
    HEARTS = "hearts"


class Point(NamedTuple):
    x: int


class Struct(msgspec.Struct, Generic[T], frozen=True):
    value: T


class Model(pydantic.BaseModel, Generic[T]):
    model_config = pydantic.ConfigDict(frozen=True)
    value: T


@dataclass(frozen=True)
class Box(Generic[T]):
    value: T


class Money(int):
    pass


class Shared(Mapping[str, int]):
    """A mapping of somebody else's."""

    def __getitem__(self, key: str) -> int:
        return len(key)

    def __iter__(self) -> Any:
        return iter(("a",))

    def __len__(self) -> int:
        return 1


ALLOWED: list[tuple[Any, object]] = [
    (int, 1),
    (int, True),
    (int, Money(3)),
    (float, 1),
    (complex, 1.5),
    (Decimal | None, None),
    (Decimal | None, Decimal(1)),
    (None, None),
    (Suit, Suit.HEARTS),
    (Literal["a", 1], "a"),
    (Literal["a", 1], 1),
    (pathlib.PurePath, pathlib.Path("x")),
    (tuple[int, ...], (1,)),
    (tuple[()], ()),
    (frozenset[int], frozenset((1,))),
    (Mapping[str, int], {"a": 1}),
    (Mapping[str, int], OrderedDict(a=1)),
    (Mapping[str, int], MappingProxyType({"a": 1})),
    (Mapping[str, int], Shared()),
    (Shared, Shared()),
    (Sequence[int], [1]),
    (Sequence[int], (1,)),
    (Sequence[str], "text"),
    (AbstractSet[int], {1}),
    (AbstractSet[int], frozenset((1,))),
    (Point, Point(1)),
    (Box[int], Box(1)),
    (Box[int] | Point, Point(1)),
    (Struct[int], Struct(1)),
    (Model[int], Model[int](value=1)),
    (Model[int], Model(value=1)),
]

REFUSED: list[tuple[Any, object, object]] = [
    (int, 0, "1"),
    (float, 0.0, Decimal(1)),
    (Literal["a"], "a", 1),
    (Suit, Suit.HEARTS, "hearts"),
    (tuple[int, ...], (), [1]),
    (tuple[int, ...], (), Point(1)),
    (frozenset[int], frozenset[int](), {1}),
    (Mapping[str, int], {}, ("a", 1)),
    (Sequence[int], (), {1}),
    (Point, Point(1), (1,)),
    (Box[int], Box(1), Struct(1)),
    (Struct[int], Struct(1), None),
]


def folding(annotation: object, initial: object, returned: object) -> Any:
    def fold(state: object, event: Added) -> object:
        return returned

    fold.__annotations__ = {"state": annotation, "event": Added, "return": annotation}
    return stream("thing", initial=initial)(fold).fold


@pytest.mark.parametrize(("annotation", "value"), ALLOWED)
def test_values_of_the_annotated_types_are_states(annotation: object, value: object) -> None:
    fold = folding(annotation, value, value)
    for _ in range(2):  # the second time it is known
        assert fold.evolve(value, Added(1), "") == value
        assert fold.advance(value, Added(1), "") == value


@pytest.mark.parametrize(("annotation", "initial", "value"), REFUSED)
def test_values_of_other_types_are_not(annotation: object, initial: object, value: object) -> None:
    fold = folding(annotation, initial, value)
    for evolve in (fold.evolve, fold.advance):
        with pytest.raises(DefinitionError, match="the state that it returns is annotated as"):
            evolve(initial, Added(1), "")


def test_what_is_returned_counts_not_what_is_taken() -> None:
    @stream("account", initial=None)
    def maybe(state: int | None, event: Added) -> int:
        return None  # type: ignore[return-value]  # what is tried here

    with pytest.raises(DefinitionError, match="returned None"):
        maybe.fold.evolve(None, Added(1), "")
