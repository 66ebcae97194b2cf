"""Annotations as the program means them: names resolved where they were written, aliases seen through.

A fold says its state and its events in its annotations, and they are needed at run time. Under
`from __future__ import annotations` they are texts, whose names may be local to the function around the fold.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Annotated, Any, ClassVar, Final, ForwardRef, TypeVar, Union

from factfold.errors import DefinitionError

_CAUSE = (
    "Most likely it is imported or defined under `if TYPE_CHECKING:`, or only further down; it is needed at run time, "
    "so move it to where the program finds it"
)

# -- Resolving names ---------------------------------------------------------------------------------------------------


def enclosing_names(qualname: str, frame: FrameType | None) -> dict[str, object]:
    """The local names around the function called `qualname`, which is being defined in `frame`.

    Only frames whose code encloses the definition in the source count, not everyone who happens to be calling.
    """
    found: dict[str, object] = {}
    file = None if frame is None else frame.f_code.co_filename
    while frame is not None:
        code = frame.f_code
        encloses = qualname.startswith((f"{code.co_qualname}.<locals>.", f"{code.co_qualname}."))
        if encloses and code.co_filename == file:
            for name, value in frame.f_locals.items():
                found.setdefault(name, value)
        frame = frame.f_back
    return found


def names_around(function: object) -> dict[str, object]:
    """The local names around a function that a decorator has been given: to be called by the decorator itself."""
    here = inspect.currentframe()
    decorator = None if here is None else here.f_back
    frame = None if decorator is None else decorator.f_back
    del here  # a frame that knows itself is garbage that nobody sees
    return enclosing_names(getattr(function, "__qualname__", ""), frame)


def function_hints(function: Callable[..., object], names: Mapping[str, object]) -> dict[str, object]:
    """The annotations of a function, resolved in its module and in the local `names` around it.

    Raises DefinitionError naming what cannot be resolved.
    """
    target = inspect.unwrap(function)
    try:
        return typing.get_type_hints(target, localns={**names, **_closure(target)}, include_extras=True)
    except Exception as error:
        raise _unresolved(target, error) from error


def class_hints(cls: type, names: Mapping[str, object]) -> dict[str, object]:
    """The annotations of a class and its bases, resolved in their modules; `names` fill in what is missing there.

    Raises DefinitionError naming what cannot be resolved.
    """
    added: dict[str, object] = {}
    while True:
        try:
            if not added:
                return typing.get_type_hints(cls, include_extras=True)
            hints = typing.get_type_hints(cls, localns={**vars(cls), **added}, include_extras=True)
        except NameError as error:
            if error.name is None or error.name in added or error.name not in names:
                raise _unresolved(cls, error) from error
            added[error.name] = names[error.name]
        except Exception as error:
            raise _unresolved(cls, error) from error
        else:
            _keep(cls, hints)
            return hints


def _closure(function: Callable[..., object]) -> dict[str, object]:
    code = getattr(function, "__code__", None)
    found: dict[str, object] = {}
    for name, cell in zip(getattr(code, "co_freevars", ()), getattr(function, "__closure__", None) or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # a name around the function that has no value yet
    return found


def _keep(cls: type, hints: Mapping[str, object]) -> None:
    # The texts named local classes, which msgspec, knowing only modules, would not find: it gets what they mean.
    seen: set[str] = set()
    for base in cls.__mro__:
        written = inspect.get_annotations(base)
        base_hints = {name: hints[name] for name, text in written.items() if name not in seen and isinstance(text, str)}
        seen.update(written)
        if base_hints:
            base.__annotations__ = {**written, **base_hints}


def _unresolved(target: object, error: Exception) -> DefinitionError:
    name = error.name if isinstance(error, NameError) else None
    if name is None:
        return DefinitionError(
            f"{describe(target)}: its annotations cannot be evaluated: {type(error).__name__}: {error}."
        )
    texts = [f"`{key}: {text}`" for key, text in _written(target).items() if isinstance(text, str) and name in text]
    aliases = [one for one in _aliases(target) if name in one[2]]
    texts += [f"the alias `{alias} = {text!r}`, used in `{used}`," for used, alias, text in aliases]
    shown = f" in {texts[0]}" if texts else ""
    return DefinitionError(f"{describe(target)}: the name `{name}`{shown} cannot be resolved at run time. {_CAUSE}.")


def _aliases(target: object) -> Iterator[tuple[str, str, str]]:
    """The texts that the annotations of a function or class name, and where: `Event = "Opened | Closed"`."""
    module = sys.modules.get(getattr(target, "__module__", ""))
    names: Mapping[str, object] = {} if module is None else vars(module)
    for key, written in _written(target).items():
        if isinstance(written, str):
            for alias in re.findall(r"[^\W\d]\w*", written):
                text = names.get(alias)
                if isinstance(text, str):
                    yield f"{key}: {written}", alias, text


def _written(target: object) -> Mapping[str, object]:
    try:
        return dict(getattr(target, "__annotations__", {}))
    except NameError:  # from Python 3.14 on they are evaluated only here
        return {}


# -- Seeing through ----------------------------------------------------------------------------------------------------


def see_through(annotation: object, where: str) -> object:
    """The annotation without what says nothing at run time: aliases, `Annotated`, `NewType`, `Final`.

    Raises DefinitionError when an alias cannot be evaluated.
    """
    while True:
        origin = typing.get_origin(annotation)
        if annotation is None:
            return types.NoneType
        if origin in (Annotated, Final, ClassVar):
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif _is_alias(annotation):
            annotation = _alias_value(annotation, where)
        elif _is_alias(origin):
            value: Any = _alias_value(origin, where)  # a generic alias: its value can be given arguments
            annotation = value[typing.get_args(annotation)]
        else:
            return annotation


def _is_alias(annotation: object) -> bool:
    # `type X = ...` of Python 3.12, or the class of the same name in typing_extensions
    return type(annotation).__name__ == "TypeAliasType"


def _alias_value(alias: Any, where: str) -> object:
    try:
        value: object = alias.__value__
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        if isinstance(error, NameError):
            what = f"the name `{error.name}` in it cannot be resolved at run time"
        raise DefinitionError(f"{where}: the alias `{alias.__name__}` cannot be used: {what}. {_CAUSE}.") from error
    return value


def members(annotation: object, where: str) -> Iterator[object]:
    """What a union consists of, aliases and nested unions seen through; anything else is its own only member.

    Raises DefinitionError when an alias cannot be evaluated.
    """
    annotation = see_through(annotation, where)
    if typing.get_origin(annotation) in (Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from members(member, where)
    else:
        yield annotation


def event_classes(annotation: object, where: str) -> tuple[type, ...]:
    """The classes that an annotation for events lists, in order, each once.

    Raises DefinitionError when something in it is no class.
    """
    found: dict[type, None] = {}
    for member in members(annotation, where):
        if not isinstance(member, type) or typing.get_origin(member) or member in (Any, object, types.NoneType):
            raise DefinitionError(f"{where}: {_no_event_class(member)}.")
        found[member] = None
    return tuple(found)


def _no_event_class(member: object) -> str:
    if member is Any or member is object:
        return f"`{show(member)}` does not say which events there are: list their classes, `Opened | Deposited`"
    if member is types.NoneType:
        return "None is no event: list only event classes"
    if isinstance(member, TypeVar):
        return f"the type variable `{member}` does not say which events there are: list their classes"
    if isinstance(member, (str, ForwardRef)):
        name = member if isinstance(member, str) else member.__forward_arg__
        return f"the name `{name}` cannot be resolved at run time. {_CAUSE}"
    if isinstance(typing.get_origin(member), type):
        return f"`{show(member)}` is no class of its own, and what is stored must say its type: make a class for it"
    return f"`{show(member)}` is no class: list the event classes, `Opened | Deposited`"


# -- For messages ------------------------------------------------------------------------------------------------------


def show(annotation: object) -> str:
    """An annotation as one would write it."""
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return "None" if annotation is types.NoneType else annotation.__qualname__.rpartition("<locals>.")[2]
    return str(annotation).replace("typing.", "").replace("collections.abc.", "")


def describe(target: object) -> str:
    """Where a function or class is: `module.name`."""
    name: str = getattr(target, "__qualname__", "") or type(target).__qualname__
    module: str = getattr(target, "__module__", None) or ""
    return f"{module}.{name}" if module else name
