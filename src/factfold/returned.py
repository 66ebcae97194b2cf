"""What a fold may return: values of the classes that its annotation lists, and no others.

Only these were checked to be immutable. A subclass of one may hold a list, and a cached state is shared; None, from a
fold that forgot to return, would become the state of everybody.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any, Literal

from factfold.annotations import describe, members, show
from factfold.errors import DefinitionError
from factfold.immutability import is_open

_WIDER: Mapping[type, tuple[type, ...]] = {float: (int,), complex: (int, float)}
"""What type checkers take for a number, too."""


class Returned:
    """The classes of an annotation for a state. What is inside of the values is left to type checkers."""

    __slots__ = ("_annotation", "_open", "classes")

    def __init__(self, annotation: object, where: str) -> None:
        self._annotation = annotation
        self._open: tuple[type, ...] = ()
        self.classes: set[type] = set()
        """The classes whose instances are allowed, exactly; for the fastest look that there is."""
        for member in members(annotation, where):
            origin = typing.get_origin(member) or member
            if origin is Literal:
                literals: tuple[object, ...] = typing.get_args(member)
                self.classes.update([type(value) for value in literals])
            elif isinstance(origin, type):
                self.classes.update((origin, *_WIDER.get(origin, ())))
                if is_open(origin):
                    self._open += (origin, *_WIDER.get(origin, ()))
                elif (generic := _pydantic_generic(origin)) is not None:
                    self.classes.add(generic)  # `Box(v=1)` is what type checkers take for a `Box[int]`

    def allows(self, value: object) -> bool:
        """Whether it is one of these classes, or of a kind of which there are many: a Mapping, a number, a path."""
        found = type(value) in self.classes
        if not found and isinstance(value, self._open):
            self.classes.add(type(value))  # the next one is found at once
            return True
        return found

    def refusal(self, value: object, event: object, fold: str) -> DefinitionError:
        """Why a fold must not return this."""
        given = "None" if value is None else f"a {describe(type(value))}"
        if value is None:
            advice = (
                "A fold returns the next state in every case, so a `return` is missing, or a case of a `match`: where "
                "nothing changes, return the state as it was given"
            )
        elif isinstance(value, tuple(self.classes)):
            advice = (
                "A subclass is another class, of which nobody knows whether it can be changed in place: list it, "
                f"as in `{show(self._annotation)} | {type(value).__name__}`"
            )
        else:
            advice = "Return one of these, or list the class in the annotation"
        return DefinitionError(
            f"{fold} returned {given} for the event {describe(type(event))}, and the state that it returns is "
            f"annotated as {show(self._annotation)}. {advice}."
        )


def _pydantic_generic(cls: type) -> type | None:
    """The generic class that a pydantic model with type arguments was made of."""
    anything: Any = cls  # what pydantic leaves on a class is not part of its type
    found: Any = getattr(anything, "__pydantic_generic_metadata__", {}).get("origin")
    return found if isinstance(found, type) else None
