"""Whatever is interleaved with whatever: the log is what comes of running its commands one after another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factfold.storage.memory import Memory
from tests.properties.chance import Chance, chances
from tests.properties.driven import DrivenHeart
from tests.properties.interleaving import Interleaving
from tests.properties.programs import Program, programs


@contextmanager
def tight(news: int, load: int, tail: int, commands: int) -> Iterator[None]:
    """Small limits, so that what is rare in life happens all the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("factfold.storage.memory.NEWS_LIMIT", news)
        patch.setattr("factfold.loads.MAX_EVENTS", load)
        patch.setattr("factfold.loads.MAX_SELECTIONS", 1 + load % 3)
        patch.setattr("factfold.cache.TAIL_EVENTS", tail)
        patch.setattr("factfold.batch.MAX_COMMANDS", commands)
        patch.setattr("factfold.batch.MAX_SECONDS", 1000.0)
        yield


limits = st.tuples(
    st.sampled_from([1000, 0, 1, 3]),
    st.sampled_from([1000, 1, 2]),
    st.sampled_from([1000, 0, 2]),
    st.sampled_from([1000, 1, 2]),
)


@given(
    programs=programs(poison=True),
    keys=st.lists(st.sampled_from([None, None, None, None, "k"]), min_size=8, max_size=8),
    sizes=st.lists(st.sampled_from([10, 10, 0, 1, 2]), min_size=1, max_size=3),
    locks=st.booleans(),
    limits=limits,
    warm=st.booleans(),
    chance=chances(400),
)
def test_commands_are_run_one_after_another(
    programs: list[Program],
    keys: list[str | None],
    sizes: list[int],
    locks: bool,
    limits: tuple[int, int, int, int],
    warm: bool,
    chance: Chance,
) -> None:
    memory = Memory()
    with tight(*limits):
        world = Interleaving(memory, [], programs, keys, chance)
        world.hearts = [DrivenHeart(memory, cache_size=size, locks=locks, decoding=world.meanwhile) for size in sizes]
        if warm:
            world.warm_up()
        world.run()
        world.check()
