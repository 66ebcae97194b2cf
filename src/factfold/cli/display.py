"""What the demo shows: figures that move while it runs (lines, when piped), and tables at the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from factfold.cli.audit import Audit
from factfold.cli.bank import Opened, Transferred
from factfold.cli.output import EVENT, POSITION, RECORDED, VERSION, recorded_at, table
from factfold.cli.worker import Sample

WINDOW = 1.0
"""Seconds over which the speed of the moment is measured."""


class Meter:
    """The figures of a running demo: totals, and the speed of the last second."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.started = perf_counter()
        self.total = Sample()
        self._seen = deque([(self.started, 0)])

    def read(self, total: Sample) -> None:
        """Takes the newest totals."""
        now = perf_counter()
        self.total = total
        self._seen.append((now, total.commands))
        while len(self._seen) > 2 and now - self._seen[1][0] >= WINDOW:
            self._seen.popleft()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return perf_counter() - self.started

    @property
    def speed(self) -> float:
        """Commands per second, lately."""
        (then, before), (now, done) = self._seen[0], self._seen[-1]
        return (done - before) / max(now - then, 1e-9)

    def figures(self) -> Iterator[tuple[str, str]]:
        """Each figure with its name."""
        yield "commands/s", f"{self.speed:,.0f}"
        yield "p50", milliseconds(self.total.latencies.percentile(50))
        yield "p95", milliseconds(self.total.latencies.percentile(95))
        yield "conflicts", f"{self.total.conflicts:,}"
        yield "rejected", f"{self.total.rejected:,}"


class Screen:
    """Where a meter is shown again and again."""

    def __init__(self, console: Console, live: Live | None, meter: Meter) -> None:
        self._console = console
        self._live = live
        self._meter = meter
        self._next_line = 1.0

    def show(self) -> None:
        """Shows how the meter stands."""
        meter = self._meter
        if self._live is not None:
            self._live.update(_panel(meter))
        elif meter.elapsed >= self._next_line:
            self._next_line += 1.0
            figures = "  ".join(f"{name} {value}" for name, value in meter.figures())
            self._console.print(f"{meter.elapsed:5.1f} s  {figures}", highlight=False, soft_wrap=True)


def wide_console() -> Console:
    """Standard output; a pipe has no width, so lines are not broken for it."""
    console = Console()
    return console if console.is_terminal else Console(width=200)


@contextmanager
def screen(console: Console, meter: Meter) -> Generator[Screen]:
    """Shows a meter: in place on a terminal, else a line each second."""
    if not console.is_terminal:
        yield Screen(console, None, meter)
        return
    with Live(console=console, refresh_per_second=10, transient=True) as live:
        yield Screen(console, live, meter)


def milliseconds(seconds: float) -> str:
    """A duration as people read it."""
    return f"{seconds * 1000:.1f} ms"


def summary(total: Sample, seconds: float) -> Table:
    """What was done, and how fast."""
    made = Table.grid(padding=(0, 3))
    rows = (
        ("commands", f"{total.commands:,} in {seconds:.1f} s, {total.commands / max(seconds, 1e-9):,.0f}/s"),
        ("transferred", f"{total.transferred:,}"),
        ("rejected", f"{total.rejected:,}  (not enough money)"),
        ("conflicts", f"{total.conflicts:,}  (another process was faster: decided again)"),
        ("latency", "  ".join(f"p{p} {milliseconds(total.latencies.percentile(p))}" for p in (50, 95, 99))),
    )
    for name, value in rows:
        made.add_row(Text(name, style="bold"), value)
    return made


def verdict(audited: Audit, failures: Sequence[str]) -> Table:
    """Each check with its figures, and each worker that failed."""
    made = Table.grid(padding=(0, 3))
    for check in audited.checks:
        made.add_row(_mark(check.kept), check.promise, Text(check.figures))
    made.add_row(_mark(not failures), "no command failed", Text("; ".join(failures)))
    return made


def last_events(audited: Audit) -> Table:
    """The last events of the busiest account."""
    rows = (
        (str(one.streams[audited.busiest]), str(one.position), recorded_at(one), _told(one.event, audited.busiest))
        for one in audited.last_events
    )
    return table((VERSION, POSITION, RECORDED, EVENT), rows)


def _told(event: Opened | Transferred, stream: str) -> str:
    """An event as the holder of the account would put it."""
    match event:
        case Opened(deposit):
            return f"opened with {deposit:,}"
        case Transferred(source, target, amount):
            return f"{amount:,} to {target}" if stream.endswith(f":{source}") else f"{amount:,} from {source}"


def _mark(kept: bool) -> Text:
    return Text("ok", style="bold green") if kept else Text("FAILED", style="bold red")


def _panel(meter: Meter) -> RenderableType:
    names, values = zip(*meter.figures(), strict=True)
    figures = Table(*names, box=None, padding=(0, 4, 0, 0), header_style="dim")
    figures.add_row(*values, style="bold")
    bar = Table.grid(padding=(0, 2))
    done = min(meter.elapsed, meter.seconds)
    bar.add_row(ProgressBar(total=meter.seconds, completed=done, width=50), f"{done:.0f} of {meter.seconds:g} s")
    return Group("", bar, "", figures)
