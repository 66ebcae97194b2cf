"""What a `Store` tells of its log: by pages, in constant memory, with nothing open between two of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TypeVar, overload

from factfold.batch import Heart
from factfold.errors import StorageFormatError
from factfold.events import RecordedEvent
from factfold.job import refuse_inside_command
from factfold.once import keys
from factfold.reading import PAGE, Query, check_category_asked_for, log_query, read_page, stream_query
from factfold.settings import Settings
from factfold.storage.base import Log, StreamInfo
from factfold.streams import Stream, StreamType
from factfold.subscriptions import Subscribable
from factfold.transaction import AnyStreamType
from factfold.verification import Verification, Verifier

S = TypeVar("S")
E = TypeVar("E")


class Reader(Subscribable):
    """Reads a log, from any number of threads."""

    _settings: Settings

    @abstractmethod
    def _ready(self) -> tuple[Heart, Log]:
        """The heart and the log, opened at the first use."""

    def events(
        self,
        stream: Stream[S, E],
        /,
        *,
        after_version: int = 0,
        limit: int | None = None,
        backwards: bool = False,
    ) -> Iterator[RecordedEvent[E]]:
        """The events of a stream that its fold looks at, in order, from the one after `after_version` on.

        Backwards they come from the end, or from the one before `after_version` where that is given. It reads in
        pages, in constant memory, and keeps nothing open between them.

        Raises:
            DecodingError: an event cannot be decoded.
        """
        query = stream_query(stream, after_version, limit, backwards, self._settings.transform)
        return self._pages(query, self._ready()[1])

    @overload
    def log(
        self,
        *,
        types: StreamType[S, E],
        category: str | None = None,
        after: int = 0,
        limit: int | None = None,
        backwards: bool = False,
    ) -> Iterator[RecordedEvent[E]]: ...
    @overload
    def log(
        self,
        *,
        types: type[E],
        category: str | None = None,
        after: int = 0,
        limit: int | None = None,
        backwards: bool = False,
    ) -> Iterator[RecordedEvent[E]]: ...
    @overload
    def log(
        self,
        *,
        types: object = None,
        category: str | None = None,
        stream: str | None = None,
        after: int = 0,
        limit: int | None = None,
        backwards: bool = False,
        system: bool = False,
    ) -> Iterator[RecordedEvent[object]]: ...

    def log(
        self,
        *,
        types: object = None,
        category: str | None = None,
        stream: str | None = None,
        after: int = 0,
        limit: int | None = None,
        backwards: bool = False,
        system: bool = False,
    ) -> Iterator[RecordedEvent[object]]:
        """The log in order, from the position after `after` on. Reads in pages, in constant memory.

        Args:
            types: a class, a union of classes, or a stream type: only these events, decoded (a stream type's are those
                of its category; a class's not those of categories whose stream types have another class of its name).
                Without it `event` is the plain JSON value.
            category: only events that belong to a stream of this category.
            stream: the id of a stream: only its events, as plain JSON. Only together with `limit` and `backwards`.
            after: a position. Backwards, the log is read down from the one before it (0: from the head).
            limit: how many events at most.
            backwards: the latest first.
            system: also the library's own events, whose types begin with "$".

        Raises:
            DecodingError: an event cannot be decoded.
        """
        query = log_query(types, category, stream, after, limit, backwards, system, self._settings.transform)
        return self._pages(query, self._ready()[1])

    def streams(self, category: str | None = None) -> Iterator[StreamInfo]:
        """The streams, all or those of a category, with version and last position, in order of their ids."""
        refuse_inside_command()
        check_category_asked_for(category)
        return self._stream_pages(category, self._ready()[1])

    def head(self) -> int:
        """The position of the last event, 0 in an empty log. Does I/O."""
        refuse_inside_command()
        return self._ready()[1].head().position

    def verify(self, *stream_types: AnyStreamType) -> Verification:
        """Reads the whole log and reports what is wrong with it. Takes time and memory that grow with the streams.

        It looks for gaps in positions and versions, memberships without event, events that do not decode, and stored
        type names that no given fold of their category knows. Categories without a given stream type are not decoded.
        """
        refuse_inside_command()
        log = self._ready()[1]
        folds = [keys.fold, *(stream_type.fold for stream_type in stream_types)]
        verifier = Verifier(folds, self._settings.transform)
        problems = list(log.problems())
        try:
            while verifier.log(log.read(verifier.page())):
                pass
            after: str | None = ""
            while after is not None:
                after = verifier.streams(log.streams(None, after, PAGE))
        except StorageFormatError as error:
            problems.append(str(error))  # it can be read no further
        return verifier.result(problems)

    # -- inside --------------------------------------------------------------------------------------------------------

    @staticmethod
    def _pages(query: Query[E], log: Log) -> Iterator[RecordedEvent[E]]:
        while (page := query.page()) is not None:
            yield from query.take(page, read_page(log, page))

    @staticmethod
    def _stream_pages(category: str | None, log: Log) -> Iterator[StreamInfo]:
        after: str | None = ""
        while after is not None:
            refuse_inside_command()  # where the iterator was made, it was not inside of one
            page = log.streams(category, after, PAGE)
            yield from page
            after = page[-1].id if page else None
