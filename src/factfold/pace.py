"""Whether commands are decided in two groups that take turns: one group while the append of the other is on its way.

That keeps the processor and the storage busy at the same time. But it makes twice as many appends, and what was decided
ahead is lost whenever somebody else writes in between.
"""

from __future__ import annotations

ALONE = 4
"""How many appends in a row must have found nothing of others before anything is decided ahead."""

WORK = 3
"""How much work a command is, measured by the running of it: its events are sent, too, and its caller goes on."""

WEIGHT = 1 / 8
"""How much the last time counts among those before."""


class Pace:
    """How long things took lately, and whether others write."""

    __slots__ = ("_alone", "_deciding", "_flying")

    def __init__(self) -> None:
        self._deciding = 0.0  # seconds for a command
        self._flying = 0.0  # seconds for an append
        self._alone = 0

    def decided(self, commands: int, seconds: float) -> None:
        """So many commands were run."""
        if commands:
            self._deciding += (seconds / commands - self._deciding) * WEIGHT

    def landed(self, seconds: float, *, alone: bool) -> None:
        """An append was on its way for so long, and has found nothing of others (or it has)."""
        self._flying += (seconds - self._flying) * WEIGHT
        self._alone = self._alone + 1 if alone else 0

    def lost(self) -> None:
        """An append has lost against what others wrote."""
        self._alone = 0

    @property
    def is_alone(self) -> bool:
        """Whether it is likely that nobody else writes."""
        return self._alone >= ALONE

    def pays(self, commands: int) -> bool:
        """Whether so many commands had better be decided in two groups.

        That is so when they keep this process busy for as long as an append takes. For fewer of them, one append more
        costs more time than is won.
        """
        return self.is_alone and commands * self._deciding * WORK >= self._flying
