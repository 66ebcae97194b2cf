"""Prints the rows, and which promises hold."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Row, Runs, latencies, percentile, rate

WIDTH = 180
"""Columns, where the output is no terminal."""


def show(rows: Sequence[Row]) -> None:
    """Prints the table."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} processors. "
        "Times in milliseconds.\n",
        highlight=False,
    )
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("benchmark", min_width=20)
    for name in ("ours/s", "bare/s", "p50", "p95", "p99", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("promise", "measured", ""):
        table.add_column(name)
    for row in rows:
        figures = [row.title, _rate(row.ours), _rate(row.other), *_percentiles(row.ours)]
        for promise in row.promises:
            table.add_row(*figures, promise.limit, promise.measured, "kept" if promise.kept else "[bold]MISSED[/bold]")
            figures = [""] * len(figures)
        if not row.promises:
            table.add_row(*figures)
        if row.note:
            table.add_row(*[""] * len(figures), row.note)
    console.print(table, highlight=False)


def _rate(runs: Runs) -> str:
    return f"{rate(runs):,.0f}" if runs else ""


def _percentiles(runs: Runs) -> list[str]:
    ascending = latencies(runs)
    if not ascending:
        return [""] * 4
    return [f"{percentile(ascending, percent) * 1e3:.3g}" for percent in (50, 95, 99, 100)]
