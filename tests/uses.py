"""Whatever is done with a store: for tests that have all of it refused."""

from __future__ import annotations

from collections.abc import Callable

from factfold import Store
from tests.ledger import accounts, deposit

USES: list[Callable[[Store], object]] = [
    lambda store: store.execute(deposit, "ann", 1),
    lambda store: store.execute_once("key", deposit, "ann", 1),
    lambda store: store.state(accounts("ann")),
    lambda store: store.version(accounts("ann")),
    lambda store: list(store.events(accounts("ann"))),
    lambda store: list(store.log()),
    lambda store: list(store.streams()),
    lambda store: store.head(),
    lambda store: store.verify(accounts),
    lambda store: store.namespace("other"),
    lambda store: store.__enter__(),
]
