"""What states and events may hold: values that nobody can change, checked on annotations all the way down.

A cached state is shared by all commands, and an event is a fact. So `list`, `dict`, `set` and mutable classes are
refused when a stream type is defined, with the path to them. `Mapping`, `Sequence` and `Set` are allowed as read-only
types; `copying` keeps what they really hold from being changed.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import re
import types
import typing
import uuid
from collections import abc
from collections.abc import Hashable, Mapping
from typing import Any, ForwardRef, Literal, TypeVar

import msgspec

from factfold.annotations import describe, members, show
from factfold.copying import SOFT, is_soft, key_of
from factfold.errors import DefinitionError
from factfold.records import field_types, inherits_record, record_of

_SCALARS: tuple[type, ...] = (
    *(bool, int, float, complex, str, bytes, range, types.NoneType, enum.Enum, msgspec.UnsetType),
    *(decimal.Decimal, uuid.UUID, re.Pattern, dt.datetime, dt.date, dt.time, dt.timedelta, dt.tzinfo),
)
_RARE_SCALARS = frozenset(  # known by name, so that nobody pays for importing what few will use
    {
        "fractions.Fraction",
        "pathlib.PurePath",
        *(f"ipaddress.IPv{version}{what}" for version in (4, 6) for what in ("Address", "Network", "Interface")),
    }
)
_NEW_MAPPING = "use `Mapping[{0}]`, which is read-only, and make a new one instead of changing it"
_INSTEAD: Mapping[object, str] = {
    list: "use `tuple[{0}, ...]`",
    abc.MutableSequence: "use `tuple[{0}, ...]`",
    abc.Collection: "use `tuple[{0}, ...]`",
    abc.Iterable: "use `tuple[{0}, ...]`",
    set: "use `frozenset[{0}]`",
    abc.MutableSet: "use `frozenset[{0}]`",
    dict: _NEW_MAPPING,
    abc.MutableMapping: _NEW_MAPPING,
    bytearray: "use `bytes`",
    memoryview: "use `bytes`",
    # only in events; states may have them
    abc.Sequence: "use `tuple[{0}, ...]`: an event is decoded again, and a Sequence comes back as a list",
    abc.Set: "use `frozenset[{0}]`: an event is decoded again, and a Set comes back as a set",
}


def check_state(annotation: object, where: str, names: Mapping[str, object]) -> None:
    """Raises DefinitionError when a state could be changed in place somewhere; `names` are local to the definition."""
    _Check("state", names).all_of(annotation, where)


def check_event(cls: type, names: Mapping[str, object]) -> None:
    """Raises DefinitionError when an event could be changed in place somewhere, or is not equal by value."""
    _Check("event", names).record(cls, cls, describe(cls), describe(cls))


def is_open(cls: type) -> bool:
    """Whether a value may be of any subclass: of scalars and read-only containers there are too many to list them."""
    return cls in SOFT or _is_scalar(cls) or (record_of(cls) is None and _is_read_only(cls))


class _Check:
    def __init__(self, purpose: Literal["state", "event"], names: Mapping[str, object]) -> None:
        self._purpose = purpose
        self._names = names
        self._checked: set[Hashable] = set()

    def all_of(self, annotation: object, path: str) -> None:
        """Checks every member of a union, or the only one."""
        for member in members(annotation, path):
            if member is not Ellipsis:
                self._one(member, path)

    def _one(self, member: object, path: str) -> None:
        origin, arguments = typing.get_origin(member) or member, typing.get_args(member)
        if origin is Literal or key_of(member) in self._checked:
            return
        if origin is Any or not isinstance(origin, type):
            raise DefinitionError(f"{path}: {_no_class(member)}.")
        if origin in (tuple, frozenset) or (origin in SOFT and (self._purpose == "state" or origin is abc.Mapping)):
            if not arguments and member not in _EMPTY_TUPLE:
                name = SOFT.get(origin, origin.__name__)
                raise DefinitionError(f"{path}: `{name}` does not say what it holds: write `{name}[...]`.")
        elif origin in _INSTEAD:
            inside = ", ".join(map(show, arguments)) or ("K, V" if issubclass(origin, abc.Mapping) else "T")
            raise self._mutable(member, path, _INSTEAD[origin].format(inside))
        elif _is_scalar(origin):
            return
        elif record_of(origin) is not None:
            self.record(origin, member, path, f"{path} -> {show(origin)}")
            return
        elif self._purpose == "state" and _is_read_only(origin):
            self._refuse_soft(origin, arguments, path)
        else:
            raise self._unknown(origin, path)
        self._checked.add(key_of(member))  # before its arguments: an alias may contain itself
        for argument in arguments:
            self.all_of(argument, path)

    def record(self, cls: type, member: object, path: str, inside: str) -> None:
        """Checks a class of fields, found at `path`, whose fields are called `inside.field`.

        `member` is the class, or the class with its type arguments.
        """
        record = record_of(cls)
        if record is None:
            raise self._unknown(cls, path)
        self._checked.add(key_of(member))  # before its fields: a class may contain itself
        if not record.frozen:
            raise self._mutable(cls, path, f"make it `{record.freeze}`")
        if not record.compares:
            raise DefinitionError(
                f"{path}: `{show(cls)}` compares by identity. What was stored and decoded is another object, so it "
                "needs equality by value: do not turn `eq` off."
            )
        for name, annotation in field_types(cls, member, self._names).items():
            self.all_of(annotation, f"{inside}.{name}")

    def _refuse_soft(self, origin: type, arguments: tuple[object, ...], path: str) -> None:
        # how a class of someone else's is copied is not known, so what it holds must not need it
        for argument in arguments:
            if is_soft(argument, path, self._names):
                raise DefinitionError(
                    f"{path}: `{show(argument)}` inside `{origin.__name__}` cannot be kept from being changed: "
                    "use immutable types inside, such as tuple and frozenset."
                )

    def _mutable(self, member: object, path: str, advice: str) -> DefinitionError:
        why = "cached states are shared" if self._purpose == "state" else "an event is a fact"
        return DefinitionError(f"{path}: `{show(member)}` can be changed in place, and {why}: {advice}.")

    def _unknown(self, cls: type, path: str) -> DefinitionError:
        if cls is object:
            return DefinitionError(f"{path}: `object` can be anything: name the classes.")
        given: type = cls  # what it is before isinstance and issubclass make unknown things of it
        if inherits_record(cls):
            return self._mutable(cls, path, "it inherits from a class that is decorated; decorate it in the same way")
        if issubclass(cls, (abc.MutableMapping, abc.MutableSequence, abc.MutableSet)):
            return self._mutable(given, path, "use `Mapping[K, V]`, `tuple[T, ...]` or `frozenset[T]`")
        records = "a frozen dataclass, a msgspec.Struct(frozen=True), a frozen attrs class or a frozen pydantic model"
        return DefinitionError(f"{path}: `{show(given)}` is not known to be immutable: make it {records}.")


_EMPTY_TUPLE: tuple[object, ...] = (tuple[()], typing.Tuple[()])  # noqa: UP006  # the old way of writing it


def _is_scalar(cls: type) -> bool:
    if issubclass(cls, _SCALARS):
        return True
    for base in cls.__mro__:
        package = base.__module__.partition(".")[0]
        if f"{package}.{base.__qualname__}" in _RARE_SCALARS:
            return True
    # its own values, such as HttpUrl or SecretStr; what inherits from its models is a record
    return cls.__module__.partition(".")[0] in ("pydantic", "pydantic_core") and record_of(cls) is None


def _is_read_only(cls: type) -> bool:
    # a class of someone else's, such as an immutable map: it can be read, and nothing says that it can be written
    abstract = bool(getattr(cls, "__abstractmethods__", None))
    mutable = (abc.MutableMapping, abc.MutableSequence, abc.MutableSet, memoryview, tuple, frozenset)
    return not abstract and not issubclass(cls, mutable) and issubclass(cls, (abc.Mapping, abc.Sequence, abc.Set))


def _no_class(member: object) -> str:
    if member is Any:
        return "`Any` can be anything: name the classes"
    if isinstance(member, TypeVar):
        return f"the type variable `{member}` can be anything: give the generic class its argument, such as `Box[int]`"
    if isinstance(member, (str, ForwardRef)):
        name = member if isinstance(member, str) else member.__forward_arg__
        return f"the name `{name}` cannot be resolved at run time"
    return f"`{show(member)}` is no class of values"
