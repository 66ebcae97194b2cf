"""Namespaces: logs of their own, whose stores share connections and are closed with the one that has these."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from functools import partial

import pytest

from factfold import (
    AsyncStore,
    Store,
    StoreClosedError,
)
from factfold.storage.base import Storage
from tests.conftest import MakeStore
from tests.engines import EVERY_ENGINE
from tests.ledger import accounts, deposit
from tests.racing import eventually, race, soon, start

ENGINES = EVERY_ENGINE


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    """Closing a store ends the threads that it started."""
    before = set(threading.enumerate())
    yield
    eventually(lambda: {thread for thread in threading.enumerate() if thread.name == "factfold"} <= before)


def test_namespaces_are_logs_of_their_own(store: Store) -> None:
    other = store.namespace("other")
    store.execute(deposit, "ann", 1)
    other.execute(deposit, "ann", 10)
    store.execute_once("key", deposit, "ann", 1)

    assert not other.execute_once("key", deposit, "ann", 10).repeated
    assert (store.state(accounts("ann")).balance, other.state(accounts("ann")).balance) == (2, 20)
    assert (store.head(), other.head()) == (3, 3)
    assert [recorded.position for recorded in other.log()] == [1, 2]
    assert other.verify(accounts).ok


def test_a_namespace_is_found_again(make_store: MakeStore) -> None:
    make_store(namespace="other").execute(deposit, "ann", 10)
    assert make_store().namespace("other").state(accounts("ann")).balance == 10
    assert make_store(namespace="Ünïcode 1").head() == 0


def test_a_namespace_can_be_closed_on_its_own(store: Store) -> None:
    other = store.namespace("other")
    other.execute(deposit, "ann", 1)
    other.close()

    with pytest.raises(StoreClosedError):
        other.execute(deposit, "ann", 1)
    assert store.execute(deposit, "ann", 1).result == 1
    assert store.namespace("other").state(accounts("ann")).balance == 1


def test_a_store_closes_its_namespaces(store: Store) -> None:
    others = [store.namespace("a"), store.namespace("a").namespace("b")]
    for each in others:
        each.execute(deposit, "ann", 1)
    store.close()
    for each in others:
        with pytest.raises(StoreClosedError):
            each.head()


def test_a_namespace_that_is_asked_for_again_is_the_same_store(store: Store) -> None:
    store.execute(deposit, "ann", 1)
    assert store.namespace("default").state(accounts("ann")).balance == 1
    other = store.namespace("other")
    other.execute(deposit, "ann", 1)
    commands = other.stats().commands
    for again in (store.namespace("other"), store.namespace("a").namespace("other")):
        again.execute(deposit, "ann", 1)
    assert other.stats().commands == commands + 2
    assert other.stats().loads == 1
    assert store.namespace("other").namespace("default").stats().commands == store.stats().commands


def test_threads_that_ask_for_a_namespace_at_once_get_one_store(storage: Storage) -> None:
    with Store(storage) as store:
        assert len(set(race([partial(store.namespace, "other")] * 8))) == 1


def test_a_namespace_that_was_closed_can_be_asked_for_again(store: Store) -> None:
    other = store.namespace("other")
    other.execute(deposit, "ann", 1)
    other.close()
    again = store.namespace("other")
    assert again.execute(deposit, "ann", 1).result == 2
    store.close()
    with pytest.raises(StoreClosedError):
        again.head()


def test_a_closed_store_gives_no_namespace(store: Store) -> None:
    other = store.namespace("other")
    other.close()
    with pytest.raises(StoreClosedError, match="'other'"):
        other.namespace("third")
    store.close()
    with pytest.raises(StoreClosedError, match="'default'"):
        store.namespace("third")


def test_a_namespace_outlives_the_one_that_it_was_made_through(store: Store) -> None:
    other = store.namespace("a").namespace("b")
    assert other.execute(deposit, "ann", 1).result == 1
    store.namespace("a").close()
    assert other.execute(deposit, "ann", 1).result == 2


def test_a_namespace_that_nobody_has_any_more_is_let_go(storage: Storage) -> None:
    with Store(storage) as store:
        other = store.namespace("other")
        other.execute(deposit, "ann", 1)
        trace, trace_of_its_log = weakref.ref(other), weakref.ref(other._ready()[1])
        del other
        gc.collect()
        assert trace() is None
        assert trace_of_its_log() is None
        assert store.namespace("other").state(accounts("ann")).balance == 1


def is_idle(store: AsyncStore) -> bool:
    return store._leader is None and not store._loaders


async def test_a_namespace_of_an_async_store_is_let_go_too(storage: Storage) -> None:
    async with AsyncStore(storage) as store:
        other = store.namespace("other")
        await other.execute(deposit, "ann", 1)
        await soon(partial(is_idle, other))
        trace = weakref.ref(other)
        del other
        gc.collect()
        assert trace() is None
        assert (await store.namespace("other").state(accounts("ann"))).balance == 1


def test_writers_of_two_namespaces_do_not_disturb_each_other(storage: Storage) -> None:
    with Store(storage) as store:
        stores = [store, store.namespace("a"), store.namespace("b")]

        def fill(each: Store) -> None:
            for _ in range(20):
                each.execute(deposit, "ann", 1)

        started = [start(fill, each) for each in stores * 2]
        for each in started:
            each.result()
        assert [each.state(accounts("ann")).balance for each in stores] == [40] * 3
        assert [each.stats().conflicts for each in stores] == [0] * 3
