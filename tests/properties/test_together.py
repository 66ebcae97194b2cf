"""Several stores on one database, with threads and with tasks: what came of it is one order of the commands."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factfold import AsyncStore, Receipt, Store
from factfold.storage.base import LogPage, Storage, StoredEvent
from factfold.storage.memory import Memory
from factfold.storage.sqlite import SQLite
from tests.properties.boxes import LENSES, BrokenError
from tests.properties.laws import Call, check_calls, check_log, check_runs
from tests.properties.model import facts_of, state_of
from tests.properties.programs import IDS, Program, programs

CALLERS = 4
PATIENCE = 60.0

sizes = st.lists(st.sampled_from([10, 10, 0, 1, 2]), min_size=2, max_size=3)
key_lists = st.lists(st.sampled_from([None, None, None, "k", "l"]), min_size=12, max_size=12)


def new_storage(engine: str, folder: str) -> Storage:
    return Memory() if engine == "memory" else SQLite(Path(folder) / "boxes.db", synchronous="normal")


def note(call: Call, receipt: Receipt[str]) -> None:
    call.result, call.events, call.repeated = receipt.result, receipt.events, receipt.repeated


def whole_log(storage: Storage) -> Sequence[StoredEvent]:
    engine = storage.open()
    try:
        return engine.log("default").read(LogPage(0, 1_000_000, system=True))
    finally:
        engine.close()


def check(calls: Sequence[Call], stored: Sequence[StoredEvent]) -> None:
    check_log(stored)
    check_runs([call.program for call in calls], stored)
    check_calls(calls, stored)


def expected_states(stored: Sequence[StoredEvent]) -> list[object]:
    facts = facts_of(stored)
    expected: list[object] = []
    for lens in LENSES:
        for id in range(IDS):
            try:
                expected.append(state_of(lens.at(str(id)), facts))
            except BrokenError:
                expected.append(BrokenError)
    return expected


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
@given(programs=programs(max_size=12), sizes=sizes, keys=key_lists)
def test_threads(engine: str, programs: list[Program], sizes: list[int], keys: list[str | None]) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as open_stores:
        storage = new_storage(engine, folder)
        stores = [open_stores.enter_context(Store(storage, cache_size=size)) for size in sizes]
        barrier = threading.Barrier(CALLERS)
        calls: list[Call] = []

        def call_one_after_another(number: int) -> None:
            store = stores[number % len(stores)]
            barrier.wait(PATIENCE)
            for program in programs[number::CALLERS]:
                call = Call(program, store.head(), keys[program.number - 1])
                calls.append(call)
                try:
                    key = call.key
                    note(call, store.execute(program) if key is None else store.execute_once(key, program))
                except Exception as error:
                    call.error = error
                call.until = store.head()

        threads = [threading.Thread(target=call_one_after_another, args=(number,)) for number in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        stored = whole_log(storage)
        check(calls, stored)
        for store in stores:
            assert [_state(store, index) for index in range(len(LENSES) * IDS)] == expected_states(stored)
            assert store.verify().ok


def _state(store: Store, index: int) -> object:
    try:
        return store.state(LENSES[index // IDS].at(str(index % IDS)))
    except BrokenError:
        return BrokenError


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
@given(programs=programs(max_size=12), sizes=sizes, keys=key_lists)
def test_tasks(engine: str, programs: list[Program], sizes: list[int], keys: list[str | None]) -> None:
    async def main(storage: Storage) -> list[Call]:
        calls: list[Call] = []
        async with AsyncExitStack() as open_stores:
            stores = [await open_stores.enter_async_context(AsyncStore(storage, cache_size=size)) for size in sizes]

            async def call_it(program: Program) -> None:
                store = stores[program.number % len(stores)]
                call = Call(program, await store.head(), keys[program.number - 1])
                calls.append(call)
                try:
                    key = call.key
                    note(call, await (store.execute(program) if key is None else store.execute_once(key, program)))
                except Exception as error:
                    call.error = error
                call.until = await store.head()

            await asyncio.wait_for(asyncio.gather(*map(call_it, programs)), PATIENCE)
        return calls

    with tempfile.TemporaryDirectory() as folder:
        storage = new_storage(engine, folder)
        calls = asyncio.run(main(storage))
        check(calls, whole_log(storage))
