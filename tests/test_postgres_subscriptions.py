"""Subscriptions outlive PostgreSQL: cut connections, a server that is killed and one that is restored from a backup."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from factfold import AsyncStore, LogDivergedError, Retry, Store, StoreUnavailableError
from factfold.storage.postgres import Postgres
from tests.ledger import accounts, deposit
from tests.racing import Started, eventually, start, within
from tests.servers.postgres import PostgresServer
from tests.servers.proxy import Proxy

Disturb = Callable[[PostgresServer, Proxy], None]


def connections_are_cut(server: PostgresServer, proxy: Proxy) -> None:
    proxy.cut()


def connections_are_abandoned(server: PostgresServer, proxy: Proxy) -> None:
    proxy.abandon()


def the_server_is_killed(server: PostgresServer, proxy: Proxy) -> None:
    server.kill()
    server.start()


@pytest.fixture(autouse=True)
def short_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds the server away asks again soon."""
    for module in ("deliveries", "subscriptions", "aio_subscriptions"):
        monkeypatch.setattr(f"factfold.{module}.AWAY", Retry(base=0.01, cap=0.1))


class Collected:
    """What comes to a subscription, in a thread of its own."""

    def __init__(self, subscription: Any) -> None:
        self.positions: list[int] = []
        self._started: Started[None] = start(self._collect, subscription)

    def _collect(self, subscription: Any) -> None:
        for recorded in subscription:
            self.positions.append(recorded.position)

    def wait_for(self, count: int) -> None:
        """Returns when so many events have come."""
        eventually(lambda: len(self.positions) >= count)

    def end(self) -> None:
        """Returns when the iteration has ended."""
        self._started.result()


@pytest.mark.parametrize("disturb", [connections_are_cut, connections_are_abandoned, the_server_is_killed])
def test_nothing_is_lost_or_repeated_while_the_server_is_in_trouble(
    disturb: Disturb,
    direct: Postgres,
    impatient: Postgres,
    postgres_server: PostgresServer,
    proxy: Proxy,
    running_again: None,
) -> None:
    with Store(direct) as writer, Store(impatient) as store:
        subscriptions = [store.subscribe(types=accounts), store.subscribe(types=accounts, after=0)]
        collected = [Collected(subscription) for subscription in subscriptions]
        for _ in range(3):
            for _ in range(10):
                writer.execute(deposit, "ann")
            disturb(postgres_server, proxy)
            for _ in range(5):
                with contextlib.suppress(StoreUnavailableError):  # of the writer's own connection: nothing was written
                    writer.execute(deposit, "ann")
            for each in collected:
                each.wait_for(writer.head())
        everything = list(range(1, writer.head() + 1))
        for subscription, each in zip(subscriptions, collected, strict=True):
            subscription.close()
            each.end()
            assert each.positions == everything


async def test_nothing_is_lost_or_repeated_while_connections_are_cut_async(
    direct: Postgres, impatient: Postgres, proxy: Proxy
) -> None:
    async with (
        AsyncStore(direct) as writer,
        AsyncStore(impatient) as store,
        store.subscribe(types=accounts) as subscription,
    ):

        async def collect() -> list[int]:
            return [(await anext(subscription)).position for _ in range(60)]

        collecting = asyncio.create_task(collect())
        for number in range(60):
            await writer.execute(deposit, "ann")
            if number % 12 == 5:
                await asyncio.to_thread(proxy.cut)
        assert await within(collecting) == list(range(1, 61))


def test_a_restored_backup_ends_the_subscription(new_postgres_server: PostgresServer) -> None:
    storage = Postgres(new_postgres_server.url)
    with Store(storage) as store:
        store.execute(deposit, "ann")
        backup = new_postgres_server.backup()
        subscription = store.subscribe(types=accounts, after=0)
        for _ in range(3):
            store.execute(deposit, "ann")
        assert [next(subscription).position for _ in range(4)] == [1, 2, 3, 4]
        waiting = start(next, subscription)

        new_postgres_server.restore(backup)

        assert isinstance(waiting.error(), LogDivergedError)
