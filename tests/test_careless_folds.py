"""States that could be changed in place are copied: a careless fold corrupts nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from factfold.streams import stream


@dataclass(frozen=True)
class Opened:
    owner: str


@dataclass(frozen=True)
class Deposited:
    amount: int


@dataclass(frozen=True)
class Transferred:
    source: str
    target: str
    amount: int


@dataclass(frozen=True)
class Account:
    owner: str | None = None
    balance: int = 0


AccountEvent = Opened | Deposited


@stream("account", initial=Account())
def accounts(state: Account, event: AccountEvent) -> Account:
    match event:
        case Opened(owner):
            return replace(state, owner=owner)
        case Deposited(amount):
            return replace(state, balance=state.balance + amount)


@stream("account", initial=0, snapshot_every=200, snapshot_version=3)
def balances(state: int, event: Deposited | Transferred, id: str) -> int:
    match event:
        case Deposited(amount):
            return state + amount
        case Transferred(source, target, amount):
            return state + amount * ((target == id) - (source == id))


@dataclass(frozen=True)
class Counted:
    counts: Mapping[str, int] = field(default_factory=dict)
    words: Sequence[str] = ()


@dataclass(frozen=True)
class Configured:
    settings: Mapping[str, int]


def careless(state: Counted, event: Opened | Configured) -> Counted:
    """Does what one must not do: changes what it was given."""
    counts: Any = state.counts
    if isinstance(event, Configured):
        return replace(state, counts=event.settings)
    counts[event.owner] = counts.get(event.owner, 0) + 1
    return state


def test_a_fold_that_changes_the_state_in_place_never_changes_the_one_that_it_was_given() -> None:
    counted = stream("counted", initial=Counted())(careless)
    before = Counted({"a": 1}, ["x"])
    after = counted.fold.evolve(before, Opened("a"), "")
    assert before == Counted({"a": 1}, ["x"])
    assert after == Counted({"a": 2}, ["x"])


def test_a_fold_that_changes_the_state_in_place_never_changes_the_initial_state() -> None:
    initial = Counted()
    counted = stream("counted", initial=initial)(careless)
    counted.fold.evolve(counted.fold.initial, Opened("a"), "")
    assert counted.fold.initial == counted.initial == Counted()
    initial.counts["late"] = 1  # type: ignore[index]  # what is tried here
    assert counted.fold.initial == Counted()


def test_a_state_never_shares_a_mapping_with_an_event() -> None:
    counted = stream("counted", initial=Counted())(careless)
    event = Configured({"a": 1})
    state: Any = counted.fold.evolve(Counted(), event, "")
    assert state.counts == {"a": 1}
    state.counts["b"] = 2
    assert event == Configured({"a": 1})


def test_what_a_command_is_shown_is_a_copy() -> None:
    counted = stream("counted", initial=Counted())(careless)
    assert counted.fold.show is not None
    state = Counted({"a": 1})
    shown: Any = counted.fold.show(state)
    shown.counts["a"] = 2
    assert state == Counted({"a": 1})


def test_a_state_that_nobody_else_holds_is_advanced_without_a_copy() -> None:
    counted = stream("counted", initial=Counted())(careless)
    state = Counted({"a": 1})
    assert counted.fold.advance(state, Opened("a"), "") is state
    assert state == Counted({"a": 2})


def test_a_deeply_immutable_state_is_never_copied() -> None:
    assert accounts.fold.show is None
    assert accounts.fold.evolve is accounts.fold.advance
    assert balances.fold.show is None


def test_a_fold_with_an_id_on_a_state_with_a_mapping_gets_all_three() -> None:
    @stream("seen", initial={})
    def seen(state: Mapping[str, int], event: Deposited, id: str) -> Mapping[str, int]:
        return {**state, id: event.amount}

    assert seen.fold.evolve({"a": 1}, Deposited(2), "b") == {"a": 1, "b": 2}
