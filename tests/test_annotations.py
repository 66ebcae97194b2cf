"""The annotations of a fold: from wherever they come, they tell its state and its events."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent

import pytest

from factfold.errors import DefinitionError
from tests.sources import PRELUDE, python_3_12, run


@dataclass(frozen=True)
class Opened:
    owner: str


@dataclass(frozen=True)
class Deposited:
    amount: int


FOLDS = [
    "def f(state: int, event: Opened | Deposited) -> int: return state",
    "def f(state: int, event: Union[Opened, Deposited]) -> int: return state",
    "def f(state: int, event: 'Opened | Deposited') -> int: return state",
    "def f(state: int, event: Union['Opened', 'Deposited']) -> int: return state",
    "def f(state: int, event: Annotated[Opened | Annotated[Deposited, 2], [1]]) -> int: return state",
    "def f(state: int, event: Opened | Deposited, /) -> int: return state",
    "def f(state: int, event: Opened | Deposited, id: str = '') -> int: return state",
]


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
@pytest.mark.parametrize("fold", FOLDS)
def test_events_are_taken_from_the_annotation_of_the_second_parameter(future: str, fold: str) -> None:
    module = run(f"{future}{PRELUDE}\n@stream('x', initial=0)\n{fold}")
    assert module.f.event_types == (module.Opened, module.Deposited)


ALIASES = [
    "Events = Opened | Deposited",
    "Events = Union['Opened', Deposited]",
    "One = Opened\nTwo = Deposited | One\nEvents = Annotated[One | Two, 'all of them']",
    "Other = NewType('Other', Deposited)\nEvents = Opened | Other",
    "from typing_extensions import TypeAliasType\nEvents = TypeAliasType('Events', Opened | Deposited)",
    (
        "from typing_extensions import TypeAliasType\n"
        "E = TypeAliasType('E', Union[T, Deposited], type_params=(T,))\nEvents = E[Opened]"
    ),
]
NEW_ALIASES = [
    "type Events = Opened | Deposited",
    "type Events = Opened | Two\ntype Two = Deposited",
    "type Or[A] = A | Deposited\ntype Events = Or[Opened]",
]


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
@pytest.mark.parametrize("alias", [*ALIASES, *(pytest.param(alias, marks=python_3_12) for alias in NEW_ALIASES)])
@pytest.mark.parametrize("local", [False, True])
def test_aliases_are_seen_through_in_modules_and_in_functions(future: str, alias: str, local: bool) -> None:
    body = f"{alias}\n@stream('x', initial=0)\ndef f(state: int, event: Events) -> int: return state"
    if local:
        indented = body.replace("\n", "\n    ")
        body = f"def make():\n    {indented}\n    return f\nf = make()"
    module = run(f"{future}{PRELUDE}\n{body}")
    assert set(module.f.event_types) == {module.Opened, module.Deposited}


def test_classes_may_be_local_to_functions_under_postponed_annotations() -> None:
    module = run("""
        from __future__ import annotations
        from dataclasses import dataclass
        from factfold.streams import stream

        def outer():
            @dataclass(frozen=True)
            class Line:
                price: int
            def inner():
                @dataclass(frozen=True)
                class Added:
                    line: Line
                @dataclass(frozen=True)
                class Cart:
                    lines: tuple[Line, ...] = ()
                @stream("cart", initial=Cart())
                def carts(state: Cart, event: Added) -> Cart:
                    return Cart((*state.lines, event.line))
                return carts, Added(Line(5)), Cart((Line(5),))
            return inner()
    """)
    carts, event, expected = module.outer()
    _, twin = carts.fold.by_class[type(event)].encode(event)
    assert carts.fold.evolve(carts.initial, twin, "x") == expected


def test_a_fold_may_be_defined_in_the_body_of_a_class() -> None:
    module = run("""
        from __future__ import annotations
        from dataclasses import dataclass
        from factfold.streams import stream

        class Shop:
            @dataclass(frozen=True)
            class Opened:
                name: str
            @stream("shop", initial=0)
            def shops(state: int, event: Opened) -> int:
                return state + 1
    """)
    assert module.Shop.shops.event_types == (module.Shop.Opened,)


def test_local_names_of_a_caller_do_not_count() -> None:
    module = run("""
        from __future__ import annotations
        from factfold.streams import stream

        def define():
            @stream("x", initial=0)
            def f(state: int, event: Local) -> int:
                return state
            return f

        def caller():
            class Local: pass
            return define()
    """)
    with pytest.raises(DefinitionError, match="the name `Local` in `event: Local` cannot be resolved"):
        module.caller()


def test_the_same_local_name_means_the_nearest_one() -> None:
    module = run("""
        from __future__ import annotations
        from dataclasses import dataclass
        from factfold.streams import stream

        @dataclass(frozen=True)
        class E:
            far: int

        def define():
            @dataclass(frozen=True)
            class E:
                near: int
            @stream("x", initial=0)
            def f(state: int, event: E) -> int:
                return state
            return f
    """)
    assert module.define().event_types != (module.E,)


def test_names_of_a_function_of_the_same_name_in_another_file_do_not_count() -> None:
    source = """
        def make():
            @stream("x", initial=0)
            def fold(state: int, event: Opened) -> int: return state
            return fold
    """
    inner = run(f"from __future__ import annotations\n{PRELUDE}\n{dedent(source)}")
    outer = run("""
        def make(inner):
            Opened = int
            return inner.make()
    """)
    assert outer.make(inner).event_types == (inner.Opened,)


def test_a_name_in_an_alias_that_is_a_text_is_found_with_the_alias() -> None:
    source = """
        from __future__ import annotations
        from dataclasses import dataclass
        from factfold import stream
        @dataclass(frozen=True)
        class Opened: pass
        Events = "Opened | Missing"
        @stream('x', initial=0)
        def f(state: int, event: Events) -> int: return state
    """
    with pytest.raises(DefinitionError) as caught:
        run(source)
    found = "the name `Missing` in the alias `Events = 'Opened | Missing'`, used in `event: Events`, cannot be resolved"
    assert found in str(caught.value)
