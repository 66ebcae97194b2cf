"""Namespaces in a cluster of Valkey servers: spread over its nodes, followed when they move or a node is lost."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from redis.crc import key_slot

from factfold import AsyncStore, Retry, Store, Transaction
from factfold.errors import StoreUnavailableError
from factfold.storage.base import Put, Swap
from factfold.storage.valkey import Valkey
from factfold.testing.contract.running import logs
from factfold.testing.contract.scribe import Scribe, appending, asking, loading, new, selection, several
from tests.ledger import Deposited, accounts
from tests.racing import eventually, start
from tests.servers.valkey import ValkeyCluster, ValkeyServer

PATIENT = Retry(max_attempts=100, base=0.02, cap=0.2)


def deposit(tx: Transaction, id: str, amount: int = 1) -> int:
    account = tx.read(accounts(id))
    account.append(Deposited(amount))
    return account.state.balance


def namespace_at(storage: Valkey, cluster: ValkeyCluster, node: ValkeyServer) -> str:
    """A namespace whose slot this primary serves."""
    number = cluster.primaries.index(node)
    low, high = (cluster.SLOTS * each // 3 for each in (number, number + 1))
    while True:
        name = uuid4().hex
        if low <= key_slot(f"{storage.prefix}:{{{name}}}:log".encode()) < high:
            return name


def test_namespaces_spread_over_the_nodes_and_everything_works_in_each(valkey_cluster: ValkeyCluster) -> None:
    storage = valkey_cluster.storage()
    for node in valkey_cluster.primaries:
        before = node.ask("DBSIZE")
        with logs(storage, 2, namespace_at(storage, valkey_cluster, node)) as (log, other):
            scribe = Scribe(log)
            scribe.write(*several(3, "a:1"), new("a:1", "b:1", type="Moved"))
            scribe.assert_told(other.check(asking(scribe.events[0].head, selection("b:1"))), scribe.events[0].head, {0})
            other.lock(asking(scribe.head))
            late = start(log.append, appending([new("c:1")], scribe.head))
            append = appending([new("a:1")], scribe.head, selection("a:1"))
            scribe.wrote(append, other.append(append))
            late.result()
            assert log.resolve(append) is not None
            assert log.load(loading(selection("a:1"))).slices[0].version == 5
            assert [info.id for info in log.streams(None, "", 10)] == ["a:1", "b:1", "c:1"]
            log.put("places", "a", b"1")
            assert other.get("places", ["a"]) == {"a": b"1"}
            assert other.swap(Swap(Put("places", "a", b"2"), b"1", (Put("elsewhere", "b", b"3"),)))
            assert [entry.value for entry in log.entries("elsewhere", "", 10)] == [b"3"]
            assert log.wait(3, 1.0) == 6
            assert list(log.problems()) == []
        assert node.ask("DBSIZE") != before


def test_an_event_loop_works_in_a_cluster(valkey_cluster: ValkeyCluster) -> None:
    storage = valkey_cluster.storage()

    async def scenario() -> None:
        async with AsyncStore(storage) as store:
            stores = [store.namespace(namespace_at(storage, valkey_cluster, node)) for node in valkey_cluster.primaries]
            for each in stores:
                receipts = await asyncio.gather(*(each.execute(deposit, "ann") for _ in range(20)))
                assert sorted(receipt.result for receipt in receipts) == list(range(1, 21))
                assert (await each.verify(accounts)).ok

    asyncio.run(scenario())


def test_any_node_will_do_to_begin_with(valkey_cluster: ValkeyCluster) -> None:
    storage = valkey_cluster.storage()
    for node in (*valkey_cluster.primaries, *valkey_cluster.replicas):
        alone = Valkey(f"valkey://127.0.0.1:{node.port}", cluster=True, prefix=storage.prefix)
        with Store(alone) as store:
            store.execute(deposit, "ann")
    with Store(storage) as store:
        assert store.head() == 6


def test_a_cluster_has_to_be_asked_for(valkey_cluster: ValkeyCluster) -> None:
    with pytest.raises(StoreUnavailableError, match="a node of a cluster.*cluster=true"):
        Valkey(f"valkey://127.0.0.1:{valkey_cluster.primaries[0].port}").open()


def test_a_slot_that_moves_is_followed_while_it_is_written_to(valkey_cluster: ValkeyCluster) -> None:
    """Moved key by key: meanwhile some requests are redirected, and some have to wait."""
    source, target = valkey_cluster.primaries[:2]
    storage = valkey_cluster.storage(timeout=10.0)
    namespace = namespace_at(storage, valkey_cluster, source)
    slot = key_slot(f"{storage.prefix}:{{{namespace}}}:log".encode())
    ids = {node: valkey_cluster.id_of(node) for node in (source, target)}
    with Store(storage, namespace=namespace, retry=PATIENT) as store:
        store.execute(deposit, "ann")
        stop = False

        def write() -> int:
            written = 1
            while not stop:
                store.execute_once(f"{written}", deposit, "ann")
                written += 1
            return written

        writing = start(write)
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            assert isinstance(keys, list)
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "REPLACE", "KEYS", *keys)
        for node in (target, source, valkey_cluster.primaries[2]):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
        seen = store.head()
        eventually(lambda: store.head() > seen + 20)
        stop = True
        written = writing.result()
        assert store.state(accounts("ann")).balance == written
        assert store.verify(accounts).ok


def test_a_failed_over_primary_is_followed(valkey_cluster: ValkeyCluster) -> None:
    """A primary is killed while a store is open: its replica takes over, with all that it confirmed."""
    confirmed = valkey_cluster.storage(min_replicas=1)
    storage = valkey_cluster.storage(timeout=15.0, prefix=confirmed.prefix)
    namespace = namespace_at(storage, valkey_cluster, valkey_cluster.primaries[2])
    with Store(confirmed, namespace=namespace) as store:
        for balance in range(1, 6):
            assert store.execute(deposit, "ann").result == balance
    with Store(storage, namespace=namespace, retry=PATIENT) as store:
        assert store.state(accounts("ann")).balance == 5
        valkey_cluster.primaries[2].kill()
        try:
            for balance in range(6, 11):
                assert store.execute(deposit, "ann").result == balance
        finally:
            valkey_cluster.revive(2)
        assert store.verify(accounts).ok
        assert store.execute(deposit, "ann").result == 11
