"""Which classes can be events, as what they are stored, and why the others are refused."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from dataclasses import dataclass
from typing import NewType

import msgspec
import pytest

from factfold.codec import event_type, system_event
from factfold.errors import DefinitionError
from factfold.events import event
from tests.sources import run

AccountId = NewType("AccountId", str)


@dataclass(frozen=True)
class Deposited:
    amount: int


class Struct(msgspec.Struct, frozen=True):
    amount: int


# -- Event classes that are refused ------------------------------------------------------------------------------------


PRELUDE = """
import enum
from collections.abc import Iterable, Mapping, Sequence, Set, MutableMapping
from dataclasses import dataclass, field, InitVar
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar
import attrs, msgspec, pydantic
T = TypeVar("T")
frozen = dataclass(frozen=True)
"""
REFUSED_CLASSES = [
    ("class E: pass", "`E` is not known to be immutable: make it a frozen dataclass"),
    (
        "@dataclass\nclass E:\n  a: int",
        "`E` can be changed in place, and an event is a fact: make it `@dataclass(frozen=True)`",
    ),
    ("class E(msgspec.Struct):\n  a: int", "make it `msgspec.Struct(frozen=True)`"),
    ("@attrs.define\nclass E:\n  a: int", "make it `@attrs.frozen`"),
    ("class E(pydantic.BaseModel):\n  a: int", "make it `ConfigDict(frozen=True)`"),
    ("class E(NamedTuple):\n  a: int", "a NamedTuple is a tuple without names"),
    ("class E(TypedDict):\n  a: int", "`E` can be changed in place"),
    ("E = enum.Enum('E', 'a b')", "`E` is not known to be immutable"),
    (
        "@frozen\nclass P:\n  a: int\nclass E(P): pass",
        "it inherits from a class that is decorated; decorate it in the same way",
    ),
    ("@dataclass(frozen=True, eq=False)\nclass E:\n  a: int", "compares by identity"),
    ("class E(msgspec.Struct, frozen=True, eq=False):\n  a: int", "compares by identity"),
    ("@attrs.frozen(eq=False)\nclass E:\n  a: int", "compares by identity"),
    (
        "@frozen\nclass E:\n  a: list[int]",
        ".E.a: `list[int]` can be changed in place, and an event is a fact: use `tuple[int, ...]`",
    ),
    (
        "@frozen\nclass E:\n  a: list",
        ".E.a: `list` can be changed in place, and an event is a fact: use `tuple[T, ...]`",
    ),
    ("@frozen\nclass E:\n  a: set[int]", "use `frozenset[int]`"),
    ("@frozen\nclass E:\n  a: dict[str, int]", "use `Mapping[str, int]`"),
    ("@frozen\nclass E:\n  a: MutableMapping[str, int]", "use `Mapping[str, int]`"),
    (
        "@frozen\nclass E:\n  a: Sequence[int]",
        "use `tuple[int, ...]`: an event is decoded again, and a Sequence comes back as a list",
    ),
    ("@frozen\nclass E:\n  a: Set[int]", "use `frozenset[int]`"),
    ("@frozen\nclass E:\n  a: Iterable[int]", "use `tuple[int, ...]`"),
    ("@frozen\nclass E:\n  a: bytearray", "use `bytes`"),
    ("@frozen\nclass E:\n  a: tuple", ".E.a: `tuple` does not say what it holds: write `tuple[...]`"),
    ("@frozen\nclass E:\n  a: Mapping", "`Mapping` does not say what it holds"),
    ("@frozen\nclass E:\n  a: tuple[list[int], ...]", ".E.a: `list[int]`"),
    ("@frozen\nclass E:\n  a: int | dict[str, int]", ".E.a: `dict[str, int]`"),
    ("@frozen\nclass P:\n  b: tuple[list[int], ...]\n@frozen\nclass E:\n  a: P", ".E.a -> P.b: `list[int]`"),
    ("@dataclass\nclass P:\n  b: int\n@frozen\nclass E:\n  a: tuple[P, ...]", ".E.a: `P` can be changed in place"),
    ("class P(pydantic.BaseModel, frozen=True):\n  b: list[int]\nE = P", ".P.b: `list[int]`"),
    ("@frozen\nclass E:\n  a: Any", ".E.a: `Any` can be anything: name the classes"),
    ("@frozen\nclass E:\n  a: object", ".E.a: `object` can be anything: name the classes"),
    ("@frozen\nclass E(Generic[T]):\n  a: T", "the type variable `~T` can be anything"),
    ("@frozen\nclass B(Generic[T]):\n  b: T\n@frozen\nclass E:\n  a: B", ".E.a -> B.b: the type variable"),
    ("class P: pass\n@frozen\nclass E:\n  a: P", ".E.a: `P` is not known to be immutable"),
    ("@frozen\nclass E:\n  a: complex", ".E.a: `complex` cannot be decoded from JSON"),
    ("@frozen\nclass E:\n  a: tuple[Fraction, ...]", ".E.a: `Fraction` cannot be decoded from JSON"),
    ("@frozen\nclass E:\n  a: Mapping[str, PurePath | None]", ".E.a: `PurePath` cannot be decoded from JSON"),
    ("class P(str): pass\n@frozen\nclass E:\n  a: P", ".E.a: `P` cannot be decoded from JSON"),
    (
        "class P(pydantic.BaseModel, frozen=True):\n  b: int\n@frozen\nclass E:\n  a: P",
        "make the event class a pydantic model",
    ),
    (
        "@frozen\nclass E:\n  a: str | datetime",
        ".E.a cannot be decoded from JSON: Type unions may not contain more than one str-like",
    ),
    (
        "@frozen\nclass P:\n  b: int\n@frozen\nclass Q:\n  b: int\n@frozen\nclass E:\n  a: P | Q",
        "make them Structs with tags",
    ),
    (
        "@frozen\nclass E:\n  a: Mapping[tuple[int, ...], int]",
        ".E.a: `a Mapping whose keys are neither texts nor numbers` cannot be decoded",
    ),
    (
        "@frozen\nclass P:\n  b: int\n@frozen\nclass Q:\n  b: int\n@frozen\nclass E:\n  x: int\n  a: P | Q",
        ".E.a cannot be decoded from JSON: Type unions may not contain more than one dataclass",
    ),
    ("@frozen\nclass E:\n  a: InitVar[int]\n  b: int = 0", "dataclasses with `InitVar` fields are not supported."),
    (
        "class P(enum.Enum):\n  A = (1, 2)\n@frozen\nclass E:\n  a: P",
        ".E.a cannot be decoded from JSON: Enums must contain",
    ),
    ("@attrs.frozen\nclass E:\n  _a: int", "E._a: msgspec leaves out the fields of attrs classes that begin with `_`"),
    ("@attrs.frozen\nclass E:\n  a = attrs.field()", "E.a has no annotation"),
    ("@frozen\nclass E:\n  a: 'Missing'", "the name `Missing` in `a: Missing` cannot be resolved at run time"),
    ("@frozen\nclass E:\n  a: '1 +'", "its annotations cannot be evaluated: SyntaxError"),
    ("class E(pydantic.BaseModel, frozen=True):\n  a: 'Missing'", "Missing"),
    ("E = type('X' * 129, (), {})", "1 to 128 characters"),
]


@pytest.mark.parametrize("field", ["InitVar[int]", "P", "str | datetime"])
def test_advice_about_several_classes_is_given_only_where_there_are_several(field: str) -> None:
    module = run(PRELUDE + f"class P(enum.Enum):\n  A = (1, 2)\n@frozen\nclass E:\n  a: {field}")
    with pytest.raises(DefinitionError) as caught:
        event_type(module.E)
    assert "tags" not in str(caught.value)


@pytest.mark.parametrize(("source", "message"), REFUSED_CLASSES)
def test_a_class_that_could_change_or_not_come_back_is_refused(source: str, message: str) -> None:
    module = run(PRELUDE + source)
    with pytest.raises(DefinitionError) as caught:
        event_type(module.E)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "@frozen\nclass E: pass",
        "@frozen\nclass B(Generic[T]):\n  b: T\n@frozen\nclass E:\n  a: B[int]",
        "@frozen\nclass B(Generic[T]):\n  b: T\n@frozen\nclass E(B[int]):\n  a: int",
        (
            "@frozen\nclass B(Generic[T]):\n  b: tuple[T, ...]\n@frozen\nclass C(B[T]):\n  c: T\n"
            "@frozen\nclass E(C[int]):\n  a: int"
        ),
        "@frozen\nclass E:\n  a: tuple['E', ...] = ()",
        "@frozen\nclass E:\n  a: tuple[()] = ()",
        "@frozen\nclass E:\n  a: int = field(init=False, default=1)",
        "class E(msgspec.Struct, frozen=True):\n  a: int | msgspec.UnsetType = msgspec.UNSET",
        "class E(msgspec.Struct, frozen=True, array_like=True):\n  a: int = 1",
        "class E(pydantic.BaseModel, frozen=True):\n  a: 'tuple[E, ...]' = ()",
        "class B(pydantic.BaseModel, frozen=True):\n  b: int = 1\nclass E(B):\n  a: pydantic.SecretStr | None = None",
        "@attrs.frozen(slots=False)\nclass E:\n  a: int = attrs.field(default=1, validator=attrs.validators.gt(0))",
        "@dataclass(frozen=True, eq=False)\nclass E:\n  a: int\n  def __eq__(self, other): return self.a == other.a",
    ],
)
def test_a_class_that_cannot_change_and_comes_back_is_accepted(source: str) -> None:
    cls = run(PRELUDE + source).E
    assert event_type(cls).cls is cls


def test_the_classes_around_an_event_may_be_local_to_a_function_and_annotated_by_texts() -> None:
    module = run("""
        from __future__ import annotations
        from dataclasses import dataclass
        def make():
            @dataclass(frozen=True)
            class Line:
                price: int
            @dataclass(frozen=True)
            class Base:
                lines: tuple[Line, ...]
            @dataclass(frozen=True)
            class Ordered(Base):
                last: Line | None = None
                previous: Ordered | None = None
            return Line, Ordered, locals()
    """)
    line, ordered, names = module.make()
    value = ordered((line(1),), line(2), ordered(()))
    _, twin = event_type(ordered, names).encode(value)
    assert twin == value


# -- Event types -------------------------------------------------------------------------------------------------------


def test_an_event_type_tells_the_declaration() -> None:
    @event(name="order.placed", version=4, streams=("order", "customer"))
    @dataclass(frozen=True)
    class Placed:
        total: int

    kind = event_type(Placed)
    assert (kind.cls, kind.name, kind.version, kind.streams) == (Placed, "order.placed", 4, ("order", "customer"))
    assert "order.placed" in repr(kind)


def test_an_event_type_is_made_once_and_kept_while_it_is_in_use() -> None:
    kind = event_type(Deposited)
    assert event_type(Deposited) is kind


def test_an_event_class_that_nobody_uses_any_more_is_given_back() -> None:
    def make() -> weakref.ref[type]:
        @dataclass(frozen=True)
        class Temporary:
            amount: int

        event_type(Temporary).encode(Temporary(1))
        return weakref.ref(Temporary)

    gone = make()
    gc.collect()
    assert gone() is None


def test_a_system_event_has_a_name_that_no_other_event_can_have() -> None:
    @dataclass(frozen=True)
    class Executed:
        command: str

    assert event_type(system_event(Executed, "$executed")).name == "$executed"
    with pytest.raises(DefinitionError, match=r"begins with `\$`"):
        system_event(Executed, "executed")


def test_pydantic_and_attrs_are_never_imported_by_factfold() -> None:
    script = """
import sys
from dataclasses import dataclass
from factfold.codec import event_type
@dataclass(frozen=True)
class Deposited:
    amount: int
event_type(Deposited).encode(Deposited(5))
print([name for name in ("pydantic", "attr", "attrs") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"
