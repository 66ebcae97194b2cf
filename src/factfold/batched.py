"""Commands that are decided together: their states, their one append, and what each of them gets of the answer."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from factfold.events import new_event_ids
from factfold.job import Job
from factfold.overlay import Overlay
from factfold.storage.base import Append, Appended, Check, Head, NewEvent, StoredEvent, events_of


class Batch(Struct, eq=False):
    """A batch: its jobs, in the order in which they ran. `append` is what was sent for them, `answer` what came back.

    `seconds` is how long running them took; `slow`: so long that nobody should have to wait for it. `base` is the head
    that a batch rests on which was decided ahead: that of the log once the batch below is in it.
    """

    overlay: Overlay
    base: Head | None = None
    jobs: list[Job] = []
    append: Append | None = None
    answer: Appended | None = None
    seconds: float = 0.0
    slow: bool = False

    def to_append(self, check: Check) -> Append:
        """All that the jobs have appended, under the boundary of all that they have read."""
        ids = iter(new_event_ids(len(self.overlay.events)))
        events: list[NewEvent] = []
        for job in self.jobs:
            for pending in job.events:
                of = pending.event_type
                events.append(NewEvent(next(ids), of.name, of.version, pending.stored, job.metadata, pending.streams))
        return Append(tuple(events), check, self.overlay.empty())

    @property
    def landing(self) -> Head:
        """The log's head once the append is in it, provided that nobody else writes before."""
        assert self.append is not None
        return Head(self.append.check.after.position + len(self.append.events), self.append.events[-1].id)

    def stored(self, answer: Appended) -> list[StoredEvent]:
        """The events of the append as they stand in the log."""
        assert self.append is not None
        return events_of(self.append, answer)

    def deliver(self, stored: Sequence[StoredEvent]) -> None:
        """Gives each job those that are its own."""
        start = 0
        for job in self.jobs:
            end = start + len(job.events)
            job.stored = stored[start:end]
            start = end
