"""One call of `execute` on its way through the heart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import Context, copy_context
from datetime import UTC, datetime
from enum import Enum
from types import TracebackType
from typing import Any, Final, Protocol
from uuid import UUID

from msgspec import Struct, structs

from factfold.cache import Key
from factfold.commands import name_of, refusal_of_result
from factfold.errors import ImpureCommandError, NestedExecutionError
from factfold.events import current_metadata, uuid7
from factfold.observing import Execution
from factfold.overlay import Pending
from factfold.receipt import Receipt
from factfold.storage.base import StoredEvent
from factfold.transaction import Read, Transaction, inside_command


class Turn(Enum):
    """Whose turn it is: the job's own thread leads or loads, or it waits for another one, or it has its answer."""

    WAITING = 1
    LEADING = 2
    LOADING = 3
    DONE = 4


WAITING: Final = Turn.WAITING
LEADING: Final = Turn.LEADING
LOADING: Final = Turn.LOADING
DONE: Final = Turn.DONE
# By these names they are used: to reach a member through its class takes Python 3.11 a function call.


class Waiter(Protocol):
    """What a task waits for: a future."""

    def done(self) -> bool: ...
    def set_result(self, result: None, /) -> None: ...


class Job(Struct, eq=False):
    """A command with its arguments, and what became of it.

    Attributes:
        turn: what its caller has to do next.
        left: its caller has gone; nobody waits for the answer.
        result, error: what the last run gave; others may be given the same error, so `traceback` is this job's.
        events: what the last run appended; `stored` are the same events as they stand in the log.
        reads: what the last run read, if it appended something.
        missing: what the last run read and is not loaded yet.
        misses: how often what was loaded for it came too late.
        pins: the streams that are kept in the cache for it.
        time, ids: what all its runs get.
        max_age: how many seconds ago what it reads may have been current last; None: it has to be current now.
        trace, broken, group: what the last run read, what it could not read, and what it then had to wait for.
        wake, waiter: belong to the driver: what wakes the caller where it sleeps, a thread or a task.
        execution: what an observer is told of it, while there is one.
    """

    command: Callable[..., object]
    args: Sequence[object]
    kwargs: dict[str, object]
    clock: Callable[[], datetime]
    context: Context
    metadata: bytes
    turn: Turn = WAITING
    left: bool = False
    result: object = None
    error: BaseException | None = None
    traceback: TracebackType | None = None
    events: Sequence[Pending] = ()
    reads: tuple[Key, ...] = ()
    stored: Sequence[StoredEvent] = ()
    attempts: int = 0
    misses: int = 0
    missing: set[Key] | None = None
    pins: list[str] | None = None
    wake: Callable[[], object] | None = None
    waiter: Waiter | None = None
    time: datetime | None = None
    max_age: float | None = None
    ids: tuple[UUID, ...] = ()
    trace: Sequence[Read] = ()
    broken: Mapping[Key, Exception] = {}
    group: tuple[Key, ...] = ()
    execution: Execution | None = None

    @staticmethod
    def of(
        command: Callable[..., object],
        args: Sequence[object],
        kwargs: dict[str, object],
        clock: Callable[[], datetime],
    ) -> Job:
        """A job for the caller of this function: with its context, and its metadata."""
        context = copy_context()
        context.run(inside_command.set, True)
        return Job(command, args, kwargs, clock, context, current_metadata())

    def now(self) -> datetime:
        """The time that all runs see."""
        if self.time is None:
            self.time = _in_utc(self.clock())
        return self.time

    def new_id(self, index: int) -> UUID:
        """The id that all runs get at their index-th request."""
        while len(self.ids) <= index:
            self.ids = (*self.ids, uuid7())
        return self.ids[index]

    def miss(self, key: Key) -> None:
        """Waits for this to be loaded."""
        if self.missing is None:
            self.missing = set()
        self.missing.add(key)

    def run(self, tx: Transaction, interrupts: Callable[[Job], bool]) -> bool:
        """Runs the command. True: it completed or raised. False: it read something that has to be loaded first.

        A KeyboardInterrupt for which `interrupts` says so is meant for the thread that runs it, and passes through.
        """
        self.error = None
        try:
            self.result = self.context.copy().run(self.command, tx, *self.args, **self.kwargs)
        except KeyboardInterrupt as error:
            if interrupts(self):
                raise
            self.fail(error)
            self._decided(tx)  # nothing that the run read, or did not read, changes that
            return True
        except BaseException as error:
            self.fail(error)
        if tx.suspended or self.group:
            return self._suspended(tx)
        self._decided(tx)
        return True

    def fail(self, error: BaseException) -> None:
        """Has this raised where the job's caller waits."""
        self.error, self.traceback = error, error.__traceback__

    def receipt(self) -> Receipt[Any]:
        """The outcome, once the turn is DONE: its result is what the command returned.

        Raises what the command raised, or why it has no outcome.
        """
        if self.error is not None:
            try:
                raise self.error.with_traceback(self.traceback)
            finally:
                del self.error, self.traceback  # an exception that is kept keeps all its frames
        stored, events = self.stored, self.events
        if events and events[0].stored is not events[0].data:
            opened = [pending.data for pending in events]
            stored = [structs.replace(one, data=data) for one, data in zip(stored, opened, strict=True)]
        return Receipt(self.result, stored, [pending.twin for pending in events], self.attempts)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _decided(self, tx: Transaction) -> None:
        if tx.failed is not None:
            self.fail(tx.failed)
        elif self.error is None and (refusal := refusal_of_result(self.command, self.result)) is not None:
            self.fail(refusal)
        if self.error is None:
            self.events, self.reads = tx.complete()
        else:
            self.result, self.events = None, ()
            tx.abandon(decided=True)

    def _suspended(self, tx: Transaction) -> bool:
        """Whether the run is decided, given that it was suspended, or that the run before it was."""
        trace, group = tx.trace(), tuple([stream.key for stream in tx.suspended])
        other = _divergence(self.trace, self.broken, self.group, trace, tx.broken, group)
        if other is not None:
            self.fail(_impure(self.command, other))
        self.trace, self.broken, self.group = trace, tx.broken, group
        if other is None and group:
            self.error = None
            tx.abandon(decided=False)
            return False
        self.trace, self.broken, self.group = (), {}, ()
        self._decided(tx)
        return True


def _impure(command: Callable[..., object], key: Key) -> ImpureCommandError:
    return ImpureCommandError(
        f"{name_of(command)} read {key[0]} in one run, and not in the next one, on unchanged states. A command may run "
        "more than once and must read the same then: take time and ids from tx.now and tx.new_id(), and everything "
        "else from its arguments."
    )


def _in_utc(now: object) -> datetime:
    """What a clock gave; whoever made it may not have checked its types."""
    if not isinstance(now, datetime):
        raise TypeError(f"Store(clock=...) gave {now!r}, and tx.now is a datetime: return an aware one")
    if now.utcoffset() is None:
        raise ValueError(f"Store(clock=...) gave {now!r}, without a time zone: return an aware datetime")
    return now.astimezone(UTC)


def _divergence(
    before: Sequence[Read],
    broken_before: Mapping[Key, Exception],
    wanted_before: tuple[Key, ...],
    now: Sequence[Read],
    broken: Mapping[Key, Exception],
    wanted: tuple[Key, ...],
) -> Key | None:
    """What the run before has read or wanted and this one has not, although all that both have read is the same.

    Of each run: what it read, what it could not read, and what it wanted to read when it was suspended.
    """
    tried = {*wanted, *broken}
    read = tried.union([key for key, _, _ in now])
    if any(key in read and broken.get(key) is not error for key, error in broken_before.items()):
        return None
    for index, (key, state, version) in enumerate(before):
        if index >= len(now) or now[index][0] != key:
            return None if key in tried else key
        if now[index][2] != version or not _unchanged(state, now[index][1]):
            return None
    return next((key for key in wanted_before if key not in read), None)


def _unchanged(before: object, now: object) -> bool:
    """Whether a state is what it was. Where its own `==` raises, nobody can say so."""
    try:
        return now is before or bool(now == before)
    except Exception:  # whatever it is, it is no fault of those who are decided together with this one
        return False


MAX_COUNT = 2**63 - 1
"""The largest position, version or limit: what the engines count with holds no more."""


def check_count(name: str, value: object) -> None:
    """Refuses what is no whole number, below 0, or beyond what engines can count."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"{name}={value!r}: a whole number from 0 to 2**63 - 1 is needed")


def check_age(value: object) -> float | None:
    """Refuses what is no number of seconds, or below 0."""
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
        raise ValueError(f"max_age={value!r}: a number of seconds, 0 or more, is needed")
    return value


def refuse_inside_command() -> None:
    """Raises NestedExecutionError when a command, or a handler of a projection, is running."""
    if inside_command.get():
        raise NestedExecutionError(
            "A method of a store was called inside a command, or inside a projection's handler. A command reads with "
            "tx.read(), and runs another command with tx.call(); whatever else it needs is fetched before execute(), "
            "and passed as an argument. A projection writes its own tables only; what acts is a Reaction."
        )
