"""Made-up traffic at the bank, in a process of its own: python -m examples.dashboard.traffic FILE [SECONDS]."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from random import Random

from examples.bank.accounts import Status, account
from examples.bank.commands import deposit, open_account, transfer
from examples.bank.errors import InsufficientFundsError
from examples.bank.money import AccountId, Money
from factfold import AsyncStore, Transaction
from factfold.storage.sqlite import SQLite

OWNERS = ("Alice Liddell", "Bob Cratchit", "Ebenezer Scrooge", "Emma Woodhouse", "Ishmael", "Jane Eyre", "Pip Pirrip")
FIRST_DEPOSIT = Money(1000_00)
REFERENCES = ("rent", "lunch", "books", "a debt of honour", "")
PAUSE = 0.03
"""Seconds between two transfers of one owner, on average."""


def ids() -> list[AccountId]:
    """Each owner has one account."""
    return [AccountId(owner.split()[0].lower()) for owner in OWNERS]


def welcome(tx: Transaction, id: AccountId, owner: str) -> None:
    """Opens an account with a first deposit, if that was not done before."""
    if tx.read(account(id)).state.status is Status.UNKNOWN:
        tx.call(open_account, id, owner)
        tx.call(deposit, id, FIRST_DEPOSIT)


async def trade(store: AsyncStore, id: AccountId, until: float) -> None:
    """Sends money to others, now a little and now much, and sometimes more than there is."""
    chance = Random()
    others = [other for other in ids() if other != id]
    while time.monotonic() < until:
        amount = Money(chance.randrange(1, 400_00))
        with suppress(InsufficientFundsError):
            await store.execute(transfer, id, chance.choice(others), amount, chance.choice(REFERENCES))
        await asyncio.sleep(chance.expovariate(1 / PAUSE))


async def main(file: str, seconds: float) -> None:
    """All owners trade for so many seconds."""
    async with AsyncStore(SQLite(file)) as store, asyncio.TaskGroup() as owners:
        for id, owner in zip(ids(), OWNERS, strict=True):
            await store.execute(welcome, id, owner)
        print(f"{len(OWNERS)} owners send money to each other for {seconds:g} s", flush=True)
        until = time.monotonic() + seconds
        for id in ids():
            owners.create_task(trade(store, id, until))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 60.0))
