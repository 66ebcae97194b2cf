"""Folding any prefix and then the rest is folding it all: on loads, on news, and on what is appended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factfold import Store, Transaction
from factfold.storage.memory import Memory
from tests.properties.boxes import LENSES, Blue, BrokenError, Event, Knot, Lens, Red, boxes

kinds = st.sampled_from([Red, Blue, Knot])
events = st.lists(st.builds(lambda kind, n: kind(n), kinds, st.integers(0, 99)), max_size=30)


def put(tx: Transaction, *events: Event) -> None:
    tx.read(boxes("0")).append(*events)


def state(store: Store, lens: Lens) -> object:
    try:
        return store.state(lens.at("0"))
    except BrokenError:
        return BrokenError


@pytest.mark.parametrize("lens", [lens for lens in LENSES if lens.at("0").id == "box:0"])
@given(before=events, own=events, foreign=events, at_once=st.booleans(), limit=st.sampled_from([1, 2, 1000]))
def test_a_prefix_and_the_rest(
    lens: Lens, before: list[Event], own: list[Event], foreign: list[Event], at_once: bool, limit: int
) -> None:
    memory = Memory()
    with pytest.MonkeyPatch.context() as patch, Store(memory) as store, Store(memory) as other:
        patch.setattr("factfold.loads.MAX_EVENTS", limit)
        other.execute(put, *before)
        state(store, lens)  # loaded here, moved on by what follows
        store.execute(put, *own)
        for events in [foreign] if at_once else [[event] for event in foreign]:
            other.execute(put, *events)

        everything = [*before, *own, *foreign]
        try:
            expected: object = lens.state(everything)
        except BrokenError:
            expected = BrokenError
        assert state(store, lens) == state(other, lens) == expected
        with Store(memory, cache_size=0) as fresh:
            assert state(fresh, lens) == expected
            assert [one.event for one in fresh.events(boxes("0"))] == everything
