"""The storages of factfold keep the storage contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from factfold.storage.base import Storage
from factfold.storage.memory import Memory
from factfold.storage.postgres import Postgres
from factfold.storage.sqlite import SQLite
from factfold.storage.valkey import Valkey
from factfold.testing import StorageContract
from tests.servers.valkey import ValkeyServer, find_redis


class TestMemory(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage:
        return Memory()


class TestSQLite(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return SQLite(tmp_path / "events.db")


class TestPostgres(StorageContract):
    @pytest.fixture
    def storage(self, direct: Postgres) -> Storage:
        return direct


class TestValkey(StorageContract):
    @pytest.fixture
    def storage(self, valkey: Valkey) -> Storage:
        return valkey


if find_redis() is not None:  # rather than a hundred tests that are skipped

    class TestRedis(StorageContract):
        @pytest.fixture
        def storage(self, redis_server: ValkeyServer) -> Storage:
            return redis_server.storage()
