"""What is found by what runs in a scenario, and what came of the run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from uuid import uuid4

from msgspec import Struct, structs

from factfold.cache import AnyStream
from factfold.errors import WrongStreamsError
from factfold.events import RecordedEvent
from factfold.storage.memory import Memory
from factfold.store import Store
from factfold.testing.fixed import Fixed
from factfold.transaction import Transaction


class Given(Struct, frozen=True):
    """Events that happened before, each of them in all of these streams."""

    events: tuple[object, ...]
    streams: tuple[AnyStream, ...]

    def __str__(self) -> str:
        return f"{', '.join(map(repr, self.events))} to {', '.join(stream.id for stream in self.streams)}"


class Run(Struct, frozen=True):
    """What came of a command, or of a reaction: what it returned or raised, what it appended and what it has read.

    `store` is on the log that it ran on, as it was left.
    """

    store: Store
    result: object
    error: Exception | None
    events: Sequence[RecordedEvent[object]]
    reads: tuple[str, ...]


class Setting(Struct, frozen=True):
    """What happened before, the time, and the store in whose database it all happens (None: one of its own)."""

    now: datetime
    store: Store | None
    givens: tuple[Given, ...] = ()

    def with_given(self, given: Given) -> Setting:
        """The same, after something more has happened."""
        return structs.replace(self, givens=(*self.givens, given))

    def empty(self) -> Store:
        """A store on a log that nobody has used before: on the engine of the scenario's store, or in memory."""
        # A short name: those of a read model's tables begin with it, and databases cut long ones off.
        return Store(Memory()) if self.store is None else self.store.namespace(f"test-{uuid4().hex[:12]}")

    def prepared(self) -> Store:
        """A store on a log that nobody has used before, in which just this has happened.

        Raises what an append of the given events raises.
        """
        store = self.empty()
        for given in self.givens:
            with giving(given):
                store.execute(append, given)
        return store

    def run(self, command: Callable[..., object], args: Sequence[object], kwargs: dict[str, object]) -> Run:
        """Runs a command where this has happened, and nothing else. Raises as `prepared`."""
        store = self.prepared()
        fixed = Fixed(command, self.now)
        try:
            receipt = store.execute(fixed, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 (whatever the command raises, the test may have expected it)
            return Run(store, None, error, (), fixed.reads)
        return Run(store, receipt.result, None, receipt.events, fixed.reads)


@contextmanager
def giving(given: Given) -> Generator[None]:
    """While this is appended: says so in what the append raises."""
    try:
        yield
    except Exception as error:
        error.add_note(f"This was raised while the scenario appended what was given: {given}")
        if isinstance(error, WrongStreamsError):
            error.add_note("In a scenario: .given_shared(event, stream, other_stream)")
        raise


def append(tx: Transaction, given: Given) -> None:
    """A command that appends what was given."""
    first, *others = tx.read(given.streams)
    for event in given.events:
        # What the type checker has seen at given() it cannot see here: the events of any streams are of no one type.
        tx.append(event, first, *others)  # type: ignore[misc]
