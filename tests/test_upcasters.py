"""What an upcaster may get wrong, and a class with its upcasters: each is told, with the event that it is about."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

import pytest

from factfold import JSON, DecodingError, DefinitionError, Store, event, stream, upcast
from factfold.codec import event_type
from factfold.storage.memory import Memory
from factfold.testing.contract.scribe import new
from factfold.upcasting import UpcastError
from tests.wallets import Emptied, write

# -- What an upcaster may get wrong ------------------------------------------------------------------------------------


def reading(upcaster: Callable[..., Any], data: bytes = b'{"a":1}', version: int = 1) -> DecodingError:
    """The error for the second event of a log, which this upcaster is to bring from version 1 to 2."""

    @event(name="Counted", version=2)
    @dataclass(frozen=True)
    class Counted:
        count: int

    upcast(Counted, 1)(upcaster)

    @stream("counter", initial=0)
    def counters(state: int, event: Counted) -> int:
        return state + event.count

    memory = Memory()
    write(memory, new("counter:a", type="Counted", type_version=2, data=b'{"count":1}'))
    write(memory, new("counter:a", type="Counted", type_version=version, data=data))
    with Store(memory) as store:
        with pytest.raises(DecodingError) as in_log:
            list(store.log(types=counters))
        assert in_log.value.position == 2
        with pytest.raises(DecodingError) as caught:
            store.state(counters("a"))
    error = caught.value
    assert (error.stream, error.version, error.position, error.type) == ("counter:a", 2, 2, "Counted")
    assert "counter:a, version 2, position 2: the event of type 'Counted' cannot be decoded: " in str(error)
    return error


def raises(data: dict[str, JSON]) -> NoReturn:
    raise ArithmeticError("no such number")


def exits(data: dict[str, JSON]) -> NoReturn:
    raise SystemExit


def recurs(data: dict[str, JSON]) -> dict[str, JSON]:
    return recurs(data)


def holds_itself(data: dict[str, Any]) -> dict[str, Any]:
    data["self"] = data
    return data


WRONG: dict[str, tuple[Callable[..., Any], str]] = {
    "raises": (
        raises,
        "raises of reading.<locals>.Counted, from version 1 to 2, raised ArithmeticError('no such number')",
    ),
    "exits": (exits, "raised SystemExit()"),
    "recurs": (recurs, "raised RecursionError("),
    "holds itself": (holds_itself, "raised RecursionError("),
    "returns nothing": (lambda data: None, "returned None, and has to return a JSON object, a dict"),
    "returns a list": (lambda data: [data], "returned [{'a': 1}], and has to return a JSON object, a dict"),
    "returns a datetime": (
        lambda data: {"count": [1, {"at": datetime(2026, 1, 1, tzinfo=UTC)}]},
        "(datetime) at .count[1].at, which is no JSON",
    ),
    "returns a set": (lambda data: {"count": {1}}, "returned {1} (set) at .count, which is no JSON"),
    "returns NaN": (lambda data: {"count": float("nan")}, "returned nan (float) at .count, which is no JSON"),
    "has a key that is no text": (lambda data: {"count": {1: 2}}, "returned 1 (int) at .count[1], which is no JSON"),
    "leaves a field out": (lambda data: {}, "refuses what the upcasters made of it: Object missing required field"),
    "gives a wrong type": (lambda data: {"count": "1"}, "Expected `int`, got `str` - at `$.count`. Correct them"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_an_upcaster_gets_wrong_is_told_with_the_event(wrong: str) -> None:
    upcaster, message = WRONG[wrong]
    assert message in str(reading(upcaster))


def test_the_upcasters_own_error_is_the_cause() -> None:
    error: BaseException | None = reading(raises)
    causes: list[type] = []
    while (error := None if error is None else error.__cause__) is not None:
        causes.append(type(error))
    assert causes[-1] is ArithmeticError


def test_an_upcaster_may_be_interrupted() -> None:
    def interrupts(data: dict[str, JSON]) -> dict[str, JSON]:
        raise KeyboardInterrupt

    @event(version=2)
    @dataclass(frozen=True)
    class Counted:
        count: int

    upcast(Counted, 1)(interrupts)
    with pytest.raises(KeyboardInterrupt):
        event_type(Counted).read(b"{}", 1)


def test_upcasters_take_objects_only() -> None:
    message = "upcasters take a JSON object, and what is stored is none: Expected `object`, got `array`"
    assert message in str(reading(lambda data: data, b"[1]"))


def test_what_a_newer_version_has_stored_is_not_guessed_at() -> None:
    error = reading(lambda data: data, b'{"count":1}', version=3)
    assert "it was stored by version 3 of its class, and" in str(error)
    assert "is version 2 here. Deploy readers first: " in str(error)


def test_a_version_without_an_upcaster_is_not_guessed_at() -> None:
    @event(name="Counted", version=3)
    @dataclass(frozen=True)
    class Counted:
        count: int

    @upcast(Counted, 2)
    def _(data: dict[str, JSON]) -> dict[str, JSON]:
        return data

    memory = Memory()
    write(memory, new("counter:a", type="Counted", type_version=2, data=b'{"count":1}'))
    write(memory, new("counter:a", type="Counted", data=b'{"count":1}'))
    with Store(memory) as store:
        log = store.log(types=Counted)
        assert next(log).event == Counted(1)
        with pytest.raises(DecodingError, match=r"there is no upcaster from version 1 to 2. Write it: @upcast\("):
            next(log)


# -- What is wrong when it is defined ----------------------------------------------------------------------------------


def newest() -> type:
    """An event class of version 4."""

    @event(version=4)
    @dataclass(frozen=True)
    class Counted:
        count: int

    return Counted


def same(data: dict[str, JSON]) -> dict[str, JSON]:
    return data


async def awaits(data: dict[str, JSON]) -> dict[str, JSON]:
    return data


def takes_nothing() -> dict[str, JSON]:
    return {}


def yields(data: dict[str, JSON]) -> Any:
    yield data


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "the current version": (lambda: upcast(newest(), 4), r"is version 4, .*declare @event\(version=5\)"),
    "a higher version": (lambda: upcast(newest(), 9), "to a version that it has not reached"),
    "a class without a version": (lambda: upcast(Emptied, 1), r"declare @event\(version=2\) above the class"),
    "version 0": (lambda: upcast(newest(), 0), "is a whole number from 1 on, not 0"),
    "True": (lambda: upcast(newest(), True), "is a whole number from 1 on, not True"),
    "no class": (lambda: upcast(same, 1), "@upcast takes an event class and a version"),  # type: ignore[arg-type]  # refused
    "no function": (lambda: upcast(newest(), 1)(7), "above a function"),  # type: ignore[type-var]  # refused
    "another class": (lambda: upcast(newest(), 1)(Emptied), "above a function"),  # type: ignore[type-var]  # refused
    "a coroutine function": (lambda: upcast(newest(), 1)(awaits), "not `async`"),  # type: ignore[type-var]  # refused
    "a generator function": (lambda: upcast(newest(), 1)(yields), "and this one yields"),
    "no parameter": (lambda: upcast(newest(), 1)(takes_nothing), "takes one thing"),  # type: ignore[type-var]  # refused
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_an_upcaster_that_cannot_work_is_refused(wrong: str) -> None:
    define, message = REFUSED[wrong]
    with pytest.raises(DefinitionError, match=message):
        define()


def test_a_step_has_one_upcaster() -> None:
    cls = newest()
    upcast(cls, 3)(same)
    with pytest.raises(DefinitionError, match="an upcaster from version 3 to 4 already, .*same"):
        upcast(cls, 3)(lambda data: data)


def test_a_gap_in_the_chain_is_refused_when_the_class_is_used() -> None:
    cls = newest()
    upcast(cls, 1)(same)
    upcast(cls, 3)(same)
    with pytest.raises(DefinitionError, match=r"but none from version 2 to 3. Write it: @upcast\("):
        event_type(cls)
    upcast(cls, 2)(same)
    assert event_type(cls).versions == range(1, 5)


def test_an_upcaster_for_a_class_in_use_is_refused() -> None:
    cls = newest()
    event_type(cls)
    gc.collect()  # the event type is gone, and some reader may have had it
    with pytest.raises(DefinitionError, match="is in use already"):
        upcast(cls, 3)(same)


def test_a_subclass_is_another_event() -> None:
    base = newest()
    upcast(base, 3)(same)

    derived: type = event(version=4)(dataclass(frozen=True)(type("Derived", (base,), {})))
    assert event_type(derived).versions == range(4, 5)
    with pytest.raises(UpcastError, match="there is no upcaster from version 3 to 4"):
        event_type(derived).read(b"{}", 3)


@pytest.mark.parametrize(
    ("was", "message"),
    [
        ("Paid", r"was is a tuple of stored names, `\('Paid',\)`, not a string"),
        (("",), "was: the stored name has 1 to 128 characters"),
        (("a\n",), "was: the stored name .* holds a control character"),
        ((7,), "was: the stored name is a string"),
        (("$executed",), "kept for factfold itself"),
        (("Now",), "'Now' is its name, so it need not stand in `was`"),
        (("Then", "Then"), "'Then' stands in `was` twice"),
    ],
)
def test_former_names_that_cannot_be_are_refused(was: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):

        @event(was=was)
        @dataclass(frozen=True)
        class Now:
            pass
