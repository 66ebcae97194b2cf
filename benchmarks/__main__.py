"""Measures the performance promises: `python -m benchmarks`, or `make bench`."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import (
    breadth,
    delivery,
    imports,
    memory,
    postgres,
    processes,
    profiles,
    projections,
    reading,
    snapshots,
    valkey,
    writing,
)
from benchmarks.harness import FULL, QUICK, TINY, Budget, Row
from benchmarks.table import show

GROUPS: Mapping[str, Callable[[Budget, Path | None], list[Row]]] = {
    "imports": imports.rows,
    "memory": memory.rows,
    "breadth": breadth.rows,
    "writing": writing.rows,
    "processes": processes.rows,
    "reading": reading.rows,
    "snapshots": snapshots.rows,
    "delivery": delivery.rows,
    "projections": projections.rows,
    "postgres": postgres.rows,
    "valkey": valkey.rows,
}
BUDGETS = {"full": FULL, "quick": QUICK, "tiny": TINY}


def main(arguments: Sequence[str]) -> int:
    """Runs what was asked for. 1 when a benchmark failed: a promise that is not kept is not a failure."""
    given = _parser().parse_args(arguments)
    chosen: list[str] = given.groups or list(GROUPS)
    if given.profile:
        profiles.show(BUDGETS[given.budget], given.directory)
        return 0
    rows: list[Row] = []
    failed: list[str] = []
    for name in chosen:
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            rows += GROUPS[name](BUDGETS[given.budget], given.directory)
        except Exception:  # noqa: BLE001 - it is told, and the others are still worth their time
            traceback.print_exc()
            failed.append(name)
    show(rows)
    if failed:
        print(f"FAILED, see above: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"only these: {', '.join(GROUPS)}")
    parser.add_argument("--budget", choices=BUDGETS, default="full", help="quick is less exact; tiny only runs it all")
    parser.add_argument("--directory", type=Path, help="for the databases; it should be on the disk that matters")
    parser.add_argument("--profile", action="store_true", help="shows instead where the time of one thread goes")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
