"""The fixture `async_store`, which the pytest plugin adds where pytest-asyncio is used."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import pytest_asyncio

if TYPE_CHECKING:
    from factfold import AsyncStore
    from factfold.testing.clock import Clock
    from factfold.testing.plugin import Place


@pytest_asyncio.fixture
async def async_store(factfold_place: Place, factfold_clock: Clock) -> AsyncGenerator[AsyncStore]:
    """An AsyncStore on a log that this test alone uses, once for each engine; its clock is `factfold_clock`."""
    from factfold import AsyncStore

    async with AsyncStore(factfold_place.storage, namespace=factfold_place.namespace, clock=factfold_clock) as opened:
        yield opened
