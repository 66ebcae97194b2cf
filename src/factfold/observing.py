"""What a store tells an observer about its work, at the edges of it: for traces, metrics, and logs of one's own.

An observer is given to a store: `Store(..., observer=...)`. `factfold.otel.OpenTelemetry` is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from factfold.stats import Stats

Operation: TypeAlias = Literal["execute", "execute_once", "state", "version", "snapshot"]
"""The methods of a store that run a command."""

StorageOperation: TypeAlias = Literal["append", "check", "lock", "resolve", "load"]
"""What a storage is asked.

`append` writes the events of a batch, if what it has read still holds. `check` asks that alone, for a batch without
events. `lock` does so under the writers' lock, after others were faster. `resolve` finds out what became of an append
whose answer was lost. `load` brings the events of streams that are not in the cache, with their snapshots, and folds
them.
"""


class Execution(Struct, eq=False):
    """One call of `execute`, or of another method that runs a command. What is not known yet is 0 or None.

    Attributes:
        operation: which method was called.
        name: the command, as module and qualified name; of `state`, `version` and `snapshot` the stream's category.
        namespace: the store's.
        attempts: how often it was decided against the log: 1 without a conflict.
        batch_size: how many executions shared the last request to the storage in which it was decided.
        events: how many events it wrote.
        position: that of the last event that it wrote.
        repeated: whether `execute_once` found the key used, and ran nothing.
        seconds: how long it took.
        kept: what the observer wants to find again at the end. The store does not look at it.
    """

    operation: Operation
    name: str
    namespace: str
    attempts: int = 0
    batch_size: int = 0
    events: int = 0
    position: int | None = None
    repeated: bool = False
    seconds: float = 0.0
    kept: object = None


class StorageCall(Struct, eq=False):
    """One request to the storage, which serves one execution or many. What is not known yet is 0 or False.

    Attributes:
        operation: what was asked.
        namespace: the store's.
        executions: those whose commands were decided by it, or waited for it; never empty.
        streams: how many folds of streams were checked, or loaded.
        events: how many events were sent to be written, or were loaded.
        conflict: whether others were faster, and nothing was written.
        seconds: how long it took.
        kept: what the observer wants to find again at the end. The store does not look at it.
    """

    operation: StorageOperation
    namespace: str
    executions: Sequence[Execution]
    streams: int = 0
    events: int = 0
    conflict: bool = False
    seconds: float = 0.0
    kept: object = None


class Observer:
    """Is told what a store does, while it does it. Derive from it: what you do not define does nothing.

    The methods are called from the threads and tasks that do the work, and keep it waiting: they should be quick. They
    may be called from several threads at once. One that raises disturbs nobody: the first time, the logger `factfold`
    says so. They must not use the store: every method of a store raises NestedExecutionError in them.
    """

    def opened(self, namespace: str, stats: Callable[[], Stats]) -> None:
        """A store was opened. `stats` tells at any time what it has done so far, and keeps nothing alive."""

    def closed(self, namespace: str, stats: Callable[[], Stats]) -> None:
        """A store was closed; `stats` is what `opened` was given, and does not change any more."""

    def executing(self, execution: Execution) -> None:
        """A command was called. Runs in a copy of the caller's context, in which the command will run too.

        So a context variable that is set here is seen by the command, and by nobody else.
        """

    def executed(self, execution: Execution, error: BaseException | None) -> None:
        """It has its outcome: `error` is what the caller gets, None when it gets a result. Runs in the same context.

        Nobody should keep the error: it keeps all that was on the stack.
        """

    def asking(self, call: StorageCall) -> None:
        """The storage is about to be asked. `answered` follows in the same thread or task, and in the same context.

        It is that of whoever happens to do the work, and of none of the executions.
        """

    def answered(self, call: StorageCall, error: BaseException | None) -> None:
        """The storage has answered, or failed with `error`."""

    def consumed(self, namespace: str, name: str, events: int, seconds: float) -> None:
        """A consumer of this name has handled so many events of the log in so many seconds."""

    def lag(self, namespace: str, name: str, events: int, seconds: float) -> None:
        """A consumer of this name is so many events behind the head; the oldest of them is so many seconds old."""


def check_observer(observer: object) -> None:
    """Refuses what could not be told anything. Raises TypeError."""
    if observer is not None and not isinstance(observer, Observer):
        raise TypeError(
            f"observer={observer!r}: an object of a class derived from factfold.observing.Observer is needed, "
            "such as factfold.otel.OpenTelemetry()"
        )
