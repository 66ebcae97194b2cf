"""The bare loops: the least that has to be done to record the same events, without any library between."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.bank import Deposited
from benchmarks.harness import Measured, WrongDataError

_SCHEMA = """
CREATE TABLE events (
    position INTEGER PRIMARY KEY, id BLOB NOT NULL, type TEXT NOT NULL, type_version INTEGER NOT NULL,
    data TEXT NOT NULL, metadata TEXT NOT NULL, recorded_at INTEGER NOT NULL, streams TEXT NOT NULL
);
CREATE TABLE memberships (
    stream TEXT NOT NULL, version INTEGER NOT NULL, position INTEGER NOT NULL, type TEXT NOT NULL,
    PRIMARY KEY (stream, version)
) WITHOUT ROWID;
"""
_VERSION = "SELECT version FROM memberships WHERE stream = ? ORDER BY version DESC LIMIT 1"
_EVENT = "INSERT INTO events VALUES (NULL, ?, 'Deposited', 1, ?, '{}', ?, ?)"
_MEMBERSHIP = "INSERT INTO memberships VALUES (?, ?, ?, 'Deposited')"
_LOG = "SELECT position, id, type, type_version, data, metadata, recorded_at, streams FROM events ORDER BY position"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Deposited).decode


def connect(path: Path) -> sqlite3.Connection:
    """An empty log: one table of events, and one of what stream has which; durable, as factfold's is by default."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(_SCHEMA)
    return connection


def append(connection: sqlite3.Connection, stream: str, id: bytes, data: str) -> None:
    """One event at the end of one stream."""
    found = connection.execute(_VERSION, (stream,)).fetchone()
    version = found[0] + 1 if found is not None else 1
    event = connection.execute(_EVENT, (id, data, time.time_ns() // 1000, f'{{"{stream}":{version}}}'))
    connection.execute(_MEMBERSHIP, (stream, version, event.lastrowid))


def write(directory: Path, ids: Sequence[str], seconds: float, *, before: int = 0) -> Measured:
    """Deposits into these accounts in turns, one transaction for each, for so long; so many before it is measured."""
    streams = [f"account:{id}" for id in ids]
    latencies: list[float] = []
    with closing(connect(directory / "bare.db")) as connection:

        def commit(number: int) -> None:
            connection.execute("BEGIN IMMEDIATE")
            append(connection, streams[number % len(streams)], number.to_bytes(16, "big"), '{"amount":1}')
            connection.execute("COMMIT")

        for number in range(before):
            commit(number)
        began = last = time.perf_counter()
        while last < began + seconds:
            commit(before + len(latencies))
            now = time.perf_counter()
            latencies.append(now - last)
            last = now
        (written,) = connection.execute("SELECT count(*) FROM events").fetchone()
    if written != before + len(latencies):
        raise WrongDataError(f"The bare loop has {written:,} events, after {before + len(latencies):,} commits")
    return Measured(len(latencies), last - began, latencies)


def fill(connection: sqlite3.Connection, ids: Sequence[str], events: int) -> None:
    """So many deposits of 1 into these accounts, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    for number in range(events):
        append(connection, f"account:{ids[number % len(ids)]}", number.to_bytes(16, "big"), '{"amount":1}')
    connection.execute("COMMIT")


def read(connection: sqlite3.Connection) -> Iterator[tuple[tuple[Any, ...], Deposited]]:
    """All events, decoded, and the rows that they came in."""
    for row in connection.execute(_LOG):
        yield row, _decode(row[4])


def write_in_memory(ids: Sequence[str], commands: int) -> Measured:
    """Deposits that only go into a list and a dictionary, encoded and decoded as factfold does it."""
    log: list[tuple[int, str, bytes]] = []
    states = dict.fromkeys(ids, 0)
    latencies: list[float] = []
    began = before = time.perf_counter()
    for number in range(commands):
        id = ids[number % len(ids)]
        data = _encode(Deposited(1))
        states[id] += _decode(data).amount
        log.append((number, id, data))
        now = time.perf_counter()
        latencies.append(now - before)
        before = now
    if len(log) != commands or sum(states.values()) != commands:
        raise WrongDataError(f"The bare loop has {len(log):,} events, after {commands:,} commands")
    return Measured(commands, before - began, latencies)
