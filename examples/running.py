"""Runs an example on the url of its command line, or on a SQLite file that is gone afterwards."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from factfold import FactfoldError, Store


def run(name: str, story: Callable[[str], None], about: str, arguments: Sequence[str] | None = None) -> int:
    """Has the example tell its story on a store at this url. Returns the exit status: 2 when the input is wrong."""
    parser = ArgumentParser(prog=f"python -m examples.{name}", description=about)
    parser.add_argument(
        "url", nargs="?", help="an empty place, sqlite:///new.db for example (default: a temporary one)"
    )
    url = parser.parse_args(arguments).url
    try:
        if url is None:
            with TemporaryDirectory(prefix=f"{name}-") as directory:
                story(f"sqlite:///{Path(directory) / name}.db")
        else:
            with Store(url) as store:
                if events := store.head():
                    parser.error(
                        f"{url} holds {events} events already, and the story begins with none: give a new place"
                    )
            story(url)
    except FactfoldError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0
