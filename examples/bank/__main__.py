"""A day at the bank: python -m examples.bank [URL]."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

from examples.bank.accounts import accounts
from examples.bank.commands import agree_overdraft, balance, close, deposit, open_account, transfer, withdraw
from examples.bank.errors import BankError, InsufficientFundsError
from examples.bank.money import AccountId, Money, in_euros
from examples.running import run
from factfold import Store


def main(url: str) -> None:
    """Tells what happens on a store at this url."""
    alice, bob, rent = AccountId("alice"), AccountId("bob"), AccountId("rent")
    with Store(url) as store:
        for id, owner in ((alice, "Alice Liddell"), (bob, "Bob Cratchit"), (rent, "E. Scrooge")):
            store.execute(open_account, id, owner)
        print("alice deposits 100 EUR and has", in_euros(store.execute(deposit, alice, Money(100_00)).result))

        receipt = store.execute(transfer, alice, bob, Money(30_00), "lunch")
        print(f"alice transfers 30 EUR to bob and has {in_euros(receipt.result)}: up to position {receipt.position}")

        attempts: dict[str, Callable[[], object]] = {
            "bob transfers 50 EUR to alice": lambda: store.execute(transfer, bob, alice, Money(50_00)),
            "bob closes his account": lambda: store.execute(close, bob),
            "bob withdraws -5 EUR": lambda: store.execute(withdraw, bob, Money(-5_00)),
        }
        for what, attempt in attempts.items():
            try:
                attempt()
            except BankError as refusal:
                print(f"{what}: refused, {refusal}")

        store.execute(agree_overdraft, bob, 20_00)
        print("bob may overdraw 20 EUR; he transfers 50 EUR to alice, and his order arrives twice:")
        for _ in range(2):
            receipt = store.execute_once("order-4711", transfer, bob, alice, Money(50_00))
            how = "answered from the first time" if receipt.repeated else "executed"
            print(f"  {how}: bob has {in_euros(receipt.result)}, up to position {receipt.position}")

        paid = _pay_at_once(store, alice, rent, Money(25_00), 16)
        print(f"alice sends 25 EUR of rent 16 times at once: {paid} times it was there")
        print("bob deposits 20 EUR and has", in_euros(store.execute(deposit, bob, Money(20_00)).result))
        print("alice closes her account,", in_euros(store.execute(close, alice, bob).result), "go to bob")

        print("\nThe log:")
        for recorded in store.log(types=accounts):
            print(f"{recorded.position:3}  {', '.join(recorded.streams):26}  {recorded.event}")
        left = sum(store.execute(balance, id).result for id in (bob, rent))
        print(f"\n120.00 EUR were deposited, {in_euros(left)} are there; problems: {store.verify(accounts).problems}")


def _pay_at_once(store: Store, source: AccountId, target: AccountId, amount: Money, threads: int) -> int:
    """How many of so many payments at the same time were covered."""
    covered: list[int] = []

    def pay() -> None:
        with suppress(InsufficientFundsError):
            covered.append(store.execute(transfer, source, target, amount, "rent").attempts)

    paying = [Thread(target=pay) for _ in range(threads)]
    for thread in paying:
        thread.start()
    for thread in paying:
        thread.join()
    return len(covered)


if __name__ == "__main__":
    sys.exit(run("bank", main, "Accounts, transfers, and what the bank refuses."))
