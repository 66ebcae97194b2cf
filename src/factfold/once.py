"""Commands that run once per key, for ever: the key is one more stream in the boundary of the command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from factfold.annotations import describe
from factfold.codec import Transform, decode_result, decoding_error, encode_result, system_event
from factfold.commands import (
    Wrapper,
    check_command,
    check_has_name,
    name_of,
    refusal_of_result,
    return_annotation,
)
from factfold.errors import InvalidCommandError, InvalidStreamIdError, KeyReusedError
from factfold.overlay import Pending
from factfold.reading import opened_by, plain_json
from factfold.receipt import Receipt
from factfold.storage.base import LogPage, Selection, StoredEvent, StreamPage
from factfold.streams import ID_LIMIT, Stream, category_of, event_type_of, system_stream_type
from factfold.transaction import Transaction


class Executed(Struct, frozen=True):
    """The command of this name has completed, with this result (JSON) and so many events, just before this one.

    `classes` are the names of the events' classes, each once; `class_of_each` tells, event by event, which one it is.
    """

    command: str
    result: str
    events: int
    classes: tuple[str, ...] = ()
    class_of_each: tuple[int, ...] = ()

    @staticmethod
    def of(command: str, result: str, events: Sequence[Pending]) -> Executed:
        """What has to be known of these events to give them back."""
        names = [describe(event.event_type.cls) for event in events]
        classes = {name: index for index, name in enumerate(dict.fromkeys(names))}
        return Executed(command, result, len(events), tuple(classes), tuple([classes[name] for name in names]))

    def class_name(self, index: int) -> str | None:
        """The name of the class of an event."""
        return self.classes[self.class_of_each[index]] if self.class_of_each else None


system_event(Executed, "$executed")

KEY_LIMIT = ID_LIMIT - len("$once:")
"""How many characters a key may have."""


@system_stream_type("$once", initial=None)
def keys(state: Executed | None, event: Executed) -> Executed | None:
    """Whether a key is used up, and by what."""
    return event


class Once(Wrapper):
    """A command under a key. It is a command itself: what it returns is None when the key is used up already."""

    def __init__(
        self, key: str, command: Callable[..., object], args: Sequence[object], kwargs: dict[str, object]
    ) -> None:
        if callable(key):
            raise InvalidCommandError("execute_once takes the key first: execute_once(key, command, ...)")
        check_command(command)
        check_has_name(command)
        self.stream = _stream_of(key)
        self.command = command
        self._key = key
        self._args = args
        self._kwargs = kwargs
        self._name = name_of(command)
        self._annotation = return_annotation(command)

    def __call__(self, tx: Transaction) -> tuple[object, Executed | None]:
        once = tx.read(self.stream)
        done = once.state
        if done is not None:
            if done.command != self._name:
                raise KeyReusedError(self._key, self._name, done.command)
            return None, done
        result = self.command(tx, *self._args, **self._kwargs)
        if (refusal := refusal_of_result(self.command, result)) is not None:
            raise refusal
        data = encode_result(result, self._annotation).decode()
        once.append(Executed.of(self._name, data, tx.appended))
        return result, None

    def receipt(self, receipt: Receipt[tuple[object, Executed | None]]) -> Receipt[object] | Executed:
        """What a first run did; or, of a repetition, the event that tells about the first run."""
        result, done = receipt.result
        if done is not None:
            return done
        return receipt.without_last(result)

    def last_page(self) -> StreamPage:
        """Where the event of the key stands in the log."""
        return StreamPage(Selection(self.stream.id, None), None, 1, backwards=True)

    def events_page(self, key: StoredEvent, done: Executed) -> LogPage:
        """Where the events of the first run stand: just before it."""
        return LogPage(key.position - 1 - done.events, done.events, system=True)

    def repeated(self, done: Executed, stored: Sequence[StoredEvent], transform: Transform | None) -> Receipt[object]:
        """What the first run did."""
        result = decode_result(done.result.encode(), self._annotation)
        opened = opened_by(transform, stored)
        return Receipt(result, opened, _Twins(opened, done), 1, True)


class _Twins:
    """The events of a first run, decoded when they are asked for: the result is there also if they cannot be."""

    def __init__(self, stored: Sequence[StoredEvent], done: Executed) -> None:
        self._stored = stored
        self._done = done

    def __iter__(self) -> Iterator[object]:
        for index, one in enumerate(self._stored):
            yield _decoded(one, self._done.class_name(index))


def _stream_of(key: str) -> Stream[Executed | None, Executed]:
    try:
        return keys(key)
    except InvalidStreamIdError as error:
        shown = repr(key)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        raise InvalidStreamIdError(
            f"execute_once: the key {shown} cannot be used. A key is a text of 1 to {KEY_LIMIT} characters, "
            "where `/` and `%` count three times, without control characters.",
            key,
        ) from error


def _decoded(stored: StoredEvent, class_name: str | None) -> object:
    """The event as some fold of this process knows it; as plain JSON where none does, or where it is unclear which."""
    for stream in stored.streams:
        if (found := event_type_of(category_of(stream), stored.type, class_name)) is not None:
            try:
                return found.read(stored.data, stored.type_version)
            except Exception as error:
                raise decoding_error(stored, found, error, stream) from error
    return plain_json(stored.data)
