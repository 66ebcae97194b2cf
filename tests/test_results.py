"""Results of commands as JSON, for `execute_once`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NewType
from uuid import UUID

import msgspec
import pydantic
import pytest

from factfold.codec import decode_result, encode_result
from factfold.errors import EncodingError
from tests.sources import run
from tests.zones import FIRST


@dataclass(frozen=True)
class Money:
    amount: Decimal
    currency: str = "EUR"


AccountId = NewType("AccountId", str)


@dataclass(frozen=True)
class Deposited:
    amount: int


class Struct(msgspec.Struct, frozen=True):
    amount: int


class Model(pydantic.BaseModel, frozen=True):
    amount: int
    site: pydantic.HttpUrl | None = None
    money: Money | None = None
    renamed: int = pydantic.Field(default=0, alias="other_name")


@pytest.mark.parametrize(
    ("result", "annotation"),
    [
        (None, None),
        (None, type(None)),
        ({"a": [1, 2.5, "x", None, True]}, None),
        ([1], Any),
        (7, int),
        ((1, 2), tuple[int, ...]),
        (Deposited(5), Deposited),
        (Model(amount=5), Model),
        ([Money(Decimal("1.10"))], list[Money]),
        (Decimal("1.10"), Decimal | None),
        (UUID(int=1), UUID),
        (3, run("from typing import Annotated\nA = Annotated[int, []]").A),
    ],
)
def test_a_result_comes_back_as_it_was(result: object, annotation: object) -> None:
    assert decode_result(encode_result(result, annotation), annotation) == result


def test_a_time_in_the_hour_that_comes_twice_is_a_result() -> None:
    back = decode_result(encode_result(FIRST, datetime), datetime)
    assert isinstance(back, datetime)
    assert back.timestamp() == FIRST.timestamp()


@pytest.mark.parametrize("result", [(1, 2), Deposited(5), Decimal("1.10"), {1: 2}])
def test_a_result_that_comes_back_as_something_else_has_to_be_annotated(result: object) -> None:
    with pytest.raises(EncodingError, match="Annotate what the command returns"):
        encode_result(result, None)


@pytest.mark.parametrize(
    ("result", "annotation"),
    [(object(), None), (object(), object), ("x", int), ([1], tuple[int, ...]), (1, str | bytes)],
)
def test_a_result_that_cannot_be_stored_is_refused(result: object, annotation: object) -> None:
    with pytest.raises(EncodingError, match="execute_once has to store the command's result"):
        encode_result(result, annotation)


def test_a_stored_result_that_no_longer_fits_is_refused() -> None:
    with pytest.raises(EncodingError, match="return annotation has changed"):
        decode_result(encode_result("seven", str), int)
