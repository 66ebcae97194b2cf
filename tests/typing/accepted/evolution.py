"""Former names, upcasters and samples: what the type checkers accept, and what they take it for."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import msgspec

from factfold import JSON, event, upcast
from factfold.testing import Sample, event_samples
from tests.typing.domain import AccountEvent, Deposited, Opened, accounts


@event(name="renamed", version=3, was=("named", "called"))
class Renamed(msgspec.Struct, frozen=True):
    name: str


@upcast(Renamed, 1)
def _(data: dict[str, JSON]) -> dict[str, JSON]:
    data["name"] = data.pop("title", "")
    return data


@upcast(Renamed, 2)
def with_parts(data: dict[str, JSON]) -> dict[str, JSON]:
    return {**data, "parts": ["title", 1, 2.5, True, None], "more": {"kept": None}}


assert_type(with_parts({"name": "ann"}), dict[str, JSON])


def all_kinds_of_types_have_samples(path: Path) -> None:
    assert_type(event_samples(path, accounts, Opened("ann")), tuple[Sample[Opened | Deposited], ...])
    assert_type(event_samples("events.jsonl", Deposited, Deposited(5)), tuple[Sample[Deposited], ...])
    assert_type(event_samples(path, AccountEvent, Deposited(5))[0].line, int)
    for sample in event_samples(path, Deposited):
        assert_type((sample.version, sample.data, sample.event.amount), tuple[int, JSON, int])
