"""Faults that show between processes."""

from __future__ import annotations

import time
from pathlib import Path

from msgspec.structs import replace

from factfold.errors import StoreUnavailableError
from factfold.storage.base import Append, Appended, Check, Conflict, Engine, Log, News
from tests.broken.storage import Common, Sound, SoundEngine


def is_first(path: Path) -> bool:
    """Whether nobody was here before, in this process or in another."""
    try:
        path.open("x").close()
    except FileExistsError:
        return False
    return True


class PrefersTheFirst(Sound):
    """Whoever has come first is never kept waiting."""

    caught_between_processes_by = ("equal_writers_in_processes_get_fair_shares",)

    def __init__(self, log: Log, common: Common) -> None:
        super().__init__(log, common)
        self.is_first = is_first(common.directory / "first")

    def append(self, append: Append) -> Appended | Conflict:
        if not self.is_first:
            time.sleep(0.02)
        return self.log.append(append)


class WritesOneByOne(Sound):
    caught_between_processes_by = ("a_killed_writer_leaves_whole_appends",)

    def append(self, append: Append) -> Appended | Conflict:
        answer = self.log.append(replace(append, events=append.events[:1]))
        for event in append.events[1:]:
            time.sleep(0.1)
            self.log.append(replace(append, events=(event,)))
        return answer


class LocksByAFile(Sound):
    caught_between_processes_by = ("the_lock_of_a_killed_process_is_free",)

    def lock(self, check: Check) -> News:
        self.take()
        return self.log.check(check)

    def append(self, append: Append) -> Appended | Conflict:
        self.take()
        try:
            return self.log.append(append)
        finally:
            (self.common.directory / "lock").unlink()

    def take(self) -> None:
        end = time.monotonic() + 1
        while not is_first(self.common.directory / "lock"):
            if time.monotonic() > end:
                raise StoreUnavailableError("another writer has held the lock for a second")
            time.sleep(0.01)


class OpensOneAtATime(SoundEngine):
    caught_between_processes_by = ("processes_may_open_a_new_place_at_once",)

    def __init__(self, engine: Engine, kind: type[Sound], common: Common) -> None:
        super().__init__(engine, kind, common)
        opening = common.directory / "opening"
        if not is_first(opening):
            raise StoreUnavailableError("the database is locked")
        time.sleep(0.5)
        opening.unlink()
