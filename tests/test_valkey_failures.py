"""Valkey when things break: servers that die and come back, connections that are cut, replicas that do not follow."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from factfold import AsyncStore, Retry, Store, Transaction
from factfold.errors import (
    FactfoldError,
    LogDivergedError,
    NotReplicatedError,
    OutcomeUnknownError,
    StoreUnavailableError,
)
from factfold.storage.base import EMPTY, Appended, Put, Storage, Swap
from factfold.storage.valkey import Valkey
from factfold.testing.contract.running import async_logs, logs, one_log
from factfold.testing.contract.scribe import Scribe, appending, asking, new, read_log, selection, several
from tests.ledger import Deposited, accounts
from tests.racing import eventually, start
from tests.servers.proxy import Proxy
from tests.servers.site import Site
from tests.servers.valkey import DURABLE, ValkeyServer

PATIENT = Retry(max_attempts=60, base=0.01, cap=0.1)


def deposit(tx: Transaction, id: str, amount: int = 1) -> int:
    account = tx.read(accounts(id))
    account.append(Deposited(amount))
    return account.state.balance


# -- Scripts and restarts ----------------------------------------------------------------------------------------------


def test_scripts_that_the_server_forgot_are_sent_again(valkey: Valkey, valkey_server: ValkeyServer) -> None:
    with one_log(valkey) as log:
        scribe = Scribe(log)
        for _ in range(2):
            valkey_server.ask("SCRIPT", "FLUSH")
            scribe.write(new("a:1"))
            valkey_server.ask("SCRIPT", "FLUSH")
            log.lock(asking(scribe.head))
            valkey_server.ask("SCRIPT", "FLUSH")
            scribe.write(new("a:1"))
            valkey_server.ask("SCRIPT", "FLUSH")
            assert log.resolve(appending([new("a:1")], scribe.head)) is None
        scribe.assert_unchanged()
        for expected, value in ((None, b"1"), (b"1", b"2")):
            valkey_server.ask("SCRIPT", "FLUSH")
            assert log.swap(Swap(Put("consumers", "a", value), expected))
            valkey_server.ask("SCRIPT", "FLUSH")
            assert [entry.value for entry in log.entries("consumers", "", 10)] == [value]


def test_a_store_goes_on_when_the_server_was_restarted(new_valkey_server: ValkeyServer) -> None:
    async def in_a_loop() -> None:
        async with AsyncStore(new_valkey_server.storage(), retry=PATIENT) as store:
            for balance in range(1, 4):
                assert (await store.execute(deposit, "ann")).result == balance
                await asyncio.to_thread(new_valkey_server.restart)

    with Store(new_valkey_server.storage(), retry=PATIENT) as store:
        for balance in range(1, 4):
            assert store.execute(deposit, "ann").result == balance
            new_valkey_server.restart()
        assert store.verify(accounts).ok
    asyncio.run(in_a_loop())


def test_a_server_that_is_away_is_unavailable_after_the_timeout(new_valkey_server: ValkeyServer) -> None:
    with Store(new_valkey_server.storage(timeout=0.3), retry=Retry(max_attempts=1)) as store:
        store.execute(deposit, "ann")
        new_valkey_server.kill()
        for _ in range(2):
            begun = time.monotonic()
            with pytest.raises(FactfoldError) as error:
                store.execute(deposit, "ann")
            assert isinstance(error.value, StoreUnavailableError | OutcomeUnknownError)
            assert time.monotonic() - begun < 10
        new_valkey_server.start()
        assert store.execute(deposit, "ann").result == 2


def test_a_server_that_hangs_is_unavailable_after_the_timeout(new_valkey_server: ValkeyServer) -> None:
    with one_log(new_valkey_server.storage(timeout=0.3)) as log:
        scribe = Scribe(log)
        scribe.write(new("a:1"))
        late = appending([new("a:1")], scribe.head, selection("a:1"))
        with new_valkey_server.frozen():
            with pytest.raises(OutcomeUnknownError):
                log.append(late)
            with pytest.raises(StoreUnavailableError, match="0.3 seconds"):
                log.append(appending([new("b:1")], scribe.head))  # it cannot be sent any more
            with pytest.raises(StoreUnavailableError, match="0.3 seconds"):
                log.head()
        # What the server had received before it hung it does afterwards.
        resolved = log.resolve(late)
        assert (resolved is None) == (log.head() == scribe.head)
        assert log.resolve(late) == resolved


# -- SIGKILL -----------------------------------------------------------------------------------------------------------


def write_until(stop: threading.Event, storage: Storage, writer: int, told: list[int]) -> None:
    """Deposits 1, 2, 3, ... into an account of its own; in `told`, those that were acknowledged."""
    with Store(storage, retry=PATIENT) as store:
        amount = 0
        while not stop.is_set():
            amount += 1
            store.execute_once(f"{writer}-{amount}", deposit, f"{writer}", amount)
            told.append(amount)


async def write_in_tasks_until(stop: threading.Event, storage: Storage, told: dict[int, list[int]]) -> None:
    """The same in tasks of one store, which share their appends."""
    async with AsyncStore(storage, retry=PATIENT) as store:

        async def write(writer: int, amounts: list[int]) -> None:
            amount = 0
            while not stop.is_set():
                amount += 1
                await store.execute_once(f"{writer}-{amount}", deposit, f"{writer}", amount)
                amounts.append(amount)

        await asyncio.gather(*(write(writer, amounts) for writer, amounts in told.items()))


def test_what_was_acknowledged_survives_the_death_of_the_server_once(new_valkey_server: ValkeyServer) -> None:
    """Three times killed in the middle of writing: nothing acknowledged is missing, and nothing is there twice."""
    storage = new_valkey_server.storage(timeout=10.0)
    stop = threading.Event()
    told: dict[int, list[int]] = {writer: [] for writer in range(12)}
    in_tasks = {writer: told[writer] for writer in range(4, 12)}
    writing = [start(write_until, stop, storage, writer, told[writer]) for writer in range(4)]
    writing.append(start(lambda: asyncio.run(write_in_tasks_until(stop, storage, in_tasks))))

    def have_written(count: int) -> bool:
        return sum(map(len, told.values())) > count

    try:
        for _ in range(3):
            eventually(partial(have_written, sum(map(len, told.values())) + 300))
            new_valkey_server.kill()
            new_valkey_server.start()
    finally:
        stop.set()
    for each in writing:
        each.result()
    with Store(storage) as store:
        assert store.verify(accounts).ok
        for writer, amounts in told.items():
            there = [recorded.event.amount for recorded in store.events(accounts(f"{writer}"))]  # type: ignore[union-attr]  # deposits
            assert there == amounts == list(range(1, len(amounts) + 1))


def test_a_server_killed_while_a_large_append_arrives_has_all_of_it_or_nothing(new_valkey_server: ValkeyServer) -> None:
    storage = new_valkey_server.storage(timeout=10.0)
    with logs(storage, 2) as (log, other):
        for round in range(3):
            before = other.head()
            append = appending(several(3_000, f"a:{round}", f"b:{round}"), before, selection(f"a:{round}"))
            appending_it = start(log.append, append)
            new_valkey_server.kill()
            new_valkey_server.start()
            error = appending_it.error()
            assert error is None or isinstance(error, OutcomeUnknownError)
            resolved = other.resolve(append)
            assert error is not None or resolved is not None
            assert other.head().position == before.position + (0 if resolved is None else 3_000)
        assert list(log.problems()) == []
        assert [stored.position for stored in read_log(log)] == list(range(1, log.head().position + 1))


# -- Connections -------------------------------------------------------------------------------------------------------


@pytest.fixture
def proxied(valkey_server: ValkeyServer, valkey_proxy: Proxy) -> Valkey:
    """A storage by way of the proxy."""
    return valkey_server.storage(port=valkey_proxy.port, timeout=1.0)


@pytest.mark.parametrize("direction", ["requests", "answers"])
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_an_append_whose_connection_is_cut_is_resolved(
    proxied: Valkey, valkey_proxy: Proxy, valkey_server: ValkeyServer, direction: str, part: float
) -> None:
    """Before, in the middle, and after the request or its answer has passed."""
    with Store(proxied, retry=PATIENT) as store:
        store.execute(deposit, "ann")
        text = b"appended" if direction == "answers" else b"Deposited"
        trap = valkey_proxy.trap(direction, text, part=part)  # type: ignore[arg-type]  # one of the two
        assert store.execute(deposit, "ann").result == 2
        trap.caught()
        assert [recorded.position for recorded in store.events(accounts("ann"))] == [1, 2]
        assert store.verify(accounts).ok


@pytest.mark.parametrize("direction", ["requests", "answers"])
def test_an_append_whose_connection_is_cut_is_resolved_in_a_loop(
    proxied: Valkey, valkey_proxy: Proxy, direction: str
) -> None:
    async def scenario() -> None:
        async with AsyncStore(proxied, retry=PATIENT) as store:
            await store.execute(deposit, "ann")
            text = b"appended" if direction == "answers" else b"Deposited"
            trap = valkey_proxy.trap(direction, text, part=0.5)  # type: ignore[arg-type]  # one of the two
            receipts = await asyncio.gather(*(store.execute(deposit, "ann") for _ in range(20)))
            assert sorted(receipt.result for receipt in receipts) == list(range(2, 22))
            trap.caught()
            assert (await store.verify(accounts)).ok

    asyncio.run(scenario())


def test_an_append_that_arrives_after_it_was_resolved_is_refused(
    valkey_server: ValkeyServer, valkey_proxy: Proxy, proxied: Valkey
) -> None:
    direct = Valkey(valkey_server.url, prefix=proxied.prefix)
    with one_log(proxied, "x") as log, one_log(direct, "x") as other:
        scribe = Scribe(log)
        scribe.write(new("a:1"))
        append = appending([new("a:1")], scribe.head, selection("a:1"))
        valkey_proxy.stall("requests")
        lost = start(log.append, append)
        assert isinstance(lost.error(), OutcomeUnknownError)
        assert other.resolve(append) is None
        valkey_proxy.abandon()
        valkey_proxy.deliver_late()
        valkey_proxy.resume()
        scribe.write(new("a:1"))
        assert log.resolve(append) is None
        scribe.assert_unchanged()


@pytest.mark.parametrize("direction", ["requests", "answers"])
def test_a_swap_whose_connection_is_cut_is_not_sent_again(proxied: Valkey, valkey_proxy: Proxy, direction: str) -> None:
    """It may have happened, and who is told that it lost believes that somebody else has won."""
    text = b"swapped" if direction == "answers" else b"mine"
    swap = Swap(Put("consumers", "a", b"mine"), None)

    async def in_a_loop() -> None:
        async with async_logs(proxied, 1, "y") as (log,):
            trap = valkey_proxy.trap(direction, text, part=0.5)  # type: ignore[arg-type]  # one of the two
            with pytest.raises(OutcomeUnknownError, match="not known yet"):
                await log.swap(swap)
            trap.caught()
            assert bool(await log.get("consumers", ["a"])) == (direction == "answers")

    with one_log(proxied, "x") as log:
        trap = valkey_proxy.trap(direction, text, part=0.5)  # type: ignore[arg-type]  # one of the two
        with pytest.raises(OutcomeUnknownError, match="not known yet"):
            log.swap(swap)
        trap.caught()
        assert bool(log.get("consumers", ["a"])) == (direction == "answers")
    asyncio.run(in_a_loop())


def test_the_lock_of_a_connection_that_was_cut_is_given_back(
    valkey_server: ValkeyServer, valkey_proxy: Proxy, proxied: Valkey
) -> None:
    direct = Valkey(valkey_server.url, prefix=proxied.prefix)
    with one_log(proxied, "x") as log, one_log(direct, "x") as other:
        log.lock(asking(EMPTY))
        valkey_proxy.trap("requests", b"Noted", part=0.5)
        append = appending([new("a:1")], EMPTY, selection("a:1"))
        with pytest.raises(OutcomeUnknownError):
            log.append(append)
        assert log.resolve(append) is None
        assert isinstance(other.append(appending([new("a:1")], EMPTY)), Appended)


def test_who_waits_for_events_survives_a_cut(proxied: Valkey, valkey_proxy: Proxy, valkey_server: ValkeyServer) -> None:
    direct = Valkey(valkey_server.url, prefix=proxied.prefix)
    with one_log(proxied, "x") as log, one_log(direct, "x") as other:
        waiting = start(log.wait, 0, 30.0)
        eventually(lambda: valkey_server.says("blocked_clients:1", "INFO", "clients"))
        valkey_proxy.cut()
        Scribe(other).write(new("a:1"))
        assert waiting.result() == 1


# -- A log that went backwards -----------------------------------------------------------------------------------------


def test_a_restored_backup_is_noticed(new_valkey_server: ValkeyServer) -> None:
    with Store(new_valkey_server.storage(), retry=PATIENT) as store:
        store.execute(deposit, "ann", 10)
        backup = new_valkey_server.backup()
        store.execute(deposit, "ann", 5)
        new_valkey_server.restore(backup)
        with pytest.raises(LogDivergedError):
            store.execute(deposit, "ann", 1)
        assert store.state(accounts("ann")).balance == 10
        assert store.execute(deposit, "ann", 1).position == 2


# -- Replicas ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def replica(server_site: Site, new_valkey_server: ValkeyServer) -> Iterator[ValkeyServer]:
    """A replica of `new_valkey_server`."""
    with ExitStack() as stack:
        program = new_valkey_server.program
        replica = stack.enter_context(ValkeyServer(server_site, program, {**DURABLE, "repl-diskless-sync-delay": "0"}))
        new_valkey_server.set("repl-diskless-sync-delay", "0")
        replica.ask("REPLICAOF", "127.0.0.1", new_valkey_server.port)
        eventually(lambda: replica.says("master_link_status:up", "INFO", "replication"))
        yield replica


def execute_in_threads(storage: Storage, command: Callable[..., object], *args: object) -> object:
    with Store(storage, retry=Retry(max_attempts=2)) as store:
        return store.execute(command, *args).result


def execute_in_a_loop(storage: Storage, command: Callable[..., object], *args: object) -> object:
    async def execute() -> object:
        async with AsyncStore(storage, retry=Retry(max_attempts=2)) as store:
            return (await store.execute(command, *args)).result

    return asyncio.run(execute())


@pytest.mark.parametrize("execute", [execute_in_threads, execute_in_a_loop], ids=["threads", "loop"])
def test_an_append_waits_for_its_replicas_and_says_when_they_do_not_confirm_it(
    new_valkey_server: ValkeyServer, replica: ValkeyServer, execute: Callable[..., object]
) -> None:
    storage = new_valkey_server.storage(min_replicas=1, timeout=0.4)
    assert execute(storage, deposit, "ann", 1) == 1
    with replica.frozen(), pytest.raises(NotReplicatedError, match="written on the primary, at positions 2 to 2"):
        execute(storage, deposit, "ann", 2)
    assert execute(storage, deposit, "ann", 4) == 7, "what was written on the primary counts"
    replica.ask("REPLICAOF", "NO", "ONE")
    with one_log(Valkey(replica.url, prefix=storage.prefix), "default") as log:
        assert log.head().position == 3


def test_an_append_that_is_resolved_waits_for_its_replicas_too(
    new_valkey_server: ValkeyServer, replica: ValkeyServer
) -> None:
    storage = new_valkey_server.storage()
    strict = Valkey(storage.url, prefix=storage.prefix, min_replicas=1, timeout=0.4)
    with one_log(storage, "x") as log, one_log(strict, "x") as strict_log:
        append = appending([new("a:1")], EMPTY)
        with replica.frozen():
            Scribe(log).wrote(append, log.append(append))
            with pytest.raises(NotReplicatedError):
                strict_log.resolve(append)
        assert strict_log.resolve(append) is not None
