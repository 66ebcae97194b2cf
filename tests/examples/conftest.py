"""Several stores on one storage, as if in several processes: a store alone never conflicts with itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from factfold import Store
from factfold.storage.base import Storage


@pytest.fixture
def stores(storage: Storage) -> Iterator[tuple[Store, ...]]:
    """Four stores that see the same log."""
    with ExitStack() as closing:
        yield tuple(closing.enter_context(Store(storage)) for _ in range(4))
