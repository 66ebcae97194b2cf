"""`factfold migrate`: makes the tables of a store or brings them up to date, or prints the SQL that does."""

from __future__ import annotations

from factfold.cli.output import fail
from factfold.storage import open_storage
from factfold.storage.postgres import Postgres


def migrate(url: str) -> None:
    """Makes what is missing, as opening a store does."""
    storage = open_storage(url)
    storage.open().close()
    print(f"{storage.name} is up to date.")


def print_sql(url: str) -> None:
    """Prints the SQL, and connects to nothing."""
    storage = open_storage(url)
    if not isinstance(storage, Postgres):
        fail(f"{storage.name}: there is no SQL to print, the tables are made when it is opened. Leave out --sql.")
    print(storage.sql(), end="")
