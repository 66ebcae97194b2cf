"""Where the properties are looked at, and how long: a little in every run of the tests, long with FACTFOLD_SOAK=1."""

from __future__ import annotations

import os
from contextlib import nullcontext
from functools import partial

import pytest
from hypothesis import HealthCheck, settings

from tests.properties.callers import NewStorage, new_memory, new_postgres, new_sqlite
from tests.servers.valkey import ValkeyServer

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile("brief", max_examples=50, deadline=None, suppress_health_check=SLOW)
settings.register_profile("soak", max_examples=5_000, deadline=None, suppress_health_check=SLOW, print_blob=True)
settings.load_profile("soak" if os.environ.get("FACTFOLD_SOAK") == "1" else "brief")


@pytest.fixture(scope="session", params=["memory", "sqlite", "postgres", "valkey"])
def new_storage(request: pytest.FixtureRequest) -> NewStorage:
    """Gives an empty database of an engine, as often as it is called."""
    if request.param == "memory":
        return new_memory
    if request.param == "sqlite":
        return new_sqlite
    if request.param == "postgres":
        return partial(new_postgres, request.getfixturevalue("postgres_server"))
    server: ValkeyServer = request.getfixturevalue("quick_valkey_server")
    return lambda: nullcontext(server.storage(durable=False))
