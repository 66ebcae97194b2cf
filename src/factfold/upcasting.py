"""Upcasters: the JSON that an older version of an event class wrote becomes what the class of today would write."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import TypeAlias, TypeVar, cast
from weakref import WeakSet

import msgspec

from factfold.annotations import describe
from factfold.errors import DefinitionError
from factfold.events import JSON, declaration

Upcaster: TypeAlias = Callable[[dict[str, JSON]], dict[str, JSON]]
"""Brings the JSON of an event to the next version. It may change what it is given."""

U = TypeVar("U", bound=Upcaster)

# -- The decorator -----------------------------------------------------------------------------------------------------

_STEPS = "__factfold_upcasters__"
_in_use: WeakSet[type] = WeakSet()
"""The classes whose chains were made: what is added to them later would count for some readers only."""


def upcast(cls: type[object], version: int) -> Callable[[U], U]:
    """Decorator: the function below brings events of `cls` that were stored by this version to the next version.

    It is given the stored JSON object and returns that of the next version. It is a pure function, and runs whenever
    such an event is read, before it is decoded; from an old version up to today's, one upcaster runs after the other.
    It stands below its class and above the stream types, handlers and readers that use the class.
    Raises DefinitionError.
    """
    _check_class(cls)
    declared, where = declaration(cls), f"@upcast({cls.__qualname__}, {version!r})"
    if type(version) is not int or version < 1:
        raise DefinitionError(f"{where}: the version to begin from is a whole number from 1 on, not {version!r}.")
    if version >= declared.version:
        raise DefinitionError(
            f"{where}: {describe(cls)} is version {declared.version}, so this would lead to a version that it has not "
            f"reached. An upcaster begins from an older one: declare @event(version={version + 1}) above the class."
        )

    def register(upcaster: U) -> U:
        _check(upcaster, where)
        if cls in _in_use:
            raise DefinitionError(
                f"{where}: {describe(cls)} is in use already, by a stream type, handlers or a reader, and they would "
                "know nothing of this upcaster. Put it right below its class, or import its module before theirs."
            )
        steps = _steps_of(cls)
        if version in steps:
            raise DefinitionError(
                f"{where}: there is an upcaster from version {version} to {version + 1} already, "
                f"{describe(steps[version])}. One step has one upcaster: put the two together."
            )
        setattr(cls, _STEPS, {**steps, version: upcaster})
        return upcaster

    return register


def _check_class(cls: object) -> None:
    if not isinstance(cls, type):
        raise DefinitionError(f"@upcast takes an event class and a version, as in @upcast(Deposited, 1), not {cls!r}.")


def _check(upcaster: object, where: str) -> None:
    if not callable(upcaster) or isinstance(upcaster, type):
        raise DefinitionError(f"{where} stands above a function `(data) -> data`, not above {upcaster!r}.")
    if inspect.iscoroutinefunction(upcaster) or inspect.isasyncgenfunction(upcaster):
        raise DefinitionError(f"{where}: an upcaster is a plain `def`, not `async`: it only computes.")
    if inspect.isgeneratorfunction(upcaster):
        raise DefinitionError(f"{where}: an upcaster returns the next version's JSON, and this one yields.")
    try:
        inspect.signature(upcaster).bind({})
    except TypeError as error:
        raise DefinitionError(
            f"{where}: an upcaster takes one thing, the stored JSON: `def _(data: dict[str, JSON]) -> dict[str, JSON]`."
        ) from error


def _steps_of(cls: type) -> Mapping[int, Upcaster]:
    steps: Mapping[int, Upcaster] = cls.__dict__.get(_STEPS, {})  # its own: a subclass is another event
    return steps


# -- The chain ---------------------------------------------------------------------------------------------------------


_decode = msgspec.json.Decoder(dict[str, object]).decode


class UpcastError(Exception):
    """Why stored JSON does not become that of today. It is the reason in the error that names the event."""


class Chain:
    """All upcasters of an event class, one after the other. Raises DefinitionError where one is missing between two."""

    __slots__ = ("_cls", "_steps", "_version")

    def __init__(self, cls: type, version: int) -> None:
        self._cls = cls
        self._version = version
        self._steps = dict(_steps_of(cls))
        for step in range(min(self._steps, default=version), version):
            if step not in self._steps:
                raise DefinitionError(
                    f"{describe(cls)} is version {version} and has upcasters from version {min(self._steps)} on, but "
                    f"none from version {step} to {step + 1}. Write it: @upcast({cls.__qualname__}, {step})."
                )
        _in_use.add(cls)

    @property
    def versions(self) -> range:
        """The versions that events can be read of."""
        return range(min(self._steps, default=self._version), self._version + 1)

    def bring_up(self, data: bytes, version: int) -> bytes:
        """The JSON that another version of the class wrote, as today's would have written it. Raises UpcastError."""
        if version > self._version:
            raise UpcastError(
                f"it was stored by version {version} of its class, and {describe(self._cls)} is version "
                f"{self._version} here. Deploy readers first: run code that knows version {version} here, before any "
                "other process writes it"
            )
        upcasted = _object(data)
        for step in range(version, self._version):
            upcasted = self._next(step, upcasted, version)
        return msgspec.json.encode(upcasted)

    def _next(self, step: int, data: dict[str, JSON], stored: int) -> dict[str, JSON]:
        upcaster = self._steps.get(step)
        if upcaster is None:
            raise UpcastError(
                f"it was stored by version {stored} of its class, {describe(self._cls)} is version {self._version}, "
                f"and there is no upcaster from version {step} to {step + 1}. Write it: "
                f"@upcast({self._cls.__qualname__}, {step})"
            )
        try:
            result = upcaster(data)
            wrong = _wrong(result)
        except KeyboardInterrupt:  # as a rule it is not the upcaster's
            raise
        except BaseException as error:  # it runs in other callers' threads and tasks, which SystemExit would end
            raise UpcastError(f"{self._name(step)} raised {error!r}") from error
        if wrong is not None:
            raise UpcastError(f"{self._name(step)} returned {wrong}")
        return result

    def _name(self, step: int) -> str:
        upcaster = describe(self._steps[step])
        return f"the upcaster {upcaster} of {self._cls.__qualname__}, from version {step} to {step + 1},"


def _wrong(result: object) -> str | None:
    """What an upcaster has returned, if it is no JSON object."""
    if not isinstance(result, dict):
        return f"{_short(result)}, and has to return a JSON object, a dict"
    found = _no_json(cast("object", result), "")  # whatever it holds
    return None if found is None else f"{_short(found[1])} ({type(found[1]).__name__}) at {found[0]}, which is no JSON"


def _object(data: bytes) -> dict[str, JSON]:
    try:
        return cast("dict[str, JSON]", _decode(data))  # what was JSON is JSON
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UpcastError(f"upcasters take a JSON object, and what is stored is none: {error}") from error


def _no_json(value: object, path: str) -> tuple[str, object] | None:
    """The first place in a value that is no JSON, and what is there; None when all of it is.

    msgspec would write much more: datetimes and sets, which may come out in any order, and null for NaN.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return None
    if isinstance(value, float) and math.isfinite(value):
        return None
    if isinstance(value, dict):
        members = cast("dict[object, object]", value)  # whatever it holds
        for key, item in members.items():
            if not isinstance(key, str):
                return f"{path}[{key!r}]", key
            if (found := _no_json(item, f"{path}.{key}")) is not None:
                return found
        return None
    if isinstance(value, (list, tuple)):
        items = cast("list[object] | tuple[object, ...]", value)  # the same
        for index, item in enumerate(items):
            if (found := _no_json(item, f"{path}[{index}]")) is not None:
                return found
        return None
    return path, value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
