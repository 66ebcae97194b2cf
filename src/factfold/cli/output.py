"""How commands print: tables on a terminal, plain lines with tabs when piped, and each error in one line."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NoReturn

import msgspec
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from factfold.errors import FactfoldError
from factfold.events import RecordedEvent

BAD_INPUT = 2
"""The exit status when a command cannot do what it is asked for; 1 is for a check that failed."""

ROWS_PER_TABLE = 500
"""A table's columns are as wide as its rows need: a long listing becomes several tables, so that memory stays small."""


class Column:
    """The head of a column, and whether it holds numbers."""

    def __init__(self, title: str, *, number: bool = False) -> None:
        self.title = title
        self.number = number


POSITION = Column("position", number=True)
VERSION = Column("version", number=True)
RECORDED = Column("recorded at (UTC)")
TYPE = Column("type")
STREAMS = Column("streams")
EVENT = Column("event")


def listing(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> int:
    """Prints rows as they come, and returns how many there were."""
    console = Console()
    return _tables(console, columns, iter(rows)) if console.is_terminal else _lines(rows)


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Table:
    """The rows as one table; what they hold is shown as it is, never taken as markup."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column.title, justify="right" if column.number else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    return made


def recorded_at(recorded: RecordedEvent[object]) -> str:
    """When an event was recorded, to the millisecond."""
    return recorded.recorded_at.replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")


def as_json(value: object) -> str:
    """A value as one line of JSON."""
    return msgspec.json.encode(value).decode()


def printable(text: str) -> str:
    """The text with everything escaped that could move a terminal's cursor or turn its direction."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def one_line_errors() -> Generator[None]:
    """Turns what a store or the system reports into one line, and exit status 2."""
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read the output has seen enough: typer ends in silence
    except (FactfoldError, OSError) as error:
        fail(str(error))


def fail(reason: str) -> NoReturn:
    """Ends the command because it cannot do what it is asked for."""
    print("factfold:", printable(" ".join(reason.split())), file=sys.stderr)
    raise typer.Exit(BAD_INPUT)


def _tables(console: Console, columns: Sequence[Column], rows: Iterator[Sequence[str]]) -> int:
    count = 0
    while some := list(islice(rows, ROWS_PER_TABLE)):
        console.print(table(columns, some))
        count += len(some)
    return count


def _lines(rows: Iterable[Sequence[str]]) -> int:
    count = 0
    for row in rows:
        print(*map(printable, row), sep="\t")
        count += 1
    return count
