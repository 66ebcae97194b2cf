"""Every operation of a log in Valkey, once: generators that ask scripts, and wait for the writers' turn. No I/O here.

The writers' lock is a lease. Its key `turn` holds the token of its owner and expires by the server's clock. Who finds
it taken blocks on the list `free`; who gives it back puts the next token there, and the server hands it to whoever
waits longest. Nobody needs the lock to append: a script is atomic, and an append that finds no turn taken is one round
trip.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from factfold.errors import (
    AppendRefusedError,
    FactfoldError,
    LockLostError,
    LogDivergedError,
    NotReplicatedError,
    OutcomeUnknownError,
    StorageFormatError,
    StoreUnavailableError,
)
from factfold.storage._valkey_steps import Route, Steps
from factfold.storage._valkey_wire import (
    APPEND,
    ASK,
    ENDS,
    FILTER,
    LOAD,
    RESOLVE,
    STREAM,
    UNLOCK,
    Indices,
    Keys,
    Refusal,
    Reply,
    Words,
    binary,
    decode_news,
    decode_row,
    decode_rows,
    encode_event,
    encode_question,
    items,
    number,
)
from factfold.storage.base import (
    EMPTY,
    NEWS_BYTES,
    NEWS_LIMIT,
    Append,
    Appended,
    Check,
    Conflict,
    Head,
    Load,
    Loaded,
    LogPage,
    News,
    Selection,
    Slice,
    StoredEvent,
    StreamInfo,
    StreamPage,
    version_in,
)

FORMAT = 1
"""Of keys and rows. Stored in every namespace."""

LOOKED_AT = 5000
"""How many events one call of a script looks at when it filters the log: the server does nothing else meanwhile."""

PAGE = 500
"""How many events are asked for at once where no script filters them."""

TURN_SLICE = 0.1
WAIT_SLICE = 0.25
"""Seconds that a command blocks for, until it is asked again: a lost wake-up or a closed engine is noticed then."""

KEPT = 0.25
"""Seconds for which an append that lost has the next turn: until its batch is decided again, under the lock."""

MAX_EVENT = 256 * 1024 * 1024
"""Bytes of an event: by default, a server takes no argument above twice that."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The options that operations need."""

    timeout: float
    lease: float
    min_replicas: int


class Turn:
    """The writers' lock as one log holds it, under a token.

    `kept_at`: when an append that lost was given the turn, to decide again, by the monotonic clock;
    `head` is the log's since then. None for a turn that `lock` has taken.
    """

    __slots__ = ("head", "kept_at", "token")

    def __init__(self, token: str, kept_at: float | None = None, head: Head = EMPTY) -> None:
        self.token = token
        self.kept_at = kept_at
        self.head = head


class Operations:
    """The operations of one namespace.

    `held` is the turn, from `lock` on until an append or `unlock` ends it; `left` are those that interrupted operations
    may still have: they are given back before anything else is written. `queues`: the last append lost while somebody
    had the turn.
    """

    def __init__(self, name: str, keys: Keys, route: Route, rules: Rules) -> None:
        self.name = name
        self.held: Turn | None = None
        self.left: list[Turn] = []
        self.queues = False
        self._keys = keys
        self._route = route
        self._rules = rules

    def forget(self) -> None:
        """In a child process: what was held is the parent's."""
        self.held, self.left, self.queues = None, [], False

    # -- Writing -------------------------------------------------------------------------------------------------------

    def prepare(self) -> Steps[None]:
        """Makes the namespace unless it is there. Raises StorageFormatError."""
        yield from self._route.command("SET", self._keys.format, FORMAT, "NX", reading=False)
        found = yield from self._route.command("GET", self._keys.format)
        if found != str(FORMAT).encode():
            raise StorageFormatError(
                f"{self.name}: this namespace has format {found!r}, and this version of factfold knows {FORMAT}. "
                "Install the version that wrote it, or a newer one; if it is not factfold's, use another prefix."
            )

    def head(self) -> Steps[Head]:
        """The last event."""
        entries = items((yield from self._route.command("XREVRANGE", self._keys.tail, "+", "-", "COUNT", 1)))
        if not entries:
            return EMPTY
        entry, fields = items(entries[0])
        return Head(int(binary(entry).partition(b"-")[0]), binary(items(fields)[1]))

    def append(self, append: Append) -> Steps[Appended | Conflict]:
        """Appends at once, or at its turn when somebody has the lock."""
        indices = Indices(self._keys)
        turn: Turn | None = None
        try:
            question, bodies = self._append_question(append, indices)
            deadline = time.monotonic() + self._rules.timeout
            yield from self._tidy()
            turn, self.held = self.held, None
            locked = turn is not None and turn.kept_at is None
            question["keep"] = None if locked else round(min(KEPT, self._rules.lease) * 1000)
            while True:
                question["token"] = None if turn is None else turn.token
                question["next_token"] = uuid4().hex
                arguments = (encode_question(question), append.check.after.id, append.id, *bodies)
                replies = yield from self._route.run_once(APPEND, indices.keys, arguments, self._then())
                answer = items(replies[0])
                match answer[0]:
                    case b"appended":
                        turn = None
                        appended = self._appended(append, answer)
                        self._assert_replicated(append, appended.first, replies)
                        return appended
                    case b"conflict":
                        news = decode_news(append.check.after, answer, self.name)
                        if answer[6] == b"yours":
                            token = str(question["token"] or question["next_token"])
                            self.held = Turn(token, time.monotonic(), news.head)
                        self.queues = answer[6] == b"queue"
                        turn = None
                        return Conflict(news)
                    case b"lost":
                        turn = None
                        if locked:
                            raise self._lock_lost()
                    case b"busy":
                        turn = yield from self._await_turn(deadline)
                    case _:
                        raise self._refused(append, answer)
        except BaseException as error:
            # However far it has come, an append ends the lock: at once, if the server has just answered.
            self.left += [each for each in (turn, self.held) if each is not None]
            self.held = None
            if isinstance(error, AppendRefusedError | LogDivergedError | StorageFormatError):
                yield from self._tidy()
            raise

    def lock(self, check: Check, token: str) -> Steps[News]:
        """Takes the turn under this token, or under that which is handed over; `held` knows."""
        kept, queues, self.queues = self.held, self.queues, False
        if kept is not None and kept.kept_at is not None:
            if kept.head == check.after and time.monotonic() - kept.kept_at < KEPT / 5:
                self.held = Turn(kept.token)
                return News(check.after, check.after, (), frozenset())  # nobody has appended since
            token = kept.token
        indices = Indices(self._keys)
        question = self._question(check.after, indices.selections(check.selections), indices)
        deadline = time.monotonic() + self._rules.timeout
        try:
            yield from self._tidy()
            while True:
                if not queues:
                    question["token"] = token
                    self.held = Turn(token)
                    arguments = (encode_question(question), check.after.id)
                    answer = yield from self._route.run(ASK, indices.keys, arguments, reading=False)
                    if answer[0] == b"news":
                        return decode_news(check.after, answer, self.name)
                    if answer[0] == b"diverged":
                        raise self._diverged(check.after, answer)
                    self.held = None
                queues = False
                turn = yield from self._await_turn(deadline)
                if turn is not None:
                    token = turn.token
        except BaseException:
            self.left += [self.held] if self.held is not None else []
            self.held = None
            raise

    def unlock(self) -> Steps[None]:
        """Gives the turn back, if it is held."""
        self.left += [self.held] if self.held is not None else []
        self.held = None
        yield from self._tidy()

    def resolve(self, append: Append) -> Steps[Appended | None]:
        """Looks for the append in the index of its first stream, and declares it void when it is not there."""
        indices = Indices(self._keys)
        stream = append.events[0].streams[0]
        question = self._question(append.check.after, (), indices)
        question |= {"streams": [indices.of(stream)], "count": len(append.events)}
        deadline = time.monotonic() + self._rules.timeout
        turn: Turn | None = None
        try:
            yield from self._tidy()
            while True:
                question["token"] = None if turn is None else turn.token
                question["next_token"] = uuid4().hex
                arguments = (encode_question(question), append.check.after.id, append.id)
                answer = yield from self._route.run(RESOLVE, indices.keys, arguments, reading=False)
                if answer[0] != b"busy":
                    break
                turn = yield from self._await_turn(deadline)
        except BaseException:
            self.left += [turn] if turn is not None else []
            raise
        if answer[0] == b"absent":
            return None
        first = number(answer[6])
        events = [decode_row(position, row, self.name) for position, row in enumerate(items(answer[7]), first)]
        before: dict[str, int] = {}
        for stored in events:
            for each, version in stored.streams.items():
                before.setdefault(each, version - 1)
        if self._rules.min_replicas:
            # WAIT waits for all that came before the last write of its own connection: so it writes something.
            touch: Words = ("SET", self._keys.format, FORMAT)
            replies = yield from self._route.commands((touch, *self._then()), reading=False)
            self._assert_replicated(append, first, replies)
        news = decode_news(append.check.after, answer, self.name)
        return Appended(first, before, events[0].recorded_at, news)

    def put(self, place: str, key: str, value: bytes | None) -> Steps[None]:
        """Writes or removes a small value."""
        field = f"{place}\0{key}"
        if value is None:
            yield from self._route.command("HDEL", self._keys.places, field, reading=False)
        else:
            yield from self._route.command("HSET", self._keys.places, field, value, reading=False)

    # -- Reading -------------------------------------------------------------------------------------------------------

    def check(self, check: Check) -> Steps[News]:
        """The news about selections, without the lock."""
        indices = Indices(self._keys)
        question = self._question(check.after, indices.selections(check.selections), indices)
        answer = yield from self._route.run(
            ASK, indices.keys, (encode_question(question), check.after.id), reading=False
        )
        if answer[0] == b"diverged":
            raise self._diverged(check.after, answer)
        return decode_news(check.after, answer, self.name)

    def load(self, load: Load) -> Steps[Loaded]:
        """All slices by one script: one snapshot."""
        indices = Indices(self._keys)
        selections = [
            (*selection, wanted.after_version)
            for wanted, selection in zip(
                load.wanted, indices.selections(wanted.selection for wanted in load.wanted), strict=True
            )
        ]
        question = self._question(load.after, selections, indices) | {"limit": load.limit}
        arguments = (encode_question(question), b"" if load.after is None else load.after.id)
        answer = yield from self._route.run(LOAD, indices.keys, arguments)
        news: News | None = None
        if load.after is not None:
            if answer[0] == b"diverged":
                raise self._diverged(load.after, answer)
            news = decode_news(load.after, answer, self.name)
        slices: list[Slice] = []
        for each in items(answer[6]):
            version, complete, positions, rows = items(each)
            events = decode_rows(items(positions), items(rows), self.name)
            slices.append(Slice(tuple(events), number(version), bool(complete)))
        return Loaded(tuple(slices), Head(number(answer[1]), binary(answer[2])), news)

    def read(self, page: LogPage) -> Steps[Sequence[StoredEvent]]:
        """A page of the log: by positions, filtered by the server where types or a category narrow it."""
        head = (yield from self.head()).position
        if page.backwards:
            at, last, step = min(head, head if page.after is None else page.after - 1), 1, -1
        else:
            at, last, step = (page.after or 0) + 1, head, 1
        found: list[StoredEvent] = []
        while (last - at) * step >= 0 and len(found) < page.limit:
            if page.types is None and page.category is None:
                stop = at + step * (min(PAGE, page.limit - len(found), abs(last - at) + 1) - 1)
                positions = range(at, stop + step, step)
                rows = items((yield from self._route.command("HMGET", self._keys.log, *positions)))
                events: Iterable[StoredEvent] = decode_rows(positions, rows, self.name)
                found += events if page.system else (each for each in events if not each.type.startswith("$"))
                at = stop + step
            else:
                stop = at + step * min(LOOKED_AT - 1, abs(last - at))
                question = {
                    "first": at,
                    "last": stop,
                    "limit": page.limit - len(found),
                    "types": None if page.types is None else list(page.types),
                    "category": None if page.category is None else f"{page.category}:",
                    "system": page.system,
                }
                answer = yield from self._route.run(FILTER, self._keys.fixed, (encode_question(question),))
                found += decode_rows(items(answer[1]), items(answer[2]), self.name)
                at = number(answer[0]) + step
        return found

    def read_stream(self, page: StreamPage) -> Steps[Sequence[StoredEvent]]:
        """A page of one stream, by its index."""
        indices = Indices(self._keys)
        question = {
            "selections": indices.selections([page.selection]),
            "types": indices.types,
            "after": page.after_version,
            "backwards": page.backwards,
            "limit": page.limit,
        }
        positions, rows = yield from self._route.run(STREAM, indices.keys, (encode_question(question),))
        return decode_rows(items(positions), items(rows), self.name)

    def streams(self, category: str | None, after: str, limit: int) -> Steps[Sequence[StreamInfo]]:
        """Names from the sorted set, then their ends: streams only ever grow."""
        names: list[str] = []
        for low, high in _name_ranges(category, after):
            if len(names) < limit:
                names += yield from self._names(low, high, limit - len(names))
        if not names:
            return []
        indices = Indices(self._keys)
        for name in names:
            indices.of(name)
        ends = yield from self._route.run(ENDS, indices.keys, (encode_question({}),))
        return [
            StreamInfo(name, number(items(end)[0]), number(items(end)[1]))
            for name, end in zip(names, ends, strict=True)
        ]

    def wait(self, after: int, timeout: float) -> Steps[int]:
        """Blocks on the head, in slices."""
        deadline = time.monotonic() + timeout
        while True:
            position = (yield from self.head()).position
            remaining = deadline - time.monotonic()
            if position > after or remaining <= 0:
                return position
            milliseconds = max(1, round(1000 * min(WAIT_SLICE, remaining)))
            yield from self._route.command(
                "XREAD", "BLOCK", milliseconds, "STREAMS", self._keys.tail, f"{after}-{_LAST}", reading=False
            )

    def get(self, place: str, keys: Sequence[str]) -> Steps[Mapping[str, bytes]]:
        """Small values, those that there are."""
        if not keys:
            return {}
        reply = yield from self._route.command("HMGET", self._keys.places, *(f"{place}\0{key}" for key in keys))
        return {key: binary(value) for key, value in zip(keys, items(reply), strict=True) if value is not None}

    def problems(self) -> Steps[list[str]]:
        """Events that their streams do not list, and records of streams whose events say otherwise."""
        found: list[str] = []
        try:
            head = (yield from self.head()).position  # others may write faster than this can look
            position = 0
            while position < head:
                position = yield from self._find_unlisted(position, head, found)
            low = "-"
            while names := (yield from self._names(low, "+", PAGE)):
                for stream in names:
                    version: int | None = 0
                    while version is not None:
                        version = yield from self._find_misplaced(stream, version, found)
                low = f"({names[-1]}"
        except StorageFormatError as error:
            found.append(str(error))  # it can be read no further
        return found

    def _find_unlisted(self, after: int, head: int, found: list[str]) -> Steps[int]:
        """Looks at one page of the log; where the next one begins."""
        events = yield from self.read(LogPage(after, min(PAGE, head - after), system=True))
        if not events:
            return head
        for stream in dict.fromkeys(name for stored in events for name in stored.streams):
            own = {version_in(stored, stream): stored.position for stored in events if stream in stored.streams}
            page = StreamPage(Selection(stream, None), min(own) - 1, max(own) - min(own) + 1)
            listed = {stored.position for stored in (yield from self.read_stream(page))}
            found += [
                f"{stream} has version {version} at position {position}, and its index does not list it"
                for version, position in own.items()
                if position not in listed
            ]
        return events[-1].position

    def _find_misplaced(self, stream: str, after: int, found: list[str]) -> Steps[int | None]:
        """Looks at one page of a stream; where the next one begins."""
        events = yield from self.read_stream(StreamPage(Selection(stream, None), after, PAGE))
        found += [
            f"{stream} has version {version} at position {stored.position}, and the event there says otherwise"
            for version, stored in enumerate(events, after + 1)
            if stored.streams.get(stream) != version
        ]
        return after + len(events) if len(events) == PAGE else None

    # -- Inside --------------------------------------------------------------------------------------------------------

    def _names(self, low: str, high: str, limit: int) -> Steps[list[str]]:
        found = yield from self._route.command("ZRANGEBYLEX", self._keys.names, low, high, "LIMIT", 0, limit)
        return [binary(name).decode() for name in items(found)]

    def _question(self, after: Head | None, selections: Sequence[object], indices: Indices) -> dict[str, object]:
        """What all scripts want to know. Written after the selections: they have made the indices."""
        return {
            "after": None if after is None else after.position,
            "selections": selections,
            "types": indices.types,
            "news_limit": NEWS_LIMIT,
            "news_bytes": NEWS_BYTES,
            "lease": round(self._rules.lease * 1000),
        }

    def _append_question(self, append: Append, indices: Indices) -> tuple[dict[str, object], list[bytes]]:
        types: dict[str, int] = {}
        events = [
            (types.setdefault(event.type, len(types) + 1), *map(indices.of, event.streams)) for event in append.events
        ]
        question = self._question(append.check.after, indices.selections(append.check.selections), indices)
        question |= {
            "types": indices.types,
            "event_types": list(types),
            "events": events,
            "streams": list(dict.fromkeys(index for event in events for index in event[1:])),
            "prefix": self._keys.prefix_size,
        }
        bodies = [encode_event(event) for event in append.events]
        if (largest := max(map(len, bodies))) > MAX_EVENT:
            raise AppendRefusedError(
                f"{self.name}: an event has {largest} bytes, and {MAX_EVENT} are allowed. Nothing was written."
            )
        return question, bodies

    def _appended(self, append: Append, answer: Sequence[Reply]) -> Appended:
        streams = dict.fromkeys(stream for event in append.events for stream in event.streams)
        versions = dict(zip(streams, map(number, items(answer[8])), strict=True))
        news = decode_news(append.check.after, answer, self.name)
        return Appended(number(answer[6]), versions, number(answer[7]), news)

    def _await_turn(self, deadline: float) -> Steps[Turn | None]:
        """Waits in the server's queue. None: the time is over for now, and who asks has to look again."""
        if time.monotonic() >= deadline:
            raise StoreUnavailableError(
                f"{self.name}: another writer has held the lock for {self._rules.timeout} seconds. Nothing was written."
            )
        reply = yield from self._route.command("BLPOP", self._keys.free, str(TURN_SLICE), reading=False)
        return None if reply is None else Turn(binary(items(reply)[1]).decode())

    def _tidy(self) -> Steps[None]:
        """Gives back what an interrupted operation has left."""
        while self.left:
            turn = self.left[-1]
            question = {"token": turn.token, "next_token": uuid4().hex, "lease": round(self._rules.lease * 1000)}
            yield from self._route.run(UNLOCK, self._keys.fixed, (encode_question(question),), reading=False)
            self.left = [each for each in self.left if each is not turn]

    def _then(self) -> tuple[Words, ...]:
        if not self._rules.min_replicas:
            return ()
        return (("WAIT", self._rules.min_replicas, round(self._rules.timeout * 500)),)

    def _assert_replicated(self, append: Append, first: int, replies: Sequence[Reply]) -> None:
        if len(replies) < 2:
            return
        confirmed = replies[1]
        if isinstance(confirmed, Refusal) or number(confirmed) < self._rules.min_replicas:
            raise NotReplicatedError(self.name, first, first + len(append.events) - 1, self._rules.min_replicas)

    def _lock_lost(self) -> LockLostError:
        return LockLostError(
            f"{self.name}: the writers' lock was held for more than {self._rules.lease} seconds, and was taken away. "
            "Nothing was written under it. For commands that take so long, set a longer lease: Valkey(..., lease=...)."
        )

    def _diverged(self, after: Head, answer: Sequence[Reply]) -> LogDivergedError:
        found = binary(answer[1])
        return LogDivergedError(self.name, after.position, UUID(bytes=after.id), UUID(bytes=found) if found else None)

    def _refused(self, append: Append, answer: Sequence[Reply]) -> FactfoldError:
        match answer[0]:
            case b"diverged":
                return self._diverged(append.check.after, answer)
            case b"void":
                return AppendRefusedError(
                    f"{self.name}: the append {UUID(bytes=append.id)} came after it was declared void"
                )
            case b"refused":
                return AppendRefusedError(f"{self.name}: {binary(answer[1]).decode()}. Nothing was written.")
            case b"damaged":
                return StorageFormatError(
                    f"{self.name}: {binary(answer[1]).decode()}: the storage is damaged. Nothing was written."
                )
            case _:
                return OutcomeUnknownError(f"{self.name}: the server answered an append by {answer!r}.")


_LAST = 2**64 - 1
"""The second part of an entry's id in `tail` when it is the last one of its position."""


def _name_ranges(category: str | None, after: str) -> list[tuple[str, str]]:
    """The ranges of stream ids that a page of streams looks through, as ZRANGEBYLEX takes them."""
    if category is not None:
        return [_above(f"{category}:", after, f"({category};")]  # the character after the colon
    ranges = [_above("", after, "($")] if after < "$" else []
    return [*ranges, _above("%", after, "+")]  # the character after the dollar


def _above(first: str, after: str, end: str) -> tuple[str, str]:
    low = f"({after}" if after.encode() >= first.encode() and after else f"[{first}" if first else "-"
    return low, end
