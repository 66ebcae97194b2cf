"""The migrations of the schema in PostgreSQL, as SQL; the driver is not needed to read them."""

from __future__ import annotations

import re
from importlib import resources

MIGRATIONS = (
    ("postgres_1_tables", "postgres_1_answers", "postgres_1_writing", "postgres_1_reading"),
    ("postgres_2_values", "postgres_2_transactions", "postgres_2_writing"),
    ("postgres_3_writing",),
)
"""The files of each migration, in order."""

VERSION = len(MIGRATIONS)
"""The version of the schema that this factfold works with."""


def quoted(name: str) -> str:
    """An identifier as it stands in SQL."""
    return '"' + name.replace('"', '""') + '"'


def migration(schema: str, version: int) -> str:
    """The SQL that brings a schema from the version before to this one."""
    folder = resources.files("factfold.storage")
    source = "\n".join(folder.joinpath(f"{file}.sql").read_text("utf-8") for file in MIGRATIONS[version - 1])
    name = quoted(schema)
    moved = re.sub(r"\bfactfold\.(?=\w)", lambda _: f"{name}.", source)
    return f"{moved}\nINSERT INTO {name}.migrations (version) VALUES ({version});\n"


def script(schema: str) -> str:
    """The SQL that an empty or an older database needs, to be run by hand; and the rights of a role, as comments."""
    name = quoted(schema)
    parts = [_unless_done(schema, version) for version in range(1, VERSION + 1)]
    return "\n".join(
        [
            "BEGIN;",
            f"CREATE SCHEMA IF NOT EXISTS {name};",
            "",
            *parts,
            "COMMIT;",
            "",
            "-- What the role of an application needs:",
            f"-- GRANT USAGE ON SCHEMA {name} TO application;",
            f"-- GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA {name} TO application;",
            f"-- GRANT UPDATE ON {name}.namespaces TO application;  -- for the writers' lock",
            f"-- GRANT UPDATE, DELETE ON {name}.places TO application;",
            "",
        ]
    )


def _unless_done(schema: str, version: int) -> str:
    """The migration to a version, for a schema that may have it already."""
    table = f"{quoted(schema)}.migrations"
    is_missing = f"to_regclass('{table}') IS NULL"
    if version > 1:
        is_missing = f"NOT EXISTS (SELECT FROM {table} WHERE version = {version})"
    return f"""DO $factfold$ BEGIN IF {is_missing} THEN EXECUTE $migration$
{migration(schema, version)}$migration$; END IF; END $factfold$;
"""
