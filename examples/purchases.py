"""Replays the purchases of a music shop: each is a command over two streams, the customer and the day.

    python examples/purchases.py FILE [--store PATH]

The file begins with a header; then each line holds customer, date (yyyymmdd), number of CDs, and dollars, in any order.
Every purchase is one event in both streams. A customer's loyalty level rises with what was spent; a day is closed when
the next one begins, and sells nothing any more.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from enum import Enum
from heapq import nlargest
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from factfold import AsyncStore, FactfoldError, Transaction, event, stream
from factfold.storage.sqlite import SQLite

# -- The shop: events, states, streams ---------------------------------------------------------------------------------


@event(streams=("customer", "day"))
@dataclass(frozen=True, slots=True)
class Purchased:
    customer: str
    day: date
    cds: int
    dollars: Decimal


@dataclass(frozen=True, slots=True)
class DayClosed:
    pass


class Level(Enum):
    """How loyal a customer is."""

    BASIC = "basic"
    SILVER = "silver"
    GOLD = "gold"

    @staticmethod
    def of(spent: Decimal) -> Level:
        return Level.GOLD if spent >= 1000 else Level.SILVER if spent >= 100 else Level.BASIC


@dataclass(frozen=True, slots=True)
class Customer:
    purchases: int = 0
    cds: int = 0
    spent: Decimal = Decimal(0)
    level: Level = Level.BASIC


@dataclass(frozen=True, slots=True)
class Day:
    purchases: int = 0
    cds: int = 0
    takings: Decimal = Decimal(0)
    closed: bool = False


@stream("customer", initial=Customer())
def customers(state: Customer, event: Purchased) -> Customer:
    spent = state.spent + event.dollars
    return Customer(state.purchases + 1, state.cds + event.cds, spent, Level.of(spent))


@stream("day", initial=Day())
def days(state: Day, event: Purchased | DayClosed) -> Day:
    match event:
        case Purchased(cds=cds, dollars=dollars):
            return replace(state, purchases=state.purchases + 1, cds=state.cds + cds, takings=state.takings + dollars)
        case DayClosed():
            return replace(state, closed=True)


# -- Commands ----------------------------------------------------------------------------------------------------------


class DayIsClosedError(Exception):
    """Nothing can be bought on a day that is over."""


def buy(tx: Transaction, purchase: Purchased) -> None:
    customer, day = tx.read(customers(purchase.customer), days(purchase.day.isoformat()))
    if day.state.closed:
        raise DayIsClosedError(f"{purchase.day} is closed: {purchase.customer} cannot buy on it any more")
    tx.append(purchase, customer, day)


def close_day(tx: Transaction, day: date) -> None:
    view = tx.read(days(day.isoformat()))
    if not view.state.closed:
        view.append(DayClosed())


def all_states(
    tx: Transaction, customer_ids: Sequence[str], day_ids: Sequence[str]
) -> tuple[dict[str, Customer], dict[str, Day]]:
    of_customers = {view.stream.parts[0]: view.state for view in tx.read(map(customers, customer_ids))}
    of_days = {view.stream.parts[0]: view.state for view in tx.read(map(days, day_ids))}
    return of_customers, of_days


# -- Reading the file --------------------------------------------------------------------------------------------------

HEADER = ["customer_id", "date", "number_of_cds", "dollar_value"]
LINE = re.compile(r"\s*([0-9]{1,20})\s+([0-9]{8})\s+([0-9]{1,9})\s+([0-9]{1,9}\.[0-9]{2})\s*")


class BadInputError(Exception):
    """The arguments or the file cannot be used; says what is wrong, and where."""


def read_purchases(path: Path) -> Iterator[Purchased]:
    """The purchases in the order of the file. Raises BadInputError naming file and line."""
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            if next(lines, "").split() != HEADER:
                raise BadInputError(f"{path}:1: the header {' '.join(HEADER)!r} is expected")
            for number, line in enumerate(lines, 2):
                yield _purchase(line, f"{path}:{number}")
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}") from error


def _purchase(line: str, where: str) -> Purchased:
    found = LINE.fullmatch(line)
    if found is None:
        raise BadInputError(f"{where}: 'customer yyyymmdd CDs dollars.cents' is expected, this is {line.strip()!r}")
    customer, day, cds, dollars = found.groups()
    try:
        return Purchased(customer, date.fromisoformat(day), int(cds), Decimal(dollars))
    except ValueError:
        raise BadInputError(f"{where}: {day} is no date (yyyymmdd)") from None


# -- The replay --------------------------------------------------------------------------------------------------------


async def replay(store: AsyncStore, purchases: Sequence[Purchased]) -> None:
    """Runs the commands day by day. Within a day their order does not matter, so all are under way at once."""
    over: date | None = None
    for day, of_day in groupby(sorted(purchases, key=lambda one: one.day), key=lambda one: one.day):
        closing = [] if over is None else [store.execute(close_day, over)]
        await asyncio.gather(*closing, *(store.execute(buy, purchase) for purchase in of_day))
        over = day


@dataclass(frozen=True, slots=True)
class Report:
    """What the streams hold when all is replayed, and what `verify` found wrong."""

    customers: dict[str, Customer]
    days: dict[str, Day]
    problems: tuple[str, ...]

    @property
    def totals(self) -> tuple[int, int, Decimal]:
        """Purchases, CDs and dollars, as the customers' streams tell them."""
        return _totals((one.purchases, one.cds, one.spent) for one in self.customers.values())

    def differences(self, purchases: Sequence[Purchased]) -> Iterator[str]:
        """Where the streams and the file do not tell the same, one line each."""
        by_file = _totals((1, one.cds, one.dollars) for one in purchases)
        by_day = _totals((one.purchases, one.cds, one.takings) for one in self.days.values())
        for who, totals in (("the customers", self.totals), ("the days", by_day)):
            if totals != by_file:
                yield f"{who} tell {totals}, the file {by_file}"
        yield from self.problems

    def __str__(self) -> str:
        purchases, cds, dollars = self.totals
        levels = Counter(one.level for one in self.customers.values())
        best = nlargest(10, self.customers.items(), key=lambda one: one[1].spent)
        lines = [
            f"customers  {len(self.customers):12,}   " + ", ".join(f"{levels[one]:,} {one.value}" for one in Level),
            f"days       {len(self.days):12,}   {sum(day.closed for day in self.days.values()):,} of them closed",
            f"purchases  {purchases:12,}",
            f"CDs        {cds:12,}",
            f"dollars    {dollars:12,.2f}",
            "",
            "The ten best customers",
            "  id        level   purchases    CDs     dollars",
        ]
        for id, one in best:
            lines.append(f"  {id:8}  {one.level.value:6}  {one.purchases:9,}  {one.cds:5,}  {one.spent:10,.2f}")
        return "\n".join(lines)


async def report(store: AsyncStore) -> Report:
    """Reads the state of every customer and every day, all in one command: as of one position of the log."""
    ids = [[info.id.partition(":")[2] async for info in store.streams(kind)] for kind in ("customer", "day")]
    states = (await store.execute(all_states, *ids)).result
    return Report(*states, (await store.verify(customers, days)).problems)


def _totals(each: Iterable[tuple[int, int, Decimal]]) -> tuple[int, int, Decimal]:
    purchases, cds, dollars = 0, 0, Decimal(0)
    for one in each:
        purchases, cds, dollars = purchases + one[0], cds + one[1], dollars + one[2]
    return purchases, cds, dollars


async def run(purchases: Sequence[Purchased], file: Path) -> int:
    """Replays into a new store and reports. Returns the exit status."""
    # A cache with room for all customers: each is then folded as its purchases happen, and never loaded again.
    async with AsyncStore(SQLite(file), cache_size=100_000) as store:
        if await store.head():
            raise BadInputError(f"{file}: it holds events already, and a day is replayed once. Give a new file")
        started = perf_counter()
        await replay(store, purchases)
        seconds = perf_counter() - started
        found = await report(store)
    print(f"{len(purchases):,} purchases replayed in {seconds:.1f} s, {len(purchases) / seconds:,.0f}/s")
    print(found)
    wrong = list(found.differences(purchases))
    print("\nThe log is whole, and customers, days and file tell the same." if not wrong else "")
    for line in wrong:
        print("WRONG:", line)
    return 1 if wrong else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the example; returns its exit status: 1 when a figure is wrong, 2 when the input is."""
    parser = argparse.ArgumentParser(prog="purchases.py", description="Replays the purchases of a music shop.")
    parser.add_argument("file", metavar="FILE", type=Path, help="the purchases: customer, yyyymmdd, CDs, dollars")
    parser.add_argument("--store", metavar="PATH", type=Path, help="a new SQLite file (default: a temporary one)")
    given = parser.parse_args(arguments)
    try:
        purchases = list(read_purchases(given.file))
        if given.store is not None:
            return asyncio.run(run(purchases, given.store))
        with TemporaryDirectory(prefix="purchases-") as directory:
            return asyncio.run(run(purchases, Path(directory) / "purchases.db"))
    except (BadInputError, FactfoldError) as error:
        print(f"purchases.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
