"""A log that goes backwards while it is worked on: nothing is decided on a past that does not exist any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from factfold.errors import LogDivergedError
from factfold.settings import do_nothing
from factfold.storage.base import Head, StoredEvent
from factfold.storage.memory import Memory
from tests.properties.boxes import BrokenError
from tests.properties.chance import Chance, chances
from tests.properties.driven import DrivenHeart
from tests.properties.interleaving import Action, Interleaving, restore_backup
from tests.properties.laws import FAILURES, Call, check_calls, check_log, check_run
from tests.properties.limits import Limits, cache_sizes, examples, limits
from tests.properties.programs import Program, Run, programs


@dataclass
class Restoring(Interleaving):
    """An interleaving in which somebody restores old backups."""

    histories: list[list[StoredEvent]] = field(default_factory=list)
    """The logs as they were before each restoration."""
    earlier: list[Call] = field(default_factory=list)
    """The calls that were made before the last one: whether they were decided on this past or on that is open."""
    backups: set[int] = field(default_factory=set)
    """Where the log ended at some moment: an append is whole in a backup, or not in it at all."""

    def check(self) -> None:
        stored = self.stored
        check_log(stored)
        for run in [run for program in self.programs for run in program.runs]:
            assert any(self._explains(history, run) for history in (stored, *self.histories)), run
        unanswered = [replace(call, until=None) if call in self.earlier else call for call in self.calls]
        check_calls(unanswered, stored, (*FAILURES, LogDivergedError))

    def _disturbances(self) -> list[Action]:
        backups = sorted(position for position in self.backups if position < len(self.stored))[-3:]
        restorations = [partial(self._restore, position) for position in backups if self._free]
        return [*super()._disturbances(), *restorations]

    def _do(self, actions: Sequence[Action]) -> None:
        super()._do(actions)
        self.backups.add(len(self.stored))

    def _restore(self, position: int) -> None:
        self.histories.append(list(self.stored))
        self.earlier = list(self.calls)
        for call in self.calls:
            call.since = min(call.since, position)
        self.backups = {backup for backup in self.backups if backup <= position}
        restore_backup(self.memory, position)

    def _history(self, head: Head) -> list[StoredEvent]:
        return next(
            history
            for history in (self.stored, *reversed(self.histories))
            if head.position == 0 or [one.id for one in history[head.position - 1 : head.position]] == [head.id]
        )

    @staticmethod
    def _explains(history: Sequence[StoredEvent], run: Run) -> bool:
        try:
            check_run(run, history)
        except (AssertionError, BrokenError):
            return False
        return True


@examples(2)
@given(
    programs=programs(), sizes=cache_sizes, locks=st.booleans(), limits=limits, warm=st.booleans(), chance=chances(400)
)
def test_nothing_is_decided_on_a_past_that_is_gone(
    programs: list[Program], sizes: list[int], locks: bool, limits: Limits, warm: bool, chance: Chance
) -> None:
    memory = Memory()
    with limits.apply():
        world = Restoring(memory, [], programs, [None] * len(programs), chance)
        world.hearts = [DrivenHeart(memory, cache_size=size, locks=locks, decoding=world.meanwhile) for size in sizes]
        if warm:
            world.warm_up()
        world.run()
        world.check()
        for heart in world.hearts:
            heart.submit(do_nothing)
            heart.step_until(partial(is_idle, heart))


def is_idle(heart: DrivenHeart) -> bool:
    return not heart.heart.has_work
