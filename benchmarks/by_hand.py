"""The bank by hand: commands in batches on PostgreSQL, made for this one benchmark, with nothing that a library needs.

It is the least that has the shape of ours: commands that wait are decided one after another on cached states, and one
function call appends what all of them wrote, if the log's head has not moved. There are no types, views, receipts,
contexts or errors, nothing is loaded, and nobody else may write. So it says what the shape is worth on a machine.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import msgspec
import psycopg

from benchmarks.bank import Deposited, Withdrawn
from benchmarks.callers import MONEY, Work, at_once, move
from benchmarks.harness import Measured, WrongDataError

_SCHEMA = """
CREATE TABLE log (id integer PRIMARY KEY);
INSERT INTO log VALUES (1);
CREATE TABLE events (
    position bigint PRIMARY KEY, id uuid NOT NULL, type text NOT NULL, type_version integer NOT NULL,
    data jsonb NOT NULL, metadata jsonb NOT NULL, recorded_at timestamptz NOT NULL, streams text NOT NULL
);
CREATE TABLE memberships (
    stream text, version bigint, position bigint NOT NULL, type text NOT NULL, PRIMARY KEY (stream, version)
);
CREATE FUNCTION append(
    expected bigint, ids uuid[], types text[], data text[], streams text[], members text[], versions bigint[]
) RETURNS bigint LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    head bigint;
BEGIN
    PERFORM FROM log WHERE id = 1 FOR UPDATE;
    SELECT position INTO head FROM events ORDER BY position DESC LIMIT 1;
    head := coalesce(head, 0);
    IF head <> expected THEN
        RETURN NULL;
    END IF;
    INSERT INTO events (position, id, type, type_version, data, metadata, recorded_at, streams)
    SELECT head + e.index, e.id, e.type, 1, e.data::jsonb, '{}', clock_timestamp(), e.streams
    FROM (
        SELECT unnest(ids) AS id, unnest(types) AS type, unnest(data) AS data, unnest(streams) AS streams,
            generate_subscripts(ids, 1) AS index
    ) AS e;
    INSERT INTO memberships (stream, version, position, type)
    SELECT m.stream, m.version, head + m.index, m.type
    FROM (
        SELECT unnest(members) AS stream, unnest(versions) AS version, unnest(types) AS type,
            generate_subscripts(members, 1) AS index
    ) AS m;
    RETURN head;
END
$$;
"""
_APPEND = "SELECT append(%s, %s, %s, %s, %s, %s, %s)"

_to_json = msgspec.json.encode
_deposited = msgspec.json.Decoder(Deposited).decode
_withdrawn = msgspec.json.Decoder(Withdrawn).decode

_Balance: TypeAlias = tuple[int, int]
"""The version of an account, and what it holds."""


@dataclass(slots=True)
class _Batch:
    """The accounts as the commands so far have left them, and what these wrote."""

    known: dict[str, _Balance]
    changed: dict[str, _Balance]
    types: list[str]
    data: list[str]
    members: list[str]
    versions: list[int]

    def read(self, id: str) -> int:
        found = self.changed.get(id)
        if found is None:
            found = self.changed[id] = self.known.get(id, (0, 0))
        return found[1]

    def append(self, id: str, type: str, data: bytes, amount: int) -> int:
        version, balance = self.changed[id]
        self.changed[id] = version + 1, balance + amount
        self.types.append(type)
        self.data.append(data.decode())
        self.members.append(id)
        self.versions.append(version + 1)
        return balance + amount


def _put(batch: _Batch, id: str, other: str) -> int:
    batch.read(id)
    data = _to_json(Deposited(1))
    return batch.append(id, "Deposited", data, _deposited(data).amount)


def _move(batch: _Batch, source: str, target: str) -> int:
    batch.read(target)
    if batch.read(source) < 1:
        raise WrongDataError(f"{source} is empty, and no benchmark lets that happen")
    data = _to_json(Withdrawn(1))
    left = batch.append(source, "Withdrawn", data, -_withdrawn(data).amount)
    data = _to_json(Deposited(1))
    batch.append(target, "Deposited", data, _deposited(data).amount)
    return left


_Waiting: TypeAlias = tuple[Callable[[_Batch, str, str], int], str, str, "asyncio.Future[int]"]


class _Bank:
    """Decides what waits, in batches, by a task that lives as long as there is something."""

    def __init__(self, connection: psycopg.AsyncConnection[tuple[int | None]]) -> None:
        self._connection = connection
        self._accounts: dict[str, _Balance] = {}
        self._head = 0
        self._waiting: list[_Waiting] = []
        self._leader: asyncio.Task[None] | None = None

    async def execute(self, command: Callable[[_Batch, str, str], int], id: str, other: str) -> int:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[int] = loop.create_future()
        self._waiting.append((command, id, other, answer))
        if self._leader is None:
            self._leader = loop.create_task(self._lead())
        return await answer

    async def _lead(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            batch = _Batch(self._accounts, {}, [], [], [], [])
            results = [(answer, command(batch, id, other)) for command, id, other, answer in waiting]
            await self._append(batch)
            for answer, result in results:
                answer.set_result(result)
            await asyncio.sleep(0)
        self._leader = None

    async def _append(self, batch: _Batch) -> None:
        ids = [UUID(bytes=os.urandom(16)) for _ in batch.types]
        streams = [f'{{"{id}":{version}}}' for id, version in zip(batch.members, batch.versions, strict=True)]
        values = (self._head, ids, batch.types, batch.data, streams, batch.members, batch.versions)
        async with self._connection.cursor(binary=True) as cursor:
            await cursor.execute(_APPEND, values, prepare=True)
            if await cursor.fetchone() != (self._head,):
                raise WrongDataError(f"somebody else wrote after {self._head:,}")
        self._head += len(ids)
        self._accounts.update(batch.changed)


def in_tasks(url: str, work: Work, callers: int, seconds: float) -> Measured:
    """The same work as `callers.in_tasks`, in a database that no other has used."""
    return asyncio.run(_in_tasks(url, work, callers, seconds))


async def _in_tasks(url: str, work: Work, callers: int, seconds: float) -> Measured:
    command = _move if work.command is move else _put
    async with await psycopg.AsyncConnection[tuple[int | None]].connect(url, autocommit=True) as connection:
        await connection.execute(_SCHEMA, prepare=False)
        bank = _Bank(connection)
        bank._accounts.update(dict.fromkeys(work.ids, (0, MONEY)))
        measured = await at_once(lambda *given: bank.execute(command, *given), work, callers, seconds)
        written = await (await connection.execute("SELECT count(*) FROM memberships")).fetchone()
    if written != (measured.commands * (2 if command is _move else 1),):
        raise WrongDataError(f"The bank by hand has {written} memberships, after {measured.commands:,} commands")
    return measured
