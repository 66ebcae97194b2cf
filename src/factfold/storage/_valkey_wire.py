"""How values travel to and from a Valkey server: scripts and their questions, rows, and errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple, TypeAlias, Union

import msgspec
from msgspec import Struct

from factfold.errors import StorageFormatError
from factfold.storage.base import Head, NewEvent, News, Selection, StoredEvent

Word: TypeAlias = str | bytes | int
Words: TypeAlias = tuple[Word, ...]
"""A command and its arguments."""

Reply: TypeAlias = Union[bytes, int, Sequence["Reply"], "Refusal", None]
"""What a server answers to one command. An error is a value: it stands in the place of its command."""


class Refusal(Struct, frozen=True):
    """A server's error: the command was not done. `code` is its first word, such as NOSCRIPT."""

    code: str
    text: str


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Script:
    """A Lua script: its text, with what all scripts share in front, and the name under which a server keeps it."""

    def __init__(self, name: str) -> None:
        folder = files("factfold.storage") / "lua"
        self.text = f"{(folder / 'prelude.lua').read_text('utf-8')}\n{(folder / f'{name}.lua').read_text('utf-8')}"
        self.sha = sha1(self.text.encode(), usedforsecurity=False).hexdigest()


APPEND = Script("append")
ASK = Script("ask")
DIVIDE = Script("divide")
ENDS = Script("ends")
ENTRIES = Script("entries")
FILTER = Script("filter")
LOAD = Script("load")
RESOLVE = Script("resolve")
STREAM = Script("stream")
SWAP = Script("swap")
UNLOCK = Script("unlock")


# -- Keys --------------------------------------------------------------------------------------------------------------


class Keys:
    """The keys of one namespace. The braces make them one slot of a cluster."""

    def __init__(self, prefix: str, namespace: str) -> None:
        # A hash tag ends at the first closing brace, and is none when it is empty.
        tag = namespace.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
        self.base = f"{prefix}:{{{tag}}}:"
        self.log, self.tail, self.types, self.names, self.voids, self.turn, self.free = self.fixed = tuple(
            self.base + name for name in ("log", "tail", "types", "names", "voids", "turn", "free")
        )
        self.format = self.base + "format"
        self.places = self.base + "p:"
        self.streams = self.base + "s:"
        self.prefix_size = len(self.streams.encode())


class Indices:
    """The keys of one question, and the index that each stream has among them."""

    def __init__(self, keys: Keys) -> None:
        self.keys = list(keys.fixed)
        self._prefix = keys.streams
        self._known: dict[str, int] = {}
        self._types: dict[frozenset[str], int] = {}

    def of(self, stream: str) -> int:
        """The index, from 1 on, of the key of a stream."""
        index = self._known.get(stream)
        if index is None:
            self.keys.append(self._prefix + stream)
            index = self._known[stream] = len(self.keys)
        return index

    def of_types(self, types: frozenset[str] | None) -> int | None:
        """The index, from 1 on, of a set of types; None for all types."""
        return None if types is None else self._types.setdefault(types, len(self._types) + 1)

    @property
    def types(self) -> list[list[str]]:
        """All sets of types that were asked for."""
        return [list(types) for types in self._types]

    def selections(self, selections: Iterable[Selection]) -> list[tuple[int, int | None]]:
        """The selections as scripts take them."""
        return [(self.of(selection.stream), self.of_types(selection.types)) for selection in selections]


# -- Rows --------------------------------------------------------------------------------------------------------------


class Row(Struct, frozen=True, array_like=True, gc=False):
    """An event as the hash `log` holds it. The script adds the last two to what the client has encoded."""

    id: bytes
    type: str
    streams: tuple[str, ...]
    type_version: int
    data: bytes
    metadata: bytes
    versions: tuple[int, ...]
    recorded_at: int


_EIGHT = b"\x98"
"""How an array of eight begins in MessagePack; one of six is what the client can encode of it."""

_encode = msgspec.msgpack.Encoder().encode
_decode_row = msgspec.msgpack.Decoder(Row).decode


def encode_question(question: Mapping[str, object]) -> bytes:
    """The first argument of every script."""
    return _encode(question)


def encode_event(event: NewEvent) -> bytes:
    """The front of the row for an event."""
    return _EIGHT + _encode((event.id, event.type, event.streams, event.type_version, event.data, event.metadata))[1:]


def decode_row(position: int, row: Reply, where: str) -> StoredEvent:
    """The event of a row. Raises StorageFormatError when it is missing or is none."""
    if not isinstance(row, bytes):
        raise StorageFormatError(
            f"{where}: there is no event at position {position}, below the head: the storage is damaged. "
            "store.verify() tells what else is."
        )
    try:
        found = _decode_row(row)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageFormatError(f"{where}: what is stored at position {position} is no event ({error}).") from error
    return StoredEvent(
        position,
        found.id,
        found.type,
        found.type_version,
        found.data,
        found.metadata,
        dict(zip(found.streams, found.versions, strict=True)),
        found.recorded_at,
    )


def decode_rows(positions: Iterable[Reply], rows: Iterable[Reply], where: str) -> list[StoredEvent]:
    """The events of rows, each with its position."""
    return [
        decode_row(position, row, where)
        for position, row in zip(positions, rows, strict=True)
        if isinstance(position, int)
    ]


# -- Replies -----------------------------------------------------------------------------------------------------------


def items(reply: Reply) -> Sequence[Reply]:
    """A reply that is a list. Anything else is not what our scripts and commands answer."""
    if not isinstance(reply, list):
        raise StorageFormatError(f"The server answered {reply!r} where a list was expected: is it Valkey or Redis?")
    return reply


def number(reply: Reply) -> int:
    """A reply that is an integer."""
    if not isinstance(reply, int):
        raise StorageFormatError(f"The server answered {reply!r} where a number was expected: is it Valkey or Redis?")
    return reply


def binary(reply: Reply) -> bytes:
    """A reply that is a string."""
    if not isinstance(reply, bytes):
        raise StorageFormatError(f"The server answered {reply!r} where a text was expected: is it Valkey or Redis?")
    return reply


def decode_news(after: Head, answer: Sequence[Reply], where: str) -> News:
    """The news in an answer: kind, position, id, touched selections, whether it is too far, rows."""
    head = Head(number(answer[1]), binary(answer[2]))
    touched = frozenset(map(number, items(answer[3])))
    rows = items(answer[5])
    events = tuple(decode_row(position, row, where) for position, row in enumerate(rows, after.position + 1))
    return News(after, head, events, touched, too_far=bool(answer[4]))
