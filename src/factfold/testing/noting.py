"""Stores that note what is appended by way of them, with the time and the ids of a scenario."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Concatenate, ParamSpec, TypeVar, cast

from factfold.aio import AsyncStore
from factfold.commands import check_command
from factfold.events import RecordedEvent
from factfold.receipt import Receipt
from factfold.settings import Settings
from factfold.store import Store
from factfold.testing.fixed import Fixed
from factfold.testing.setting import Given, append, giving
from factfold.transaction import Transaction

P = ParamSpec("P")
R = TypeVar("R")

LIMIT = 1000
"""How many commands that append something are executed, before it is said that this has no end."""


class Notes:
    """What was appended since somebody began to take notes; and the time, and the ids, that commands get."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.appended: list[RecordedEvent[object]] = []
        self._ids = 0
        self._commands = 0

    def count_anew(self) -> None:
        """From now on as many commands may be executed as before."""
        self._commands = 0

    def fixed(self, command: Callable[..., object]) -> Fixed:
        """A command, with its time and its ids. Raises InvalidCommandError; RuntimeError when there were too many."""
        check_command(command)
        if self._commands >= LIMIT:
            raise RuntimeError(
                f"{LIMIT} commands were executed that appended something, and there is no end: does it react to what "
                "it appends itself?"
            )
        return Fixed(command, self.now, self._ids)

    def take(self, command: Fixed, receipt: Receipt[object]) -> None:
        """Notes what came of it."""
        self._ids = command.ids
        appended = [one for one in receipt.events if not one.type.startswith("$")]
        self.appended += appended
        self._commands += bool(appended)


class NotingStore(Store):
    """A store that notes what is appended by way of it."""

    def __init__(self, beside: Store, notes: Notes) -> None:
        settings = settings_of(beside)
        super().__init__(
            settings.storage, namespace=settings.namespace, clock=lambda: notes.now, transform=settings.transform
        )
        self._notes = notes

    def execute(
        self, command: Callable[Concatenate[Transaction, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Receipt[R]:
        """As `Store.execute`."""
        fixed = self._notes.fixed(command)
        receipt = super().execute(fixed, *args, **kwargs)
        self._notes.take(fixed, receipt)
        return cast("Receipt[R]", receipt)  # it gives what the command returns

    def give(self, given: Given) -> None:
        """Appends what happened before, which nobody notes."""
        with giving(given):
            super().execute(append, given)


class AsyncNotingStore(AsyncStore):
    """The same in an event loop."""

    def __init__(self, beside: Store, notes: Notes) -> None:
        settings = settings_of(beside)
        super().__init__(
            settings.storage, namespace=settings.namespace, clock=lambda: notes.now, transform=settings.transform
        )
        self._notes = notes

    async def execute(
        self, command: Callable[Concatenate[Transaction, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Receipt[R]:
        """As `AsyncStore.execute`."""
        fixed = self._notes.fixed(command)
        receipt = await super().execute(fixed, *args, **kwargs)
        self._notes.take(fixed, receipt)
        return cast("Receipt[R]", receipt)  # as above

    async def give(self, given: Given) -> None:
        """Appends what happened before, which nobody notes."""
        with giving(given):
            await super().execute(append, given)


def settings_of(store: Store) -> Settings:
    """What another store needs to be on the same log."""
    return store._settings  # pyright: ignore[reportPrivateUsage]  # nobody else has to know
