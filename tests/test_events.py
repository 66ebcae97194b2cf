"""Events: their declarations, the metadata around them, what a recorded one tells, and ids."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factfold import events
from factfold.errors import DecodingError, DefinitionError, EncodingError
from factfold.events import (
    JSON,
    Metadata,
    RecordedEvent,
    check_category,
    current_metadata,
    declaration,
    decode_metadata,
    encode_metadata,
    event,
    metadata,
    new_event_ids,
    uuid7,
)
from factfold.storage.base import StoredEvent

# -- @event ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deposited:
    amount: int


def test_a_class_is_stored_under_its_own_name() -> None:
    assert declaration(Deposited).name == "Deposited"
    assert declaration(Deposited).version == 1
    assert declaration(Deposited).streams == ()


def test_a_declaration_says_name_version_and_streams() -> None:
    @event(name="money.transferred", version=3, streams=("account", "account"))
    @dataclass(frozen=True)
    class Transferred:
        amount: int

    declared = declaration(Transferred)
    assert (declared.name, declared.version, declared.streams) == ("money.transferred", 3, ("account", "account"))


def test_a_declaration_without_a_name_keeps_the_class_name() -> None:
    @event(version=2)
    @dataclass(frozen=True)
    class Renamed:
        amount: int

    assert declaration(Renamed).name == "Renamed"


def test_the_class_itself_is_kept() -> None:
    assert event(name="deposited")(Deposited) is Deposited
    event()(Deposited)


def test_a_subclass_does_not_inherit_a_declaration() -> None:
    @event(name="base", version=2, streams=("account",))
    @dataclass(frozen=True)
    class Base:
        amount: int

    @dataclass(frozen=True)
    class Special(Base):
        pass

    declared = declaration(Special)
    assert (declared.name, declared.version, declared.streams) == ("Special", 1, ())


def test_a_declaration_survives_decorators_that_make_the_class_anew() -> None:
    @dataclass(frozen=True, slots=True)
    @event(name="slotted")
    class Slotted:
        amount: int

    @attrs.frozen
    @event(name="attrs")
    class Attrs:
        amount: int

    assert declaration(Slotted).name == "slotted"
    assert declaration(Attrs).name == "attrs"


def test_every_kind_of_class_can_be_declared() -> None:
    @event(name="struct")
    class AStruct(msgspec.Struct, frozen=True):
        amount: int

    @event(name="model")
    class AModel(pydantic.BaseModel, frozen=True):
        amount: int

    @event(name="attrs")
    @attrs.frozen
    class Attrs:
        amount: int

    assert [declaration(cls).name for cls in (AStruct, AModel, Attrs)] == ["struct", "model", "attrs"]
    assert AModel(amount=1).model_dump() == {"amount": 1}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "1 to 128 characters"),
        ("x" * 129, "1 to 128 characters"),
        ("two\nlines", "control character"),
        ("\ud800", "half a surrogate pair"),
        ("$executed", r"begins with `\$`"),
        (5, "is a string"),
    ],
)
def test_a_name_that_cannot_be_stored_is_refused(name: Any, reason: str) -> None:
    with pytest.raises(DefinitionError, match=reason):
        event(name=name)(Deposited)


def test_a_class_name_too_long_to_be_stored_is_refused() -> None:
    with pytest.raises(DefinitionError, match="1 to 128 characters"):
        declaration(type("X" * 129, (), {}))


@pytest.mark.parametrize("version", [0, -1, True, "2", 1.0, None])
def test_a_version_is_a_whole_number_from_1_on(version: Any) -> None:
    with pytest.raises(DefinitionError, match=f"from 1 on, not {version!r}"):
        event(version=version)(Deposited)


@pytest.mark.parametrize("streams", ["account", ("Account",), (5,), ("",), ("$once",), ("a:b",), ("a" * 65,)])
def test_streams_are_categories(streams: Any) -> None:
    with pytest.raises(DefinitionError, match="streams"):
        event(streams=streams)(Deposited)


def test_what_is_no_class_cannot_be_declared() -> None:
    decorate: Any = event(name="x")
    with pytest.raises(DefinitionError, match="stands above an event class, not above 5"):
        decorate(5)


@pytest.mark.parametrize("category", ["a", "account", "shop.order_2", "a" * 64])
def test_a_category_may_have_letters_digits_underscores_and_dots(category: str) -> None:
    assert check_category(category) == category


def test_a_system_category_begins_with_a_dollar() -> None:
    assert check_category("$once", system=True) == "$once"
    with pytest.raises(ValueError, match=r"'\$\$once'"):
        check_category("$$once", system=True)


def test_an_event_decorator_without_parentheses_says_so() -> None:
    misplaced: Any = event
    with pytest.raises(DefinitionError, match=r"@event on Opened: it has parentheses, as in @event\(name=\.\.\.\)"):
        misplaced(type("Opened", (), {}))


# -- Metadata ----------------------------------------------------------------------------------------------------------


def current() -> Metadata:
    return decode_metadata(current_metadata())


def test_without_a_block_there_is_no_metadata() -> None:
    assert current_metadata() == b"{}"
    assert current() == Metadata()


def test_a_block_sets_metadata_until_it_ends() -> None:
    with metadata(actor="alice", correlation_id="request 7"):
        assert current() == Metadata(actor="alice", correlation_id="request 7")
        assert json.loads(current_metadata()) == {"actor": "alice", "correlation_id": "request 7"}
    assert current_metadata() == b"{}"


def test_a_block_that_raises_ends_too() -> None:
    with pytest.raises(KeyError), metadata(actor="alice"):
        raise KeyError
    assert current_metadata() == b"{}"


def test_an_inner_block_inherits_what_it_does_not_set() -> None:
    with metadata(actor="alice", causation_id="c", extra={"a": 1, "b": 1}):
        with metadata(actor="bob", extra={"b": 2, "c": [None, True, 1.5, {"d": "e"}]}):
            extra: dict[str, JSON] = {"a": 1, "b": 2, "c": [None, True, 1.5, {"d": "e"}]}
            assert current() == Metadata(actor="bob", causation_id="c", extra=extra)
        assert current() == Metadata(actor="alice", causation_id="c", extra={"a": 1, "b": 1})


def test_a_uuid_comes_back_as_a_uuid_and_a_text_as_a_text() -> None:
    some = uuid7()
    with metadata(correlation_id=some, causation_id="not a uuid"):
        assert current() == Metadata(correlation_id=some, causation_id="not a uuid")


def test_the_text_of_a_uuid_is_a_uuid_and_other_spellings_are_texts() -> None:
    some = uuid7()
    with metadata(correlation_id=str(some), causation_id=some.hex):
        assert current() == Metadata(correlation_id=some, causation_id=some.hex)


async def test_metadata_follows_asyncio_tasks_and_does_not_leak_between_them() -> None:
    async def act(actor: str) -> str | None:
        with metadata(actor=actor):
            await asyncio.sleep(0)
            return await asyncio.create_task(read())

    async def read() -> str | None:
        return current().actor

    assert list(await asyncio.gather(act("alice"), act("bob"))) == ["alice", "bob"]
    assert current_metadata() == b"{}"


def test_metadata_goes_with_a_copied_context_into_a_thread() -> None:
    seen: list[Metadata] = []
    with metadata(actor="alice"):
        thread = threading.Thread(target=copy_context().run, args=(lambda: seen.append(current()),))
        thread.start()
        thread.join()
    assert seen == [Metadata(actor="alice")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"actor": "a\x00b"}, "actor='a\\x00b' holds a control character"),
        ({"actor": "\ud800"}, "half a surrogate pair"),
        ({"actor": 5}, "actor is a string, not 5 (int)"),
        ({"correlation_id": "a\nb"}, "correlation_id='a\\nb'"),
        ({"causation_id": 7}, "causation_id is a string, not 7 (int)"),
        ({"extra": [1]}, "extra is a mapping, not [1]"),
        ({"extra": {"a": [1, {"b": float("nan")}]}}, "extra['a'][1]['b'] is no JSON value: nan (float)"),
        ({"extra": {"a": {1, 2}}}, "extra['a'] is no JSON value: {1, 2} (set)"),
        ({"extra": {"a": object}}, "extra['a'] is no JSON value"),
        ({"extra": {1: "a"}}, "a key of extra is a string, not 1 (int)"),
        ({"extra": {"a": {None: "a"}}}, "a key of extra['a'] is a string, not None (NoneType)"),
        ({"extra": {"a": "\x00"}}, "extra['a']='\\x00' holds U+0000"),
        ({"extra": {"a": ["\udfff"]}}, "extra['a'][0]='\\udfff' holds U+0000 or half a surrogate pair"),
        ({"extra": {"a\x7f": 1}}, "holds a control character"),
    ],
)
def test_metadata_that_cannot_be_stored_is_refused_before_the_block_runs(
    arguments: dict[str, Any], message: str
) -> None:
    ran = False
    with pytest.raises(EncodingError) as caught, metadata(**arguments):
        ran = True
    assert message in str(caught.value)
    assert not ran
    assert current_metadata() == b"{}"


def test_extra_holds_texts_of_several_lines() -> None:
    trace = "line 1\r\n\tline 2\x1b[0m\x7f"
    with metadata(extra={"trace": trace, "lines": [trace]}):
        assert current().extra == {"trace": trace, "lines": [trace]}
        assert decode_metadata(current_metadata()) == current()


def test_later_changes_to_the_extra_that_was_given_do_not_matter() -> None:
    inner = [1]
    extra: dict[str, JSON] = {"a": inner}
    with metadata(extra=extra):
        inner.append(2)
        extra["b"] = 3
        assert current().extra == {"a": [1]}
        with metadata(actor="alice"):
            assert current().extra == {"a": [1]}


def test_metadata_cannot_be_changed() -> None:
    some: Any = Metadata(actor="alice")
    with pytest.raises(AttributeError):
        some.actor = "bob"
    with pytest.raises(TypeError):
        some.extra["a"] = 1
    with pytest.raises(TypeError):
        decode_metadata(b'{"extra":{"a":1}}').extra["b"] = 1  # type: ignore[index]  # what is tried here


def test_equal_metadata_has_equal_hashes() -> None:
    assert hash(Metadata(actor="alice", extra={"a": [1]})) == hash(Metadata(actor="alice", extra={"a": [1]}))


def test_metadata_of_a_newer_version_is_read_without_what_is_unknown() -> None:
    assert decode_metadata(b'{"actor":"alice","tenant":"x"}') == Metadata(actor="alice")


texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]))
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


@given(
    correlation_id=st.none() | st.uuids() | texts,
    causation_id=st.none() | st.uuids() | texts,
    actor=st.none() | texts,
    extra=st.dictionaries(texts, json_values, max_size=4),
)
def test_metadata_comes_back_as_it_was(
    correlation_id: UUID | str | None, causation_id: UUID | str | None, actor: str | None, extra: Mapping[str, JSON]
) -> None:
    with metadata(correlation_id=correlation_id, causation_id=causation_id, actor=actor, extra=extra):
        data = current_metadata()
    read = decode_metadata(data)
    assert (read.actor, read.extra) == (actor, extra)
    assert [str(read.correlation_id), str(read.causation_id)] == [str(correlation_id), str(causation_id)]
    assert encode_metadata(read) == data


# -- Recorded events ---------------------------------------------------------------------------------------------------


def stored(position: int = 7, *, metadata: bytes = b"{}", recorded_at: int = 0) -> StoredEvent:
    name, data, streams = "Deposited", b'{"amount":5}', {"account:alice": 3, "day:1": 9}
    return StoredEvent(position, UUID(int=position).bytes, name, 1, data, metadata, streams, recorded_at)


def test_a_recorded_event_tells_where_and_when_it_was_recorded() -> None:
    recorded = RecordedEvent(stored(metadata=b'{"actor":"alice"}', recorded_at=1_700_000_000_123_456), Deposited(5))
    assert recorded.position == 7
    assert recorded.id == UUID(int=7)
    assert recorded.type == "Deposited"
    assert recorded.event == Deposited(5)
    assert recorded.streams == {"account:alice": 3, "day:1": 9}
    assert recorded.metadata == Metadata(actor="alice")
    assert recorded.recorded_at == datetime(2023, 11, 14, 22, 13, 20, 123_456, tzinfo=UTC)
    assert recorded.recorded_at.utcoffset() == timedelta(0)


@given(st.integers(min_value=0, max_value=253_402_300_799_999_999))
def test_the_time_is_exact_to_the_microsecond(microseconds: int) -> None:
    recorded = RecordedEvent(stored(recorded_at=microseconds), None)
    since = recorded.recorded_at - datetime(1970, 1, 1, tzinfo=UTC)
    assert since // timedelta(microseconds=1) == microseconds


def test_recorded_events_are_equal_by_value() -> None:
    assert RecordedEvent(stored(), Deposited(5)) == RecordedEvent(stored(), Deposited(5))
    assert RecordedEvent(stored(), Deposited(5)) != RecordedEvent(stored(), Deposited(6))
    assert RecordedEvent(stored(), Deposited(5)) != RecordedEvent(stored(8), Deposited(5))
    assert len({RecordedEvent(stored(), Deposited(5)), RecordedEvent(stored(), Deposited(5))}) == 1


def test_a_recorded_event_cannot_be_changed() -> None:
    recorded: Any = RecordedEvent(stored(), Deposited(5))
    with pytest.raises(AttributeError):
        recorded.event = Deposited(6)
    with pytest.raises(TypeError):
        recorded.streams["account:bob"] = 1


def test_a_recorded_event_shows_itself() -> None:
    expected = (
        "RecordedEvent(position=7, type='Deposited', streams={'account:alice': 3, 'day:1': 9}, "
        "event=Deposited(amount=5))"
    )
    assert repr(RecordedEvent(stored(), Deposited(5))) == expected


@pytest.mark.parametrize("damaged", [b"", b"[]", b'{"actor":5}', b'{"actor":"\xff"}'])
def test_damaged_metadata_is_reported_with_its_position(damaged: bytes) -> None:
    recorded = RecordedEvent(stored(metadata=damaged), Deposited(5))
    assert recorded.event == Deposited(5)
    with pytest.raises(DecodingError, match="position 7") as caught:
        _ = recorded.metadata
    assert (caught.value.position, caught.value.type) == (7, "Deposited")


# -- Ids ---------------------------------------------------------------------------------------------------------------


def test_ids_are_uuids_of_version_7_and_of_now() -> None:
    before = time.time_ns() // 1_000_000
    some = uuid7()
    after = time.time_ns() // 1_000_000
    assert (some.version, some.variant) == (7, "specified in RFC 4122")
    assert before <= some.int >> 80 <= after


def test_ids_of_one_call_are_strictly_increasing() -> None:
    ids = new_event_ids(10_000)
    assert all(before < after for before, after in itertools.pairwise(ids))
    assert {UUID(bytes=one).version for one in ids} == {7}
    assert new_event_ids(0) == []


@pytest.mark.parametrize("drawn", [0, 2**80 - 1])
def test_counting_up_never_runs_into_version_or_time(monkeypatch: pytest.MonkeyPatch, drawn: int) -> None:
    monkeypatch.setattr(events, "_random", SimpleNamespace(getrandbits=lambda _: drawn))
    before = time.time_ns() // 1_000_000
    ids = [UUID(bytes=one) for one in new_event_ids(1_000)]
    after = time.time_ns() // 1_000_000
    assert ids == sorted(set(ids))
    assert {(one.version, one.variant) for one in ids} == {(7, "specified in RFC 4122")}
    assert before <= ids[0].int >> 80 == ids[-1].int >> 80 <= after


def test_ids_of_many_calls_are_all_different() -> None:
    ids = [one for _ in range(2_000) for one in new_event_ids(3)]
    assert len(set(ids)) == 6_000


FORKING = """
import os, sys
from factfold.events import new_event_ids
new_event_ids(1)
reader, writer = os.pipe()
if os.fork() == 0:
    os.write(writer, b"".join(new_event_ids(100)))
    os._exit(0)
theirs = os.read(reader, 1_600)
ours = b"".join(new_event_ids(100))
os.wait()
sys.stdout.buffer.write(ours + theirs)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_makes_other_ids() -> None:
    # in a process without other threads, where forking is safe
    ids = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, check=True, timeout=60).stdout
    assert len({ids[index : index + 16] for index in range(0, len(ids), 16)}) == 200
