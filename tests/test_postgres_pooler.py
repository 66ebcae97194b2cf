"""PostgreSQL behind a pooler in transaction mode: the same promises, though no two transactions share a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from factfold.storage.base import Storage
from factfold.storage.postgres import Postgres
from factfold.testing.contract.appends import AppendContract
from factfold.testing.contract.locks import LockContract
from factfold.testing.contract.outcomes import OutcomeContract
from factfold.testing.contract.races import RaceContract
from factfold.testing.contract.swaps import SwapContract
from tests.outcomes import callers
from tests.postgres_faults import end_backends, settle
from tests.servers.forgetting import ForgettingPooler
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="module", params=["pgbouncer", "forgetting_pooler"])
def pooled(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> Iterator[Postgres]:
    """A storage behind a pooler; its schema serves all tests of this file, which use namespaces of their own."""
    pooler: PgBouncer | ForgettingPooler = request.getfixturevalue(request.param)
    with postgres_server.fresh_schema() as schema:
        yield Postgres(pooler.url, schema=schema, pooler=True)


class TestBehindAPooler(AppendContract, OutcomeContract, LockContract, RaceContract, SwapContract):
    @pytest.fixture
    def storage(self, pooled: Postgres) -> Storage:
        return pooled


def test_a_load_of_commands_through_a_pooler(flavour: str, pooled: Postgres) -> None:
    with callers(flavour, pooled, namespace=flavour) as working:
        working.go_on(500)
    assert working.told.troubles == 0
    working.told.check(pooled, flavour)


def test_the_log_holds_what_callers_were_told_when_the_poolers_connections_break(
    flavour: str, postgres_server: PostgresServer, pooled: Postgres
) -> None:
    namespace = f"broken-{flavour}"
    with callers(flavour, pooled, namespace=namespace) as working:
        for _ in range(5):
            working.go_on()
            end_backends(postgres_server)
        working.go_on()
    settle(postgres_server)
    working.told.check(pooled, namespace)
