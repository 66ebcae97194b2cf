"""What a store was made with, checked; the same for `Store` and `AsyncStore`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Never, TypeVar

from msgspec import Struct

from factfold.batch import Heart
from factfold.codec import Transform
from factfold.commands import check_command
from factfold.errors import InvalidNamespaceError
from factfold.job import Job, check_age, check_count, refuse_inside_command
from factfold.observing import Observer, check_observer
from factfold.reading import decoder, sealer
from factfold.retry import Retry
from factfold.snapshots import Snapshots
from factfold.stats import Stats
from factfold.storage import open_storage
from factfold.storage.base import Capabilities, Storage
from factfold.streams import Stream
from factfold.transaction import Transaction

if TYPE_CHECKING:
    from factfold.projections import Projection

S = TypeVar("S")

MAX_NAMESPACE = 64


def utc_now() -> datetime:
    """The time, with its zone (UTC)."""
    return datetime.now(UTC)


def read_state(tx: Transaction, stream: Stream[S, Never]) -> S:
    """A command that only looks at a state."""
    return tx.read(stream).state


def read_version(tx: Transaction, stream: Stream[object, Never]) -> int:
    """A command that only looks at a version."""
    return tx.read(stream).version


def read_to_save(tx: Transaction, stream: Stream[object, Never]) -> tuple[object, int]:
    """A command that looks at a state and its version."""
    view = tx.read(stream)
    return view.state, view.version


def do_nothing(tx: Transaction) -> None:
    """A command that is answered when those before it are."""


def stats_of(heart: Heart | None) -> Stats:
    """The numbers as they are now; all zero before the store was opened."""
    if heart is None:
        return Stats(*[0] * 17)
    done, cache, snapshots = heart.counters, heart.cache, heart.snapshots
    return Stats(
        commands=done.commands,
        batches=done.batches,
        attempts=done.attempts,
        conflicts=done.conflicts,
        loads=done.loads,
        guesses=done.guesses,
        wrong_guesses=done.wrong_guesses,
        hits=cache.hits,
        misses=cache.misses,
        refreshes=cache.refreshes,
        evictions=cache.evictions,
        cached=len(cache),
        snapshots_used=snapshots.used,
        snapshots_refused=snapshots.refused,
        snapshots_saved=snapshots.saved,
        snapshots_failed=snapshots.failed,
        snapshots_dropped=snapshots.dropped,
    )


class Settings(Struct, frozen=True):
    """The arguments of a store."""

    storage: Storage
    namespace: str
    cache_size: int
    retry: Retry
    clock: Callable[[], datetime]
    transform: Transform | None
    inline: tuple[Projection, ...]
    observer: Observer | None

    @staticmethod
    def checked(
        storage: str | Storage,
        namespace: str,
        cache_size: int,
        retry: Retry,
        clock: Callable[[], datetime],
        transform: Transform | None,
        inline: Sequence[Projection] = (),
        observer: Observer | None = None,
    ) -> Settings:
        """The settings. Raises InvalidUrlError, InvalidNamespaceError, ValueError, TypeError where they cannot be."""
        check_count("cache_size", cache_size)
        _check_namespace(namespace)
        _check_kinds(retry, clock, transform)
        check_observer(observer)
        return Settings(open_storage(storage), namespace, cache_size, retry, clock, transform, tuple(inline), observer)

    def sibling(self, namespace: str) -> Settings:
        """The same for another namespace."""
        return Settings.checked(
            self.storage,
            namespace,
            self.cache_size,
            self.retry,
            self.clock,
            self.transform,
            self.inline,
            self.observer,
        )

    def heart(
        self,
        capabilities: Capabilities,
        guard: AbstractContextManager[object],
        *,
        notify: Callable[[Job], None],
        interrupts: Callable[[Job], bool],
        overlaps: bool,
    ) -> Heart:
        """A heart with these settings, for a driver."""
        seal = None if self.transform is None else sealer(self.transform)
        return Heart(
            cache_size=self.cache_size,
            retry=self.retry,
            locks=capabilities.locks,
            decode=decoder(self.transform),
            seal=seal,
            snapshots=Snapshots(seal, self.transform),
            guard=guard,
            notify=notify,
            interrupts=interrupts,
            overlaps=overlaps,
        )

    def reading(self, stream: Stream[object, Never], max_age: float | None) -> Job:
        """A call of `state`. Raises NestedExecutionError, ValueError."""
        job = self.job(read_state, (stream,), {})
        job.max_age = check_age(max_age)
        return job

    def job(self, command: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> Job:
        """A call of `execute`. Raises InvalidCommandError, NestedExecutionError."""
        refuse_inside_command()
        check_command(command)
        return Job.of(command, args, kwargs, self.clock)


def _check_kinds(retry: object, clock: object, transform: object) -> None:
    """Refuses at once what would fail in the middle of the first conflict, or of the first event."""
    if not isinstance(retry, Retry):
        raise TypeError(f"retry={retry!r}: a Retry is needed, such as Retry(max_attempts=3)")
    if not callable(clock):
        raise TypeError(f"clock={clock!r}: a function is needed, which gives an aware datetime")
    if transform is not None and not all(callable(getattr(transform, name, None)) for name in ("outgoing", "incoming")):
        raise TypeError(f"transform={transform!r}: an object with the methods outgoing() and incoming() is needed")


def _check_namespace(namespace: object) -> None:
    if not isinstance(namespace, str) or not 1 <= len(namespace) <= MAX_NAMESPACE or not namespace.isprintable():
        raise InvalidNamespaceError(
            f"namespace={namespace!r}: a text of 1 to {MAX_NAMESPACE} printable characters is needed"
        )
