"""Classes that consist of fields: dataclasses, attrs classes, Structs, pydantic models and NamedTuples, all alike."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from factfold.annotations import class_hints, describe
from factfold.errors import DefinitionError


class Record(NamedTuple):
    """What a class of fields promises, and what it would have to say to be frozen."""

    kind: Literal["dataclass", "attrs", "struct", "pydantic", "namedtuple"]
    fields: tuple[str, ...]
    frozen: bool
    compares: bool
    """Whether instances are equal by value."""
    freeze: str


def record_of(cls: type) -> Record | None:
    """What kind of record a class is; None when it is none, or only inherits from one."""
    anything: Any = cls  # what these libraries leave on a class is not part of its type
    own = cls.__dict__
    compares = getattr(cls, "__eq__", None) is not getattr(object, "__eq__", None)
    if is_pydantic(cls):
        fields = tuple(anything.model_fields)
        return Record(
            "pydantic", fields, bool(anything.model_config.get("frozen")), compares, "ConfigDict(frozen=True)"
        )
    if issubclass(cls, msgspec.Struct):
        config = cls.__struct_config__
        compares = config.eq or "__eq__" in own
        return Record("struct", cls.__struct_fields__, config.frozen, compares, "msgspec.Struct(frozen=True)")
    if "__attrs_attrs__" in own:
        # the function that attrs gives to frozen classes; those with hooks on setting have another one
        frozen = getattr(anything.__setattr__, "__name__", "") == "_frozen_setattrs"
        return Record(
            "attrs", tuple(field.name for field in anything.__attrs_attrs__), frozen, compares, "@attrs.frozen"
        )
    if "__dataclass_fields__" in own:
        params = own["__dataclass_params__"]
        fields = tuple(field.name for field in dataclasses.fields(anything))
        compares = compares and (params.eq or "__eq__" in own)
        return Record("dataclass", fields, params.frozen, compares, "@dataclass(frozen=True)")
    if hasattr(anything, "_fields") and issubclass(cls, tuple):
        return Record("namedtuple", tuple(anything._fields), True, True, "NamedTuple")
    return None


def inherits_record(cls: type) -> bool:
    """Whether a class inherits the fields of a dataclass or attrs class, without being one itself."""
    return hasattr(cls, "__dataclass_fields__") or hasattr(cls, "__attrs_attrs__")


def is_pydantic(cls: type) -> bool:
    """Whether a class is a pydantic model. Never imports pydantic: while nobody has, there are none."""
    model = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    return isinstance(model, type) and issubclass(cls, model)


def field_types(cls: type, member: object, names: Mapping[str, object]) -> dict[str, object]:
    """The annotations of a record's fields, resolved; the arguments of `member`, such as `Box[int]`, are put in.

    Raises DefinitionError.
    """
    record = record_of(cls)
    fields = () if record is None else record.fields
    if record is not None and record.kind == "pydantic":
        anything: Any = cls
        hints: dict[str, object] = {name: field.annotation for name, field in anything.model_fields.items()}
    else:
        hints = class_hints(cls, names)
    for name in fields:
        if name not in hints:
            raise DefinitionError(
                f"{describe(cls)}.{name} has no annotation, so nobody knows what it holds. Give it one."
            )
    given = _type_arguments(cls)
    parameters: tuple[object, ...] = getattr(cls, "__parameters__", ())
    given.update(zip(parameters, typing.get_args(member), strict=False))
    return {name: _with_arguments(hints[name], given) for name in fields}


def _type_arguments(cls: type) -> dict[object, object]:
    # what generic bases were given: `class Price(Box[int])` says that the T of Box is int
    found: dict[object, object] = {}
    for base in getattr(cls, "__orig_bases__", ()):
        origin = typing.get_origin(base)
        if isinstance(origin, type) and origin is not typing.Generic:
            given: dict[object, object] = dict(
                zip(getattr(origin, "__parameters__", ()), typing.get_args(base), strict=False)
            )
            inherited = _type_arguments(origin).items()
            found.update({parameter: _with_arguments(argument, given) for parameter, argument in inherited})
            found.update(given)
    return found


def _with_arguments(annotation: object, given: Mapping[object, object]) -> object:
    if isinstance(annotation, TypeVar):
        return given.get(annotation, annotation)
    parameters: tuple[object, ...] = getattr(annotation, "__parameters__", ())
    if not given or not parameters or isinstance(annotation, type):
        return annotation
    generic: Any = annotation  # what has parameters can be given arguments
    return generic[tuple(given.get(parameter, parameter) for parameter in parameters)]
