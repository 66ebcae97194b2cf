"""How the dashboard looks: a picture that moves on a terminal, and a line each second where there is none."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from examples.bank.accounts import AccountEvent, Deposited, Opened, Transferred, Withdrawn
from examples.bank.money import in_euros
from examples.dashboard.figures import Figures
from factfold import ConsumerStatus, RecordedEvent

BARS = " ▁▂▃▄▅▆▇█"


def line(figures: Figures) -> str:
    """The figures in one line."""
    flow, books = figures.flow, figures.books
    lags = "; ".join(f"{one.name} {one.state}, {one.lag_events} events behind" for one in figures.projections)
    return (
        f"{flow.seconds:4.0f} s  {flow.per_second:5} transfers/s  {in_euros(books.total)} on {len(books.balances)} "
        f"accounts  {lags}"
    )


def summary(figures: Figures) -> str:
    """What is said at the end."""
    flow, books = figures.flow, figures.books
    verdict = "the books are balanced" if books.balanced else "THE BOOKS ARE NOT BALANCED"
    return (
        f"{flow.transfers:,} transfers in {flow.seconds:.0f} s; {in_euros(books.deposited)} were deposited, "
        f"{in_euros(books.withdrawn)} withdrawn, {in_euros(books.total)} are there: {verdict}"
    )


def picture(figures: Figures) -> RenderableType:
    """All figures, for a terminal."""
    flow = figures.flow
    speed = Text.assemble((f"{flow.per_second:>6} transfers/s  ", "bold"), (bars(flow.history()), "green"))
    side_by_side = Table.grid(padding=(0, 3))
    side_by_side.add_row(_balances(figures), _last_events(figures))
    return Group(
        Panel(speed, title="bank", title_align="left"), side_by_side, Text(), _projections(figures.projections)
    )


def bars(counts: Sequence[int]) -> str:
    """Counts as bars, the highest of them as high as can be."""
    highest = max(counts, default=0) or 1
    return "".join(BARS[-(-count * (len(BARS) - 1) // highest)] for count in counts)


def told(recorded: RecordedEvent[AccountEvent]) -> str:
    """An event as people say it."""
    match recorded.event:
        case Transferred(source, target, amount, reference):
            return f"{source} to {target}: {amount}" + (f", {reference}" if reference else "")
        case Opened(owner):
            return f"{owner} opened an account"
        case Deposited(amount):
            return f"{amount} deposited"
        case Withdrawn(amount):
            return f"{amount} withdrawn"
        case _:
            return recorded.type


def _table(*names: str) -> Table:
    made = Table(box=None, header_style="dim")
    for name in names:
        made.add_column(
            name, justify="left" if name in ("owner", "last events", "projection") else "right", no_wrap=True
        )
    return made


def _balances(figures: Figures) -> Table:
    made = _table("owner", "balance")
    for _, owner, cents in figures.books.balances:
        made.add_row(Text(owner), Text(in_euros(cents), style="red" if cents < 0 else ""))
    return made


def _last_events(figures: Figures) -> Table:
    made = _table("position", "last events")
    for recorded in figures.flow.last:
        made.add_row(str(recorded.position), Text(told(recorded)))
    return made


def _projections(statuses: Sequence[ConsumerStatus]) -> Table:
    made = _table("projection", "state", "position", "events behind", "seconds behind")
    for one in statuses:
        state = Text(one.state, style="bold red" if one.error else "green")
        made.add_row(one.name, state, str(one.position), str(one.lag_events), f"{one.lag_seconds:.2f}")
    return made
