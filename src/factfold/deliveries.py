"""What a subscription is, whoever waits for it, a thread or a task: its way along the log, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Literal, TypeAlias, TypeVar, cast

from factfold.errors import LogDivergedError, StoreClosedError, StoreUnavailableError
from factfold.events import RecordedEvent
from factfold.feed import Feed
from factfold.hub import Hub
from factfold.job import check_count
from factfold.notices import warn
from factfold.retry import Retry
from factfold.storage.base import Head, LogPage, StoredEvent

E_co = TypeVar("E_co", covariant=True)

After: TypeAlias = "int | Literal['head']"
"""Where a subscription begins: after a position, or with what comes from now on."""

AWAY = Retry(base=0.05, cap=2.0)
"""The pauses while the storage is away."""


class Delivery(Generic[E_co]):
    """Hands over what a feed brings, until it is closed, or an error ends it."""

    def __init__(self, hub: Hub, feed: Feed) -> None:
        self._hub = hub
        self._feed = feed
        self._position = feed.position
        self._closed = False
        self._error: Exception | None = None
        self._failures = 0

    @property
    def position(self) -> int:
        """Up to where everything was handed over, or is not wanted: where another one would go on with `after=`."""
        return self._position

    def close(self) -> None:
        """Ends the iteration, also one that waits elsewhere. Closing twice is allowed."""
        self._closed = True
        self._hub.subscriptions.discard(self)
        self._hub.wake()

    # -- for the drivers -------------------------------------------------------------------------------------------

    def _next(self) -> RecordedEvent[E_co] | None:
        """What comes next, if it is at hand. Raises what the subscription has ended with, or ends with now."""
        if self._error is not None:
            raise self._error
        if self._hub.ended:
            raise StoreClosedError(self._hub.ended)
        published = self._feed.next()
        if published is None:
            self._position = self._feed.position
            return None
        try:
            recorded = self._feed.recorded(published)
        except Exception as error:
            self._fail(error)
            raise
        self._position = published.head.position
        return cast("RecordedEvent[E_co]", recorded)  # the filter decodes to E

    def _fail(self, error: Exception) -> None:
        """It ends with this error, for whoever asks."""
        self._error = error
        self._hub.subscriptions.discard(self)

    def _pause(self, name: str, error: StoreUnavailableError) -> float:
        """The storage is away: how many seconds to wait before it is asked again."""
        self._failures += 1
        if self._failures == 1:
            warn("A subscription to %s waits until it can be reached again: %s", name, error)
        return AWAY.delay(self._failures)


# -- Where it begins ---------------------------------------------------------------------------------------------------


def check_after(after: object) -> None:
    """Refuses what is neither a position nor "head". Raises ValueError."""
    if after != "head":
        check_count("after", after)


def page_at(position: int) -> LogPage:
    """The page that holds the event at a position, and no other."""
    return LogPage(position - 1, 1, system=True)


def head_at(position: int, stored: Sequence[StoredEvent], name: str) -> Head:
    """The head that the event at a position made. Raises LogDivergedError when there is none (any more)."""
    if stored and stored[0].position == position:
        return stored[0].head
    raise LogDivergedError(name, position, None, None)
