"""A faulty storage: fails as often as it is told to, the same way in every run, and never tells a lie about the log."""

from __future__ import annotations

import asyncio
import math
import pickle
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from factfold import (
    ConflictError,
    InvalidUrlError,
    OutcomeUnknownError,
    Retry,
    Store,
    StoreUnavailableError,
)
from factfold.storage.base import EMPTY, Append, Check, Conflict, NewEvent, Selection, Storage
from factfold.storage.memory import Memory
from factfold.storage.sqlite import SQLite
from factfold.testing import Faulty, StorageContract
from factfold.testing.fates import Fates, Rates
from tests.conftest import MakeStore
from tests.ledger import Deposited, accounts, balance, deposit
from tests.racing import race

ENGINES = ("memory",)
ONCE = Retry(max_attempts=1)
"""What is lost once is lost."""

QUICK = Retry(max_attempts=2, base=0.001)


class TestFaultyMemory(StorageContract):
    """With all rates at 0 it is the storage that it is around."""

    @pytest.fixture
    def storage(self) -> Storage:
        return Faulty(Memory())


def prepared(make_store: MakeStore, storage: Storage, retry: Retry, **rates: Any) -> tuple[Faulty, Store]:
    """A faulty storage, and a store on it that has an account in its cache."""
    faulty = Faulty(storage, **rates)
    faulty.active = False
    store = make_store(faulty, retry=retry)
    store.execute(deposit, "ann", 100)
    faulty.active = True
    return faulty, store


# -- Conflicts ---------------------------------------------------------------------------------------------------------


def test_after_a_conflict_the_command_is_decided_again(make_store: MakeStore, storage: Storage, rival: Store) -> None:
    faulty, store = prepared(make_store, storage, Retry(), conflicts=1.0)
    receipt = store.execute(deposit, "ann", 1)
    assert (receipt.result, receipt.attempts, receipt.position) == (101, 2, 2)
    assert faulty.injected == {"latency": 0, "conflicts": 1, "lost": 0, "unknown": 0}
    assert rival.state(accounts("ann")).balance == 101


def test_a_conflict_that_may_not_be_retried_reaches_the_caller(
    make_store: MakeStore, storage: Storage, rival: Store
) -> None:
    _, store = prepared(make_store, storage, ONCE, conflicts=1.0)
    with pytest.raises(ConflictError) as caught:
        store.execute(deposit, "ann", 1)
    assert caught.value.streams == ("ledger:ann",)
    assert rival.state(accounts("ann")).balance == 100


def test_commands_that_only_read_have_no_conflicts(make_store: MakeStore, storage: Storage) -> None:
    faulty, store = prepared(make_store, storage, ONCE, conflicts=1.0)
    assert store.execute(balance, "ann").result == 100
    assert faulty.injected["conflicts"] == 0


def appending(number: int, *selections: Selection) -> Append:
    event = NewEvent(number.to_bytes(16, "big"), "Deposited", 1, b'{"amount":1}', b"{}", ("ledger:ann",))
    return Append((event,), Check(selections, EMPTY, {}))


ANN = Selection("ledger:ann", frozenset({"Deposited"}))
BEN = Selection("ledger:ben", frozenset({"Deposited"}))


def test_what_a_conflict_tells_of_the_log_is_true() -> None:
    memory = Memory()
    others = memory.open().log("default")
    log = Faulty(memory, conflicts=1.0).open().log("default")

    nothing = log.append(appending(1, ANN, BEN))
    assert isinstance(nothing, Conflict)
    assert (nothing.news.head, nothing.news.events, nothing.news.touched) == (EMPTY, (), frozenset({0, 1}))

    others.append(appending(2))
    real = log.append(appending(3, BEN, ANN))
    assert isinstance(real, Conflict)
    assert real.news.head == others.head()
    assert [stored.id for stored in real.news.events] == [appending(2).id]
    assert real.news.touched == frozenset({1})
    assert others.head().position == 1


def test_a_conflict_names_the_streams_that_really_are_not_empty() -> None:
    memory = Memory()
    memory.open().log("default").append(appending(1))
    log = Faulty(memory, conflicts=1.0).open().log("default")
    answer = log.append(replace(appending(2, BEN), empty=("ledger:new", "ledger:ann")))
    assert isinstance(answer, Conflict)
    assert answer.not_empty == frozenset({"ledger:ann"})
    assert log.head().position == 1


def test_there_is_no_conflict_where_none_can_be() -> None:
    log = Faulty("memory:", conflicts=1.0).open().log("default")
    assert not isinstance(log.append(appending(1)), Conflict)  # it has read nothing
    check = Check((ANN,), log.head(), {})
    log.lock(check)
    assert not isinstance(log.append(Append(appending(2).events, check)), Conflict)  # nobody else could append
    assert isinstance(log.append(Append(appending(3).events, Check((ANN,), log.head(), {}))), Conflict)
    log.lock(check)
    log.unlock()
    assert isinstance(log.append(Append(appending(4).events, Check((ANN,), log.head(), {}))), Conflict)


# -- Lost connections --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [deposit, balance], ids=["write", "read"])
def test_a_lost_connection_reaches_the_caller_and_nothing_was_written(
    make_store: MakeStore, storage: Storage, rival: Store, call: Callable[..., object]
) -> None:
    faulty, store = prepared(make_store, storage, ONCE, lost=1.0)
    with pytest.raises(StoreUnavailableError, match="injected"):
        store.execute(call, "ann")
    assert faulty.injected["lost"] >= 1
    assert rival.head() == 1
    faulty.active = False
    store.execute(deposit, "ann", 1)
    assert rival.state(accounts("ann")).balance == 101


def test_a_lost_append_gives_the_writers_lock_back() -> None:
    memory = Memory()
    faulty = Faulty(memory, lost=1.0)
    faulty.active = False
    log, others = faulty.open().log("default"), memory.open().log("default")
    log.lock(Check((), EMPTY, {}))
    faulty.active = True
    with pytest.raises(StoreUnavailableError):
        log.append(appending(1))
    assert not isinstance(others.append(appending(2)), Conflict)  # it would wait in vain for the lock
    faulty.active = False
    assert log.head().position == 1


async def test_an_append_that_is_cancelled_before_it_was_sent_gives_the_writers_lock_back() -> None:
    memory = Memory()
    faulty = Faulty(memory, latency=3600.0)
    faulty.active = False
    engine = await faulty.open_async()
    log, others = await engine.log("default"), memory.open().log("default")
    await log.lock(Check((), EMPTY, {}))
    faulty.active = True
    sending = asyncio.create_task(log.append(appending(1)))
    await asyncio.sleep(0)  # it begins, and is delayed
    assert faulty.injected["latency"] == 1
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert not isinstance(others.append(appending(2)), Conflict)  # it would wait in vain for the lock
    await engine.close()


def test_a_subscription_misses_nothing_when_connections_are_lost(
    make_store: MakeStore, storage: Storage, rival: Store
) -> None:
    faulty = Faulty(storage, seed=1, lost=0.3)
    faulty.active = False
    with make_store(faulty).subscribe(types=Deposited, after=0) as subscription:
        rival.execute(deposit, "ann", 0)
        assert next(subscription).position == 1
        faulty.active = True
        for amount in range(1, 6):
            rival.execute(deposit, "ann", amount)
            assert next(subscription).event == Deposited(amount)


# -- Unknown outcomes --------------------------------------------------------------------------------------------------


def test_the_store_resolves_what_can_be_resolved(make_store: MakeStore, storage: Storage, rival: Store) -> None:
    faulty, store = prepared(make_store, storage, Retry(base=0.0), unknown=0.5, unresolved=0.0)
    for number in range(1, 31):
        assert store.execute(deposit, "ann", 1).result == 100 + number
    assert faulty.injected["unknown"] >= 10
    assert rival.head() == 31


def test_what_stays_unknown_reaches_the_caller_done_or_not(
    make_store: MakeStore, storage: Storage, rival: Store
) -> None:
    faulty, store = prepared(make_store, storage, QUICK, unknown=1.0, unresolved=1.0)
    happened: Counter[bool] = Counter()
    for _ in range(12):
        before = rival.head()
        with pytest.raises(OutcomeUnknownError):
            store.execute(deposit, "ann", 1)
        happened[rival.head() == before + 1] += 1
    assert happened[True] >= 1
    assert happened[False] >= 1
    assert faulty.injected["unknown"] == 12
    faulty.active = False
    assert store.execute(balance, "ann").result == 100 + happened[True]


def test_once_is_once_whatever_fails(make_store: MakeStore, storage: Storage, rival: Store) -> None:
    faulty, store = prepared(make_store, storage, QUICK, conflicts=0.3, lost=0.1, unknown=0.3)
    for number in range(20):
        while True:
            try:
                store.execute_once(f"key-{number}", deposit, "ann", 1)
                break
            except (ConflictError, OutcomeUnknownError, StoreUnavailableError):
                continue
    assert min(faulty.injected[kind] for kind in ("conflicts", "lost", "unknown")) >= 1
    assert rival.state(accounts("ann")).balance == 120


# -- Latency -----------------------------------------------------------------------------------------------------------


def test_calls_take_longer_by_the_latency(make_store: MakeStore, storage: Storage) -> None:
    faulty, store = prepared(make_store, storage, Retry(), latency=0.02)
    began = time.monotonic()
    for _ in range(3):
        store.execute(deposit, "ann", 1)
    took = time.monotonic() - began
    same = Fates(Rates(seed=0, conflicts=0.0, latency=0.02, lost=0.0, unknown=0.0, unresolved=0.5))
    assert took >= sum(same.next("append").latency for _ in range(3)) > 0
    assert faulty.injected["latency"] >= 3


# -- Seeds -------------------------------------------------------------------------------------------------------------


def fates(seed: int, **rates: float) -> list[str]:
    """What becomes of 30 commands."""
    faulty = Faulty("memory:", seed=seed, **rates)
    told: list[str] = []
    with Store(faulty, retry=ONCE) as store:
        for _ in range(30):
            try:
                store.execute(deposit, "ann", 1)
                told.append("done")
            except (ConflictError, OutcomeUnknownError, StoreUnavailableError) as error:
                told.append(type(error).__name__)
    return told


def test_a_seed_gives_the_same_faults_in_every_run() -> None:
    rates = {"conflicts": 0.2, "lost": 0.1, "unknown": 0.2}
    runs = [fates(seed, **rates) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert set(runs[0]) == {"done", "ConflictError", "OutcomeUnknownError", "StoreUnavailableError"}


def test_another_rate_does_not_change_a_fault() -> None:
    def lost(**rates: float) -> list[bool]:
        return [told == "StoreUnavailableError" for told in fates(3, lost=0.2, **rates)]

    assert lost(conflicts=0.9)[:10] == lost()[:10]


def test_no_fate_is_used_up_while_it_is_not_active() -> None:
    def told(calls_before: int) -> list[bool]:
        faulty = Faulty("memory:", seed=5, lost=0.5)
        log = faulty.open().log("default")
        faulty.active = False
        for _ in range(calls_before):
            log.head()
        faulty.active = True
        return [_raises(log.head) for _ in range(20)]

    assert told(0) == told(7)
    assert set(told(0)) == {True, False}


def _raises(call: Callable[[], object]) -> bool:
    try:
        call()
    except StoreUnavailableError:
        return True
    return False


def test_faults_are_counted_by_threads_together() -> None:
    faulty = Faulty("memory:", lost=1.0)
    log = faulty.open().log("default")
    race([lambda: [_raises(log.head) for _ in range(50)]] * 4)
    assert faulty.injected["lost"] == 200


def test_another_process_gets_the_same_rates(tmp_path: Path) -> None:
    faulty = Faulty(SQLite(tmp_path / "log.db"), seed=5, lost=0.5)
    copy = pickle.loads(pickle.dumps(faulty))
    assert repr(copy) == repr(faulty)
    first, second = (one.open() for one in (faulty, copy))
    told = [[_raises(engine.log("default").head) for _ in range(20)] for engine in (first, second)]
    assert told[0] == told[1]
    first.close()
    second.close()


# -- Wrong use ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["conflicts", "lost", "unknown", "unresolved"])
@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan, "0.5", True, None])
def test_what_is_no_rate_is_refused(name: str, rate: Any) -> None:
    with pytest.raises(ValueError, match=rf"Faulty\({name}=.*a probability is needed, from 0 \(never\) to 1"):
        Faulty("memory:", **{name: rate})


@pytest.mark.parametrize("latency", [-0.1, math.inf, math.nan, "0.5", True])
def test_what_is_no_latency_is_refused(latency: Any) -> None:
    with pytest.raises(ValueError, match=r"Faulty\(latency=.*seconds are needed"):
        Faulty("memory:", latency=latency)


def test_what_is_no_storage_is_refused() -> None:
    anything: Any = Store
    with pytest.raises(InvalidUrlError, match="A storage is a url or an object such as"):
        Faulty(anything)
