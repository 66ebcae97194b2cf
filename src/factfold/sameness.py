"""Whether what came back from JSON is what was stored, where `==` says no although it is.

A time in a zone that turns its clocks back is, in the hour that comes twice, unequal to every time in another zone
(PEP 495), and so to itself with a fixed offset, as which it comes back. Such times are compared in UTC.
"""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# (to pyright, what isinstance finds out about an object is a container of unknown things)

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from factfold.records import record_of


def same(before: object, after: object) -> bool:
    """Whether two values are equal, with their times taken as moments. What `==` raises passes through."""
    return bool(before == after) or bool(_in_utc(before) == _in_utc(after))


def _in_utc(value: object) -> object:
    """Something that is equal for equal values, at whatever offset from UTC their times are told."""
    if isinstance(value, datetime):
        return value if value.utcoffset() is None else value.astimezone(UTC)
    if isinstance(value, Mapping):
        return {_in_utc(key): _in_utc(item) for key, item in value.items()}
    record = record_of(type(value))
    if record is not None and record.kind != "namedtuple":
        return type(value), tuple([_in_utc(getattr(value, field, None)) for field in record.fields])
    if isinstance(value, (tuple, list)):
        return (isinstance(value, tuple), *map(_in_utc, value))
    if isinstance(value, frozenset):
        return frozenset(map(_in_utc, value))
    return value
