"""What failed is gone when its caller has heard of it, with everything that it had seen."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import ClassVar
from weakref import WeakSet

import pytest

from factfold import Store, Transaction, stream
from tests.conftest import MakeStore
from tests.ledger import Deposited, accounts, deposit

TIMES = 20
"""How often each thing fails here: an answer or two may still be at hand in a thread that rests."""

FEW = 3


class TroubleError(Exception):
    """What is raised here; it knows which of it are still there."""

    there: ClassVar[WeakSet[TroubleError]] = WeakSet()

    def __init__(self) -> None:
        super().__init__("bad luck")
        self.there.add(self)


@stream("ledger", initial=0)
def brittle(state: int, event: Deposited) -> int:
    """Bears no deposit above 1."""
    if event.amount > 1:
        raise TroubleError
    return state + event.amount


def read_what_cannot_be_folded(tx: Transaction) -> None:
    tx.read(brittle("ann"))


def read_on_behind_it(tx: Transaction) -> None:
    with suppress(TroubleError):
        tx.read(brittle("ann"))
    deposit(tx, "ben", 1)
    raise TroubleError


def append_what_cannot_be_folded(tx: Transaction) -> None:
    view, _ = tx.read(accounts("carl"), brittle("carl"))
    view.append(Deposited(2))


def raise_at_once(tx: Transaction) -> None:
    raise TroubleError


def raise_in_a_called_one(tx: Transaction) -> None:
    with suppress(TroubleError):
        tx.call(raise_at_once)
    tx.call(append_what_cannot_be_folded)


COMMANDS = (
    read_what_cannot_be_folded,
    read_on_behind_it,
    append_what_cannot_be_folded,
    raise_at_once,
    raise_in_a_called_one,
)


@pytest.fixture(autouse=True)
def nothing_there() -> Iterator[None]:
    gc.collect()
    TroubleError.there.clear()
    yield
    TroubleError.there.clear()


@pytest.fixture
def store(make_store: MakeStore) -> Store:
    store = make_store()
    store.execute(deposit, "ann", 2)
    return store


def fails(call: Callable[[], object]) -> None:
    with pytest.raises(TroubleError):
        call()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_a_command_that_failed_leaves_nothing_behind(store: Store, command: Callable[[Transaction], None]) -> None:
    for _ in range(TIMES):
        fails(lambda: store.execute(command))
    gc.collect()
    assert len(TroubleError.there) <= FEW


def test_a_state_that_could_not_be_folded_leaves_nothing_behind(store: Store) -> None:
    for _ in range(TIMES):
        fails(lambda: store.state(brittle("ann")))
    gc.collect()
    assert len(TroubleError.there) <= FEW
