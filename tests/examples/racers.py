"""Sixteen callers at one moment, on several stores: what a domain forbids must not happen then either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Concatenate, ParamSpec

from factfold import Receipt, Store, Transaction
from tests.racing import race

P = ParamSpec("P")

RACERS = 16


class Race:
    """Collects commands, and executes all of them at the same moment, one store after the other taking its share."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = stores
        self._calls: list[Callable[[], object]] = []

    def run(self, command: Callable[Concatenate[Transaction, P], object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Adds a command."""
        self._calls.append(partial(self._next().execute, command, *args, **kwargs))

    def once(
        self, key: str, command: Callable[Concatenate[Transaction, P], object], /, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Adds a command that runs once per key."""
        self._calls.append(partial(self._next().execute_once, key, command, *args, **kwargs))

    def results(self, *refusals: type[Exception]) -> list[Receipt[object]]:
        """The receipts of those that were not refused. No error but these refusals is accepted."""
        outcomes = race(self._calls)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, refusals):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, Receipt)]

    def _next(self) -> Store:
        return self._stores[len(self._calls) % len(self._stores)]
