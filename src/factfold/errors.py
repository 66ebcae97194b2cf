"""Every error that factfold raises, as one hierarchy under `FactfoldError`.

Each message says what happened, where, and what to do; the facts are attributes as well. Exceptions that a command
raises are never wrapped: they reach the caller as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID


class FactfoldError(Exception):
    """The root of all errors of factfold. They can be pickled, for commands that run in worker processes."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(cls: type[FactfoldError], args: tuple[object, ...], facts: dict[str, object]) -> FactfoldError:
    # not by __init__, which takes what the message was made of, and not the message
    error = cls.__new__(cls, *args)
    error.__dict__.update(facts)
    return error


# -- Definitions: wrong from the first line on, whatever the data ------------------------------------------------------


class DefinitionError(FactfoldError, TypeError):
    """A stream type, an event class or a state class is defined in a way that cannot work."""


class InvalidStreamIdError(FactfoldError, ValueError):
    """A category, or a part of a stream id, breaks a rule; `part` is the offending one."""

    def __init__(self, message: str, part: object) -> None:
        super().__init__(message)
        self.part = part


class InvalidCommandError(FactfoldError, TypeError):
    """What was given to `execute` is no command: a plain callable whose first parameter is a `Transaction`."""


class InvalidNamespaceError(FactfoldError, ValueError):
    """A namespace's name is empty, too long, or holds control characters."""


class InvalidUrlError(FactfoldError, ValueError):
    """A storage's url or option cannot be used; the message lists what can."""


class MissingDriverError(FactfoldError, ImportError):
    """The storage needs a package that is not installed; the message names the extra to install."""


# -- Commands: what a run of a command did wrong -----------------------------------------------------------------------


class WrongEventError(FactfoldError, TypeError):
    """An event was appended to a stream whose fold does not list its class."""


class WrongStreamsError(FactfoldError, ValueError):
    """An event was appended to other streams than its `@event(streams=...)` declares."""


class EncodingError(FactfoldError, ValueError):
    """A value cannot be stored: it does not encode, or would come back as something else."""


class ForeignViewError(FactfoldError):
    """A view was used outside the run of the command that read it."""


class ImpureCommandError(FactfoldError):
    """A command read other streams when it ran again on the same states."""


class NestedExecutionError(FactfoldError):
    """A method of a store was called inside a command."""


class KeyReusedError(FactfoldError):
    """The key of an `execute_once` was used by another command before; `key`, `command` and `used_by` tell."""

    def __init__(self, key: str, command: str, used_by: str) -> None:
        super().__init__(
            f"execute_once: the key {key!r} was used by the command {used_by}, and cannot be used for {command}. "
            "Give every command and every intention a key of its own."
        )
        self.key = key
        self.command = command
        self.used_by = used_by


# -- Outcomes: what became of a command --------------------------------------------------------------------------------


class ConflictError(FactfoldError):
    """Other writers were faster in every one of `attempts` attempts, on `streams`. Nothing was written."""

    def __init__(self, streams: Sequence[str], attempts: int) -> None:
        shown = ", ".join(streams[:5]) + (f" and {len(streams) - 5} more" if len(streams) > 5 else "")
        super().__init__(
            f"The command lost against other writers in {attempts} attempt(s), on {shown}. Nothing was written. "
            "Execute it again, or allow more attempts with Store(retry=Retry(max_attempts=...))."
        )
        self.streams = tuple(streams)
        self.attempts = attempts


class OutcomeUnknownError(FactfoldError):
    """The storage was lost while it appended, and cannot be asked: the command happened wholly, or not at all."""


class NotReplicatedError(OutcomeUnknownError):
    """The events are written, at `first` to `last`, and not confirmed by as many replicas as were asked for.

    They are in the log and count, unless the primary is lost before its replicas have them.
    """

    def __init__(self, where: str, first: int, last: int, replicas: int) -> None:
        super().__init__(
            f"{where}: the events are written on the primary, at positions {first} to {last}, but fewer than "
            f"{replicas} replica(s) have confirmed them in time. They are in the log, unless a failover loses "
            "them. See to the replicas, and execute the command again only if it was under execute_once."
        )
        self.first = first
        self.last = last
        self.replicas = replicas


# -- The log and what it holds -----------------------------------------------------------------------------------------


class DecodingError(FactfoldError):
    """A stored event cannot be decoded; `stream`, `version`, `position` and `type` say which one.

    `stream` and `version` are None where the log was read and not one stream.
    """

    def __init__(self, message: str, *, position: int, type: str, stream: str | None, version: int | None) -> None:
        super().__init__(message)
        self.position = position
        self.type = type
        self.stream = stream
        self.version = version


class LogDivergedError(FactfoldError):
    """The log is not the one that was read before: another event, or none, stands at `position`.

    A backup was restored, a file was replaced, or a replica that had missed events took over. Nothing was written.
    """

    def __init__(self, where: str, position: int, expected: UUID | None, found: UUID | None) -> None:
        before = "an event" if expected is None else f"the event {expected}"
        what = "no event" if found is None else f"the event {found}"
        super().__init__(
            f"{where}: the log went backwards or was replaced: at position {position} there was {before}, "
            f"now there is {what}. Nothing was written, and what was cached is dropped. If the replacement was meant, "
            "execute again; what was read before may not exist any more."
        )
        self.position = position
        self.expected = expected
        self.found = found


# -- Storages ----------------------------------------------------------------------------------------------------------


class StorageError(FactfoldError):
    """The root of what a storage reports. Nothing of the append in question was written."""


class StoreUnavailableError(StorageError):
    """The storage cannot be reached, or stayed locked for longer than its timeout."""


class LockLostError(StoreUnavailableError):
    """The writers' lock was taken away while it was held; nothing was written under it."""


class AppendRefusedError(StorageError):
    """The storage refuses to write these events, and would refuse them again."""


class InlineProjectionsError(AppendRefusedError):
    """Inline projections stand in the way: this store lacks one that the database asks for, or one has failed."""


class StorageFullError(AppendRefusedError):
    """The disk, the quota or the memory is full."""


class StorageReadOnlyError(AppendRefusedError):
    """The file or the server can only be read."""


class UnsafeStorageError(StorageError):
    """The server is configured so that it would lose what it has acknowledged."""


class StorageFormatError(StorageError):
    """The file or database is not factfold's, or was made by a newer version of it."""


class UnsupportedError(StorageError):
    """The storage lacks what was asked for, such as a database in which a read model could live."""


class StoreClosedError(FactfoldError):
    """The store was used after `close()`, or in an event loop that it does not belong to."""


# -- Consumers: projections and reactions ------------------------------------------------------------------------------


class ConsumerStoppedError(FactfoldError):
    """A projection or a reaction has stopped, and does not go on by itself; `consumer`, `position` and `reason` tell.

    `position` is up to where everything is done.
    """

    def __init__(self, consumer: str, position: int, reason: str) -> None:
        super().__init__(
            f"The {consumer} has stopped at position {position}: {reason} Mend what is wrong and run it again; it goes "
            "on where it was."
        )
        self.consumer = consumer
        self.position = position
        self.reason = reason
