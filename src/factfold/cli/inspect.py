"""Looks into a store without knowing its stream types: `streams`, `show`, `log` and `verify`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from factfold import Store
from factfold.cli.output import (
    EVENT,
    POSITION,
    RECORDED,
    STREAMS,
    TYPE,
    VERSION,
    Column,
    as_json,
    fail,
    listing,
    printable,
    recorded_at,
)
from factfold.events import check_category
from factfold.storage import Inspectable, Storage, open_storage
from factfold.storage.memory import Memory
from factfold.storage.sqlite import SQLite

NAMED = 5
"""How many namespaces are named where the one that is asked for is none of them."""


def streams(url: str, namespace: str, category: str | None) -> None:
    """Lists the streams of a category, or all."""
    if category is not None:
        check_category(category, system=category.startswith("$"))
    with _opened(url, namespace) as store:
        rows = ((one.id, str(one.version), str(one.position)) for one in store.streams(category))
        listing((Column("stream"), VERSION, Column("last position", number=True)), rows)


def show(url: str, namespace: str, stream: str) -> None:
    """Shows the events of one stream, in order of version."""
    with _opened(url, namespace) as store:
        events = store.log(stream=stream)
        first = next(events, None)
        if first is None:
            name = open_storage(url).name  # the url without a password
            fail(f"{name} has no stream {stream!r}. `factfold streams {name}` lists those it has.")
        rows = (
            (str(one.streams[stream]), str(one.position), recorded_at(one), one.type, as_json(one.event))
            for one in chain((first,), events)
        )
        listing((VERSION, POSITION, RECORDED, TYPE, EVENT), rows)


def log(url: str, namespace: str, after: int, limit: int | None) -> None:
    """Shows events in order of position, each with its versions in the streams that it belongs to."""
    with _opened(url, namespace) as store:
        rows = (
            (
                str(one.position),
                recorded_at(one),
                one.type,
                ", ".join(f"{stream} v{version}" for stream, version in one.streams.items()),
                as_json(one.event),
            )
            for one in store.log(after=after, limit=limit)
        )
        listing((POSITION, RECORDED, TYPE, STREAMS, EVENT), rows)


def verify(url: str, namespace: str) -> bool:
    """Prints what is wrong with the log, or that nothing is."""
    with _opened(url, namespace) as store:
        report = store.verify()
    for problem in report.problems:
        print(printable(problem))
    found = "whole" if report.ok else f"{len(report.problems)} problem(s)"
    own = f", and {report.system_events:,} of factfold's own" if report.system_events else ""
    print(f"{found}: {report.events:,} events in {report.streams:,} streams{own}")
    return report.ok


@contextmanager
def _opened(url: str, namespace: str) -> Generator[Store]:
    with Store(existing(url, namespace), namespace=namespace) as store:
        yield store


def existing(url: str, namespace: str) -> Storage:
    """The storage behind a url, if there is something to look into: looking must make no database and no namespace."""
    storage = open_storage(url)
    if isinstance(storage, Memory):
        fail("memory: lives and ends with its process, there is nothing in it to look into")
    if isinstance(storage, SQLite):
        path = Path(storage.path)
        if not path.is_file():
            fail(f"{url}: there is no file {str(path)!r}")
        if not path.stat().st_size:
            fail(f"{url}: the file {str(path)!r} is empty, no store has used it yet")
    if isinstance(storage, Inspectable) and namespace not in (present := storage.namespaces()):
        others = ", ".join(map(repr, present[:NAMED])) + (f" and {len(present) - NAMED} more" * (len(present) > NAMED))
        fail(f"{storage.name} has no namespace {namespace!r}, it has {others or 'none at all'}")
    return storage
