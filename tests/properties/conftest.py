"""How long the properties are looked at: a little in every run of the tests, long when FACTFOLD_SOAK=1 is set."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.properties.callers import Databases

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile("brief", max_examples=50, deadline=None, suppress_health_check=SLOW)
settings.register_profile("soak", max_examples=5_000, deadline=None, suppress_health_check=SLOW, print_blob=True)
settings.load_profile("soak" if os.environ.get("FACTFOLD_SOAK") == "1" else "brief")


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Databases:
    """Makes empty databases; starts a server only when there is need of it."""
    return Databases(lambda: request.getfixturevalue("postgres_server"))
