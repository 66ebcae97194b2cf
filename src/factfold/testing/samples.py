"""Samples of what event classes have ever stored, in a file beside the tests, and the proof that they still load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar, cast, overload

import msgspec
from msgspec import Struct

from factfold.annotations import describe, show
from factfold.codec import EventType
from factfold.events import JSON
from factfold.reading import event_types_by_name
from factfold.streams import StreamType

S = TypeVar("S")
E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)


class Sample(Struct, Generic[E_co], frozen=True):
    """What was stored once: under which type name, by which version of its class, as which JSON. And that as an event.

    `line` is where it stands in the file, 1-based.
    """

    line: int
    type: str
    version: int
    data: JSON
    event: E_co


@overload
def event_samples(path: str | Path, types: StreamType[S, E], /, *examples: E) -> tuple[Sample[E], ...]: ...
@overload
def event_samples(path: str | Path, types: type[E], /, *examples: E) -> tuple[Sample[E], ...]: ...
@overload
def event_samples(path: str | Path, types: object, /, *examples: object) -> tuple[Sample[object], ...]: ...


def event_samples(path: str | Path, types: object, /, *examples: object) -> tuple[Sample[object], ...]:
    """Proves that all samples in a file still load, and adds the examples that are not in it yet.

    The file has a sample in each line, as JSON: `{"type":"Deposited","version":1,"data":{"amount":5}}`. It belongs to
    the repository. An example that is new is written to it, and the test fails once, so that nobody forgets to commit
    it. Nothing of the file is ever changed or removed: when a class changes, its older samples have to load still.

    Args:
        path: of the file, whose name best ends in `.jsonl`.
        types: an event class, a union of them, a stream type, or handlers. Each class needs a sample of its version,
            and of each version that it has an upcaster from.
        examples: events of these classes, which are the same in every run.

    Returns:
        The samples as they stand in the file, with their events: to be compared with what they mean.

    Raises:
        AssertionError: a sample does not load, or is missing, or was written.
        TypeError, ValueError: an example of another class; a file that holds something else.
        EncodingError: an example that cannot be stored.
    """
    file = Path(path)
    by_name = event_types_by_name(types)
    known = tuple(dict.fromkeys(by_name.values()))
    new_lines = [_written(example, known) for example in examples]
    stored = list(_stored(file))
    samples: list[Sample[object]] = []
    problems: list[str] = []
    for line, one in stored:
        try:
            samples.append(_loaded(line, one, by_name.get(one.type)))
        except _LoadError as error:
            problems.append(f"{file}:{line}: {error}")
    there = {_key(one) for _, one in stored}
    added = {_key(one): one for one in new_lines if _key(one) not in there}
    problems += _missing(known, [one for _, one in stored] + [*added.values()])
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise AssertionError(f"event_samples: {len(problems)} problem(s) with {file}:\n{listed}")
    if added:
        _append(file, [*added.values()])
        raise AssertionError(
            f"event_samples: {len(added)} new sample(s) were written to {file}. Look at them, commit the file, and run "
            "the tests again. (If this comes in every run: give examples that are the same each time.)"
        )
    return tuple(samples)


# -- The file ----------------------------------------------------------------------------------------------------------


class _Line(Struct, frozen=True):
    type: str
    version: int
    data: msgspec.Raw


_parse = msgspec.json.Decoder(_Line).decode


def _stored(file: Path) -> Iterator[tuple[int, _Line]]:
    if file.is_dir():
        raise ValueError(f"event_samples takes a file, such as {file / 'events.jsonl'}, and {file} is a directory.")
    if not file.exists():
        return
    for number, text in enumerate(file.read_bytes().split(b"\n"), 1):
        if text.strip():
            try:
                yield number, _parse(text)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ValueError(
                    f"{file}:{number} is no sample: {error}. A line is "
                    '{"type":"Deposited","version":1,"data":{"amount":5}}.'
                ) from error


def _append(file: Path, lines: Sequence[_Line]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    before = file.read_bytes() if file.exists() else b""
    gap = b"" if not before or before.endswith(b"\n") else b"\n"
    file.write_bytes(before + gap + b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def _key(line: _Line) -> tuple[str, int, bytes]:
    """The same for samples whose JSON is the same, however it is spelled, and in whichever order a set was written."""
    return line.type, line.version, _in_order(msgspec.json.decode(line.data))


def _in_order(value: object) -> bytes:
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)  # of a JSON object
        value = {key: msgspec.Raw(_in_order(item)) for key, item in members.items()}
    elif isinstance(value, list):
        items = cast("list[object]", value)  # of a JSON array
        value = [msgspec.Raw(item) for item in sorted(_in_order(item) for item in items)]
    return msgspec.json.encode(value, order="deterministic")


def _written(example: object, known: Sequence[EventType]) -> _Line:
    its = next((one for one in known if one.cls is type(example)), None)
    if its is None:
        classes = ", ".join(one.cls.__qualname__ for one in known)
        raise TypeError(
            f"event_samples: the example {example!r} is a {show(type(example))}, and the types are {classes}. Give "
            "events of these classes: event_samples(path, accounts, Opened('ann'), Deposited(5))."
        )
    data, _ = its.encode(example)
    return _Line(its.name, its.version, msgspec.Raw(data))


# -- What is asked of it -----------------------------------------------------------------------------------------------


class _LoadError(Exception):
    """Why a sample does not load."""


def _loaded(number: int, line: _Line, its: EventType | None) -> Sample[object]:
    if its is None:
        raise _LoadError(
            f"no class is stored as {line.type!r}. Was it renamed? Say so: @event(was=[{line.type!r}]). What no log "
            "holds any more may be removed from the file"
        )
    try:
        event = its.read(bytes(line.data), line.version)
    except Exception as error:
        raise _LoadError(
            f"what version {line.version} of {line.type!r} has stored does not load as {describe(its.cls)}, version "
            f"{its.version}: {error}. Logs hold such events: give new fields defaults, or raise the version and write "
            f"an upcaster, @upcast({its.cls.__qualname__}, {line.version})"
        ) from error
    data = cast("JSON", msgspec.json.decode(line.data))  # whatever JSON it is
    return Sample(number, line.type, line.version, data, event)


def _missing(known: Sequence[EventType], lines: Sequence[_Line]) -> Iterator[str]:
    for its in known:
        there = {line.version for line in lines if line.type in its.names}
        for version in its.versions:
            if version in there:
                continue
            if version == its.version:
                yield (
                    f"there is no sample of {describe(its.cls)}, version {version}. Give an example: "
                    f"event_samples(path, types, {its.cls.__qualname__}(...))"
                )
            else:
                yield (
                    f"there is no sample of {describe(its.cls)}, version {version}, that its upcaster could be tried "
                    f"on. Add a line with what that version has stored (`factfold log` shows it): "
                    f'{{"type":"{its.names[-1]}","version":{version},"data":{{...}}}}'
                )
