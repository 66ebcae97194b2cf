"""An event goes through the upcasters from its version to today's, in their order, whichever reader asks for it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from factfold import JSON, Store, event, stream, upcast
from factfold.storage.memory import Memory
from factfold.testing.contract.scribe import new
from tests.wallets import write

TODAY = 4


@event(name="Passed", version=TODAY, was=["Went"])
@dataclass(frozen=True)
class Passed:
    """Which versions an event has come by, and a number that nobody is to change."""

    by: tuple[int, ...]
    number: int


def lead_on_from(version: int) -> None:
    @upcast(Passed, version)
    def _(data: dict[str, JSON]) -> dict[str, JSON]:
        by = data["by"]
        assert isinstance(by, list)
        return {**data, "by": [*by, version + 1]}


for each in range(1, TODAY):
    lead_on_from(each)


@stream("walk", initial=())
def walks(state: tuple[Passed, ...], event: Passed) -> tuple[Passed, ...]:
    return (*state, event)


versions = st.integers(1, TODAY)
stored = st.lists(st.tuples(st.sampled_from(["Passed", "Went"]), versions, st.integers()), min_size=1, max_size=8)


@given(before=stored, after=stored)
def test_every_event_takes_all_steps_from_its_version_on(
    before: list[tuple[str, int, int]], after: list[tuple[str, int, int]]
) -> None:
    memory = Memory()
    with Store(memory) as store, store.subscribe(types=walks, after=0) as subscription:
        for history in (before, after):  # the second part is news to what is cached
            events = [
                new("walk:a", type=name, type_version=version, data=msgspec.json.encode(Passed((version,), number)))
                for name, version, number in history
            ]
            write(memory, *events)
            store.state(walks("a"))

        expected = tuple([Passed(tuple(range(one, TODAY + 1)), number) for _, one, number in [*before, *after]])
        assert store.state(walks("a")) == expected
        assert tuple([recorded.event for recorded in store.events(walks("a"))]) == expected
        assert tuple([recorded.event for recorded in store.log(types=Passed)]) == expected
        assert tuple([next(subscription).event for _ in expected]) == expected
