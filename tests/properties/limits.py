"""How much the properties are looked at, and how tight things are then: what is rare in life happens all the time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st


def examples(share: float) -> settings:
    """So many times the examples of the profile: more of what is fast, and less of what is slow."""
    return settings(max_examples=max(1, int(settings().max_examples * share)))


class Limits(NamedTuple):
    """The bounds of the heart and of the storages; the first ones are as good as none.

    `ahead`: whether a batch may be decided while the append of the one before it is on its way, whoever else writes;
    `apart`: whether that is made possible wherever it can be. Otherwise the clock would have a say in it.
    `guesses`: whether every stream that is not loaded is taken for empty at first, wherever it may be.
    """

    news: int = 1000
    load: int = 1000
    selections: int = 1000
    tail: int = 1000
    commands: int = 1000
    ahead: bool = False
    apart: bool = False
    guesses: bool = False

    @contextmanager
    def apply(self) -> Iterator[None]:
        """They hold for hearts and storages that are made inside of this."""
        with pytest.MonkeyPatch.context() as patch:
            for name, module in list(sys.modules.items()):
                if name.startswith("factfold.storage") and hasattr(module, "NEWS_LIMIT"):
                    patch.setattr(module, "NEWS_LIMIT", self.news)
            patch.setattr("factfold.loads.MAX_EVENTS", self.load)
            patch.setattr("factfold.loads.MAX_SELECTIONS", self.selections)
            patch.setattr("factfold.cache.TAIL_EVENTS", self.tail)
            patch.setattr("factfold.deciding.MAX_COMMANDS", self.commands)
            patch.setattr("factfold.deciding.MAX_SECONDS", 1000.0)
            patch.setattr("factfold.deciding.MAX_MOMENT", 1000.0)
            patch.setattr("factfold.guessing.Guesses.expects_nothing", lambda *_: self.guesses)
            patch.setattr("factfold.aio._overlaps", lambda capabilities: True)
            patch.setattr("factfold.pace.Pace.is_alone", property(lambda _: self.ahead))
            patch.setattr("factfold.pace.Pace.pays", lambda _, commands: self.ahead and self.apart)
            yield


limits = st.builds(
    Limits,
    st.sampled_from([1000, 0, 1, 3]),
    st.sampled_from([1000, 1, 2]),
    st.sampled_from([1000, 1, 2]),
    st.sampled_from([1000, 0, 2]),
    st.sampled_from([1000, 1, 2]),
    st.sampled_from([True, True, False]),
    st.booleans(),
    st.booleans(),
)

cache_sizes = st.lists(st.sampled_from([10, 10, 0, 1, 2]), min_size=1, max_size=3)
"""The sizes of the caches of one to three stores."""
