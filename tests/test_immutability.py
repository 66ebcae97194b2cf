"""States: which types are refused because they could be changed, and how the ones that are soft are copied."""

from __future__ import annotations

import copy
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factfold.copying import copier
from factfold.errors import DefinitionError
from factfold.immutability import check_state
from tests.sources import run

PRELUDE = """
import array, datetime, decimal, enum, fractions, ipaddress, pathlib, re, uuid, zoneinfo
import attrs, msgspec, pydantic
import typing
from collections import Counter, OrderedDict, UserDict, defaultdict, deque
from collections.abc import *
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar
T = TypeVar("T")
frozen = dataclass(frozen=True)

class FrozenMap(Mapping[str, T]):
    def __getitem__(self, key): raise KeyError
    def __iter__(self): return iter(())
    def __len__(self): return 0

class Pair(NamedTuple):
    left: int
    right: "Pair | None" = None

class Mutable:
    pass
"""


def check(source: str) -> None:
    """Checks the type `S` that the text defines; a text of one line without `S` is the type."""
    definition = source if "S" in source and ("=" in source or "class" in source) else f"S = {source}"
    check_state(run(PRELUDE + definition).S, "example", {})


# -- What is accepted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "None",
        "int | float | complex | bool | str | bytes | None",
        "decimal.Decimal | fractions.Fraction | uuid.UUID | range",
        "datetime.datetime | datetime.date | datetime.time | datetime.timedelta",
        "datetime.tzinfo | datetime.timezone | zoneinfo.ZoneInfo",
        "ipaddress.IPv4Address | ipaddress.IPv6Network | pathlib.PurePosixPath | re.Pattern[str]",
        "Literal['a', 1, None]",
        "Optional[int]",
        "tuple[int, ...]",
        "tuple[int, tuple[str, frozenset[bytes]]]",
        "tuple[()]",
        "typing.Tuple[()]",
        "typing.Tuple[int, ...]",
        "frozenset[str]",
        "Mapping[str, int]",
        "typing.Mapping[str, typing.Sequence[int]]",
        "Sequence[AbstractSet[str]]",
        "MappingProxyType[str, int]",
        "FrozenMap[tuple[int, ...]]",
        "Pair",
        "Annotated[int, [1]]",
        "tuple[Annotated[int, []], ...]",
        "S = NewType('S', int)",
        "S = enum.Enum('S', 'a b')",
        "class S(enum.Flag):\n  A = 1",
        "class S(str):\n  pass",
        "class S(decimal.Decimal):\n  pass",
        "@frozen\nclass S:\n  a: int\n  b: ClassVar[list[int]] = []",
        "@frozen\nclass S:\n  a: Final[int] = 1",
        "@frozen\nclass S:\n  children: tuple['S', ...] = ()",
        "@frozen\nclass S:\n  children: Mapping[str, 'S'] = field(default_factory=dict)",
        "@frozen\nclass B(Generic[T]):\n  b: T\nS = B[int] | B[str]",
        "@frozen\nclass B(Generic[T]):\n  b: Mapping[str, T]\n@frozen\nclass S(B[tuple[int, ...]]):\n  a: int",
        "class S(msgspec.Struct, frozen=True):\n  a: tuple[int, ...]",
        "@attrs.frozen\nclass S:\n  a: frozenset[int]",
        "class S(pydantic.BaseModel, frozen=True):\n  a: pydantic.HttpUrl | tuple[pydantic.SecretStr, ...]",
        "@pydantic.dataclasses.dataclass(frozen=True)\nclass S:\n  a: int",
    ],
)
def test_a_type_that_nobody_can_change_is_accepted(source: str) -> None:
    check(source)


# -- What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "list[int]",
            "example: `list[int]` can be changed in place, and cached states are shared: use `tuple[int, ...]`.",
        ),
        ("typing.List[int]", "use `tuple[int, ...]`"),
        ("list", "`list` can be changed in place, and cached states are shared: use `tuple[T, ...]`"),
        ("dict[str, int]", "use `Mapping[str, int]`, which is read-only, and make a new one instead of changing it"),
        ("set[str]", "use `frozenset[str]`"),
        ("bytearray", "use `bytes`"),
        ("memoryview", "use `bytes`"),
        ("MutableMapping[str, int]", "use `Mapping[str, int]`"),
        ("MutableSequence[int]", "use `tuple[int, ...]`"),
        ("MutableSet[int]", "use `frozenset[int]`"),
        ("Iterable[int]", "use `tuple[int, ...]`"),
        ("Collection[int]", "use `tuple[int, ...]`"),
        ("OrderedDict[str, int]", "can be changed in place"),
        ("defaultdict[str, int]", "can be changed in place"),
        ("Counter[str]", "can be changed in place"),
        ("UserDict[str, int]", "can be changed in place"),
        ("deque[int]", "can be changed in place"),
        ("array.array", "`array` can be changed in place"),
        ("class S(TypedDict):\n  a: int", "`S` can be changed in place"),
        ("class S(list[int]):\n  pass", "`S` can be changed in place"),
        ("tuple", "`tuple` does not say what it holds: write `tuple[...]`"),
        ("frozenset", "`frozenset` does not say what it holds"),
        ("Mapping", "`Mapping` does not say what it holds"),
        ("typing.Sequence", "`Sequence` does not say what it holds"),
        ("Any", "`Any` can be anything: name the classes"),
        ("object", "`object` can be anything: name the classes"),
        ("T", "the type variable `~T` can be anything"),
        ("Callable[[], int]", "is not known to be immutable"),
        ("type[int]", "is not known to be immutable"),
        ("Iterator[int]", "is not known to be immutable"),
        ("'Missing'", "the name `Missing` cannot be resolved at run time"),
        ("Mutable", "`Mutable` is not known to be immutable: make it a frozen dataclass"),
        ("int | Mutable", "`Mutable` is not known to be immutable"),
        ("class S(tuple[int, int]):\n  pass", "`S` is not known to be immutable"),
        ("tuple[int, list[str]]", "`list[str]`"),
        ("Mapping[str, list[int]]", "`list[int]`"),
        ("Mapping[Mutable, int]", "`Mutable`"),
        ("FrozenMap[list[int]]", "`list[int]`"),
        ("FrozenMap[Sequence[int]]", "`Sequence[int]` inside `FrozenMap` cannot be kept from being changed"),
        ("MappingProxyType[str, Mapping[str, int]]", "inside `mappingproxy` cannot be kept from being changed"),
        ("class S(NamedTuple):\n  a: list[int]", "example -> S.a: `list[int]`"),
        (
            "@dataclass\nclass S:\n  a: int",
            "`S` can be changed in place, and cached states are shared: make it `@dataclass(frozen=True)`",
        ),
        ("class S(msgspec.Struct):\n  a: int", "make it `msgspec.Struct(frozen=True)`"),
        ("@attrs.define\nclass S:\n  a: int", "make it `@attrs.frozen`"),
        ("class S(pydantic.BaseModel):\n  a: int", "make it `ConfigDict(frozen=True)`"),
        ("@frozen\nclass B:\n  a: int\nclass S(B):\n  pass", "decorate it in the same way"),
        ("@dataclass(frozen=True, eq=False)\nclass S:\n  a: int", "compares by identity"),
        ("@frozen\nclass S:\n  a: list[str]", "example -> S.a: `list[str]`"),
        (
            "@frozen\nclass L:\n  tags: set[str]\n@frozen\nclass S:\n  lines: tuple[L, ...]",
            "example -> S.lines -> L.tags: `set[str]`",
        ),
        (
            "class L(msgspec.Struct, frozen=True):\n  a: Any\n@attrs.frozen\nclass S:\n  l: L",
            "example -> S.l -> L.a: `Any`",
        ),
        ("class S(pydantic.BaseModel, frozen=True):\n  a: dict[str, int]", "example -> S.a: `dict[str, int]`"),
        ("@frozen\nclass B(Generic[T]):\n  b: T\nS = B[list[int]]", "example -> B.b: `list[int]`"),
        ("@frozen\nclass B(Generic[T]):\n  b: T\nS = B", "example -> B.b: the type variable"),
        (
            "@frozen\nclass B(Generic[T]):\n  b: T\n@frozen\nclass S(B[list[int]]):\n  a: int",
            "example -> S.b: `list[int]`",
        ),
        ("@frozen\nclass S:\n  a: 'Missing'", "the name `Missing` in `a: Missing` cannot be resolved at run time"),
    ],
)
def test_a_type_that_could_be_changed_is_refused_with_the_path_to_it(source: str, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        check(source)
    assert message in str(caught.value)


# -- Copying -----------------------------------------------------------------------------------------------------------

Tree = Mapping[str, "int | Tree"]


@dataclass(frozen=True)
class Node:
    name: str
    children: Mapping[str, Node] = field(default_factory=dict)
    tags: AbstractSet[str] = frozenset()
    numbers: Sequence[int] = ()


class Named(NamedTuple):
    values: Sequence[int]
    other: int = 0


class Struct(msgspec.Struct, frozen=True):
    values: Sequence[int]
    other: int = 0


@attrs.frozen
class Attrs:
    values: Sequence[int]
    other: int = 0


@dataclass(frozen=True, slots=True)
class Slotted:
    values: Sequence[int]
    other: int = 0


class Model(pydantic.BaseModel, frozen=True):
    values: Sequence[int]
    other: int = 0


@dataclass(frozen=True)
class Checked:
    values: Sequence[int]

    def __post_init__(self) -> None:
        if len(self.values) != 1:
            raise ValueError("one value")


def copy_of(annotation: object, value: Any) -> Any:
    made = copier((annotation,), "example", {})
    assert made is not None
    return made(value)


@pytest.mark.parametrize("annotation", [int, str | None, tuple[int, ...], frozenset[str], MappingProxyType[str, int]])
def test_there_is_nothing_to_copy_in_what_nobody_can_change(annotation: object) -> None:
    assert copier((annotation,), "example", {}) is None


@pytest.mark.parametrize(
    ("annotation", "value", "change"),
    [
        (Mapping[str, int], {"a": 1}, lambda copied: copied.update(b=2)),
        (Sequence[int], [1], lambda copied: copied.append(2)),
        (AbstractSet[int], {1}, lambda copied: copied.add(2)),
        (Sequence[int], deque([1], maxlen=3), lambda copied: copied.append(2)),
        (Sequence[int], bytearray(b"a"), lambda copied: copied.extend(b"b")),
        (Mapping[str, int], OrderedDict(a=1), lambda copied: copied.update(b=2)),
        (Mapping[str, Sequence[int]], defaultdict(list, a=[1]), lambda copied: copied["a"].append(2)),
        (Mapping[str, Sequence[int]], {"a": [1]}, lambda copied: copied["a"].append(2)),
        (Mapping[str, Sequence[int]], MappingProxyType({"a": [1]}), lambda copied: copied["a"].append(2)),
        (Sequence[Sequence[int]], ([1], (2,)), lambda copied: copied[0].append(2)),
        (Sequence[Sequence[int]], deque([[1]]), lambda copied: copied[0].append(2)),
        (tuple[Sequence[int], ...], ([1], [2]), lambda copied: copied[1].append(2)),
        (tuple[int, Mapping[str, int]], (1, {"a": 1}), lambda copied: copied[1].update(b=2)),
        (int | Mapping[str, int] | Sequence[int] | None, {"a": 1}, lambda copied: copied.update(b=2)),
        (str | Sequence[int], [1], lambda copied: copied.append(2)),
        (Sequence[int] | tuple[Sequence[int], ...], ([1], [2]), lambda copied: copied[1].append(2)),
        (Sequence[int] | Sequence[Sequence[int]], [[1]], lambda copied: copied[0].append(2)),
        (tuple[int, Sequence[int]] | tuple[Sequence[int]], ([1],), lambda copied: copied[0].append(2)),
        (Named, Named([1], 2), lambda copied: copied.values.append(2)),
        (Struct, Struct([1], 2), lambda copied: copied.values.append(2)),
        (Attrs, Attrs([1], 2), lambda copied: copied.values.append(2)),
        (Slotted, Slotted([1], 2), lambda copied: copied.values.append(2)),
        (Model, Model(values=[1], other=2), lambda copied: copied.values.append(2)),
        (Checked, Checked([1]), lambda copied: copied.values.append(2)),
        (Node, Node("a", {"b": Node("b", {"c": Node("c")})}), lambda copied: copied.children["b"].children.clear()),
        (Node, Node("a", tags={"x"}), lambda copied: copied.tags.add("y")),
    ],
)
def test_changing_a_copy_leaves_the_original_as_it_was(
    annotation: object, value: Any, change: Callable[[Any], object]
) -> None:
    before = copy.deepcopy(dict(value) if isinstance(value, MappingProxyType) else value)
    copied = copy_of(annotation, value)
    assert copied == value
    assert type(copied) is type(value)
    change(copied)
    assert value == before
    assert copied != value


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the `type` statement came with Python 3.12")
def test_an_alias_may_contain_itself() -> None:
    module = run("""
        from collections.abc import Mapping
        type Tree = Mapping[str, int | Tree]
        type Pairs = tuple[Pairs, Pairs] | None
    """)
    check_state(module.Tree, "example", {})
    check_state(module.Pairs, "example", {})
    assert copier((module.Pairs,), "example", {}) is None
    tree = {"a": {"b": {"c": 1}}}
    copied = copy_of(module.Tree, tree)
    assert copied == tree
    copied["a"]["b"]["c"] = 2
    assert tree == {"a": {"b": {"c": 1}}}


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Sequence[int], (1, 2)),
        (Sequence[int], "text"),
        (Sequence[Sequence[int]], ((1,), (2,))),
        (AbstractSet[int], frozenset({1})),
        (Mapping[str, int], MappingProxyType({"a": 1})),
        (tuple[Sequence[int], int], ((1,), 2)),
        (Named, Named((1,))),
        (Struct, Struct((1,))),
        (Attrs, Attrs((1,))),
        (int | Node | None, None),
        (int | Sequence[int], 5),
        (str | Sequence[int], "text"),
    ],
)
def test_what_holds_nothing_that_could_be_changed_is_not_copied(annotation: object, value: object) -> None:
    assert copy_of(annotation, value) is value


def test_only_what_has_changed_is_new_in_a_copy() -> None:
    leaf = Slotted((1,), 2)
    copied = copy_of(Mapping[str, Slotted], {"a": leaf})
    assert copied["a"] is leaf


def test_a_recursive_alias_of_texts_is_refused_as_unresolvable() -> None:
    with pytest.raises(DefinitionError, match=r"the name `int \| Tree` cannot be resolved"):
        check_state(Tree, "example", {})


nodes: st.SearchStrategy[Node] = st.recursive(
    st.builds(Node, st.text(max_size=3)),
    lambda inner: st.builds(
        Node,
        st.text(max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.sets(st.text(max_size=3), max_size=3) | st.frozensets(st.text(max_size=3), max_size=3),
        st.lists(st.integers(), max_size=3) | st.lists(st.integers(), max_size=3).map(tuple),
    ),
    max_leaves=8,
)


def changeable(node: Node) -> set[int]:
    """The identities of all dicts, lists and sets in a tree."""
    found = {id(one) for one in (node.children, node.tags, node.numbers) if isinstance(one, (dict, list, set))}
    return found.union(*(changeable(child) for child in node.children.values()))


@given(nodes)
def test_a_copy_is_equal_and_shares_nothing_that_could_be_changed(node: Node) -> None:
    copied = copy_of(Node, node)
    assert copied == node
    assert changeable(node).isdisjoint(changeable(copied))
    assert len(changeable(node)) == len(changeable(copied))
