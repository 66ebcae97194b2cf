"""Callers that execute commands while the world around them breaks; and whether what they were told is in the log."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from factfold import (
    AsyncStore,
    ConflictError,
    FactfoldError,
    OutcomeUnknownError,
    Receipt,
    Store,
    StoreUnavailableError,
    Transaction,
    event,
    stream,
)
from factfold.storage.base import Storage
from tests.looping import LoopThread

PATIENCE = 60.0
"""Seconds after which callers that get nothing done are a failure: servers crash and recover meanwhile."""

CALLERS = 16


@event(name="outcomes.noted")
@dataclass(frozen=True)
class Noted:
    """Something that only one command, in one of its runs, has written: `token` is its own."""

    token: str


@stream("outcomes", initial=0)
def notes(state: int, event: Noted) -> int:
    """How many notes there are."""
    return state + 1


def note(tx: Transaction, token: str, *ids: str) -> tuple[int, ...]:
    """Writes one note into one or several streams; how many each of them had before."""
    views = tx.read([notes(id) for id in ids])
    before = tuple(view.state for view in views)
    tx.append(Noted(token), *views)
    return before


@dataclass
class Told:
    """What callers were told of their commands, by token; `done` counts those that were told that it is done."""

    acknowledged: dict[str, Receipt[tuple[int, ...]]] = field(default_factory=dict)
    failed: dict[str, StoreUnavailableError | ConflictError] = field(default_factory=dict)
    unknown: dict[str, OutcomeUnknownError] = field(default_factory=dict)
    unexpected: list[BaseException] = field(default_factory=list)

    def take(self, token: str, outcome: Receipt[tuple[int, ...]] | BaseException) -> None:
        match outcome:
            case Receipt():
                self.acknowledged[token] = outcome
            case OutcomeUnknownError():
                self.unknown[token] = outcome
            case StoreUnavailableError() | ConflictError():  # attempts that broke count, too
                self.failed[token] = outcome
            case _:
                self.unexpected.append(outcome)

    @property
    def troubles(self) -> int:
        """How many commands did not go well."""
        return len(self.failed) + len(self.unknown)

    def check(self, storage: Storage, namespace: str = "default") -> None:
        """Every acknowledged command is in the log once, where it was told; no failed one is; of the rest, none twice.

        To be called when nothing can be under way any more.
        """
        for error in self.unexpected:
            raise AssertionError("a command failed as none should") from error
        found: dict[str, list[int]] = {}
        versions: dict[str, list[tuple[int, ...]]] = {}
        with Store(storage, namespace=namespace) as store:
            report = store.verify(notes)
            assert report.ok, report
            for recorded in store.log(types=notes):
                found.setdefault(recorded.event.token, []).append(recorded.position)
                versions.setdefault(recorded.event.token, []).append(tuple(recorded.streams.values()))
        twice = {token: positions for token, positions in found.items() if len(positions) > 1}
        assert not twice, f"these are in the log more than once: {twice}"
        lost = self.acknowledged.keys() - found.keys()
        assert not lost, f"these were acknowledged, and are not in the log: {lost}"
        risen = self.failed.keys() & found.keys()
        assert not risen, f"these were reported as failed, and are in the log: {risen}"
        strangers = found.keys() - self.acknowledged.keys() - self.unknown.keys()
        assert not strangers, f"these nobody has written: {strangers}"
        for token, receipt in self.acknowledged.items():
            assert [receipt.position] == found[token], f"{token} was told another position"
            before = tuple(version - 1 for version in versions[token][0])
            assert sorted(receipt.result) == sorted(before), f"{token} was decided on a state that never was"


class Callers:
    """Callers that execute one command after another until they are stopped; half of them on each of two stores."""

    def __init__(self) -> None:
        self.told = Told()
        self.over = threading.Event()

    def go_on(self, count: int = 2 * CALLERS) -> None:
        """Returns when so many more commands were acknowledged than when it was called."""
        goal = len(self.told.acknowledged) + count
        self.wait(lambda: len(self.told.acknowledged) >= goal, f"{count} more acknowledged commands")

    def get_in_trouble(self, count: int = 1) -> None:
        """Returns when so many more commands have failed, or are of unknown outcome."""
        goal = self.told.troubles + count
        self.wait(lambda: self.told.troubles >= goal, f"{count} more commands that fail")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self.told.unexpected:
                raise AssertionError("a command failed as none should") from self.told.unexpected[0]
            if time.monotonic() > deadline:
                last = [*self.told.failed.values(), *self.told.unknown.values()][-1:]
                raise TimeoutError(f"{what}: not within {PATIENCE} s; {len(self.told.acknowledged)} so far, {last}")
            time.sleep(0.002)


def commands(caller: int) -> Iterable[tuple[str, tuple[str, ...]]]:
    """What a caller writes: a token that nobody else has, and the streams, of which others write to some."""
    number = 0
    while True:
        token = f"{caller}/{number}"
        own, neighbour = f"own-{caller}", f"own-{(caller + 1) % CALLERS}"
        yield token, ((own,), ("hot",), (own, neighbour), (own, "hot"))[number % 4]
        number += 1


@contextmanager
def callers(flavour: str, storage: Storage, **options: Any) -> Generator[Callers]:
    """Callers at work, in "threads" or as tasks of a "loop". At the end they stop, and all stores are closed."""
    with (_threads if flavour == "threads" else _tasks)(storage, options) as working:
        yield working


@contextmanager
def _threads(storage: Storage, options: dict[str, Any]) -> Generator[Callers]:
    working = Callers()

    def work(store: Store, caller: int) -> None:
        for token, ids in commands(caller):
            if working.over.is_set():
                return
            try:
                working.told.take(token, store.execute(note, token, *ids))
            except BaseException as error:
                working.told.take(token, error)
                working.over.wait(0.005)  # a server that is away refuses thousands a second

    with ExitStack() as stack:
        stores = [stack.enter_context(Store(storage, **options)) for _ in range(2)]
        threads = [
            threading.Thread(target=work, args=(stores[number % 2], number), daemon=True) for number in range(CALLERS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield working
        finally:
            working.over.set()
            for thread in threads:
                thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads), "a call hangs"


@contextmanager
def _tasks(storage: Storage, options: dict[str, Any]) -> Generator[Callers]:
    working = Callers()

    async def work(store: AsyncStore, caller: int) -> None:
        for token, ids in commands(caller):
            if working.over.is_set():
                return
            try:
                working.told.take(token, await store.execute(note, token, *ids))
            except FactfoldError as error:
                working.told.take(token, error)
                await asyncio.sleep(0.005)  # as above

    async def work_all() -> None:
        async with AsyncStore(storage, **options) as one, AsyncStore(storage, **options) as other:
            await asyncio.gather(*(work((one, other)[number % 2], number) for number in range(CALLERS)))

    with LoopThread() as loop:
        work_in_loop = asyncio.run_coroutine_threadsafe(work_all(), loop.loop)
        work_in_loop.add_done_callback(lambda _: working.over.set())
        try:
            yield working
        finally:
            working.over.set()
            work_in_loop.result(PATIENCE)
