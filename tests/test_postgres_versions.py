"""The storage contract on the oldest PostgreSQL that the machine has, besides the newest one that all else runs on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from factfold.storage.base import Storage
from factfold.storage.postgres import Postgres
from factfold.testing.contract.appends import AppendContract
from factfold.testing.contract.emptiness import EmptyContract
from factfold.testing.contract.locks import LockContract
from factfold.testing.contract.news import NewsContract
from factfold.testing.contract.odd import OddContract
from factfold.testing.contract.outcomes import OutcomeContract
from factfold.testing.contract.pages import PageContract
from factfold.testing.contract.slices import SliceContract
from factfold.testing.contract.swaps import SwapContract
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="module")
def older(other_postgres_server: PostgresServer) -> Iterator[Postgres]:
    """A storage on the older server; its schema serves all tests of this file, which use namespaces of their own."""
    with other_postgres_server.fresh_schema() as schema:
        yield Postgres(other_postgres_server.url, schema=schema)


class TestOlderPostgres(
    AppendContract,
    EmptyContract,
    NewsContract,
    OutcomeContract,
    SliceContract,
    PageContract,
    OddContract,
    LockContract,
    SwapContract,
):
    """The statements are what versions may differ in: so the tests of processes, forks and event loops are left out."""

    @pytest.fixture
    def storage(self, older: Postgres) -> Storage:
        return older
