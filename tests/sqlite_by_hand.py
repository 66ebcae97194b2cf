"""Another program that works on a SQLite file of factfold's, past factfold."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path


@contextmanager
def by_hand(path: Path) -> Generator[sqlite3.Connection]:
    """A connection to the file; closed afterwards."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection
