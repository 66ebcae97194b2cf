"""Samples of what was ever stored: they are kept in a file, and every one of them has to load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from factfold import JSON, Context, EncodingError, Handlers, event, upcast
from factfold.testing import Sample, event_samples
from tests.wallets import Emptied, Money, Paid, wallets

PAST = """\
{"type":"Paid","version":1,"data":{"cents":1,"clerk":"cid"}}
{"type":"Paid", "version":2, "data": {"amount":2}}

{"type":"wallet.paid","version":3,"data":{"note":"","amount":{"value":4,"currency":"CHF"}}}
{"type":"Emptied","version":1,"data":{}}
"""
EXAMPLE = Paid(Money(4, "CHF"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with samples of all versions of a wallet's events."""
    file = tmp_path / "wallets.jsonl"
    file.write_text(PAST)
    return file


def problems(file: Path, types: object, *examples: object) -> str:
    """What is wrong with the file, which is left alone."""
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(AssertionError) as caught:
        event_samples(file, types, *examples)
    assert (file.read_bytes() if file.exists() else None) == before
    return str(caught.value)


# -- Samples that load -------------------------------------------------------------------------------------------------


def test_samples_of_all_versions_come_back_as_events_of_today(file: Path) -> None:
    samples = event_samples(file, wallets, EXAMPLE, Emptied())

    assert [sample.event for sample in samples] == [
        Paid(Money(1, "EUR")),
        Paid(Money(2, "EUR")),
        Paid(Money(4, "CHF")),
        Emptied(),
    ]
    assert samples[1] == Sample(2, "Paid", 2, {"amount": 2}, Paid(Money(2, "EUR")))
    assert file.read_text() == PAST


def test_types_are_a_class_a_union_a_stream_type_or_handlers(file: Path) -> None:
    handlers = Handlers()

    @handlers.on
    def _(event: Paid | Emptied, context: Context) -> None: ...

    assert event_samples(file, Paid | Emptied) == event_samples(file, wallets) == event_samples(file, handlers)
    file.write_text(PAST.replace('{"type":"Emptied","version":1,"data":{}}\n', ""))
    assert len(event_samples(str(file), Paid)) == 3


def test_new_examples_are_written_and_have_to_be_committed(tmp_path: Path) -> None:
    file = tmp_path / "samples" / "emptied.jsonl"
    with pytest.raises(AssertionError, match=r"1 new sample\(s\) were written to .*commit the file"):
        event_samples(file, Emptied, Emptied(), Emptied())
    assert file.read_text() == '{"type":"Emptied","version":1,"data":{}}\n'

    assert [sample.event for sample in event_samples(file, Emptied, Emptied())] == [Emptied()]


def test_new_examples_follow_on_what_is_there(file: Path) -> None:
    file.write_text(PAST.rstrip("\n"))
    with pytest.raises(AssertionError, match="were written"):
        event_samples(file, wallets, Paid(Money(5, "EUR"), "réntée"))
    added = '{"type":"wallet.paid","version":3,"data":{"amount":{"value":5,"currency":"EUR"},"note":"réntée"}}\n'
    assert file.read_text("utf-8") == PAST + added


def test_a_set_is_the_same_example_in_whichever_order_it_is_written(tmp_path: Path) -> None:
    @event(name="Tagged")
    @dataclass(frozen=True)
    class Tagged:
        tags: frozenset[str]

    file = tmp_path / "tagged.jsonl"
    lines = [f'{{"type":"Tagged","version":1,"data":{{"tags":{tags}}}}}\n' for tags in ('["a","b"]', '["b","a"]')]
    for line in lines:
        file.write_text(line)
        (sample,) = event_samples(file, Tagged, Tagged(frozenset({"a", "b"})))
        assert sample.event == Tagged(frozenset({"a", "b"}))


# -- Samples that do not load ------------------------------------------------------------------------------------------


def test_a_field_that_was_renamed_without_a_new_version_is_found(tmp_path: Path) -> None:
    @event(name="Counted")
    @dataclass(frozen=True)
    class Counted:
        number: int

    file = tmp_path / "counted.jsonl"
    file.write_text('{"type":"Counted","version":1,"data":{"count":1}}')

    found = problems(file, Counted, Counted(1))  # which does not become a second kind of version 1

    assert f"{file}:1: what version 1 of 'Counted' has stored does not load as " in found
    assert "missing required field `number`" in found
    assert "raise the version and write an upcaster" in found


def test_an_upcaster_that_fails_is_found_with_all_else(file: Path) -> None:
    broken = '{"type":"Paid","version":1,"data":{"euros":1}}\n{"type":"Paid","version":4,"data":{}}\n'
    file.write_text(broken + PAST)

    found = problems(file, wallets)

    assert "2 problem(s)" in found
    assert f"{file}:1: " in found
    assert "named_amount of Paid, from version 1 to 2, raised KeyError('cents')" in found
    assert f"{file}:2: " in found
    assert "Deploy readers first" in found


def test_a_name_that_no_class_has_any_more_is_found(file: Path) -> None:
    found = problems(file, Emptied)
    assert f"{file}:1: no class is stored as 'Paid'. Was it renamed? Say so: @event(was=['Paid'])." in found


def test_each_version_has_to_have_a_sample(file: Path) -> None:
    file.write_text('{"type":"Paid","version":2,"data":{"amount":2}}\n')

    found = problems(file, wallets, EXAMPLE)

    assert "2 problem(s)" in found
    assert "Paid, version 1, that its upcaster could be tried on. Add a line" in found
    assert '{"type":"Paid","version":1,"data":{...}}' in found
    assert "there is no sample of tests.wallets.Emptied, version 1. Give an example: " in found


# -- Wrong use ---------------------------------------------------------------------------------------------------------


def test_an_example_of_another_class_is_refused(file: Path) -> None:
    with pytest.raises(TypeError, match=r"the example Money\(.* is a Money, and the types are Paid, Emp"):
        event_samples(file, Paid | Emptied, Money(1, "EUR"))


def test_an_example_that_cannot_be_stored_is_refused(file: Path) -> None:
    with pytest.raises(EncodingError, match="amount"):
        event_samples(file, wallets, Paid("5"))  # type: ignore[arg-type]  # which is what is wrong with it


@pytest.mark.parametrize("line", ["{", "[]", '{"type":"Paid","version":"1","data":{}}', '{"type":"Paid"}', "\x00"])
def test_a_file_of_something_else_is_refused(file: Path, line: str) -> None:
    file.write_text(f"{PAST}{line}")
    with pytest.raises(ValueError, match=r"wallets.jsonl:6 is no sample: .* A line is "):
        event_samples(file, wallets)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"takes a file, such as .*events.jsonl"):
        event_samples(tmp_path, wallets)


def test_a_class_that_began_with_a_later_version_needs_no_older_samples(tmp_path: Path) -> None:
    @event(name="Late", version=4)
    @dataclass(frozen=True)
    class Late:
        pass

    @upcast(Late, 3)
    def _(data: dict[str, JSON]) -> dict[str, JSON]:
        return data

    file = tmp_path / "late.jsonl"
    file.write_text('{"type":"Late","version":3,"data":{}}\n{"type":"Late","version":4,"data":{}}\n')
    assert [sample.version for sample in event_samples(file, Late)] == [3, 4]
