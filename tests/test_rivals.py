"""Several folds may take one stored name for classes of their own, as long as each can read what the others append."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from factfold import EncodingError, Store, Transaction, event, stream
from tests.conftest import MakeStore


@event(name="Moved")
@dataclass(frozen=True)
class Moved:
    steps: int
    by: str = ""


@event(name="Moved")
@dataclass(frozen=True)
class MovedInWords:
    steps: str


@event(name="Moved")
@dataclass(frozen=True)
class MovedSomehow:
    """Takes less of the same data, as a reader may."""

    by: str


@stream("place", initial=0)
def places(state: int, event: Moved) -> int:
    return state + event.steps


@stream("place", initial="")
def words(state: str, event: MovedInWords) -> str:
    return state + event.steps


@stream("person", initial=0)
def persons(state: int, event: Moved) -> int:
    return state + event.steps


@stream("person", initial="")
def movers(state: str, event: MovedSomehow) -> str:
    return state + event.by


REFUSAL = (
    f"{__name__}.Moved cannot be appended to place:a: it is stored as 'Moved', which the fold {__name__}.words reads "
    f"as {__name__}.MovedInWords, and that class refuses it: Expected `str`, got `int` - at `$.steps`. Give one of the "
    "two classes another name, @event(name=...), or make them take the same data."
)


def move(tx: Transaction, place: str, steps: int) -> None:
    tx.read(places(place)).append(Moved(steps))


def test_what_a_fold_defined_beside_it_could_never_read_is_not_appended(store: Store) -> None:
    with pytest.raises(EncodingError) as caught:
        store.execute(move, "a", 1)
    assert str(caught.value) == REFUSAL
    assert store.head() == 0
    assert (store.state(places("a")), store.state(words("a"))) == (0, "")


def test_an_event_in_several_streams_is_looked_at_for_each_of_them(store: Store) -> None:
    def go(tx: Transaction) -> None:
        person, place = tx.read(persons("ann"), places("a"))
        tx.append(Moved(1), person, place)

    with pytest.raises(EncodingError, match="cannot be appended to place:a"):
        store.execute(go)
    assert store.head() == 0


def test_a_class_that_takes_less_of_the_same_data_is_no_hindrance(store: Store, other: Store) -> None:
    def go(tx: Transaction) -> str:
        person, mover = tx.read(persons("ann"), movers("ann"))
        person.append(Moved(2, "train"))
        return mover.state

    assert store.execute(go).result == "train"
    assert (other.state(persons("ann")), other.state(movers("ann"))) == (2, "train")


def elsewhere() -> Any:
    """A stream type of the same category that some other part of the program has defined."""

    @stream("person", initial="")
    def strangers(state: str, event: MovedInWords) -> str:
        return state + event.steps

    return strangers


def test_what_is_defined_in_another_place_may_be_of_another_log(make_store: MakeStore, other: Store) -> None:
    strangers = elsewhere()
    store = make_store()
    store.execute(lambda tx: tx.read(persons("ann")).append(Moved(1)))
    other.namespace("another").execute(lambda tx: tx.read(strangers("ann")).append(MovedInWords("one")))
    assert store.state(persons("ann")) == 1


def test_a_fold_of_another_place_that_is_read_together_with_it_refuses_what_it_cannot_read(store: Store) -> None:
    strangers = elsewhere()

    def go(tx: Transaction) -> object:
        person, stranger = tx.read(persons("ann"), strangers("ann"))
        person.append(Moved(1))
        return stranger.state

    with pytest.raises(EncodingError, match=r"cannot be appended to person:ann.*strangers reads as .*MovedInWords"):
        store.execute(go)
    assert store.head() == 0


def test_a_stream_type_that_is_defined_again_takes_the_place_of_the_former_one(store: Store) -> None:
    def define(steps: type) -> tuple[Any, Any]:
        class Jumped:
            __annotations__ = {"steps": steps}

        cls: Any = dataclass(frozen=True)(Jumped)

        def fold(state: int, event: object) -> int:
            return state + 1

        fold.__annotations__["event"] = cls
        return cls, stream("jump", initial=0)(fold)

    former = define(str)
    jumped, jumps = define(int)
    store.execute(lambda tx: tx.read(jumps("a")).append(jumped(1)))
    assert store.state(jumps("a")) == 1
    assert former[0] is not jumped  # it is still there
