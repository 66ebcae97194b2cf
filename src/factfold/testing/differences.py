"""How values are shown when a test fails: one line each, or one for each field, and what differs between two lists."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import ndiff
from pprint import pformat

from factfold.records import record_of
from factfold.sameness import same

WIDTH = 100
"""How many characters of a value stand in one line."""

INDENT = "    "


def all_same(expected: Sequence[object], actual: Sequence[object]) -> bool:
    """Whether two lists are equal, one by one, with times compared as moments."""
    return len(expected) == len(actual) and all(map(same, expected, actual))


def lines_of(value: object) -> list[str]:
    """A value as a line of text; a long one with a line for each field."""
    text = repr(value)
    if len(text) <= WIDTH and "\n" not in text:
        return [text]
    record = record_of(type(value))
    if record is None:
        return pformat(value, width=WIDTH).splitlines()
    lines = [f"{type(value).__name__}("]
    for field in record.fields:
        first, *rest = lines_of(getattr(value, field))
        lines += [f"{INDENT}{line}" for line in (f"{field}={first}", *rest)]
        lines[-1] += ","
    return [*lines, ")"]


def listed(values: Sequence[object]) -> str:
    """Values, indented, each on lines of its own."""
    return "\n".join(f"{INDENT}{line}" for value in values for line in lines_of(value))


def difference(expected: Sequence[object], actual: Sequence[object]) -> str:
    """Both lists in one: `-` stands before what was expected only, `+` before what was found only."""
    before = [line for value in expected for line in lines_of(value)]
    after = [line for value in actual for line in lines_of(value)]
    return line_difference(before, after)


def line_difference(expected: Sequence[str], actual: Sequence[str]) -> str:
    """`difference`, for what is text already."""
    shown = "\n".join(line.rstrip() for line in ndiff(expected, actual))
    if expected == actual:
        shown += "\n(They look the same, and are not equal: compare the classes of their fields.)"
    return shown
