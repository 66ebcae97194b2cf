"""How a folded state is written down and read again, and the fingerprint by which a change of its classes shows."""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec import inspect as types_of_msgspec

from factfold.annotations import members, show
from factfold.codec import EventType, FromJson, ToJson, is_pydantic_like, undecodable
from factfold.copying import key_of
from factfold.errors import DefinitionError
from factfold.events import JSON
from factfold.records import field_types, record_of


class StateCodec(Struct, frozen=True, eq=False):
    """Writes and reads the states of one fold.

    `fingerprint` differs when the classes of the state, or the event types that the fold looks at, are other ones.
    """

    to_json: ToJson
    from_json: FromJson
    fingerprint: str


def state_codec(
    annotation: object, event_types: Iterable[EventType], where: str, names: Mapping[str, object]
) -> StateCodec:
    """The codec for what a fold returns; `names` are local to its definition.

    Raises DefinitionError when such states could not be read again.
    """
    shape = _Shape(where, names)
    shape.add(annotation)
    try:
        to_json, from_json, schema = (_by_pydantic if shape.has_model else _by_msgspec)(annotation, where)
    except DefinitionError:
        raise
    except Exception as error:
        raise DefinitionError(
            f"{where}: {error}. A state of which snapshots are kept must come back from JSON. Where it may be one of "
            "several classes, make them Structs with tags: msgspec.Struct(frozen=True, tag=True); or leave out "
            "snapshot_every."
        ) from error
    events = sorted((each.name, each.version, *sorted(each.names[1:])) for each in event_types)
    # Here, so that `import factfold` need not wait for it: few keep snapshots.
    import hashlib

    text = msgspec.json.encode([_in_order(schema), shape.lines, events], order="deterministic")
    return StateCodec(to_json, from_json, hashlib.sha256(text).hexdigest())


# -- By msgspec, or by pydantic where one of its models is inside ------------------------------------------------------


def _by_msgspec(annotation: Any, where: str) -> tuple[ToJson, FromJson, JSON]:
    for path, found in undecodable(types_of_msgspec.type_info(annotation), where):
        raise DefinitionError(
            f"{path}: `{found}` cannot be decoded from JSON, so no snapshot of this state can be kept. Use what "
            "msgspec knows (numbers, str, bytes, Decimal, datetime, UUID, Enum, tuples, dataclasses, Structs, attrs "
            "classes), or leave out snapshot_every."
        )
    return msgspec.json.encode, msgspec.json.Decoder(annotation).decode, msgspec.json.schema(annotation)


def _by_pydantic(annotation: Any, where: str) -> tuple[ToJson, FromJson, JSON]:
    adapter: Any = sys.modules["pydantic"].TypeAdapter(annotation)  # imported by whoever made the model
    serialize: Callable[..., bytes] = adapter.serializer.to_json
    from_json: FromJson = adapter.validator.validate_json
    schema: JSON = adapter.json_schema(mode="serialization", by_alias=True)

    def to_json(state: object) -> bytes:
        return serialize(state, by_alias=True, warnings="error")

    return to_json, from_json, schema


# -- The fingerprint ---------------------------------------------------------------------------------------------------


class _Shape:
    """The classes inside an annotation with their fields, as lines of text: JSON schemas leave out some of it."""

    def __init__(self, where: str, names: Mapping[str, object]) -> None:
        self.lines: list[str] = []
        self.has_model = False
        self._where = where
        self._names = names
        self._seen: set[Hashable] = set()

    def add(self, annotation: object) -> None:
        """Adds a line for the annotation, and one for each class that it leads to."""
        self.lines.append(show(annotation))
        for member in members(annotation, self._where):
            origin = typing.get_origin(member) or member
            if key_of(member) in self._seen or not isinstance(origin, type):
                continue
            self._seen.add(key_of(member))
            self.has_model |= is_pydantic_like(origin)
            arguments: Sequence[object] = typing.get_args(member)
            if record_of(origin) is None:
                inside = {str(index): each for index, each in enumerate(arguments)}
            else:
                inside = field_types(origin, member, self._names)
            for name, each in inside.items():
                if each is not Ellipsis:
                    self.lines.append(f"{show(member)}.{name}")
                    self.add(each)


def _in_order(schema: JSON, in_default: bool = False) -> JSON:
    """The schema, with the elements of defaults sorted: those of a frozenset have another order in every process."""
    if isinstance(schema, Mapping):
        return {key: _in_order(value, in_default or key == "default") for key, value in schema.items()}
    if isinstance(schema, list | tuple):
        elements = [_in_order(item, in_default) for item in schema]
        return sorted(elements, key=repr) if in_default else elements
    return schema
