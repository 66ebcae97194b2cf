"""Events: how a class says its stored name, what a recorded event tells, and the metadata that it carries."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from random import Random
from types import MappingProxyType
from typing import Any, Generic, TypeAlias, TypeGuard, TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct

from factfold.errors import DecodingError, DefinitionError, EncodingError, InvalidStreamIdError
from factfold.storage.base import StoredEvent

T = TypeVar("T")
E_co = TypeVar("E_co", covariant=True)

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""A plain JSON value."""

# -- What an event class declares --------------------------------------------------------------------------------------

_DECLARATION = "__factfold_event__"
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and halves of surrogate pairs: no name, id or text of metadata holds one."""
_NO_TEXT = re.compile(r"[\x00\ud800-\udfff]")
"""What not every engine can store in a text: a trace of several lines is none of it."""
_CATEGORY = re.compile(r"[a-z][a-z0-9_.]*")
NAME_LIMIT = 128
CATEGORY_LIMIT = 64


class Declaration(Struct, frozen=True):
    """What is stored as an event's type, and the categories that every append of it must name."""

    name: str
    version: int = 1
    streams: tuple[str, ...] = ()
    was: tuple[str, ...] = ()
    """Other stored names that count as this one."""


def event(
    misplaced: None = None,
    /,
    *,
    name: str | None = None,
    version: int = 1,
    streams: Sequence[str] = (),
    was: Sequence[str] = (),
) -> Callable[[type[T]], type[T]]:
    """Declares how an event class is stored. Without it, the class name is the stored name.

    `name`: the stored type name, up to 128 characters: keep it when the class is renamed, or tell the old one in `was`.
    `version`: of the class's fields, 1-based: raise it when what is stored changes, and write an upcaster from the
    version before (`upcast`). `streams`: the categories that every append of this event must name (it may name others,
    too). `was`: other stored names that are read as this class; new events have its `name`.
    A subclass does not inherit it. Raises DefinitionError, also where it stands above a class without parentheses.
    """
    if misplaced is not None:
        raise DefinitionError(f"@event on {_class_name(misplaced)}: it has parentheses, as in @event(name=...).")

    def declare_event(cls: type[T]) -> type[T]:
        where = f"@event on {_class_name(cls)}"
        chosen = check_name(cls.__name__ if name is None else name, where)
        if chosen.startswith("$"):
            raise DefinitionError(f"{where}: the name {chosen!r} begins with `$`, which is kept for factfold itself.")
        return declare(cls, chosen, version, streams, was)

    return declare_event


def declare(cls: type[T], name: str, version: int = 1, streams: Sequence[str] = (), was: Sequence[str] = ()) -> type[T]:
    """Writes a declaration onto a class, checked. For `@event`, and for the library's own events (`$...`)."""
    where = f"@event on {_class_name(cls)}"
    check_name(name, where)
    if type(version) is not int or version < 1:
        raise DefinitionError(f"{where}: its version is a whole number from 1 on, not {version!r}.")
    if isinstance(streams, str):
        raise DefinitionError(f"{where}: streams is a tuple of categories, `({streams!r},)`, not a string.")
    try:
        categories = tuple([check_category(category) for category in streams])
    except InvalidStreamIdError as error:
        raise DefinitionError(f"{where}: streams={streams!r}: {error}") from error
    setattr(cls, _DECLARATION, Declaration(name, version, categories, _former_names(name, was, where)))
    return cls


def _former_names(name: str, was: Sequence[str], where: str) -> tuple[str, ...]:
    if isinstance(was, str):
        raise DefinitionError(f"{where}: was is a tuple of stored names, `({was!r},)`, not a string.")
    for index, former in enumerate(was):
        check_name(former, f"{where}: was")
        if former.startswith("$"):
            raise DefinitionError(f"{where}: was: {former!r} begins with `$`, which is kept for factfold itself.")
        if former == name:
            raise DefinitionError(f"{where}: {name!r} is its name, so it need not stand in `was`.")
        if former in was[:index]:
            raise DefinitionError(f"{where}: {former!r} stands in `was` twice.")
    return tuple(was)


def declaration(cls: type) -> Declaration:
    """What a class declared with `@event`, or what follows from its name. Raises DefinitionError for a bad name."""
    declared = cls.__dict__.get(_DECLARATION)  # its own: a subclass is another event
    if isinstance(declared, Declaration):
        return declared
    return Declaration(check_name(cls.__name__, f"the event class {cls.__qualname__}"))


def _class_name(cls: object) -> str:
    if not isinstance(cls, type):
        raise DefinitionError(f"@event stands above an event class, not above {cls!r}.")
    return cls.__qualname__


def check_name(name: object, where: str) -> str:
    """Refuses a stored type name that a storage or a reader would trip over. Raises DefinitionError."""
    if not isinstance(name, str):
        raise DefinitionError(f"{where}: the stored name is a string, not {name!r}.")
    if not 0 < len(name) <= NAME_LIMIT:
        raise DefinitionError(f"{where}: the stored name has 1 to {NAME_LIMIT} characters, not {len(name)}: {name!r}.")
    if UNPRINTABLE.search(name):
        raise DefinitionError(f"{where}: the stored name {name!r} holds a control character or half a surrogate pair.")
    return name


def check_category(category: object, *, system: bool = False) -> str:
    """Refuses what is no category. Those of the library itself begin with `$`. Raises InvalidStreamIdError."""
    if not isinstance(category, str):
        raise InvalidStreamIdError(f"A category is a string, not {category!r}.", category)
    name = category.removeprefix("$") if system else category
    if not _CATEGORY.fullmatch(name) or len(category) > CATEGORY_LIMIT:
        raise InvalidStreamIdError(
            f"The category {category!r} cannot be used: it begins with a letter a-z, goes on with a-z, 0-9, `_` "
            f"and `.`, and has at most {CATEGORY_LIMIT} characters.",
            category,
        )
    return category


# -- Metadata ----------------------------------------------------------------------------------------------------------


def _nothing() -> Mapping[str, JSON]:
    return MappingProxyType({})


class Metadata(Struct, frozen=True):
    """What is known about the circumstances of an event; set with `with metadata(...)`.

    An id that is the text of a UUID is a `UUID`. `extra` is read-only JSON.
    """

    correlation_id: UUID | str | None = None
    causation_id: UUID | str | None = None
    actor: str | None = None
    extra: Mapping[str, JSON] = msgspec.field(default_factory=_nothing)

    def __hash__(self) -> int:
        return hash((self.correlation_id, self.causation_id, self.actor))

    def __reduce__(self) -> tuple[Callable[..., Metadata], tuple[object, ...]]:
        # a read-only view of a dict can be neither pickled nor copied
        return _metadata_of, (self.correlation_id, self.causation_id, self.actor, dict(self.extra))


def _metadata_of(
    correlation_id: UUID | str | None, causation_id: UUID | str | None, actor: str | None, extra: dict[str, JSON]
) -> Metadata:
    return Metadata(correlation_id, causation_id, actor, MappingProxyType(extra))


class _StoredMetadata(Struct, frozen=True, omit_defaults=True):
    correlation_id: str | None = None
    causation_id: str | None = None
    actor: str | None = None
    extra: dict[str, Any] = {}


_metadata_to_json = msgspec.json.Encoder().encode
_metadata_from_json = msgspec.json.Decoder(_StoredMetadata).decode
_current: ContextVar[tuple[Metadata, bytes]] = ContextVar("factfold_metadata", default=(Metadata(), b"{}"))


@contextmanager
def metadata(
    *,
    actor: str | None = None,
    correlation_id: UUID | str | None = None,
    causation_id: UUID | str | None = None,
    extra: Mapping[str, JSON] | None = None,
) -> Generator[None, None, None]:
    """Sets the metadata of all commands executed inside this block, in this thread or task and those it starts.

    What counts is where `execute` is called: a block inside a command sets nothing for the events of that command.
    An inner block inherits what it does not set; `extra` is merged key by key. Raises EncodingError on entering when
    something cannot be stored.
    """
    outer, _ = _current.get()
    merged = Metadata(
        correlation_id=_id("correlation_id", correlation_id, outer.correlation_id),
        causation_id=_id("causation_id", causation_id, outer.causation_id),
        actor=outer.actor if actor is None else _text("actor", actor),
        extra=outer.extra if extra is None else MappingProxyType({**outer.extra, **_extra(extra)}),
    )
    token = _current.set((merged, encode_metadata(merged)))
    try:
        yield
    finally:
        _current.reset(token)


def current_metadata() -> bytes:
    """The metadata of the current context as JSON; `{}` when there is none."""
    return _current.get()[1]


def encode_metadata(value: Metadata) -> bytes:
    """Metadata as JSON, without what is not set."""
    return _metadata_to_json(
        _StoredMetadata(
            correlation_id=None if value.correlation_id is None else str(value.correlation_id),
            causation_id=None if value.causation_id is None else str(value.causation_id),
            actor=value.actor,
            extra=dict(value.extra),
        )
    )


def decode_metadata(data: bytes) -> Metadata:
    """Metadata from JSON; what this version does not know is left out. Raises msgspec's errors."""
    if data == b"{}":
        return Metadata()
    stored = _metadata_from_json(data)
    return Metadata(
        correlation_id=None if stored.correlation_id is None else _uuid_or_text(stored.correlation_id),
        causation_id=None if stored.causation_id is None else _uuid_or_text(stored.causation_id),
        actor=stored.actor,
        extra=MappingProxyType(stored.extra),
    )


def _id(name: str, value: object, outer: UUID | str | None) -> UUID | str | None:
    if value is None:
        return outer
    return value if isinstance(value, UUID) else _uuid_or_text(_text(name, value))


def _uuid_or_text(text: str) -> UUID | str:
    try:
        parsed = UUID(text)
    except ValueError:
        return text
    return parsed if str(parsed) == text else text


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise EncodingError(f"metadata: {name} is a string, not {value!r} ({type(value).__name__}).")
    if UNPRINTABLE.search(value):
        raise EncodingError(f"metadata: {name}={value!r} holds a control character or half a surrogate pair.")
    return value


def _extra(value: object) -> dict[str, JSON]:
    if not _is_mapping(value):
        raise EncodingError(f"metadata: extra is a mapping, not {value!r}.")
    return {_text("a key of extra", key): _json(item, f"extra[{key!r}]") for key, item in value.items()}


def _json(value: object, path: str) -> JSON:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
    elif isinstance(value, str):
        if _NO_TEXT.search(value):
            raise EncodingError(f"metadata: {path}={value!r} holds U+0000 or half a surrogate pair.")
        return value
    elif _is_mapping(value):
        return {_text(f"a key of {path}", key): _json(item, f"{path}[{key!r}]") for key, item in value.items()}
    elif _is_list(value):
        return [_json(item, f"{path}[{index}]") for index, item in enumerate(value)]
    raise EncodingError(f"metadata: {path} is no JSON value: {value!r} ({type(value).__name__}).")


def _is_mapping(value: object) -> TypeGuard[Mapping[object, object]]:
    return isinstance(value, Mapping)


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, (list, tuple))


# -- Recorded events ---------------------------------------------------------------------------------------------------

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RecordedEvent(Struct, Generic[E_co], frozen=True, gc=False):  # an event has no way back to it: there is no cycle
    """An event in the log: where it stands, when and with what it was recorded, and the event itself, decoded."""

    stored: StoredEvent
    event: E_co

    @property
    def position(self) -> int:
        """Its place in the log, 1-based, without gaps."""
        return self.stored.position

    @property
    def id(self) -> UUID:
        """Its id, a UUID of version 7."""
        return UUID(bytes=self.stored.id)

    @property
    def type(self) -> str:
        """The stored name of its type."""
        return self.stored.type

    @property
    def streams(self) -> Mapping[str, int]:
        """The streams it belongs to, each with its version in that stream (1-based)."""
        return MappingProxyType(dict(self.stored.streams))

    @property
    def metadata(self) -> Metadata:
        """The metadata of the command that appended it. Raises DecodingError when it is damaged."""
        try:
            return decode_metadata(self.stored.metadata)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DecodingError(
                f"The metadata of the event at position {self.position} ({self.type}) cannot be decoded: {error}.",
                position=self.position,
                type=self.type,
                stream=None,
                version=None,
            ) from error

    @property
    def recorded_at(self) -> datetime:
        """When the storage recorded it, in UTC; never earlier than the event before it."""
        return _EPOCH + timedelta(microseconds=self.stored.recorded_at)

    def __eq__(self, other: object) -> bool:
        """Whether it is the same event, however the storage spells its JSON (spaces, and the order of keys)."""
        if not _is_recorded(other):
            return NotImplemented
        same = _facts(self.stored) == _facts(other.stored) and self.event == other.event
        return same and (self.stored.metadata == other.stored.metadata or self.metadata == other.metadata)

    def __hash__(self) -> int:
        return hash((self.stored.position, self.stored.id))

    def __repr__(self) -> str:
        streams = dict(self.stored.streams)
        return f"RecordedEvent(position={self.position}, type={self.type!r}, streams={streams}, event={self.event!r})"


def _is_recorded(value: object) -> TypeGuard[RecordedEvent[object]]:
    return isinstance(value, RecordedEvent)


def _facts(stored: StoredEvent) -> tuple[object, ...]:
    """What is said of an event beside its JSON."""
    return stored.position, stored.id, stored.type, stored.type_version, stored.streams, stored.recorded_at


# -- Ids ---------------------------------------------------------------------------------------------------------------

_MILLISECONDS = (1 << 48) - 1
_VERSION_AND_VARIANT = 0x7 << 76 | 0b10 << 62
_random = Random()  # of our own: that of the module `random` may be seeded by anybody
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)
_RANDOM_BEFORE_VARIANT = 0xFFF << 64
_RANDOM_AFTER_VARIANT = (1 << 61) - 1  # the uppermost of the 62 bits stays 0, so that counting up never runs over


def new_event_ids(count: int) -> list[bytes]:
    """`count` new ids: UUIDs of version 7 as 16 bytes each, strictly increasing (RFC 9562, 6.2, method 2).

    The randomness is seeded by the operating system, once for each process: a forked one never repeats its parent's.
    """
    first = _first_id(_random.getrandbits(80))
    ids: list[bytes] = []
    for index in range(count):  # a range of numbers that large is slow, and so is a comprehension before Python 3.12
        ids.append((first + index).to_bytes(16, "big"))  # noqa: PERF401
    return ids


def uuid7() -> UUID:
    """A new UUID of version 7, which nobody can guess: its randomness comes from the operating system."""
    return UUID(bytes=_first_id(int.from_bytes(os.urandom(10), "big")).to_bytes(16, "big"))


def _first_id(random: int) -> int:
    return (
        (time.time_ns() // 1_000_000 & _MILLISECONDS) << 80
        | _VERSION_AND_VARIANT
        | random & _RANDOM_BEFORE_VARIANT
        | random & _RANDOM_AFTER_VARIANT
    )
