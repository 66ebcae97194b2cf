"""What is written to a log in Valkey, as generators that ask scripts and wait for the writers' turn.

The writers' lock is a lease. Its key `turn` holds the token of its owner and expires by the server's clock. Who finds
it taken blocks on the list `free`; who gives it back puts the next token there, and the server hands it to whoever
waits longest. Nobody needs the lock to append: a script is atomic, and an append that finds no turn taken is one round
trip. One that loses is given the next turn in the same answer, when it is free: to decide again is two round trips.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import UUID, uuid4

from factfold.errors import (
    AppendRefusedError,
    FactfoldError,
    LockLostError,
    LogDivergedError,
    NotReplicatedError,
    OutcomeUnknownError,
    StorageFormatError,
    StoreClosedError,
    StoreUnavailableError,
)
from factfold.storage._valkey_formats import FORMAT
from factfold.storage._valkey_reading import Reading
from factfold.storage._valkey_steps import Route, Rules, Steps
from factfold.storage._valkey_values import Values
from factfold.storage._valkey_wire import (
    APPEND,
    ASK,
    RESOLVE,
    UNLOCK,
    Indices,
    Keys,
    Refusal,
    Reply,
    Words,
    binary,
    decode_news,
    decode_row,
    encode_event,
    encode_question,
    items,
    number,
)
from factfold.storage.base import (
    EMPTY,
    Append,
    Appended,
    Check,
    Conflict,
    Head,
    News,
)

TURN_SLICE = 0.1
"""Seconds that waiting for the turn blocks, until it is asked again: a turn that was lost has come to its end then."""

KEPT = 0.25
"""Seconds for which an append that lost has the next turn: until its batch is decided again, under the lock."""

MAX_BYTES = 256 * 1024 * 1024
"""Bytes of an append. A server takes no argument above twice that, and no command above four times, and hangs up."""


class Turn:
    """The writers' lock as one log holds it, under a token.

    `kept_at`: when an append that lost was given the turn, by the monotonic clock; the log's head is `head` since then.
    None for a turn that `lock` has taken.
    """

    __slots__ = ("head", "kept_at", "token")

    def __init__(self, token: str, kept_at: float | None = None, head: Head = EMPTY) -> None:
        self.token = token
        self.kept_at = kept_at
        self.head = head


class Operations(Reading):
    """All operations of one namespace; those on small values are in `values`.

    `held` is the turn, from `lock` on until an append or `unlock` ends it; `left` are those that interrupted operations
    may still have: they are given back before anything else is written. `queues`: the last append lost while somebody
    had the turn. `closing`: nobody waits for the turn any more.
    """

    def __init__(self, name: str, keys: Keys, route: Route, rules: Rules) -> None:
        super().__init__(name, keys, route, rules)
        self.values = Values(keys, route)
        self.held: Turn | None = None
        self.left: list[Turn] = []
        self.queues = False
        self.closing = False

    def forget(self) -> None:
        """In a child process: what was held is the parent's."""
        self.held, self.left, self.queues = None, [], False

    # -- Writing -------------------------------------------------------------------------------------------------------

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
                        return Conflict(news, frozenset(append.empty[number(index)] for index in items(answer[7])))
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
        question = self.question(check.after, indices.selections(check.selections), indices)
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
                        raise self.diverged(check.after, answer)
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
        question = self.question(append.check.after, (), indices)
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

    # -- Inside --------------------------------------------------------------------------------------------------------

    def _append_question(self, append: Append, indices: Indices) -> tuple[dict[str, object], list[bytes]]:
        types: dict[str, int] = {}
        events = [
            (types.setdefault(event.type, len(types) + 1), *map(indices.of, event.streams)) for event in append.events
        ]
        question = self.question(append.check.after, indices.selections(append.check.selections), indices)
        question |= {
            "types": indices.types,
            "event_types": list(types),
            "events": events,
            "streams": list(dict.fromkeys(index for event in events for index in event[1:])),
            "empty": [indices.of(stream) for stream in append.empty],
            "prefix": self._keys.prefix_size,
        }
        bodies = [encode_event(event) for event in append.events]
        if (size := sum(map(len, bodies))) > MAX_BYTES:
            raise AppendRefusedError(
                f"{self.name}: the events have {size:,} bytes, and an append takes {MAX_BYTES:,}. Nothing was written."
            )
        return question, bodies

    def _appended(self, append: Append, answer: Sequence[Reply]) -> Appended:
        streams = dict.fromkeys(stream for event in append.events for stream in event.streams)
        versions = dict(zip(streams, map(number, items(answer[8])), strict=True))
        news = decode_news(append.check.after, answer, self.name)
        return Appended(number(answer[6]), versions, number(answer[7]), news)

    def _await_turn(self, deadline: float) -> Steps[Turn | None]:
        """Waits in the server's queue. None: the time is over for now, and who asks has to look again."""
        if self.closing:
            raise StoreClosedError(f"{self.name}: the store is closed")
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

    def _refused(self, append: Append, answer: Sequence[Reply]) -> FactfoldError:
        match answer[0]:
            case b"diverged":
                return self.diverged(append.check.after, answer)
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
