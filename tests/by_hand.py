"""Batches of a `DrivenHeart`, by hand: commands that know what they saw, sent together or decided ahead."""

from __future__ import annotations

from collections.abc import Callable

from factfold import Stream, Transaction
from factfold.job import Job, Turn
from factfold.storage.base import Append, StoredEvent
from factfold.storage.memory import Memory
from tests.properties.boxes import Event, Numbers, Red, boxes
from tests.properties.driven import DrivenHeart
from tests.properties.interleaving import append_blindly


class Command:
    """Looks at some streams, and puts something into one of them; knows what it saw, in each of its runs."""

    def __init__(self, n: int, *at: Stream[Numbers, Red], looks: tuple[Stream[Numbers, Red], ...] = ()) -> None:
        self.runs: list[tuple[tuple[Numbers, ...], tuple[int, ...]]] = []
        self._n = n
        self._looks = looks or at
        self._at = at

    def __call__(self, tx: Transaction) -> tuple[Numbers, ...]:
        views = tx.read(self._looks)
        states, versions = tuple(view.state for view in views), tuple(view.version for view in views)
        self.runs.append((states, versions))
        for view in tx.read(self._at):
            view.append(Red(self._n))
        return states

    @property
    def states(self) -> list[tuple[Numbers, ...]]:
        return [states for states, _ in self.runs]


def put(n: int, *at: Stream[Numbers, Red]) -> Command:
    return Command(n, *(at or (boxes("x"),)))


def look(*at: Stream[Numbers, Red]) -> Command:
    return Command(0, looks=at or (boxes("x"),))


def strangers_append(memory: Memory, id: str, *events: Event) -> None:
    append_blindly(memory, [(event, (id,)) for event in events])


def events_of(memory: Memory) -> list[StoredEvent]:
    return memory.namespace("default").events


def send(heart: DrivenHeart, *commands: Callable[..., object]) -> list[Job]:
    """These are a batch, and on their way."""
    jobs = [heart.submit(command) for command in commands]
    heart.lead()
    assert isinstance(heart.request, Append)
    return jobs


def decide_ahead(heart: DrivenHeart, *commands: Callable[..., object]) -> list[Job]:
    """These are decided on top of it."""
    jobs = [heart.submit(command) for command in commands]
    heart.prepare()
    return jobs


def finish(heart: DrivenHeart, *jobs: Job) -> list[object]:
    """Drives the heart until the jobs are answered. Gives their results, or the classes of what they raised."""
    heart.step_until(lambda: all(job.turn is Turn.DONE for job in jobs))
    return [outcome_of(job) for job in jobs]


def outcome_of(job: Job) -> object:
    try:
        return job.receipt().result
    except Exception as error:
        return type(error)
