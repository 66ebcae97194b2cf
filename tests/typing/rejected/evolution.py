"""Former names, upcasters and samples that the type checkers refuse: each marked line, and no other."""

from __future__ import annotations

from datetime import datetime

from factfold import JSON, event, upcast
from factfold.testing import event_samples
from tests.typing.domain import Deposited, Enrolled

event(was=7)  # type: ignore[arg-type]
event(was=(Enrolled,))  # type: ignore[arg-type]


def takes_an_event(data: Enrolled) -> dict[str, JSON]:
    return {"course": data.course}


def returns_an_event(data: dict[str, JSON]) -> Enrolled:
    return Enrolled("math", "ann")


def returns_what_is_no_json(data: dict[str, JSON]) -> dict[str, datetime]:
    return {}


upcast(Enrolled)  # type: ignore[call-arg]
upcast("course.enrolled", 1)  # type: ignore[arg-type]
upcast(Enrolled, "1")  # type: ignore[arg-type]
upcast(Enrolled, 1)(takes_an_event)  # type: ignore[type-var]
upcast(Enrolled, 1)(returns_an_event)  # type: ignore[type-var]
upcast(Enrolled, 1)(returns_what_is_no_json)  # type: ignore[type-var]

event_samples(7, Deposited)  # type: ignore[call-overload]
event_samples("events.jsonl")  # type: ignore[call-overload]
owner = event_samples("events.jsonl", Deposited)[0].event.owner  # type: ignore[attr-defined]
