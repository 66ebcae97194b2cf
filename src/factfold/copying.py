"""Copies of what could be changed in place, for the types that allow it: `Mapping`, `Sequence` and `Set`.

Their annotations promise read-only values, but a dict, a list or a set is what they usually are. A type that holds one
is *soft*: for those, and only those, `copier` makes a function that copies the dicts, lists and sets in a value.
Classes are rebuilt only when something inside them was copied.
"""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# (to pyright, what isinstance finds out about an object is a container of unknown things)

from __future__ import annotations

import copy
import types
import typing
from collections import abc
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from factfold.annotations import members
from factfold.records import Record, field_types, record_of

Copier = Callable[[object], object]
"""Gives a value equal to the given one that shares nothing with it that could be changed in place."""

SOFT: Mapping[object, str] = {abc.Mapping: "Mapping", abc.Sequence: "Sequence", abc.Set: "Set"}


def copier(annotations: Sequence[object], where: str, names: Mapping[str, object]) -> Copier | None:
    """A function that copies what values of these types hold; None when nothing in them can be changed in place.

    The annotations have passed the check of `immutability`; `names` are local names that they may need.
    """
    return _Compiler(where, names).member_by_member(*annotations)


def is_soft(annotation: object, where: str, names: Mapping[str, object], seen: set[object] | None = None) -> bool:
    """Whether a `Mapping`, `Sequence` or `Set` is somewhere inside."""
    seen = set() if seen is None else seen
    for member in members(annotation, where):
        origin = typing.get_origin(member) or member
        if origin in SOFT:
            return True
        if origin is Literal or not isinstance(origin, type) or key_of(member) in seen:
            continue
        seen.add(key_of(member))
        record = record_of(origin)
        inside = typing.get_args(member) if record is None else field_types(origin, member, names).values()
        if any(is_soft(part, where, names, seen) for part in inside if part is not Ellipsis):
            return True
    return False


def key_of(annotation: object) -> Hashable:
    """What to remember an annotation by: itself, or its text where it holds something without a hash."""
    try:
        hash(annotation)
    except TypeError:
        return repr(annotation)
    return annotation


class _Compiler:
    def __init__(self, where: str, names: Mapping[str, object]) -> None:
        self._where = where
        self._names = names
        self._made: dict[Hashable, Copier] = {}

    def member_by_member(self, *annotations: object) -> Copier | None:
        """The copier of a union, or of its only member."""
        soft = [
            member
            for annotation in annotations
            for member in members(annotation, self._where)
            if is_soft(member, self._where, self._names)
        ]
        pairs = list(dict.fromkeys([(_class_of(member), self._of(member)) for member in soft]))
        if not pairs:
            return None

        def copy_member(value: object) -> object:
            for cls, copy_value in pairs:  # several may apply: a tuple is a Sequence too
                if isinstance(value, cls):
                    value = copy_value(value)
            return value

        return copy_member

    def _of(self, member: object) -> Copier:
        key, made = key_of(member), self._made
        if key not in made:
            # a class may contain itself: what refers back to it finds the finished function later
            made[key] = lambda value: made[key](value)  # noqa: PLW0108
            made[key] = self._make(member)
        return made[key]

    def _make(self, member: object) -> Copier:
        origin, arguments = _class_of(member), typing.get_args(member)
        if origin is abc.Mapping:
            return _mapping_copier(self.member_by_member(arguments[1]))
        if origin is abc.Sequence or (origin is tuple and arguments[1:] == (Ellipsis,)):
            return _sequence_copier(self.member_by_member(arguments[0]))
        if origin is abc.Set:
            return _copy_set
        if origin is tuple:
            return _tuple_copier([self.member_by_member(argument) for argument in arguments])
        record = record_of(origin)
        assert record is not None, f"{self._where}: {member} is soft, so it is a container or a record"
        fields = field_types(origin, member, self._names)
        parts = {name: self.member_by_member(hint) for name, hint in fields.items()}
        return _record_copier(record, {name: part for name, part in parts.items() if part is not None})


def _class_of(member: object) -> type:
    origin = typing.get_origin(member) or member
    assert isinstance(origin, type)
    return origin


def _mapping_copier(inner: Copier | None) -> Copier:
    def copy_mapping(value: object) -> object:
        if type(value) is dict:
            pairs: dict[object, object] = value
            return pairs.copy() if inner is None else {key: inner(item) for key, item in pairs.items()}
        if isinstance(value, abc.MutableMapping):
            copied: abc.MutableMapping[object, object] = copy.copy(value)
            if inner is not None:
                for key, item in list(copied.items()):
                    copied[key] = inner(item)
            return copied
        if inner is not None and isinstance(value, types.MappingProxyType):
            shown: Mapping[object, object] = value
            return types.MappingProxyType({key: inner(item) for key, item in shown.items()})
        return value

    return copy_mapping


def _sequence_copier(inner: Copier | None) -> Copier:
    def copy_sequence(value: object) -> object:
        if type(value) is list:
            items: list[object] = value
            return items.copy() if inner is None else [inner(item) for item in items]
        if type(value) is tuple:
            fixed: tuple[object, ...] = value
            return fixed if inner is None else _same_or_new(fixed, [inner(item) for item in fixed])
        if isinstance(value, abc.MutableSequence):
            copied: abc.MutableSequence[object] = copy.copy(value)
            if inner is not None:
                for index, item in enumerate(copied):
                    copied[index] = inner(item)
            return copied
        return value

    return copy_sequence


def _tuple_copier(inner: Sequence[Copier | None]) -> Copier:
    def copy_tuple(value: object) -> object:
        assert isinstance(value, tuple)
        items: tuple[object, ...] = value
        if len(items) != len(inner):
            return items  # another tuple of the same union
        return _same_or_new(items, [part(item) if part else item for item, part in zip(items, inner, strict=True)])

    return copy_tuple


def _same_or_new(old: tuple[object, ...], new: list[object]) -> tuple[object, ...]:
    return old if all(before is after for before, after in zip(old, new, strict=True)) else tuple(new)


def _copy_set(value: object) -> object:
    return copy.copy(value) if isinstance(value, abc.MutableSet) else value


def _record_copier(record: Record, inner: Mapping[str, Copier]) -> Copier:
    def copy_record(value: Any) -> object:
        changed: dict[str, object] = {}
        for name, copy_field in inner.items():
            old = getattr(value, name)
            new = copy_field(old)
            if new is not old:
                changed[name] = new
        if not changed:
            return value
        if record.kind == "namedtuple":
            return value._replace(**changed)
        if record.kind == "pydantic":
            return value.model_copy(update=changed)
        return _replaced(value, changed)

    return copy_record


def _replaced(value: Any, changed: Mapping[str, object]) -> object:
    # Not by the constructor: nothing is to be computed or checked again.
    cls: Any = type(value)
    if all(base is object or "__slots__" not in base.__dict__ for base in cls.__mro__):
        new = object.__new__(cls)  # what copy.copy would do, five times as fast
        new.__dict__.update(value.__dict__, **changed)
        return new
    new = copy.copy(value)
    write: Callable[[Any, str, object], None]
    write = msgspec.structs.force_setattr if isinstance(value, msgspec.Struct) else object.__setattr__
    for name, item in changed.items():
        write(new, name, item)
    return new
