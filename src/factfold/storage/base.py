"""The storage contract: what the heart asks of an engine, and what an engine answers.

A *storage* holds the options of one place (`SQLite("bank.db")`). Opening it gives an *engine*, which holds the
connections. `engine.log(namespace)` gives a *log*: one total order of events, one unit of atomicity. `Log` is the
contract; `AsyncLog` is the same contract with `async def`. An engine whose driver is synchronous gets its async twin
from `factfold.storage.threads`.

Positions are 1, 2, 3, ... without gaps, in commit order; versions are 1, 2, 3, ... in each stream; the engine assigns
both. `Log.append` is all or nothing. `factfold.testing.StorageContract` asks an engine for all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from msgspec import Struct

from factfold.errors import InlineProjectionsError, StorageFormatError

NEWS_LIMIT = 1000
"""How many events an answer may bring of what others appended; past that it is `too_far`."""

NEWS_BYTES = 4 * 1024 * 1024
"""How many bytes of event data an answer may bring of what others appended; past that it is `too_far`."""


class Head(Struct, frozen=True, gc=False):
    """The last event of a log as someone saw it: its position, and its id (16 bytes; empty at position 0)."""

    position: int
    id: bytes


EMPTY = Head(0, b"")
"""The head of a log without events."""


class Selection(Struct, frozen=True, gc=False):
    """Events of one stream: those whose stored type name is in `types`, or all when it is None."""

    stream: str
    types: frozenset[str] | None


class NewEvent(Struct, frozen=True, gc=False):
    """An event to append. `data` and `metadata` are JSON (UTF-8); `streams` are ids, at least one, no duplicates."""

    id: bytes
    type: str
    type_version: int
    data: bytes
    metadata: bytes
    streams: tuple[str, ...]


class StoredEvent(Struct, frozen=True, gc=False):
    """An event in the log. `streams` maps stream id to version; `recorded_at` is in microseconds since 1970, UTC.

    `data` and `metadata` are equal as JSON to what was appended: an engine may change their spaces and the order of
    their keys, and spell a number in another way.
    """

    position: int
    id: bytes
    type: str
    type_version: int
    data: bytes
    metadata: bytes
    streams: Mapping[str, int]
    recorded_at: int

    @property
    def head(self) -> Head:
        """The log's head as it was when this event was the last one."""
        return Head(self.position, self.id)


# -- What is asked -----------------------------------------------------------------------------------------------------


class Check(Struct, frozen=True, gc=False):
    """Asks whether one of the selections has an event above `after`.

    `versions` are the versions that streams had at `after`, as far as the asker knows them: an engine may use them to
    save look-ups, and must give the same answer without them.
    """

    selections: tuple[Selection, ...]
    after: Head
    versions: Mapping[str, int]


class Append(Struct, frozen=True, gc=False):
    """Asks to append `events` (at least one) if none of the selections of `check` has an event above `check.after`.

    And if the streams of `empty`, without duplicates, have no event at all, of whatever type and wherever in the log.
    They need not be written, nor be in a selection: an asker names those that it has never read, and takes for new.
    """

    events: tuple[NewEvent, ...]
    check: Check
    empty: tuple[str, ...] = ()

    @property
    def id(self) -> bytes:
        """The id of this append, by which its outcome can be asked for: the id of its first event."""
        return self.events[0].id


class Wanted(Struct, frozen=True, gc=False):
    """The events of one selection above a version of its stream."""

    selection: Selection
    after_version: int


class Load(Struct, frozen=True, gc=False):
    """Asks for the events of several selections, from one snapshot. At most about `limit` events in all.

    `after` is the head since which the asker wants to hear the news, or None when it needs none.
    """

    wanted: tuple[Wanted, ...]
    after: Head | None
    limit: int


class LogPage(Struct, frozen=True, gc=False):
    """Asks for a page of the log: up to `limit` events above `after` in order, or below it when `backwards`.

    Backwards, `after` None starts at the head. Only events whose type is in `types` (None: any) and that belong to a
    stream of `category` (None: any). Types that begin with `$` are the library's own: left out unless `system`.
    The limit counts what is left after filtering.
    """

    after: int | None
    limit: int
    types: frozenset[str] | None = None
    category: str | None = None
    backwards: bool = False
    system: bool = False


class Put(Struct, frozen=True, gc=False):
    """A small value to be written; None removes it."""

    place: str
    key: str
    value: bytes | None


class Swap(Struct, frozen=True, gc=False):
    """Asks to write small values, all or none: if the first of them is, so far, what is `expected` (None: not there).

    With `exclusive`, in a transaction, nobody appends until that ends.
    """

    put: Put
    expected: bytes | None
    others: tuple[Put, ...] = ()
    exclusive: bool = False


class StreamPage(Struct, frozen=True, gc=False):
    """Asks for a page of one selection: up to `limit` events above `after_version`, or below it when `backwards`.

    Backwards, `after_version` None starts at the end. The limit counts what is left after filtering.
    """

    selection: Selection
    after_version: int | None
    limit: int
    backwards: bool = False


# -- What is answered --------------------------------------------------------------------------------------------------


class News(Struct, frozen=True, gc=False):
    """What was appended since `after`, up to `head`.

    `events` holds all of it, in order, without a gap; it is empty when `too_far` (more than `NEWS_LIMIT` events, or
    more than `NEWS_BYTES`). `touched` are the indices of the selections asked about that have an event above `after`:
    always exact, also when too far.
    """

    after: Head
    head: Head
    events: tuple[StoredEvent, ...]
    touched: frozenset[int]
    too_far: bool = False


class Appended(Struct, frozen=True, gc=False):
    """The append happened: its events stand at `first`, `first + 1`, ...

    `versions` maps each of its streams to the version before the append: its events follow, one by one. `recorded_at`
    (microseconds since 1970, UTC) is one for all its events, and never earlier than that of the event before them.
    `news` ends just before `first`.
    """

    first: int
    versions: Mapping[str, int]
    recorded_at: int
    news: News


class Conflict(Struct, frozen=True, gc=False):
    """The append did not happen, nor will it: `news.touched` are the selections that failed, all of them.

    `not_empty` are the streams of `Append.empty` that have an event, all of them. At least one of the two is not empty,
    and each is exact, whatever the other says.
    """

    news: News
    not_empty: frozenset[str] = frozenset()


class Slice(Struct, frozen=True, gc=False):
    """What a load found for one selection: events in order of version, and `version`, the stream's own (0: no stream).

    When `complete` is False, the limit cut it: more events follow after the version of the last one.
    """

    events: tuple[StoredEvent, ...]
    version: int
    complete: bool


class Loaded(Struct, frozen=True, gc=False):
    """The answer to a load: a slice for each selection, all as of `head`; `news` when it was asked for."""

    slices: tuple[Slice, ...]
    head: Head
    news: News | None


class StreamInfo(Struct, frozen=True, gc=False):
    """One stream: its id, its version (the number of its events) and the position of the last of them."""

    id: str
    version: int
    position: int


class Entry(Struct, frozen=True, gc=False):
    """A small value, and how many seconds ago it was written, by the clock of the engine (not of who asks)."""

    key: str
    value: bytes
    age: float


class Capabilities(Struct, frozen=True):
    """What an engine promises.

    `locks`: the writers' lock can be held while a batch is decided. `durable`: what was acknowledged survives the
    crash of the machine. `shared`: several processes can work on it. `durability` says in words what can be lost when,
    where that depends on how a server is configured. `transactions`: its logs are `TransactionalLog`s, in whose
    database read models can live. `elsewhere`: the work is done by another process, and this one has time meanwhile.
    """

    locks: bool
    durable: bool
    shared: bool
    durability: str = ""
    transactions: bool = False
    elsewhere: bool = False

    @property
    def durability_in_words(self) -> str:
        """`durability`, or what `durable` means where the engine says no more."""
        if self.durability:
            return self.durability
        return "what was acknowledged survives a crash" if self.durable else "a crash may lose what was acknowledged"


def touched_by(events: Sequence[StoredEvent], selections: Sequence[Selection]) -> frozenset[int]:
    """The indices of the selections that look at one of these events."""
    if not events:
        return frozenset()
    types: dict[str, set[str]] = {}
    for event in events:
        for stream in event.streams:
            types.setdefault(stream, set()).add(event.type)
    return frozenset(
        index
        for index, selection in enumerate(selections)
        if (found := types.get(selection.stream)) and (selection.types is None or not selection.types.isdisjoint(found))
    )


def events_of(append: Append, appended: Appended) -> list[StoredEvent]:
    """The events of an append as they stand in the log."""
    versions = dict(appended.versions)
    stored: list[StoredEvent] = []
    for position, new in enumerate(append.events, appended.first):
        at: dict[str, int] = {}
        for stream in new.streams:
            at[stream] = versions[stream] = versions[stream] + 1
        stored.append(
            StoredEvent(position, new.id, new.type, new.type_version, new.data, new.metadata, at, appended.recorded_at)
        )
    return stored


def inline_mismatch(name: str, inline: Inline | None, asked: bytes | None) -> InlineProjectionsError:
    """What is to be raised when the database asks for other inline projections than a log accompanies appends by."""
    has, wants = (_listed(None if inline is None else inline.names), _listed(asked))
    return InlineProjectionsError(
        f"{name}: the database asks every writer to run {wants} inline, and this store runs {has}. Nothing was "
        "written. Open it with Store(..., inline=[...]) that has just these; what is not to run inline any more is "
        "taken off with store.withdraw(...)."
    )


def _listed(names: bytes | None) -> str:
    return "no projection" if not names else ", ".join(names.decode("utf-8", "replace").split("\n"))


def version_in(stored: StoredEvent, stream: str) -> int:
    """The version that an event has in a stream. Raises StorageFormatError when it is not in it at all."""
    version = stored.streams.get(stream)
    if version is None:
        raise StorageFormatError(
            f"The index of {stream} names the event at position {stored.position}, which is not in that stream: the "
            "storage is damaged. store.verify() tells what else is."
        )
    return version


# -- Who is asked ------------------------------------------------------------------------------------------------------


class Log(Protocol):
    """One namespace of an engine. Any thread may call any method; one at a time calls `append`, `lock` and `unlock`.

    Every method may raise `StoreUnavailableError`, and `StoreClosedError` after the engine was closed. Those that take
    a head (`after`) raise `LogDivergedError` when another event, or none, stands at its position.
    """

    @property
    def name(self) -> str:
        """Where this is, for messages: the url without secrets, and the namespace."""
        ...

    def head(self) -> Head:
        """The last event."""
        ...

    def append(self, append: Append) -> Appended | Conflict:
        """Appends all or nothing, durably. Ends a held lock, whatever comes of it. Nobody sends an append twice.

        Raises `AppendRefusedError` when the events cannot be written (nothing was), `OutcomeUnknownError` when it
        cannot be told whether they were (then `resolve`).
        """
        ...

    def check(self, check: Check) -> News:
        """Validates selections in a snapshot taken after the call, without the lock: `touched` empty means yes."""
        ...

    def lock(self, check: Check) -> News:
        """Takes the writers' lock and keeps it until `append` or `unlock`: nobody else appends in between."""
        ...

    def unlock(self) -> None:
        """Gives the lock back without appending. Does nothing when it is not held."""
        ...

    def resolve(self, append: Append) -> Appended | None:
        """What became of an append whose answer was lost. None: it did not happen, and never will (its id is void).

        Takes the writers' lock to find out. An append with a void id raises `AppendRefusedError`.
        """
        ...

    def load(self, load: Load) -> Loaded:
        """The events of several selections, from one snapshot taken after the call."""
        ...

    def read(self, page: LogPage) -> Sequence[StoredEvent]:
        """A page of the log. Fewer than `limit` events: the end was reached. Holds nothing open."""
        ...

    def read_stream(self, page: StreamPage) -> Sequence[StoredEvent]:
        """A page of one stream. Fewer than `limit` events: the end was reached. Holds nothing open."""
        ...

    def streams(self, category: str | None, after: str, limit: int) -> Sequence[StreamInfo]:
        """Up to `limit` streams whose id is above `after` (in order of UTF-8 bytes), of one category or of all.

        The streams of the library itself (`$...`) are left out unless their category is asked for.
        """
        ...

    def wait(self, after: int, timeout: float) -> int:
        """Returns the head's position when it is above `after`, at the latest after `timeout` seconds."""
        ...

    def get(self, place: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Small values from a place such as "snapshots" or "checkpoints": of those keys that have one, in one go."""
        ...

    def put(self, place: str, key: str, value: bytes | None) -> None:
        """Writes a small value durably; None removes it."""
        ...

    def swap(self, swap: Swap) -> bool:
        """Writes small values durably, all or none. False: the first one was not what was expected.

        Raises `OutcomeUnknownError` when it cannot be told; it may then still happen, but not after another swap of
        the same value has been answered.
        """
        ...

    def entries(self, place: str, after: str, limit: int) -> Sequence[Entry]:
        """Up to `limit` values of a place whose key is above `after`, in order of the keys' UTF-8 bytes.

        A key is up to 255 characters; a place that is asked for in this way holds thousands of values at most.
        """
        ...

    def problems(self) -> Iterator[str]:
        """What the engine itself finds broken: memberships without event, a damaged file. One sentence each."""
        ...


Body: TypeAlias = Callable[[object, Sequence[StoredEvent]], object]
"""Work within a transaction: is given the driver's own connection, and the events that the append has written.

Under an event loop it may return something to be awaited, and is then awaited on the loop.
"""


class Inline(Struct, frozen=True):
    """What an append does within its own transaction, behind the events that it has written.

    `names` is what the value of `INLINE` has to be for an append: so the database refuses those who would leave
    `handle` out. What `handle` raises undoes the append, and is raised from it.
    """

    names: bytes
    handle: Body


INLINE = ("inline", "")
"""Place and key of the value that says what appends have to do inline; there is none where they have not."""


@runtime_checkable
class TransactionalLog(Log, Protocol):
    """The log of a database in which read models can live: what is written there and a swap are one transaction."""

    def transact(self, swap: Swap, body: Callable[[object], object]) -> bool:
        """Does `swap`, then calls `body` with the driver's own connection, and commits both. False: no swap, no call.

        A `Put` that `body` gives is written, too: it may rest on what `body` has seen while nobody appended.

        Raises what `body` raises (nothing happened then), and else as `swap`. Whoever stands still within `body` for
        longer than the engine's timeout may lose the transaction, where the engine is a server.
        """
        ...

    def accompany(self, inline: Inline | None) -> None:
        """From now on every append of this log is accompanied by this.

        An append raises `InlineProjectionsError` when the value of `INLINE` is another one than `inline.names`, or,
        for None, when there is one.
        """
        ...


class Engine(Protocol):
    """An opened storage: connections that several namespaces share."""

    @property
    def capabilities(self) -> Capabilities:
        """What this engine promises."""
        ...

    def log(self, namespace: str) -> Log:
        """One namespace, made when it does not exist yet."""
        ...

    def close(self) -> None:
        """Ends all work (who waits is woken, a held lock is given back) and closes all connections, also twice."""
        ...


class AsyncLog(Protocol):
    """`Log`, with `async def`. What is said there holds here."""

    @property
    def name(self) -> str: ...
    async def head(self) -> Head: ...
    async def append(self, append: Append) -> Appended | Conflict: ...
    async def check(self, check: Check) -> News: ...
    async def lock(self, check: Check) -> News: ...
    async def unlock(self) -> None: ...
    async def resolve(self, append: Append) -> Appended | None: ...
    async def load(self, load: Load) -> Loaded: ...
    async def read(self, page: LogPage) -> Sequence[StoredEvent]: ...
    async def read_stream(self, page: StreamPage) -> Sequence[StoredEvent]: ...
    async def streams(self, category: str | None, after: str, limit: int) -> Sequence[StreamInfo]: ...
    async def wait(self, after: int, timeout: float) -> int: ...
    async def get(self, place: str, keys: Sequence[str]) -> Mapping[str, bytes]: ...
    async def put(self, place: str, key: str, value: bytes | None) -> None: ...
    async def swap(self, swap: Swap) -> bool: ...
    async def entries(self, place: str, after: str, limit: int) -> Sequence[Entry]: ...
    async def problems(self) -> Sequence[str]: ...


@runtime_checkable
class AsyncTransactionalLog(AsyncLog, Protocol):
    """`TransactionalLog`, with `async def`: what a body returns is awaited on the loop, if it can be.

    Where the driver is synchronous, a body is called in a thread.
    """

    async def transact(self, swap: Swap, body: Callable[[object], object]) -> bool: ...
    async def accompany(self, inline: Inline | None) -> None: ...


class AsyncEngine(Protocol):
    """`Engine`, with `async def`."""

    @property
    def capabilities(self) -> Capabilities: ...
    async def log(self, namespace: str) -> AsyncLog: ...
    async def close(self) -> None: ...


class Storage(Protocol):
    """Where a store keeps its log: typed options, nothing opened yet."""

    @property
    def name(self) -> str:
        """Where this is, for messages: a url without secrets."""
        ...

    def open(self) -> Engine:
        """Opens it for threads. Raises `StoreUnavailableError`, `StorageFormatError`, `MissingDriverError`."""
        ...

    async def open_async(self) -> AsyncEngine:
        """Opens it for the running event loop. Raises the same."""
        ...


@runtime_checkable
class Inspectable(Protocol):
    """A storage that tells which namespaces it has, for those who only look: it makes none, and opens none."""

    def namespaces(self) -> Sequence[str]:
        """Their names. Raises as `Storage.open`."""
        ...
