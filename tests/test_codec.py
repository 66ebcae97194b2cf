"""The codec: what comes back is what was stored, and what would not come back is refused before it is stored."""

from __future__ import annotations

import datetime as dt
import enum
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple, NewType
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factfold.codec import decoding_error, event_type
from factfold.errors import DefinitionError, EncodingError
from factfold.storage.base import StoredEvent
from tests.sources import run
from tests.zones import FIRST, SECOND


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(NamedTuple):
    x: int
    y: int


class Card(msgspec.Struct, frozen=True, tag=True):
    number: str


class Cash(msgspec.Struct, frozen=True, tag=True):
    currency: str


@dataclass(frozen=True)
class Money:
    amount: Decimal
    currency: str = "EUR"


NIL = UUID(int=0)
ORIGIN = Point(0, 0)
AccountId = NewType("AccountId", str)


@dataclass(frozen=True)
class Everything:
    integer: int = 0
    real: float = 0.0
    flag: bool = False
    text: str = ""
    data: bytes = b""
    nothing: None = None
    decimal: Decimal = Decimal(0)
    moment: dt.datetime = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    day: dt.date = dt.date(2024, 1, 1)
    clock: dt.time = dt.time(12, 30)
    span: dt.timedelta = dt.timedelta(0)
    id: UUID = NIL
    colour: Colour = Colour.RED
    word: Literal["a", "b"] = "a"
    account: AccountId = AccountId("alice")
    optional: int | None = None
    items: tuple[int, ...] = ()
    pair: tuple[int, str] = (0, "")
    labels: frozenset[str] = frozenset()
    settings: Mapping[str, int] = field(default_factory=dict)
    point: Point = ORIGIN
    money: Money = Money(Decimal("1.10"))
    history: tuple[Money, ...] = ()
    paid: Card | Cash | None = None
    _private: int = 1


@dataclass(frozen=True)
class Deposited:
    amount: int


@dataclass(frozen=True, slots=True)
class Slotted:
    amount: int
    note: str = ""


class Struct(msgspec.Struct, frozen=True):
    amount: int


@attrs.frozen
class Attrs:
    amount: int


class Model(pydantic.BaseModel, frozen=True):
    amount: int
    site: pydantic.HttpUrl | None = None
    money: Money | None = None
    renamed: int = pydantic.Field(default=0, alias="other_name")


@pydantic.dataclasses.dataclass(frozen=True)
class ModelDataclass:
    amount: pydantic.PositiveInt


# -- What comes back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        Deposited(5),
        Slotted(5, "five"),
        Struct(5),
        Attrs(5),
        Model(amount=5, site=pydantic.HttpUrl("https://example.org/"), money=Money(Decimal(1)), other_name=3),
        ModelDataclass(5),
    ],
)
def test_every_kind_of_event_class_comes_back_from_its_own_bytes(value: object) -> None:
    kind = event_type(type(value))
    data, twin = kind.encode(value)
    assert twin == value
    assert type(twin) is type(value)
    assert twin is not value
    assert kind.decode(data) == twin
    assert json.loads(data)["amount"] == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("integer", -(2**200)),
        ("real", 1e-300),
        ("real", 5),
        ("flag", True),
        ("text", 'odd: "\\\x00\n/é\U0001f600\u2028'),
        ("data", bytes(range(256))),
        ("decimal", Decimal("100.00")),
        (
            "moment",
            dt.datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
        ),
        ("moment", dt.datetime(2024, 2, 29)),  # noqa: DTZ001  # a naive one is a value too
        ("day", dt.date(1, 1, 1)),
        ("clock", dt.time(23, 59, 59, 1)),
        ("span", dt.timedelta(days=-1, microseconds=1)),
        ("id", UUID(int=2**128 - 1)),
        ("colour", Colour.BLUE),
        ("word", "b"),
        ("optional", 3),
        ("items", (1, 2, 3)),
        ("pair", (1, "one")),
        ("labels", frozenset({"a", "b"})),
        ("settings", {"a": 1, "": 2}),
        ("point", Point(1, 2)),
        ("history", (Money(Decimal(1)), Money(Decimal(2), "USD"))),
        ("paid", Card("1234")),
        ("paid", Cash("EUR")),
        ("_private", 7),
    ],
)
def test_every_type_of_field_comes_back(name: str, value: Any) -> None:
    given: Any = Everything(**{name: value})
    _, twin = event_type(Everything).encode(given)
    assert twin == given
    assert getattr(twin, name) == value


everything = st.builds(
    Everything,
    integer=st.integers(),
    real=st.floats(allow_nan=False, allow_infinity=False),
    text=st.text(st.characters(exclude_categories=["Cs"])),
    data=st.binary(),
    decimal=st.decimals(allow_nan=False, allow_infinity=False),
    moment=st.datetimes(timezones=st.none() | st.just(dt.UTC)),
    day=st.dates(),
    span=st.timedeltas(),
    id=st.uuids(),
    colour=st.sampled_from(Colour),
    optional=st.none() | st.integers(),
    items=st.lists(st.integers()).map(tuple),
    labels=st.frozensets(st.text(st.characters(exclude_categories=["Cs"]))),
    paid=st.none() | st.builds(Card, st.just("1")) | st.builds(Cash, st.just("EUR")),
)


@given(everything)
def test_what_is_accepted_always_decodes_to_an_equal_event(value: Everything) -> None:
    kind = event_type(Everything)
    try:
        data, twin = kind.encode(value)
    except EncodingError:
        return
    assert kind.decode(data) == twin == value


def test_a_validation_of_the_class_runs_when_it_is_decoded() -> None:
    @dataclass(frozen=True)
    class Positive:
        amount: int

        def __post_init__(self) -> None:
            if self.amount <= 0:
                raise ValueError("amounts are positive")

    with pytest.raises(ValueError, match="amounts are positive"):
        event_type(Positive).decode(b'{"amount":0}')


@dataclass(frozen=True)
class Clock:
    moment: dt.datetime
    fixed: tuple[dt.datetime, ...] = ()
    by_name: Mapping[str, dt.datetime] = field(default_factory=dict)
    days: frozenset[dt.datetime] = frozenset()
    inner: Clock | None = None


@pytest.mark.parametrize("moment", [FIRST, SECOND, dt.datetime(2026, 7, 1, 12, tzinfo=FIRST.tzinfo)])
@pytest.mark.parametrize(
    "make", [Clock, lambda moment: Clock(SECOND, (moment,), {"a": moment}, frozenset({moment}), Clock(moment))]
)
def test_a_time_in_the_hour_that_comes_twice_comes_back_as_the_same_moment(
    moment: dt.datetime, make: Callable[[dt.datetime], Clock]
) -> None:
    clock = make(moment)
    data, twin = event_type(Clock).encode(clock)
    assert event_type(Clock).decode(data) == twin
    assert isinstance(twin, Clock)
    assert twin.moment.timestamp() == clock.moment.timestamp()
    assert [one.timestamp() for one in twin.fixed] == [one.timestamp() for one in clock.fixed]


def test_a_time_that_is_another_moment_when_it_comes_back_is_refused() -> None:
    with pytest.raises(EncodingError, match=r"Late.moment cannot be stored: .* would come back as"):
        event_type(Late).encode(Late(FIRST))


class Late(pydantic.BaseModel, frozen=True):
    moment: dt.datetime

    def __init__(self, moment: dt.datetime) -> None:
        super().__init__(moment=moment)

    @pydantic.field_validator("moment", mode="after")
    @classmethod
    def later(cls, moment: dt.datetime) -> dt.datetime:
        return moment + dt.timedelta(hours=1)


# -- What would not come back ------------------------------------------------------------------------------------------


class Renamed(msgspec.Struct, frozen=True, rename="camel"):
    total_amount: int


@dataclass(frozen=True)
class Outer:
    inner: tuple[Money, ...] = ()
    deposit: Deposited = Deposited(0)


@dataclass(frozen=True)
class Stubborn:
    amount: int
    refuse: bool = False

    def __post_init__(self) -> None:
        if self.refuse:
            raise LookupError("never again")


def stubborn() -> Stubborn:
    made = Stubborn(1)
    object.__setattr__(made, "refuse", True)
    return made


@dataclass(frozen=True)
class LargerDeposit(Deposited):
    bonus: int = 0


class Unencodable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr either")


class Secret(pydantic.BaseModel, frozen=True):
    key: pydantic.SecretStr


wrong: Any = "5"
WRONG_VALUES: list[tuple[Any, list[str]]] = [
    (Deposited(wrong), [".Deposited.amount", "Expected `int`, got `str`", "'5'"]),
    (Struct(wrong), [".Struct.amount", "Expected `int`, got `str`"]),
    (Attrs(wrong), [".Attrs.amount", "Expected `int`, got `str`"]),
    (Renamed(wrong), [".Renamed.total_amount", "Expected `int`"]),
    (Model.model_construct(amount=wrong), [".Model", "Expected `int`", "amount"]),
    (Model.model_construct(amount=None), [".Model", "amount"]),
    (Deposited(True), [".Deposited.amount", "Expected `int`, got `bool`"]),
    (Deposited(1.5), [".Deposited.amount", "got `float`"]),  # type: ignore[arg-type]  # the wrong value
    (Deposited(None), [".Deposited.amount", "got `null`"]),  # type: ignore[arg-type]  # the wrong value
    (Deposited(Unencodable()), [".Deposited.amount", "a Unencodable whose repr fails"]),  # type: ignore[arg-type]
    (Slotted(1, "\ud800"), [".Slotted.note", "surrogates not allowed"]),
    (Everything(real=float("nan")), [".Everything.real", "nan"]),
    (Everything(real=float("inf")), [".Everything.real", "inf"]),
    (Everything(decimal=Decimal("NaN")), [".Everything.decimal", "Decimal('NaN') (Decimal) is equal to nothing, not"]),
    (
        Secret(key=pydantic.SecretStr("x")),
        [".Secret.key", "come back as something that looks the same and is not equal"],
    ),
    (Clock(moment=FIRST, fixed=(wrong,)), [".Clock.fixed"]),
    (Everything(decimal=Decimal("sNaN")), [".Everything"]),
    (Everything(items=[1, 2]), [".Everything.items", "[1, 2] (list)", "(1, 2) (tuple)"]),  # type: ignore[arg-type]
    (Everything(word="c"), [".Everything.word"]),  # type: ignore[arg-type]  # the wrong value
    (Everything(settings={1: 1}), [".Everything.settings", "{1: 1}"]),  # type: ignore[dict-item]
    (Outer((Money(Decimal(1)), Money(Decimal(1), wrong * 0 or 5))), [".Outer.inner", "at [1].currency"]),  # type: ignore[arg-type]
    (Outer(deposit=LargerDeposit(1, 2)), [".Outer.deposit", "LargerDeposit"]),
    (stubborn(), [".Stubborn", "never again"]),
]


@pytest.mark.parametrize(("value", "messages"), WRONG_VALUES)
def test_a_value_that_would_not_come_back_is_refused_naming_class_and_field(value: Any, messages: list[str]) -> None:
    with pytest.raises(EncodingError) as caught:
        event_type(type(value)).encode(value)
    for message in messages:
        assert message in str(caught.value)


def test_the_message_about_a_huge_value_is_short() -> None:
    with pytest.raises(EncodingError) as caught:
        event_type(Deposited).encode(Deposited("x" * 1_000_000))  # type: ignore[arg-type]  # the wrong value
    assert len(str(caught.value)) < 600


def test_an_event_of_another_class_is_refused() -> None:
    with pytest.raises(EncodingError, match=r"LargerDeposit.* cannot be stored as a .*\.Outer"):
        event_type(Outer).encode(LargerDeposit(1, 2))


def test_an_event_nested_too_deeply_is_refused() -> None:
    node: Any = run("""
        from dataclasses import dataclass
        @dataclass(frozen=True)
        class Node:
            inner: "Node | None" = None
    """).Node
    deep = node()
    for _ in range(100_000):
        deep = node(deep)
    try:
        with pytest.raises(EncodingError, match="recursion"):
            event_type(node).encode(deep)
    finally:
        while deep.inner is not None:  # taken apart by hand: freeing it in one go would recurse as well
            deep = deep.inner


COMPUTED = "a: int\n    @pydantic.computed_field\n    @property\n    def double(self) -> int: return 2 * self.a"


# -- What could never come back ----------------------------------------------------------------------------------------

NEVER = [
    ("a: int = pydantic.Field(exclude=True, default=3)", "", r"E\.a is excluded from JSON"),
    (COMPUTED, "extra='forbid'", r"E\.double is computed and written, .* extra='forbid' does not ignore"),
    (COMPUTED, "extra='allow'", r"E\.double is computed and written, .* extra='allow' does not ignore"),
]


@pytest.mark.parametrize(("body", "config", "says"), NEVER)
@pytest.mark.parametrize("dataclass", [False, True])
def test_a_pydantic_class_that_writes_what_it_does_not_read_is_refused(
    body: str, config: str, says: str, dataclass: bool
) -> None:
    head = f"@pydantic.dataclasses.dataclass(frozen=True, config=dict({config}))\nclass E:\n    "
    if not dataclass:
        head = f"class E(pydantic.BaseModel, frozen=True, {config}):\n    "
    module = run(f"import pydantic, pydantic.dataclasses\n{head}{body}")
    with pytest.raises(DefinitionError, match=says):
        event_type(module.E)


def test_a_computed_field_that_is_not_read_does_no_harm() -> None:
    model = run(f"import pydantic\nclass E(pydantic.BaseModel, frozen=True):\n    {COMPUTED}").E
    assert event_type(model).encode(model(a=2))[1] == model(a=2)


# -- Decoding errors ---------------------------------------------------------------------------------------------------


OLD = StoredEvent(17, b"i" * 16, "Deposited", 1, b'{"amount":"5"}', b"{}", {"account:alice": 3}, 0)


def test_an_event_that_does_not_decode_is_named_with_stream_version_position_and_type() -> None:
    kind = event_type(Deposited)
    with pytest.raises(msgspec.ValidationError) as cause:
        kind.decode(OLD.data)
    error = decoding_error(OLD, kind, cause.value, "account:alice")
    assert (error.stream, error.version, error.position, error.type) == ("account:alice", 3, 17, "Deposited")
    for part in (
        "account:alice, version 3, position 17",
        "Expected `int`, got `str`",
        "with defaults for fields that are new",
    ):
        assert part in str(error)


def test_an_event_of_the_log_that_does_not_decode_has_a_position_and_its_streams() -> None:
    error = decoding_error(OLD, event_type(Deposited), ValueError("no"), None)
    assert (error.stream, error.version, error.position) == (None, None, 17)
    assert str(error).startswith("position 17, in account:alice: ")


def test_an_event_of_an_unknown_type_is_named_too() -> None:
    assert "no class for this type is known" in str(decoding_error(OLD, None, None, "account:alice"))
