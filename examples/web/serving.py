"""What the services are told on their command lines."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    path: Path
    host: str
    port: int
    workers: int


def options_of(name: str, arguments: Sequence[str] | None = None) -> Options:
    """The options. Ends the process with a message where they cannot be."""
    parser = ArgumentParser(prog=f"python -m examples.{name}", description="Serves a bank over HTTP.")
    parser.add_argument("path", nargs="?", type=Path, default=Path("bank.db"), help="a SQLite file (bank.db)")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="the port; 0 takes a free one (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="how many processes (%(default)s)")
    given = parser.parse_args(arguments)
    if given.workers < 1:
        parser.error(f"--workers {given.workers}: at least one process has to do the work")
    if not given.path.absolute().parent.is_dir():
        parser.error(f"{given.path}: there is no such directory, make it first")
    return Options(given.path, given.host, given.port, given.workers)
