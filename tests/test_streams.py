"""Stream types: what `@stream` makes of a fold, and which folds it refuses."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pytest

from factfold.errors import DecodingError, DefinitionError
from factfold.events import RecordedEvent
from factfold.storage.base import StoredEvent
from factfold.streams import event_type_of, stream, system_stream_type, types_of
from tests.sources import PRELUDE, python_3_12, run


@dataclass(frozen=True)
class Opened:
    owner: str


@dataclass(frozen=True)
class Deposited:
    amount: int


@dataclass(frozen=True)
class Transferred:
    source: str
    target: str
    amount: int


@dataclass(frozen=True)
class Account:
    owner: str | None = None
    balance: int = 0


AccountEvent = Opened | Deposited


@stream("account", initial=Account())
def accounts(state: Account, event: AccountEvent) -> Account:
    match event:
        case Opened(owner):
            return replace(state, owner=owner)
        case Deposited(amount):
            return replace(state, balance=state.balance + amount)


@stream("account", initial=0, snapshot_every=200, snapshot_version=3)
def balances(state: int, event: Deposited | Transferred, id: str) -> int:
    match event:
        case Deposited(amount):
            return state + amount
        case Transferred(source, target, amount):
            return state + amount * ((target == id) - (source == id))


def stored(data: bytes, type: str = "Deposited", **streams: int) -> StoredEvent:
    ids = {name.replace("_", ":", 1): version for name, version in streams.items()}
    return StoredEvent(17, UUID(int=17).bytes, type, 1, data, b"{}", ids, 0)


# -- What a stream type tells ------------------------------------------------------------------------------------------


def test_a_stream_type_tells_its_category_its_initial_state_and_its_events() -> None:
    assert accounts.category == "account"
    assert accounts.initial == Account()
    assert accounts.event_types == (Opened, Deposited)
    assert "tests.test_streams.accounts" in repr(accounts)


def test_a_fold_looks_at_the_stored_names_of_its_events() -> None:
    fold = accounts.fold
    assert fold.selected == {"Opened", "Deposited"}
    assert fold.by_class[Deposited] is fold.by_name["Deposited"]
    assert fold.name == "tests.test_streams.accounts"
    assert (fold.snapshot_every, fold.snapshot_version) == (None, 1)
    assert (balances.fold.snapshot_every, balances.fold.snapshot_version) == (200, 3)


def test_several_stream_types_may_share_a_category_and_are_different_folds_over_one_stream() -> None:
    first, second = accounts("alice"), balances("alice")
    assert first.id == second.id
    assert first.key != second.key
    assert (first == second) is False
    assert hash(first.fold) != hash(second.fold) or first.fold != second.fold


def test_folding_gives_the_next_state() -> None:
    evolve = accounts.fold.evolve
    assert evolve(evolve(Account(), Opened("Alice"), "alice"), Deposited(5), "alice") == Account("Alice", 5)


def test_a_fold_may_ask_for_the_id_without_the_category() -> None:
    event = Transferred("alice", "bob", 5)
    assert balances.fold.evolve(10, event, balances("alice").suffix) == 5
    assert balances.fold.evolve(10, event, balances("bob").suffix) == 15


def test_the_only_part_of_an_id_is_what_a_fold_gets_as_it_is() -> None:
    assert [balances(part).suffix for part in ("a", "a/b", "50%", "%2F")] == ["a", "a/b", "50%", "%2F"]
    assert balances(7).suffix == "7"
    assert balances().suffix == ""


def test_several_parts_are_escaped_and_joined_as_in_the_stream_id() -> None:
    assert balances("a/b", "c").suffix == "a%2Fb/c"
    assert balances("a", "50%").suffix == "a/50%25"


def test_a_stream_type_cannot_be_changed() -> None:
    some: Any = accounts
    with pytest.raises(AttributeError):
        some.category = "other"
    with pytest.raises(AttributeError):
        some.fold.initial = Account()


def test_of_gives_the_streams_of_this_type_that_an_event_belongs_to() -> None:
    recorded = RecordedEvent(stored(b"{}", account_alice=3, account_bob=1, day_1=7), Deposited(5))
    assert accounts.of(recorded) == (accounts("alice"), accounts("bob"))


@pytest.mark.parametrize("parts", [(), ("a/b", "50%"), ("tenant", 7)])
def test_of_tells_the_parts_again(parts: tuple[Any, ...]) -> None:
    recorded = RecordedEvent(replace_streams({accounts(*parts).id: 1}), Deposited(5))
    assert accounts.of(recorded) == (accounts(*parts),)
    assert accounts.of(recorded)[0].parts == accounts(*parts).parts


def replace_streams(streams: Mapping[str, int]) -> StoredEvent:
    return StoredEvent(1, UUID(int=1).bytes, "Deposited", 1, b'{"amount":5}', b"{}", streams, 0)


def test_a_stored_event_is_decoded() -> None:
    assert accounts.fold.decode(stored(b'{"amount":5}', account_alice=3), "account:alice") == Deposited(5)


@pytest.mark.parametrize(("data", "type"), [(b'{"amount":"5"}', "Deposited"), (b"", "Deposited"), (b"{}", "Closed")])
def test_an_event_that_cannot_be_decoded_is_named_by_stream_version_position_and_type(data: bytes, type: str) -> None:
    with pytest.raises(DecodingError) as caught:
        accounts.fold.decode(stored(data, type, account_alice=3), "account:alice")
    error = caught.value
    assert (error.stream, error.version, error.position, error.type) == ("account:alice", 3, 17, type)
    assert f"account:alice, version 3, position 17: the event of type '{type}'" in str(error)


# -- What is refused ---------------------------------------------------------------------------------------------------


REFUSED = [
    # annotations that are missing or say nothing
    ("def f(state, event): return state", "its parameter `state` has no annotation. A fold says what it folds"),
    ("def f(state: int, event): return state", "its parameter `event` has no annotation"),
    ("def f(state: int, event: Opened): return state", "what it returns has no annotation"),
    ("f = lambda state, event: state", "its parameter `state` has no annotation", "f = stream('x', initial=0)(f)"),
    (
        "def f(state: int, event: Any) -> int: return state",
        "the parameter `event`: `Any` does not say which events there are",
    ),
    ("def f(state: int, event: object) -> int: return state", "`object` does not say which events there are"),
    ("def f(state: int, event: Opened | Any) -> int: return state", "`Any` does not say which events there are"),
    ("def f(state: int, event: T) -> int: return state", "the type variable `~T` does not say which events"),
    ("def f(state: Any, event: Opened) -> Any: return state", "the state: `Any` can be anything: name the classes"),
    ("def f(state: int, event: Opened) -> object: return state", "the state: `object` can be anything"),
    ("def f(state: T, event: Opened) -> T: return state", "the state: the type variable `~T` can be anything"),
    # unions with what is no class
    ("def f(state: int, event: Opened | None) -> int: return state", "None is no event"),
    ("def f(state: int, event: None) -> int: return state", "None is no event"),
    ("def f(state: int, event: Opened | Literal['closed']) -> int: return state", "`Literal['closed']` is no class"),
    (
        "def f(state: int, event: Opened | tuple[int, ...]) -> int: return state",
        "`tuple[int, ...]` is no class of its own",
    ),
    ("def f(state: int, event: Opened | Callable[[], None]) -> int: return state", "is no class of its own"),
    ("def f(state: int, event: Never) -> int: return state", "`Never` is no class"),
    ("def f(state: int, event: 5) -> int: return state", "`5` is no class"),
    # names that cannot be resolved
    (
        "def f(state: int, event: 'Closed | Opened') -> int: return state",
        "the name `Closed` in `event: Closed | Opened` cannot be resolved at run time. Most likely it is imported",
    ),
    ("def f(state: 'Missing', event: Opened) -> int: return state", "the name `Missing` in `state: Missing`"),
    ("def f(state: int, event: Union['Closed', Opened]) -> int: return state", "the name `Closed`"),
    ("def f(state: int, event: 'Opened |') -> int: return state", "its annotations cannot be evaluated: SyntaxError"),
    (
        "def f(state: int, event: \"Opened | 'Deposited'\") -> int: return state",
        "its annotations cannot be evaluated: TypeError",
    ),
    # functions of another kind
    ("async def f(state: int, event: Opened) -> int: return state", "a fold is a plain `def`, not `async`"),
    ("async def f(state: int, event: Opened) -> int: yield state", "a fold is a plain `def`, not `async`"),
    ("def f(state: int, event: Opened) -> int: yield state", "a fold returns the next state, and this one yields"),
    ("class f:\n  def __call__(self, state: int, event: Opened) -> int: return state", "stands above a function"),
    ("def f(state: int) -> int: return state", "This one takes `(state: int) -> int`"),
    ("def f() -> int: return 0", "a fold takes the state and an event"),
    (
        "def f(state: int, event: Opened, id: str, more: int) -> int: return state",
        "a fold takes the state and an event",
    ),
    ("def f(state: int, event: Opened, *ids: str) -> int: return state", "a fold takes the state and an event"),
    ("def f(state: int, event: Opened, *, id: str) -> int: return state", "a fold takes the state and an event"),
    (
        "def f(state: int, event: Opened, id: int) -> int: return state",
        "its third parameter gets the stream's id, a str",
    ),
    # events
    ("def f(state: int, event: int) -> int: return state", "`int` is not known"),
    ("class Loose: pass\ndef f(state: int, event: Loose) -> int: return state", "`Loose` is not known to be immutable"),
    (
        (
            "@event_class(name='Opened')\n@frozen\nclass Other:\n  a: int\n"
            "def f(state: int, event: Opened | Other) -> int: return state"
        ),
        "both stand for 'Opened' in the log, and could not be told apart",
    ),
    # states
    (
        "def f(state: list[int], event: Opened) -> list[int]: return state",
        "the state: `list[int]` can be changed in place",
    ),
    (
        "@frozen\nclass Cart:\n  items: list[str]\ndef f(state: Cart, event: Opened) -> Cart: return state",
        "the state -> Cart.items: `list[str]` can be changed in place, and cached states are shared: use `tuple[str",
    ),
    ("def f(state: int, event: Opened) -> int | dict[str, int]: return state", "the state: `dict[str, int]`"),
    # the initial state
    (
        "def f(state: str, event: Opened) -> str: return state",
        "the initial state is 0, and the state is annotated as str",
    ),
    (
        "def f(state: None, event: Opened) -> None: return state",
        "the initial state is 0, and the state is annotated as None",
    ),
    ("def f(state: tuple[int, ...], event: Opened) -> tuple[int, ...]: return state", "the initial state is 0"),
    ("def f(state: Literal['a'], event: Opened) -> Literal['a']: return state", "the initial state is 0"),
]


@pytest.mark.parametrize("case", REFUSED, ids=[case[0] for case in REFUSED])
def test_a_fold_that_cannot_work_is_refused_with_the_reason(case: tuple[str, ...]) -> None:
    source, message, *how = case
    marked = "\n@stream('x', initial=0)\n"
    definition = f"{source}\n{how[0]}" if how else marked.join(split_last_definition(source))
    with pytest.raises(DefinitionError) as caught:
        run(PRELUDE + definition)
    assert message in str(caught.value)
    assert "example_" in str(caught.value), "the message tells where"


def split_last_definition(source: str) -> tuple[str, str]:
    for start in ("async def f(", "def f(", "class f"):
        if start in source:
            before, _, after = source.rpartition(start)
            return before, start + after
    raise AssertionError(source)


def test_a_name_under_type_checking_is_named_with_its_alias() -> None:
    with pytest.raises(DefinitionError) as caught:
        run(f"""from __future__ import annotations
{PRELUDE}
if TYPE_CHECKING:
    AccountEvent = Opened | Deposited
@stream("account", initial=0)
def accounts(state: int, event: AccountEvent) -> int:
    return state
""")
    assert "the name `AccountEvent` in `event: AccountEvent` cannot be resolved at run time" in str(caught.value)
    assert "TYPE_CHECKING" in str(caught.value)


@python_3_12
def test_an_alias_whose_value_cannot_be_resolved_is_named() -> None:
    with pytest.raises(DefinitionError) as caught:
        run(f"""{PRELUDE}
if TYPE_CHECKING:
    class Closed: ...
type AccountEvent = Opened | Closed
@stream("account", initial=0)
def accounts(state: int, event: AccountEvent) -> int:
    return state
""")
    assert "the alias `AccountEvent` cannot be used: the name `Closed` in it cannot be resolved" in str(caught.value)
    assert "TYPE_CHECKING" in str(caught.value)


@pytest.mark.parametrize(
    ("initial", "state"),
    [
        ("None", "int | None"),
        ("()", "tuple[int, ...]"),
        ("1", "float"),
        ("True", "int"),
        ("'a'", "Literal['a', 'b']"),
        ("Deposited(1)", "Opened | Deposited"),
        ("{}", "Mapping[str, int]"),
        ("frozenset[str]()", "frozenset[str]"),
        ("0", "NewType('Cents', int)"),
        ("0", "Annotated[int, []]"),
    ],
)
def test_initial_states_that_fit_the_annotation_are_accepted(initial: str, state: str) -> None:
    module = run(
        f"{PRELUDE}\n@stream('x', initial={initial})\ndef f(state: {state}, event: Opened) -> {state}: return state"
    )
    assert module.f.initial == module.f.fold.initial


def test_a_fold_may_take_more_than_it_returns() -> None:
    module = run(f"{PRELUDE}\n@stream('x', initial=None)\ndef f(state: int | None, event: Opened) -> int: return 1")
    assert module.f.initial is None


@pytest.mark.parametrize("every", [0, -1, True, 1.5, "200"])
def test_snapshot_every_is_a_number_of_events(every: Any) -> None:
    with pytest.raises(DefinitionError, match=r"@stream\('x'\): snapshot_every is a whole number from 1 on"):
        stream("x", initial=0, snapshot_every=every)


@pytest.mark.parametrize("version", [0, None, "1"])
def test_snapshot_version_is_a_whole_number(version: Any) -> None:
    with pytest.raises(DefinitionError, match="snapshot_version is a whole number from 1 on"):
        stream("x", initial=0, snapshot_version=version)


# -- What is defined in this process -----------------------------------------------------------------------------------


def test_where_two_classes_of_one_category_have_one_stored_name_the_name_of_the_class_decides() -> None:
    source = PRELUDE + "\n@stream('renewed', initial=0)\ndef f(state: int, event: Opened) -> int: return state"
    modules = [run(source), run(source)]
    for module in modules:
        found = event_type_of("renewed", "Opened", f"{module.__name__}.Opened")
        assert found is not None
        assert found.cls is module.Opened
    assert event_type_of("renewed", "Opened", "elsewhere.Opened") is None
    assert event_type_of("renewed", "Opened", None) is None


def test_of_two_classes_with_one_name_it_is_the_newer_one() -> None:
    modules = [run(PRELUDE + "\n@stream('reloaded', initial=0)\ndef f(state: int, event: Opened) -> int: return state")]
    modules.append(run(PRELUDE + "\n@stream('reloaded', initial=0)\ndef f(state: int, event: Opened) -> int: return 1"))
    for module in modules:
        module.Opened.__module__ = "reloaded"
    found = event_type_of("reloaded", "Opened", "reloaded.Opened")
    assert found is not None
    assert found.cls is modules[1].Opened


def test_a_class_that_has_moved_is_found_where_it_is_the_only_one() -> None:
    @stream("moved", initial=0)
    def moves(state: int, event: Transferred) -> int:
        return state + 1

    found = event_type_of(moves.category, "Transferred", "formerly.Transferred")
    assert found is not None
    assert found.cls is Transferred


def test_a_type_name_that_no_stream_type_of_the_category_knows_is_unknown() -> None:
    @stream("known_here_only", initial=0)
    def moves(state: int, event: Transferred) -> int:
        return state + 1

    assert event_type_of(moves.category, "Opened", None) is None
    assert event_type_of("nothing", "Transferred", None) is None
    found = event_type_of(moves.category, "Transferred", None)
    assert found is not None
    assert found.cls is Transferred


def test_stream_types_that_are_gone_are_forgotten() -> None:
    def define() -> None:
        @stream("forgotten", initial=0)
        def gone(state: int, event: Deposited) -> int:
            return state

        assert event_type_of("forgotten", "Deposited", None) is gone.fold.by_class[Deposited]

    define()
    gc.collect()
    assert event_type_of("forgotten", "Deposited", None) is None


def test_types_may_be_a_class_a_union_an_alias_or_a_stream_type() -> None:
    assert types_of(Opened) == (Opened,)
    assert types_of(Opened | Deposited) == (Opened, Deposited)
    assert types_of(AccountEvent) == (Opened, Deposited)
    assert types_of(balances) == (Deposited, Transferred)
    assert types_of(run(PRELUDE + "E = Annotated[Union[Opened, Deposited, Opened], 1]").E)[1].__name__ == "Deposited"


@pytest.mark.parametrize("types", [None, Any, 5, "Opened", Opened | None, tuple[int]])
def test_types_that_are_no_classes_are_refused(types: object) -> None:
    with pytest.raises(DefinitionError, match="types="):
        types_of(types)


def test_a_system_stream_type_has_a_category_that_no_other_can_have() -> None:
    @system_stream_type("$marks", initial=None)
    def marks(state: Deposited | None, event: Deposited) -> Deposited | None:
        return event

    assert marks("a key").id == "$marks:a key"
    assert marks.category == "$marks"
