"""What is specific to Valkey: what is refused when it opens, what stands in the way, the lease, and a full server."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable

import pytest

from factfold import AsyncStore, Store, Transaction
from factfold.errors import (
    AppendRefusedError,
    LockLostError,
    LogDivergedError,
    StorageError,
    StorageFormatError,
    StorageFullError,
    StorageReadOnlyError,
    StoreClosedError,
    StoreUnavailableError,
    UnsafeStorageError,
)
from factfold.storage import _valkey_place
from factfold.storage._valkey_servers import check_version
from factfold.storage.base import EMPTY, Appended, AsyncLog, Conflict, Log, LogPage, Put, Swap
from factfold.storage.valkey import Valkey
from factfold.testing.contract.running import logs, one_log
from factfold.testing.contract.scribe import (
    Scribe,
    appending,
    asking,
    facts,
    load_in_steps,
    loading,
    new,
    selection,
    several,
)
from tests.ledger import Deposited, accounts
from tests.racing import eventually, race, soon, start
from tests.servers.site import free_port
from tests.servers.valkey import ValkeyServer


def deposit(tx: Transaction, id: str, amount: int = 1) -> int:
    account = tx.read(accounts(id))
    account.append(Deposited(amount))
    return account.state.balance


def opened(storage: Valkey) -> str:
    """Opens a store, from threads; what it says of its durability."""
    with Store(storage) as store:
        return store.durability


def opened_in_a_loop(storage: Valkey) -> str:
    async def open() -> str:
        async with AsyncStore(storage) as store:
            return store.durability

    return asyncio.run(open())


both = pytest.mark.parametrize("open", [opened, opened_in_a_loop], ids=["threads", "loop"])


# -- Opening -----------------------------------------------------------------------------------------------------------


@both
def test_a_server_that_is_not_there_is_said_to_be_so(open: Callable[[Valkey], str]) -> None:
    port = free_port()
    with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{port}.*running and reachable"):
        open(Valkey(f"valkey://127.0.0.1:{port}"))


@both
def test_a_wrong_database_number_is_said_to_be_so(open: Callable[[Valkey], str], valkey_server: ValkeyServer) -> None:
    with pytest.raises(StoreUnavailableError, match="DB index is out of range"):
        open(Valkey(f"valkey://127.0.0.1:{valkey_server.port}/99"))


@both
def test_a_wrong_password_is_said_to_be_so(open: Callable[[Valkey], str], valkey_server: ValkeyServer) -> None:
    valkey_server.ask("ACL", "SETUSER", "ann", "on", ">right", "~*", "&*", "+@all")
    url = f"ann:{{}}@127.0.0.1:{valkey_server.port}"
    for wrong in ("wrong", ""):
        with pytest.raises(StoreUnavailableError, match="user and password") as refused:
            open(Valkey(f"valkey://{url.format(wrong)}"))
        assert "right" not in str(refused.value)
    assert open(Valkey(f"valkey://{url.format('right')}"))


def test_a_user_with_too_few_rights_is_told_so(valkey_server: ValkeyServer) -> None:
    valkey_server.ask("ACL", "SETUSER", "bob", "on", ">secret", "~*", "&*", "+@all", "-evalsha", "-eval")
    storage = Valkey(f"valkey://bob:secret@127.0.0.1:{valkey_server.port}", prefix="bob")
    with Store(storage) as store, pytest.raises(StoreUnavailableError, match="does not let this user"):
        store.execute(deposit, "ann")


@pytest.mark.parametrize("command", ["hset", "append", "zadd", "xadd", "del", "rpush", "pexpire"])
def test_a_user_who_may_not_do_all_that_an_append_takes_leaves_nothing_behind(
    command: str, valkey: Valkey, valkey_server: ValkeyServer
) -> None:
    with one_log(valkey, "n") as log:
        scribe = Scribe(log)
        scribe.write(new("a:1"))
        valkey_server.ask("ACL", "SETUSER", "dan", "reset", "on", ">secret", "~*", "&*", "+@all", f"-{command}")
        limited = Valkey(f"valkey://dan:secret@127.0.0.1:{valkey_server.port}", prefix=valkey.prefix)
        with one_log(limited, "n") as other:
            for stream in ("a:1", "b:1"):
                with pytest.raises(StoreUnavailableError, match=f"(?i)no right .* {command}"):
                    other.append(appending([new(stream)], scribe.head))
        scribe.assert_unchanged()
        scribe.write(new("b:1"), new("a:1"))
        scribe.assert_unchanged()
        assert list(log.problems()) == []


def test_a_user_who_may_not_do_all_that_a_swap_takes_leaves_nothing_behind(
    valkey: Valkey, valkey_server: ValkeyServer
) -> None:
    valkey_server.ask("ACL", "SETUSER", "joe", "reset", "on", ">secret", "~*", "&*", "+@all", "-hdel")
    with one_log(valkey, "n") as log:
        log.put("p", "b", b"old")
        limited = Valkey(f"valkey://joe:secret@127.0.0.1:{valkey_server.port}", prefix=valkey.prefix)
        with one_log(limited, "n") as other, pytest.raises(StoreUnavailableError, match="no right .* HDEL"):
            other.swap(Swap(Put("p", "a", b"new"), None, (Put("p", "b", None),)))
        assert log.get("p", ["a", "b"]) == {"b": b"old"}


def test_a_server_that_does_not_tell_its_settings_is_not_taken_for_a_durable_one(valkey_server: ValkeyServer) -> None:
    valkey_server.ask("ACL", "SETUSER", "eve", "on", ">secret", "~*", "&*", "+@all", "-config")
    _valkey_place.warned.clear()
    with pytest.warns(RuntimeWarning, match="does not tell"):
        opened(Valkey(f"valkey://eve:secret@127.0.0.1:{valkey_server.port}"))


@pytest.mark.parametrize("version", ["6.2.14", "5.0.7", "2.8", "?"])
def test_a_redis_that_is_too_old_is_refused(version: str) -> None:
    with pytest.raises(StoreUnavailableError, match="7.0 or newer"):
        check_version({"redis_version": version}, "valkey://db")


def test_a_redis_that_is_new_enough_and_every_valkey_are_not() -> None:
    for version in ("7.0.0", "7.4.1", "10.0"):
        check_version({"redis_version": version}, "valkey://db")
    check_version({"redis_version": "6.0", "valkey_version": "8.0"}, "valkey://db")


@both
def test_a_server_without_an_append_only_file_is_refused(
    open: Callable[[Valkey], str], new_valkey_server: ValkeyServer
) -> None:
    new_valkey_server.set("appendonly", "no")
    with pytest.raises(UnsafeStorageError, match="appendonly.*durable=False"):
        open(new_valkey_server.storage())
    assert "no append-only file" in open(new_valkey_server.storage(durable=False))


def test_how_durable_a_server_is_can_be_read_and_a_weakness_is_warned_of_once(new_valkey_server: ValkeyServer) -> None:
    assert "nothing acknowledged is lost" in opened(new_valkey_server.storage())
    with one_log(new_valkey_server.storage()), Store(new_valkey_server.storage()) as store:
        assert store.head() == 0
    for policy in ("everysec", "no"):
        new_valkey_server.set("appendfsync", policy)
        with pytest.warns(RuntimeWarning, match=f"appendfsync {policy}"):
            assert f"appendfsync {policy}" in opened(new_valkey_server.storage())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            opened(new_valkey_server.storage())
            opened(new_valkey_server.storage(durable=False))
    engine = new_valkey_server.storage().open()
    assert not engine.capabilities.durable
    engine.close()


def test_a_server_that_evicts_keys_is_refused(new_valkey_server: ValkeyServer) -> None:
    new_valkey_server.set("maxmemory-policy", "allkeys-lru")
    assert opened(new_valkey_server.storage()), "without a limit nothing is evicted"
    new_valkey_server.set("maxmemory", "100mb")
    with pytest.raises(UnsafeStorageError, match="maxmemory-policy allkeys-lru.*noeviction"):
        opened(new_valkey_server.storage(durable=False))


def test_a_replica_is_refused(valkey_server: ValkeyServer, new_valkey_server: ValkeyServer) -> None:
    new_valkey_server.ask("REPLICAOF", "127.0.0.1", valkey_server.port)
    with pytest.raises(StorageReadOnlyError, match=f"primary is 127.0.0.1:{valkey_server.port}"):
        opened(new_valkey_server.storage())


def test_a_server_that_becomes_a_replica_is_not_written_to(
    valkey_server: ValkeyServer, new_valkey_server: ValkeyServer
) -> None:
    with Store(new_valkey_server.storage()) as store:
        store.execute(deposit, "ann")
        new_valkey_server.ask("REPLICAOF", "127.0.0.1", valkey_server.port)
        with pytest.raises((StorageReadOnlyError, StoreUnavailableError, LogDivergedError)):
            store.execute(deposit, "ann")
        new_valkey_server.ask("REPLICAOF", "NO", "ONE")


def test_a_server_alone_is_no_cluster(valkey_server: ValkeyServer) -> None:
    with pytest.raises(StoreUnavailableError, match="no node of a cluster"):
        opened(valkey_server.storage(cluster=True))


# -- What stands in the way --------------------------------------------------------------------------------------------


def test_a_namespace_of_a_newer_version_is_refused(valkey: Valkey, valkey_server: ValkeyServer) -> None:
    opened(valkey)
    valkey_server.ask("SET", f"{valkey.prefix}:{{default}}:format", "3")
    with pytest.raises(StorageFormatError, match="format b'3'"):
        opened(valkey)


def test_many_values_of_format_1_are_moved_to_their_places_by_whoever_comes(
    valkey: Valkey, valkey_server: ValkeyServer
) -> None:
    base = f"{valkey.prefix}:{{default}}:"
    keys = [f"{number}\0é" for number in range(3000)]
    fields = [(f"{place}\0{key}", key[:4] + place) for key in keys for place in ("snapshots", "other")]
    valkey_server.ask("HSET", f"{base}places", *(word for pair in fields for word in pair))
    valkey_server.ask("SET", f"{base}format", "1")
    assert [outcome for outcome in race([lambda: opened(valkey)] * 4) if isinstance(outcome, Exception)] == []
    assert valkey_server.ask("EXISTS", f"{base}places") == 0
    with one_log(valkey, "default") as log:
        for place in ("snapshots", "other"):
            assert log.get(place, keys) == {key: (key[:4] + place).encode() for key in keys}


@pytest.mark.parametrize("key", ["log", "tail", "types", "names", "voids", "turn", "free", "s:a:1"])
def test_a_key_of_another_type_in_the_way_is_told_of_and_nothing_is_written(
    valkey_server: ValkeyServer, valkey: Valkey, key: str
) -> None:
    with one_log(valkey, "x") as log:
        name = f"{valkey.prefix}:{{x}}:{key}"
        other = ("SET", name, "text") if key not in ("turn", "s:a:1") else ("SADD", name, "member")
        valkey_server.ask(*other)
        before = valkey_server.ask("DBSIZE")
        append = appending([new("a:1")], EMPTY, selection("a:1"))
        if key == "free":  # of interest to those who wait only
            assert isinstance(log.append(append), Appended)
            return
        with pytest.raises(StorageError):
            log.append(append)
        assert valkey_server.ask("DBSIZE") == before
        valkey_server.ask("DEL", name)
        assert log.head() == EMPTY
        Scribe(log).write(new("a:1"))


def test_a_key_of_another_type_in_the_way_of_a_swap_is_told_of_and_nothing_is_written(
    valkey_server: ValkeyServer, valkey: Valkey
) -> None:
    with one_log(valkey, "x") as log:
        swap = Swap(Put("consumers", "a", b"1"), None, (Put("parked", "a", b"2"),))
        for place in ("consumers", "parked"):
            valkey_server.ask("SET", f"{valkey.prefix}:{{x}}:p:{place}", "text")
            with pytest.raises(StorageFormatError, match="another type"):
                log.swap(swap)
            valkey_server.ask("DEL", f"{valkey.prefix}:{{x}}:p:{place}")
            assert [log.entries(each, "", 10) for each in ("consumers", "parked")] == [[], []]
        assert log.swap(swap)


def test_braces_and_percent_signs_do_not_mix_namespaces_up(valkey: Valkey) -> None:
    names = ["a", "{a}", "a}", "%7Da", "}a", "{", "}", "{}", "%", "%25"]
    engine = valkey.open()
    for number, name in enumerate(names, 1):
        Scribe(engine.log(name)).write(*several(number, "a:1"))
    for number, name in enumerate(names, 1):
        assert engine.log(name).head().position == number
    engine.close()


def test_an_append_above_the_limit_is_refused_and_gives_the_lock_back(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factfold.storage._valkey_log.MAX_BYTES", 10_000)
    with logs(valkey, 2) as (log, other):
        scribe = Scribe(log)
        scribe.write(new("a:1"))
        log.lock(asking(scribe.head))
        large = new("a:1", data=b'"' + b"x" * 20_000 + b'"')
        with pytest.raises(AppendRefusedError, match="bytes"):
            log.append(appending([large], scribe.head))
        scribe.log = other
        scribe.write(new("a:1"))


def test_a_load_of_large_events_is_cut_and_goes_on(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factfold.storage._valkey_reading.LOAD_BYTES", 3_000)
    with one_log(valkey) as log:
        scribe = Scribe(log)
        scribe.write(*(new(f"a:{number % 3}", data=b'"' + b"x" * 1_000 + b'"') for number in range(30)))
        asked = [selection(f"a:{number}") for number in range(3)]
        first, *others = log.load(loading(*asked)).slices
        assert 1 <= len(first.events) < 10
        assert not first.complete
        assert [(slice.events, slice.complete) for slice in others] == [((), False)] * 2
        assert [facts(found) for found in load_in_steps(log, asked, 100)] == [facts(scribe.of(one)) for one in asked]


def test_an_index_that_lost_a_record_is_a_problem(valkey: Valkey, valkey_server: ValkeyServer) -> None:
    with one_log(valkey, "x") as log:
        Scribe(log).write(new("a:1"), new("b:1"), new("a:1"))
        index = f"{valkey.prefix}:{{x}}:s:a:1"
        record = valkey_server.ask("GETRANGE", index, 0, 7)
        assert isinstance(record, bytes)
        valkey_server.ask("SET", index, record + record)
        assert [problem.partition(",")[0] for problem in log.problems()] == [
            "a:1 has version 2 at position 3",
            "a:1 has version 2 at position 1",
        ]


def test_a_stream_whose_index_is_gone_does_not_begin_again(valkey: Valkey, valkey_server: ValkeyServer) -> None:
    with one_log(valkey, "n") as log:
        scribe = Scribe(log)
        scribe.write(new("a:1"), new("b:1"))
        valkey_server.ask("DEL", f"{valkey.prefix}:{{n}}:s:a:1")
        for empty in ((), ("a:1",)):
            with pytest.raises(StorageFormatError, match="a:1 has events.*is gone.*Nothing was written"):
                log.append(appending([new("b:1"), new("a:1")], scribe.head, empty=empty))
        scribe.write(new("b:1"))
        assert log.head() == scribe.head


def test_an_event_that_is_gone_is_a_problem(valkey: Valkey, valkey_server: ValkeyServer) -> None:
    with one_log(valkey, "x") as log:
        Scribe(log).write(*several(3, "a:1"))
        valkey_server.ask("HDEL", f"{valkey.prefix}:{{x}}:log", 2)
        assert "no event at position 2" in "".join(log.problems())
        with pytest.raises(StorageFormatError, match="position 2"):
            log.load(loading(selection("a:1")))


# -- A full server -----------------------------------------------------------------------------------------------------


def test_a_full_server_refuses_whole_appends_and_reads_on(new_valkey_server: ValkeyServer) -> None:
    with logs(new_valkey_server.storage(), 2) as (log, other):
        scribe = Scribe(log)
        scribe.write(*several(10, "a:1"))
        new_valkey_server.set("maxmemory", "1")
        for _ in range(2):
            with pytest.raises(StorageFullError, match="memory is full"):
                log.append(appending(several(5, "a:1", "b:1"), scribe.head, selection("a:1")))
        scribe.assert_unchanged()
        assert [info.id for info in log.streams(None, "", 10)] == ["a:1"]
        assert list(log.problems()) == []
        new_valkey_server.set("maxmemory", "0")
        scribe.log = other
        scribe.write(new("a:1"))


def test_a_full_server_refuses_whole_swaps_and_removes_values(new_valkey_server: ValkeyServer) -> None:
    with one_log(new_valkey_server.storage()) as log:
        assert log.swap(Swap(Put("consumers", "a", b"1"), None))
        new_valkey_server.set("maxmemory", "1")
        with pytest.raises(StorageFullError, match="memory is full"):
            log.swap(Swap(Put("consumers", "a", b"2"), b"1", (Put("consumers", "b", b"2"),)))
        assert log.get("consumers", ["a", "b"]) == {"a": b"1"}
        assert log.swap(Swap(Put("consumers", "a", None), b"1")), "a lease can be given back"
        assert log.entries("consumers", "", 10) == []


def test_a_server_that_gets_full_under_the_lock_leaves_nobody_locked_out(new_valkey_server: ValkeyServer) -> None:
    with logs(new_valkey_server.storage(lease=100.0), 2) as (log, other):
        scribe = Scribe(log)
        scribe.write(new("a:1"))
        log.lock(asking(scribe.head))
        new_valkey_server.set("maxmemory", "1")
        with pytest.raises(StorageFullError):
            log.append(appending([new("a:1")], scribe.head))
        new_valkey_server.set("maxmemory", "0")
        scribe.log = other
        scribe.write(new("a:1"))


# -- The lease ---------------------------------------------------------------------------------------------------------


def test_a_lock_that_is_held_for_too_long_is_lost_and_nothing_is_written_under_it(valkey_server: ValkeyServer) -> None:
    with logs(valkey_server.storage(lease=0.05), 2) as (log, other):
        scribe = Scribe(log)
        scribe.write(new("a:1"))
        log.lock(asking(scribe.head))
        scribe.log = other
        before = scribe.head
        scribe.write(new("b:1"))  # waits until the lease has ended
        with pytest.raises(LockLostError, match="longer lease"):
            log.append(appending([new("a:1")], before, selection("a:1")))
        scribe.assert_unchanged()
        scribe.log = log
        scribe.write(new("a:1"))


def test_a_command_that_outlasts_its_lease_succeeds_when_nobody_disturbs_it(valkey_server: ValkeyServer) -> None:
    storage = valkey_server.storage(lease=0.05)
    attempts: list[float] = []
    with Store(storage) as store, Store(storage) as rival:
        store.state(accounts("ann"))

        def slow(tx: Transaction) -> None:
            account = tx.read(accounts("ann"))
            attempts.append(0)
            if len(attempts) == 1:
                start(rival.execute, deposit, "ann").result()
            elif len(attempts) == 2:
                turn = f"{storage.prefix}:{{default}}:turn"
                eventually(lambda: valkey_server.ask("EXISTS", turn) == 0)
            account.append(Deposited(1))

        assert store.execute(slow).attempts == 3
        assert store.state(accounts("ann")).balance == 2


def test_those_who_wait_get_their_turn_in_the_order_they_came(valkey: Valkey, valkey_server: ValkeyServer) -> None:
    with logs(valkey, 6) as (holder, *waiting):
        before = holder.head()
        holder.lock(asking(before))
        order: list[int] = []

        def wait(number: int, log: Log) -> None:
            log.lock(asking(before))
            order.append(number)
            log.unlock()

        started = []
        for number, log in enumerate(waiting):
            started.append(start(wait, number, log))
            eventually(lambda: _blocked(valkey_server) > len(started) - 1)
        holder.unlock()
        for each in started:
            each.result()
        assert order == list(range(5))


def test_an_append_that_waited_and_lost_decides_again_before_the_others(
    valkey: Valkey, valkey_server: ValkeyServer
) -> None:
    with logs(valkey, 3) as (holder, loser, other):
        scribe = Scribe(holder)
        before = holder.head()
        holder.lock(asking(before))
        losing = start(loser.append, appending([new("a:1")], before, selection("a:1")))
        eventually(lambda: _blocked(valkey_server))
        scribe.write(new("a:1"))
        assert isinstance(losing.result(), Conflict)
        late = start(other.append, appending([new("b:1")], before, selection("b:1")))
        news = loser.lock(asking(before, selection("a:1")))
        written = appending([new("a:1")], news.head, selection("a:1"))
        scribe.wrote(written, loser.append(written))
        answer = late.result()
        assert isinstance(answer, Appended)


def test_a_lock_that_nobody_gives_back_is_waited_for_until_the_timeout(valkey_server: ValkeyServer) -> None:
    storage = valkey_server.storage(timeout=0.3, lease=100.0)
    with logs(storage, 2) as (holder, other):
        holder.lock(asking(EMPTY))
        with pytest.raises(StoreUnavailableError, match="another writer has held the lock for 0.3 seconds"):
            other.append(appending([new("a:1")], EMPTY))
        with pytest.raises(StoreUnavailableError, match="another writer"):
            other.lock(asking(EMPTY))
        holder.unlock()
        Scribe(other).write(new("a:1"))


def test_who_waits_for_the_lock_hears_at_once_that_the_store_is_closed(valkey_server: ValkeyServer) -> None:
    storage = valkey_server.storage(timeout=60.0, lease=100.0)

    async def close_while_waiting(write: Callable[[AsyncLog], Awaitable[object]]) -> None:
        engine = await storage.open_async()
        writing = asyncio.ensure_future(write(await engine.log("n")))
        await soon(lambda: _blocked(valkey_server))
        async with asyncio.timeout(10):
            await engine.close()
            with pytest.raises(StoreClosedError):
                await writing

    with one_log(storage, "n") as holder:
        holder.lock(asking(EMPTY))
        append = appending([new("a:1")], EMPTY)
        for write in (lambda log: log.append(append), lambda log: log.lock(append.check)):
            asyncio.run(close_while_waiting(write))


def _blocked(server: ValkeyServer) -> int:
    """How many clients block."""
    info = server.ask("INFO", "clients")
    assert isinstance(info, bytes)
    return int(info.decode().partition("blocked_clients:")[2].split()[0])


# -- Connections -------------------------------------------------------------------------------------------------------


def test_readers_share_a_bounded_number_of_connections(valkey_server: ValkeyServer) -> None:
    """More readers than connections wait for one another; the connections are used again."""
    with one_log(valkey_server.storage(connections=2)) as log:
        Scribe(log).write(*several(10, "a:1"))
        before = _connected(valkey_server)
        pages = race([lambda: log.read(LogPage(0, 10))] * 16)
        assert [len(page) for page in pages] == [10] * 16  # type: ignore[arg-type]  # pages
        assert _connected(valkey_server) <= before + 2


def test_readers_that_get_no_connection_say_so(valkey_server: ValkeyServer) -> None:
    with one_log(valkey_server.storage(connections=1, timeout=0.2)) as log:
        log.head()
        with valkey_server.frozen():
            outcomes = race([lambda: log.get("places", ["a"])] * 3)
        assert all(isinstance(outcome, StoreUnavailableError) for outcome in outcomes)
        assert any("all 1 connections" in str(outcome) for outcome in outcomes)
        assert log.get("places", ["a"]) == {}


def _connected(server: ValkeyServer) -> int:
    info = server.ask("INFO", "clients")
    assert isinstance(info, bytes)
    return int(info.decode().partition("connected_clients:")[2].split()[0])
