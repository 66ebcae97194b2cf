"""Event classes to JSON and back: one codec per class, which lets nothing through that would not come back."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Protocol, TypeVar
from weakref import WeakValueDictionary

import msgspec
from msgspec import inspect as types_of_msgspec

from factfold.annotations import class_hints, describe, show
from factfold.errors import DecodingError, DefinitionError, EncodingError
from factfold.events import declaration, declare
from factfold.immutability import check_event
from factfold.records import is_pydantic, record_of
from factfold.sameness import same
from factfold.storage.base import StoredEvent
from factfold.upcasting import Chain, UpcastError

T = TypeVar("T")

ToJson = Callable[[object], bytes]
FromJson = Callable[[bytes], object]


class Transform(Protocol):
    """The hook between codec and storage, for encryption or compression of event data.

    `incoming(outgoing(data))` gives `data` back, in every process and for ever. What `outgoing` gives is JSON too.
    """

    def outgoing(self, data: bytes) -> bytes:
        """JSON as the storage gets it."""
        ...

    def incoming(self, data: bytes) -> bytes:
        """JSON as the event classes wrote it."""
        ...


# -- Event types -------------------------------------------------------------------------------------------------------


class EventType:
    """An event class as it is stored: its name, its version, its streams, its encoder and decoder."""

    __slots__ = ("__weakref__", "_chain", "cls", "decode", "encode", "name", "names", "streams", "version")

    cls: type
    """The event class, exactly: subclasses are other types."""
    name: str
    """The stored type name."""
    names: tuple[str, ...]
    """All stored type names that mean this class: `name`, and those that it had before."""
    version: int
    """The version of the class's fields, 1-based."""
    streams: tuple[str, ...]
    """The categories that every append must name; empty when nothing was declared."""
    encode: Callable[[object], tuple[bytes, object]]
    """Gives JSON and the twin: the event as decoded from just these bytes. Raises EncodingError naming the field."""
    decode: FromJson
    """Gives the event, from JSON of this version. Raises whatever the decoder raises."""

    def __init__(self, cls: type, names: Mapping[str, object] | None = None) -> None:
        declared = declaration(cls)
        _check_event_class(cls, {} if names is None else names)
        self.cls = cls
        self.name = declared.name
        self.names = (declared.name, *declared.was)
        self.version = declared.version
        self.streams = declared.streams
        to_json, self.decode = _codec(cls, describe(cls))
        self.encode = _checked_encoder(cls, to_json, self.decode)
        self._chain = Chain(cls, declared.version)

    @property
    def versions(self) -> range:
        """The versions that events can be read of: this one, and those that upcasters lead up to it from."""
        return self._chain.versions

    def read(self, data: bytes, version: int) -> object:
        """Gives the event that some version of the class stored as this JSON: the one place where upcasters run.

        Raises UpcastError; and whatever the decoder raises.
        """
        return self.decode(data if version == self.version else self._chain.bring_up(data, version))

    def __repr__(self) -> str:
        return f"EventType({self.cls.__qualname__}, name={self.name!r}, version={self.version})"


_event_types: WeakValueDictionary[type, EventType] = WeakValueDictionary()
_lock = threading.Lock()


def _renew_lock() -> None:
    """In a forked child: the thread that may hold the old lock is not in this process."""
    global _lock  # noqa: PLW0603 (it is the module's)
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def event_type(cls: type, names: Mapping[str, object] | None = None) -> EventType:
    """The event type of a class, made at the first call and kept while it is in use.

    `names` are local names that the annotations of a class defined inside a function may need. Raises DefinitionError.
    """
    found = _event_types.get(cls)
    if found is None:
        made = EventType(cls, names)
        with _lock:
            found = _event_types.setdefault(cls, made)
    return found


def system_event(cls: type[T], name: str) -> type[T]:
    """Declares an event class of the library itself, whose stored name begins with `$`."""
    if not name.startswith("$"):
        raise DefinitionError(f"A system event's name begins with `$`: {name!r} does not.")
    return declare(cls, name)


def _check_event_class(cls: type, names: Mapping[str, object]) -> None:
    record = record_of(cls)
    if record is not None and record.kind == "namedtuple":
        raise DefinitionError(
            f"{describe(cls)}: a NamedTuple is a tuple without names once it is stored. Make the event class a frozen "
            "dataclass, a msgspec.Struct(frozen=True), a frozen attrs class or a frozen pydantic model."
        )
    check_event(cls, names)
    if record is not None and record.kind == "attrs":
        for field in record.fields:
            if field.startswith("_"):
                raise DefinitionError(
                    f"{describe(cls)}.{field}: msgspec leaves out the fields of attrs classes that begin with `_`, so "
                    "its value would be lost. Give it a name without `_`, or make the class a dataclass."
                )


# -- Codecs ------------------------------------------------------------------------------------------------------------


def _codec(cls: type, where: str) -> tuple[ToJson, FromJson]:
    try:
        if is_pydantic_like(cls):
            return _pydantic_codec(cls)
        for path, found in undecodable(types_of_msgspec.type_info(cls), where):
            raise DefinitionError(
                f"{path}: `{found}` cannot be decoded from JSON. Use what msgspec knows (numbers, str, bytes, "
                "Decimal, datetime, UUID, Enum, tuples, dataclasses, Structs, attrs classes), or make the event class "
                "a pydantic model."
            )
        return msgspec.json.encode, msgspec.json.Decoder(cls).decode
    except DefinitionError:
        raise
    except Exception as error:
        place, cause = _undecodable_field(cls, where, error)
        advice = ""
        if "more than one" in str(cause) and "str-like" not in str(cause):
            advice = (
                " Where a field may be one of several classes, make them Structs with tags: "
                "msgspec.Struct(frozen=True, tag=True)."
            )
        elif "str-like" in str(cause):
            advice = " These are all texts in JSON, which does not say which one is meant: make it one of them."
        raise DefinitionError(f"{place} cannot be decoded from JSON: {cause}.{advice}") from error


def _undecodable_field(cls: type, where: str, error: Exception) -> tuple[str, Exception]:
    """The field that cannot be decoded, if it is one, and why."""
    hints = {} if is_pydantic_like(cls) else class_hints(cls, {})
    for field in _fields(cls):
        try:
            msgspec.json.Decoder(hints.get(field, object))
        except Exception as cause:  # noqa: BLE001  # whatever it raises, this is the field
            return f"{where}.{field}", cause
    return where, error


def is_pydantic_like(cls: type) -> bool:
    """Whether pydantic encodes and decodes a class: one of its models, or of its dataclasses."""
    return is_pydantic(cls) or "__pydantic_validator__" in cls.__dict__  # the latter: one of its dataclasses


def _pydantic_codec(cls: Any) -> tuple[ToJson, FromJson]:
    if not cls.__pydantic_complete__ and is_pydantic(cls):
        cls.model_rebuild(raise_errors=True)
    for name, field in cls.__pydantic_fields__.items():
        if field.exclude:
            raise DefinitionError(
                f"{describe(cls)}.{name} is excluded from JSON, so its value would be lost. Leave `exclude` away, or "
                "leave the field to another class."
            )
    config: Any = cls.model_config if is_pydantic(cls) else getattr(cls, "__pydantic_config__", {})
    computed = list(cls.__pydantic_decorators__.computed_fields)
    if computed and config.get("extra") in ("forbid", "allow"):
        raise DefinitionError(
            f"{describe(cls)}.{computed[0]} is computed and written, and then read as a field that does not exist, "
            f"which extra={config['extra']!r} does not ignore. Make it a plain property, or leave `extra` away."
        )
    to_json = cls.__pydantic_serializer__.to_json
    from_json: FromJson = cls.__pydantic_validator__.validate_json

    def encode(event: object) -> bytes:
        data: bytes = to_json(event, by_alias=True, warnings="error")
        return data

    return encode, from_json


_NO_KEYS = (
    *(types_of_msgspec.BoolType, types_of_msgspec.NoneType, types_of_msgspec.TupleType, types_of_msgspec.VarTupleType),
    *(types_of_msgspec.FrozenSetType, types_of_msgspec.DictType, types_of_msgspec.NamedTupleType),
    *(types_of_msgspec.DataclassType, types_of_msgspec.StructType),
)


def undecodable(node: object, path: str) -> Iterator[tuple[str, str]]:
    """The places in what msgspec knows of a type that it takes for anything, or leaves to hooks that nobody gave."""
    return _undecodable(node, path, set())


def _undecodable(node: object, path: str, seen: set[int]) -> Iterator[tuple[str, str]]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, types_of_msgspec.CustomType):
        yield path, show(node.cls)
    elif isinstance(node, (types_of_msgspec.AnyType, types_of_msgspec.RawType, types_of_msgspec.ExtType)):
        yield path, "Any" if isinstance(node, types_of_msgspec.AnyType) else type(node).__name__
    elif isinstance(
        node, (types_of_msgspec.DataclassType, types_of_msgspec.StructType, types_of_msgspec.NamedTupleType)
    ):
        for field in node.fields:
            yield from _undecodable(field.type, f"{path}.{field.name}", seen)
    elif isinstance(node, types_of_msgspec.DictType) and isinstance(node.key_type, _NO_KEYS):
        yield path, "a Mapping whose keys are neither texts nor numbers"
    elif isinstance(node, types_of_msgspec.Type):
        for name in node.__struct_fields__:
            inside: Any = getattr(node, name)  # a type, several of them, or a bound such as max_length
            parts: list[object] = [*inside] if type(inside) is tuple else [inside]
            for part in parts:
                yield from _undecodable(part, path, seen)


# -- Encoding, checked -------------------------------------------------------------------------------------------------


def _checked_encoder(cls: type, to_json: ToJson, from_json: FromJson) -> Callable[[object], tuple[bytes, object]]:
    # A closure, not a method: this is the hottest function of the library.
    def encode(event: object) -> tuple[bytes, object]:
        try:
            data = to_json(event)
            twin = from_json(data)
            if twin == event or same(event, twin):
                return data, twin
        except Exception as error:
            raise _refused(cls, event, error) from error
        raise _unequal(cls, event, twin)

    return encode


_PATH = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?", re.DOTALL)


def _refused(cls: type, event: object, error: Exception) -> EncodingError:
    if type(event) is not cls:
        return _another(cls, event)
    name = describe(cls)
    field, what = _where(cls, event, error)
    value = f" Its value is {_short(getattr(event, field, None))}." if field else ""
    place = f"{name}.{field}" if field else name
    return EncodingError(f"{place} cannot be stored, because it would never be read again: {what}.{value}")


def _another(cls: type, event: object) -> EncodingError:
    return EncodingError(f"{_short(event)} is a {describe(type(event))}, and cannot be stored as a {describe(cls)}.")


def _where(cls: type, event: object, error: Exception) -> tuple[str, str]:
    """The field that an error is about ("" when it is about none), and what the error says."""
    if is_pydantic_like(cls):
        errors: Any = getattr(error, "errors", None)  # a method of its ValidationError; other errors have none
        if errors is None:
            return "", str(error)
        first: Any = errors()[0]
        return str(first["loc"][0]) if first["loc"] else "", str(first["msg"])
    for field in _fields(cls):
        try:
            msgspec.json.encode(getattr(event, field))
        except Exception:  # noqa: BLE001  # whatever it raises, this is the field
            return field, str(error)
    match = _PATH.fullmatch(str(error))
    path = "" if match is None or match["path"] is None else match["path"]
    what = str(error) if match is None else match["what"]
    field = re.split(r"[.\[]", path.removeprefix("."), maxsplit=1)[0]
    renamed = {info.encode_name: info.name for info in _struct_fields(cls)}
    inner = path.removeprefix(f".{field}")
    return renamed.get(field, field), f"{what} at {inner}" if inner else what


def _struct_fields(cls: type) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(cls) if issubclass(cls, msgspec.Struct) else ()


def _unequal(cls: type, event: object, twin: object) -> EncodingError:
    if type(event) is not cls:
        return _another(cls, event)
    for field in _fields(cls):
        before: object = getattr(event, field, None)
        after: object = getattr(twin, field, None)
        if not same(before, after):
            return EncodingError(f"{describe(cls)}.{field} cannot be stored: {_difference(before, after)}")
    return EncodingError(
        f"{describe(cls)} cannot be stored: {_short(event)} would come back as {_short(twin)}, and they are not equal."
    )


def _difference(before: object, after: object) -> str:
    """What became of a value, and what to do about it."""
    shown = f"{_short(before)} ({show(type(before))})"
    if not same(before, before):
        return (
            f"{shown} is equal to nothing, not even to itself. Give it another value, None for one that is not known."
        )
    back = f"{_short(after)} ({show(type(after))})"
    if back == shown:
        back = "something that looks the same and is not equal to it"
    elif type(before) is not type(after) or isinstance(before, (tuple, frozenset, Mapping)):
        return f"{shown} would come back as {back}. Give it a value of the type that it is annotated with."
    return f"{shown} would come back as {back}. What is written of it as JSON must hold all that it is."


def _fields(cls: type) -> tuple[str, ...]:
    record = record_of(cls)
    return () if record is None else record.fields


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001  # a message about a wrong value must come out, whatever the value
        return f"<a {type(value).__name__} whose repr fails: {error}>"
    return text if len(text) <= 200 else f"{text[:197]}..."


def decoding_error(
    stored: StoredEvent, event_type: EventType | None, cause: Exception | None, stream: str | None
) -> DecodingError:
    """The error for a stored event that cannot be decoded. `stream` is the one that was read, None for the log."""
    version = None if stream is None else stored.streams.get(stream)
    place = f"position {stored.position}"
    if stream is not None:
        place = f"{stream}, version {version}, {place}"
    elif stored.streams:
        place = f"{place}, in {', '.join(stored.streams)}"
    if event_type is None:
        why = "no class for this type is known here. Deploy readers before writers, or keep a class under this name"
    else:
        if isinstance(cause, UpcastError):
            why = str(cause)
        elif stored.type_version != event_type.version:
            why = (
                f"it was stored by version {stored.type_version} of its class, and {describe(event_type.cls)}, version "
                f"{event_type.version}, refuses what the upcasters made of it: {cause}. Correct them"
            )
        else:
            why = (
                f"{describe(event_type.cls)} refuses it: {cause}. Make the class accept what was stored, with defaults "
                "for fields that are new, or raise its version and write an upcaster"
            )
        if stream is None:
            why += "; where streams of another category have a class of this name, read with category="
    return DecodingError(
        f"{place}: the event of type {stored.type!r} cannot be decoded: {why}. It is never skipped.",
        position=stored.position,
        type=stored.type,
        stream=stream,
        version=version,
    )


def unreadable(mine: EventType, theirs: EventType, fold: str, stream: str, cause: Exception) -> EncodingError:
    """The error for an event that another fold of its stream, with another class of its name, could never read."""
    return EncodingError(
        f"{describe(mine.cls)} cannot be appended to {stream}: it is stored as {mine.name!r}, which the fold {fold} "
        f"reads as {describe(theirs.cls)}, and that class refuses it: {cause}. Give one of the two classes another "
        "name, @event(name=...), or make them take the same data."
    )


# -- Results of commands -----------------------------------------------------------------------------------------------


def encode_result(result: object, annotation: object) -> bytes:
    """A command's result as JSON, checked to come back equal; `annotation` is its return annotation, None without one.

    Raises EncodingError.
    """
    try:
        to_json, from_json = _result_codec(annotation)
        data = to_json(result)
        back = from_json(data)
        equal = same(result, back)
    except Exception as error:
        raise EncodingError(
            f"execute_once has to store the command's result, and cannot: {error}. The result is {_short(result)}. "
            "Return something that JSON can hold, and annotate it."
        ) from error
    if not equal:
        raise EncodingError(
            f"execute_once has to store the command's result, and {_short(result)} would come back as {_short(back)}. "
            "Annotate what the command returns with its exact type, such as `-> tuple[int, ...]`."
        )
    return data


def decode_result(data: bytes, annotation: object) -> object:
    """A result as it was. Raises EncodingError when the command now returns another type than it did then."""
    try:
        return _result_codec(annotation)[1](data)
    except Exception as error:
        raise EncodingError(
            f"The stored result of an execute_once cannot be decoded as {show(annotation)}: {error}. "
            "The command's return annotation has changed since it ran first."
        ) from error


def _result_codec(annotation: object) -> tuple[ToJson, FromJson]:
    if annotation is None or annotation is Any:
        return msgspec.json.encode, msgspec.json.decode
    try:
        return _codec_of(annotation)
    except TypeError:  # an annotation without a hash
        return msgspec.json.encode, msgspec.json.Decoder(annotation).decode


@lru_cache(maxsize=256)
def _codec_of(annotation: Any) -> tuple[ToJson, FromJson]:
    if isinstance(annotation, type) and is_pydantic_like(annotation):
        return _pydantic_codec(annotation)
    return msgspec.json.encode, msgspec.json.Decoder(annotation).decode
