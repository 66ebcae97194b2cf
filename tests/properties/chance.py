"""Chance: many small decisions from one draw of hypothesis, which is much faster than a draw for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Chance:
    """Decides as these bytes tell. When they are used up it is over, and always decides for the first."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._used = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to chance."""
        return self._used >= len(self._source)

    @property
    def first(self) -> int:
        """The first byte, whether or not it is used up."""
        return self._source[0] if self._source else 0

    def below(self, count: int) -> int:
        """A number from 0 on; 0 is the plainest."""
        if self.is_over:
            return 0
        self._used += 1
        return self._source[self._used - 1] % count

    def choose(self, options: Sequence[T]) -> T:
        """One of the options; the first one is the plainest."""
        return options[self.below(len(options))]

    def __repr__(self) -> str:
        return f"Chance({self._source!r})"


def chances(size: int) -> st.SearchStrategy[Chance]:
    """Chance for up to so many decisions: as a rule for about half as many."""
    return st.integers(0, size).flatmap(lambda count: st.binary(min_size=count, max_size=count)).map(Chance)
