"""Stream ids: different parts never give the same id, and an id tells its parts again."""

from __future__ import annotations

import enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from factfold.errors import FactfoldError, InvalidStreamIdError
from factfold.streams import StreamType, category_of, parts_of, stream, suffix_of
from tests.sources import run

streams: StreamType[Any, Any] = run("""
    from dataclasses import dataclass
    from factfold.streams import stream
    @dataclass(frozen=True)
    class Seen:
        pass
    @stream("thing", initial=0)
    def things(state: int, event: Seen) -> int:
        return state + 1
""").things
ROOM = 255 - len("thing:")

part_texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
delicate_texts = st.text(st.sampled_from("%/25F:f a"), min_size=1, max_size=12)
some_parts = st.lists(part_texts | delicate_texts, max_size=4).map(tuple)


# -- Laws --------------------------------------------------------------------------------------------------------------


@given(some_parts, some_parts)
@example(("a", "b"), ("a/b",))
@example(("a/b",), ("a%2Fb",))
@example(("a%2Fb",), ("a%252Fb",))
@example((), ("a",))
@example((":",), ("a",))
def test_different_parts_never_give_the_same_id(first: tuple[str, ...], second: tuple[str, ...]) -> None:
    assume(first != second)
    assert streams(*first).id != streams(*second).id


@given(some_parts)
@example(("%2F", "/", "%25", "%"))
def test_an_id_tells_its_parts_again(parts: tuple[str, ...]) -> None:
    made = streams(*parts)
    assert made.parts == parts
    assert parts_of(made.id) == parts
    assert category_of(made.id) == "thing"
    assert suffix_of(made.id) == made.suffix == (parts[0] if len(parts) == 1 else made.id.removeprefix("thing:"))
    assert made.key == (made.id, streams.fold)


@given(st.lists(part_texts | delicate_texts | st.integers() | st.uuids(), max_size=4))
def test_numbers_and_uuids_stand_for_their_texts(parts: list[str | int | UUID]) -> None:
    assert streams(*parts).id == streams(*map(str, parts)).id
    assert streams(*parts).parts == tuple(map(str, parts))


@given(st.text(min_size=1, max_size=300))
def test_every_text_gives_an_id_within_the_rules_or_is_refused(part: str) -> None:
    try:
        made = streams(part)
    except InvalidStreamIdError:
        odd = any(ord(one) < 32 or 127 <= ord(one) < 160 or 0xD800 <= ord(one) < 0xE000 for one in part)
        assert odd or len(part) + 2 * part.count("/") + 2 * part.count("%") > ROOM
    else:
        assert len(made.id) <= 255
        assert made.parts == (part,)
        assert made.id.encode().decode() == made.id


@given(st.text(max_size=30))
def test_what_is_read_as_an_id_is_one(text: str) -> None:
    try:
        parts = parts_of(f"thing:{text}")
    except InvalidStreamIdError:
        return
    assert streams(*parts).id == f"thing:{text}"


# -- Examples ----------------------------------------------------------------------------------------------------------


class Size(enum.StrEnum):
    LARGE = "large"


class Colour(str, enum.Enum):  # noqa: UP042  # the older kind, whose str() is not its text
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class ShowsOtherwise(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class CountsOtherwise(int):
    def __repr__(self) -> str:
        return "something else"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((), "thing:"),
        (("alice",), "thing:alice"),
        (("acme", 7), "thing:acme/7"),
        ((UUID(int=1),), "thing:00000000-0000-0000-0000-000000000001"),
        ((-5,), "thing:-5"),
        (("a/b", "50%"), "thing:a%2Fb/50%25"),
        ((" ",), "thing: "),
        (("..", "."), "thing:../."),
        (("a:b",), "thing:a:b"),
        (("Ünïcödé\u2028🎵",), "thing:Ünïcödé\u2028🎵"),
        ((Size.LARGE, Colour.RED, Level.HIGH), "thing:large/red/3"),
        ((ShowsOtherwise("text"), CountsOtherwise(5)), "thing:text/5"),
        ((10**200,), f"thing:{10**200}"),
    ],
)
def test_parts_are_joined_by_slashes_and_escaped(parts: tuple[Any, ...], expected: str) -> None:
    made = streams(*parts)
    assert made.id == expected
    assert all(type(part) is str for part in made.parts)
    assert made == streams(*made.parts)


@pytest.mark.parametrize(
    ("parts", "rule"),
    [
        (("",), "is not empty"),
        (("a", ""), "is not empty"),
        (("a\nb",), r"holds no control character .*'\\n' at index 1"),
        (("\x00",), "holds no control character"),
        (("\x7f",), "holds no control character"),
        (("\x85",), "holds no control character"),
        (("\ud83d",), "half of a surrogate pair"),
        ((True,), "is a str, an int or a UUID, not a bool"),
        ((None,), "not a NoneType"),
        ((1.5,), "not a float"),
        ((b"a",), "not a bytes"),
        ((("a", "b"),), "not a tuple"),
        (("ok", [1]), "not a list"),
        ((10**255,), "at most 255 digits"),
        ((-(10**5000),), "at most 255 digits"),
    ],
)
def test_a_part_that_breaks_a_rule_is_named_with_the_rule(parts: tuple[Any, ...], rule: str) -> None:
    with pytest.raises(InvalidStreamIdError, match=rule) as caught:
        streams(*parts)
    assert caught.value.part is parts[-1]
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, FactfoldError)


@pytest.mark.parametrize(
    ("fits", "does_not"),
    [
        (("x" * ROOM,), ("x" * (ROOM + 1),)),
        (("é" * ROOM,), ("é" * (ROOM + 1),)),
        (("x" * (ROOM - 2), "y"), ("x" * (ROOM - 1), "y")),
        (("/" * (ROOM // 3),), ("/" * (ROOM // 3 + 1),)),
        (("\u2028" * ROOM,), ("\u2028" * (ROOM + 1),)),
    ],
)
def test_a_whole_id_has_at_most_255_characters(fits: tuple[str, ...], does_not: tuple[str, ...]) -> None:
    assert len(streams(*fits).id) in (253, 254, 255)
    with pytest.raises(InvalidStreamIdError, match="at most 255 characters") as caught:
        streams(*does_not)
    assert caught.value.part == does_not[0]


def test_the_message_about_a_huge_part_is_short() -> None:
    with pytest.raises(InvalidStreamIdError) as caught:
        streams("x" * 1_000_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("category", ["", "A", "1a", "a-b", "a b", "a:b", "a/b", "ä", "$a", "a" * 65, "a\n", None, 5])
def test_a_category_that_breaks_the_rules_is_refused(category: Any) -> None:
    with pytest.raises(InvalidStreamIdError, match=r"[Cc]ategory") as caught:
        stream(category, initial=0)
    assert caught.value.part == category


@pytest.mark.parametrize(
    "text",
    ["", "thing", "thing:a//b", "thing:/", "thing:a/", "thing:%", "thing:%2f", "thing:a\nb", "Thing:a", ":a", "$:"],
)
def test_what_is_no_stream_id_is_not_read_as_one(text: str) -> None:
    with pytest.raises(InvalidStreamIdError):
        parts_of(text)


def test_a_system_id_can_be_read() -> None:
    assert parts_of("$once:key") == ("key",)
    assert category_of("$once:a:b") == "$once"


def test_streams_with_one_id_and_one_fold_are_equal() -> None:
    first, second = streams("a", 1), streams("a", "1")
    assert first == second
    assert hash(first) == hash(second)
    assert first != streams("a", 2)
    assert first != "thing:a/1"
    assert {first: "found"}[second] == "found"


def test_a_stream_cannot_be_changed() -> None:
    some: Any = streams("a")
    with pytest.raises(AttributeError):
        some.id = "thing:b"
    with pytest.raises(AttributeError):
        some.other = 1


def test_a_stream_shows_its_id() -> None:
    assert "thing:a%2Fb" in repr(streams("a/b"))
