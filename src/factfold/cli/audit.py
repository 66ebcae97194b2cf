"""What must hold when the demo is over, whatever was in its way: each check compares two things found independently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from factfold import RecordedEvent, Store, Transaction
from factfold.cli.bank import Account, Opened, Transferred, account_name, accounts


@dataclass(frozen=True, slots=True)
class Check:
    """A promise, whether it was kept, and the figures."""

    promise: str
    kept: bool
    figures: str


@dataclass(frozen=True, slots=True)
class Audit:
    """All checks, and the last events of the account that took part in most transfers."""

    checks: tuple[Check, ...]
    busiest: str
    last_events: tuple[RecordedEvent[Opened | Transferred], ...]

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return all(check.kept for check in self.checks)


def audit(store: Store, run: str, opened: int, deposit: int, acknowledged: int, after: int, *, whole: bool) -> Audit:
    """Checks a run of the demo: so many accounts, so many acknowledged transfers, all above a position.

    When the run is not `whole`, because a worker failed, the log may hold transfers that nobody told of.
    """
    states = store.execute(_states, run, opened).result
    replayed, transfers = _replay(store, run, after)
    balances = {account_name(run, number): state.balance for number, state in enumerate(states)}
    money, paid_in = sum(balances.values()), opened * deposit
    overdrawn = sum(balance < 0 for balance in balances.values())
    differing = sum(balances[account] != replayed[account] for account in balances)
    log = store.verify(accounts)
    checks = (
        Check("no money appeared or vanished", money == paid_in, f"{paid_in:,} paid in, {money:,} there"),
        Check("no account is overdrawn", overdrawn == 0, f"{overdrawn} of {opened:,}"),
        Check(
            "each acknowledged transfer is in the log",
            transfers == acknowledged or (not whole and transfers > acknowledged),
            f"{transfers:,} of {acknowledged:,}",
        ),
        Check("the log tells the same balances", differing == 0, f"{differing} of {opened:,} differ"),
        Check(
            "the log is whole",
            log.ok,
            f"{log.events:,} events in {log.streams:,} streams" if log.ok else "; ".join(log.problems[:3]),
        ),
    )
    number, _ = max(enumerate(states), key=lambda one: one[1].transfers)
    busiest = accounts(run, number)
    last = tuple(store.events(busiest, limit=5, backwards=True))[::-1]
    return Audit(checks, busiest.id, last)


def _states(tx: Transaction, run: str, opened: int) -> tuple[Account, ...]:
    return tuple(view.state for view in tx.read(accounts(run, number) for number in range(opened)))


def _replay(store: Store, run: str, after: int) -> tuple[Counter[str], int]:
    """The balances as the log alone tells them, without fold and cache, and the number of transfers."""
    balances: Counter[str] = Counter()
    transfers = 0
    for account, event in _of_run(store, run, after):
        match event:
            case Opened(deposit):
                balances[account] += deposit
            case Transferred(source, target, amount):
                balances[source] -= amount
                balances[target] += amount
                transfers += 1
    return balances, transfers


def _of_run(store: Store, run: str, after: int) -> Iterator[tuple[str, Opened | Transferred]]:
    """The events of one run, each with one of its accounts; a store may hold those of other runs as well."""
    start = f"{accounts.category}:{run}/"
    for recorded in store.log(types=accounts, after=after):
        stream = next(iter(recorded.streams))
        if stream.startswith(start):
            yield stream.removeprefix(f"{accounts.category}:"), recorded.event
