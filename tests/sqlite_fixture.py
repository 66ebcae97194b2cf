"""Makes tests/fixtures/sqlite-schema-N.db, a file of the schema's version that this factfold writes.

Run it once for each new version, before the next one is written: `python -m tests.sqlite_fixture`. A file that exists
is left alone, because what earlier versions wrote is what the tests open.
"""

from __future__ import annotations

import sys
import uuid
from contextlib import suppress
from pathlib import Path

from factfold.storage._sqlite_format import MIGRATIONS
from factfold.storage.base import EMPTY, Append, Check, Head, NewEvent
from factfold.storage.sqlite import SQLite

FIXTURES = Path(__file__).parent / "fixtures"

EVENTS = (
    NewEvent(uuid.UUID(int=1).bytes, "Opened", 1, b'{"owner":"Al\xc3\xadce"}', b"{}", ("account:alice",)),
    NewEvent(uuid.UUID(int=2).bytes, "Opened", 1, b'{"owner":"Bob"}', b'{"actor":"clerk"}', ("account:bob",)),
    NewEvent(uuid.UUID(int=3).bytes, "Moved", 2, b'{"amount":"1.50"}', b"{}", ("account:alice", "account:bob")),
)
VOID = uuid.UUID(int=4).bytes


def make(path: Path) -> None:
    """Writes a log of three events, an append declared void, and a small value."""
    engine = SQLite(path).open()
    log = engine.log("default")
    log.append(Append(EVENTS, Check((), EMPTY, {})))
    late = NewEvent(VOID, "Opened", 1, b"{}", b"{}", ("account:carol",))
    log.resolve(Append((late,), Check((), Head(3, EVENTS[2].id), {})))
    log.put("snapshots", "account:alice", b"\x00\x01")
    engine.close()
    with suppress(FileNotFoundError):
        Path(f"{path}-queue").unlink()


if __name__ == "__main__":
    target = FIXTURES / f"sqlite-schema-{len(MIGRATIONS)}.db"
    if target.exists():
        sys.exit(f"{target} exists; what earlier versions wrote is not written again")
    make(target)
