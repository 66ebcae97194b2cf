"""Hypothesis strategies from annotations: for all that an event may hold, of values that an event may have."""

from __future__ import annotations

import dataclasses
import datetime as dt
import types
import typing
from collections import abc
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument, ResolutionFailed
from hypothesis.strategies import SearchStrategy
from msgspec import Struct

from factfold.annotations import describe, members, see_through, show
from factfold.records import Record, field_types, record_of

Strategy = SearchStrategy[Any]
"""Of whatever the annotation says, which no type checker can follow."""

_LIMITS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "tz")
TEXT = st.characters(codec="utf-8", exclude_characters="\0")
"""Every character that all engines can store."""

_SIMPLE: Mapping[type, Strategy] = {
    bool: st.booleans(),
    types.NoneType: st.none(),
    dt.date: st.dates(),
    dt.time: st.times(),
    dt.timedelta: st.timedeltas(),
}
_REFUSED = object()


class Limits(Struct, frozen=True):
    """What `msgspec.Meta`, pydantic's `Field` or annotated-types say about a value; they call it by the same names."""

    gt: Any = None
    ge: Any = None
    lt: Any = None
    le: Any = None
    multiple_of: Any = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    tz: bool | None = None

    def with_those_of(self, sources: Iterable[object]) -> Limits:
        """These, and those that come on top."""
        found = {name: getattr(self, name) for name in _LIMITS}
        for source in sources:
            found |= {name: limit for name in _LIMITS if (limit := getattr(source, name, None)) is not None}
        return Limits(**found)

    @property
    def sizes(self) -> dict[str, Any]:
        """How long a collection or a text is, as hypothesis asks for it."""
        return {"min_size": self.min_length or 0, "max_size": self.max_length}


NO_LIMITS = Limits()


class Drawing:
    """Makes strategies; `using` are those to be used for a class, or another name of a type, wherever it occurs."""

    def __init__(self, using: Mapping[object, Strategy]) -> None:
        self._using = using
        self._records: dict[object, Strategy] = {}
        self._unfinished: set[object] = set()
        self._recursions = 0

    def of(self, annotation: object, where: str, limits: Limits = NO_LIMITS) -> Strategy:
        """The strategy for what is annotated so. Raises TypeError for what nobody knows how to make."""
        if _is_hashable(annotation) and annotation in self._using:
            return self._using[annotation]
        if typing.get_origin(annotation) is Annotated:
            inner, *sources = typing.get_args(annotation)
            return self.of(inner, where, limits.with_those_of(sources))
        if isinstance(annotation, typing.NewType):
            return self.of(annotation.__supertype__, where, limits)
        if type(annotation).__name__ == "TypeAliasType":
            alias: Any = annotation
            return self.of(alias.__value__, where, limits)
        annotation = see_through(annotation, where)
        choices = list(members(annotation, where))
        if len(choices) > 1:
            return st.one_of([self.of(choice, where, limits) for choice in sorted(choices, key=_none_first)])
        return self._one(annotation, where, limits)

    def _one(self, annotation: object, where: str, limits: Limits) -> Strategy:
        origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
        if origin is Literal:
            return st.sampled_from(arguments)
        if not isinstance(origin, type):
            raise _unknown(annotation, where)
        if origin is tuple:
            return self._tuple(arguments, where, limits)
        if origin is frozenset:
            return self._many(st.frozensets, arguments, where, limits)
        if origin is abc.Mapping:
            return self._many(st.dictionaries, arguments, where, limits)
        if (record := record_of(origin)) is not None:
            return self._record(annotation, origin, record)
        return _scalar(origin, where, limits)

    def _tuple(self, arguments: tuple[object, ...], where: str, limits: Limits) -> Strategy:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return self._many(st.lists, arguments[:1], where, limits).map(tuple)
        return st.tuples(*[self.of(argument, where) for argument in arguments if argument != ()])

    def _many(
        self, collection: Callable[..., Strategy], arguments: tuple[object, ...], where: str, limits: Limits
    ) -> Strategy:
        before = self._recursions
        inside = [self.of(argument, where) for argument in arguments]
        if self._recursions == before:
            return collection(*inside, **limits.sizes)
        # These are of a class that is being looked at: with more than one of them in the mean there would be no end.
        return st.one_of(collection(*inside, max_size=0), collection(*inside, max_size=2))

    def _record(self, annotation: object, cls: type, record: Record) -> Strategy:
        known = self._records.get(annotation)
        if annotation in self._unfinished:
            self._recursions += 1
        if known is None:
            self._unfinished.add(annotation)
            # Deferred, and known before its fields are looked at: a class may contain itself.
            made: list[Strategy] = []
            known = self._records[annotation] = st.deferred(lambda: made[0])
            limits = _limits_of_fields(cls, record)
            fields = {
                name: self.of(hint, f"{describe(cls)}.{name}", NO_LIMITS.with_those_of(limits.get(name, ())))
                for name, hint in field_types(cls, annotation, {}).items()
            }
            arguments = {called: fields[name] for name, called in _init_names(cls, record)}
            self._unfinished.remove(annotation)
            made.append(st.fixed_dictionaries(arguments).map(_maker(cls)).filter(_its_class_takes_it))
        return known


def _maker(cls: Callable[..., object]) -> Callable[[Mapping[str, object]], object]:
    def make(fields: Mapping[str, object]) -> object:
        try:
            return cls(**fields)
        except ValueError:  # as a class refuses values; pydantic's ValidationError is one
            return _REFUSED

    return make


def _its_class_takes_it(made: object) -> bool:
    return made is not _REFUSED


def _init_names(cls: Any, record: Record) -> list[tuple[str, str]]:
    """The fields that are given when an object is made, and what their arguments are called."""
    if record.kind == "pydantic":
        fields = {name: cls.model_fields[name].validation_alias for name in record.fields}
        return [(name, alias if isinstance(alias, str) else name) for name, alias in fields.items()]
    if record.kind == "dataclass":
        return [(field.name, field.name) for field in dataclasses.fields(cls) if field.init]
    if record.kind == "attrs":
        return [(field.name, field.alias) for field in cls.__attrs_attrs__ if field.init]
    return [(name, name) for name in record.fields]


def _limits_of_fields(cls: Any, record: Record) -> Mapping[str, Iterable[object]]:
    """The limits that pydantic keeps beside the annotations."""
    return {name: cls.model_fields[name].metadata for name in record.fields} if record.kind == "pydantic" else {}


def _scalar(cls: type[object], where: str, limits: Limits) -> Strategy:
    if cls in _SIMPLE:
        return _SIMPLE[cls]
    if cls is int:
        return _whole(limits)
    if cls is float:
        low, high = _bounds(limits)
        return st.floats(
            low,
            high,
            allow_nan=False,
            allow_infinity=False,
            exclude_min=limits.gt is not None,
            exclude_max=limits.lt is not None,
        )
    if cls is Decimal:
        return st.decimals(*_bounds(limits), allow_nan=False, allow_infinity=False)
    if cls is str:
        if limits.pattern is not None:
            return st.from_regex(limits.pattern, alphabet=TEXT)
        return st.text(TEXT, **limits.sizes)
    if cls is bytes:
        return st.binary(**limits.sizes)
    if cls is dt.datetime:
        return st.datetimes() if limits.tz is False else st.datetimes(timezones=st.just(dt.UTC))
    known: Strategy = st.from_type(cls)  # Enums, UUIDs, paths, addresses
    try:
        known.validate()
    except (InvalidArgument, ResolutionFailed) as error:
        raise _unknown(cls, where) from error
    return known


def _whole(limits: Limits) -> Strategy:
    """Whole numbers that every JSON reader takes for such: 64 bits, with a sign."""
    low = -(2**63) if limits.ge is None else int(limits.ge)
    high = 2**63 - 1 if limits.le is None else int(limits.le)
    low = low if limits.gt is None else max(low, int(limits.gt) + 1)
    high = high if limits.lt is None else min(high, int(limits.lt) - 1)
    step = limits.multiple_of
    if step is None:
        return st.integers(low, high)
    return st.integers(-(-low // step), high // step).map(lambda number: number * step)


def _bounds(limits: Limits) -> tuple[Any, Any]:
    return limits.ge if limits.gt is None else limits.gt, limits.le if limits.lt is None else limits.lt


def _none_first(annotation: object) -> bool:
    return annotation is not types.NoneType  # what comes first is what a failing example is reduced to


def _is_hashable(annotation: object) -> bool:
    return isinstance(annotation, abc.Hashable)


def _unknown(annotation: object, where: str) -> TypeError:
    shown = show(annotation)
    return TypeError(f"{where}: nobody knows how to make a `{shown}`. Say it: using={{{shown}: st.builds(...)}}.")
