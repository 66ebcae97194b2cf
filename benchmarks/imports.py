"""How long `import factfold` takes, and what it brings along."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import factfold
from benchmarks.harness import Budget, Measured, Promise, Row, alternate, at_most, processor

DRIVERS = {"sqlite3", "_sqlite3", "psycopg", "redis", "valkey", "nats"}
OPTIONAL = {"attrs", "attr", "pydantic", "typer", "click", "rich", "pytest", "hypothesis", "opentelemetry"}
HEAVY = {"asyncio", "ssl", "logging", "socket", "concurrent.futures", "subprocess", "multiprocessing", "urllib.request"}
"""Modules of Python that take long, and that not everybody needs."""


class Interpreter:
    """Starts Python, with the modules compiled in a directory, as an installed library's are."""

    def __init__(self, compiled: str) -> None:
        source = str(Path(factfold.__file__).parent.parent)
        self._environment = {**os.environ, "PYTHONPATH": source, "PYTHONPYCACHEPREFIX": compiled}
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.run("import factfold")  # what is compiled once is compiled now

    def run(self, code: str) -> str:
        """What the code prints."""
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True).stdout

    def imports(self, module: str, times: int) -> Measured:
        """How long one module takes, each time in a Python of its own."""
        code = (
            "from time import perf_counter, process_time\n"
            f"began, worked = perf_counter(), process_time()\nimport {module}\n"
            "print(perf_counter() - began, process_time() - worked)"
        )
        taken = [[float(seconds) for seconds in self.run(code).split()] for _ in range(times)]
        seconds, worked = zip(*taken, strict=True)
        return Measured(times, sum(seconds), seconds, processor=sum(worked))

    def brought_along(self) -> set[str]:
        """The names of all modules that are there after `import factfold` and were not before it."""
        code = "import sys; before = set(sys.modules); import factfold; print(*set(sys.modules) - before)"
        return set(self.run(code).split())


def rows(budget: Budget, directory: Path | None) -> list[Row]:
    """Against the import of msgspec, which is all that factfold needs."""
    with tempfile.TemporaryDirectory(prefix="factfold-", dir=directory) as compiled:
        python = Interpreter(compiled)
        runs = alternate(
            {
                "bare": lambda _: python.imports("msgspec", budget.starts),
                "ours": lambda _: python.imports("factfold", budget.starts),
            },
            budget.rounds,
            directory,
        )
        modules = python.brought_along()
    unwanted = sorted(modules & (DRIVERS | OPTIONAL))
    heavy = sorted(modules & HEAVY)
    return [
        Row(
            "import factfold",
            runs["ours"],
            runs["bare"],
            promises=(
                at_most(60, processor(runs["ours"]) * 1e3, "ms of the processor"),
                Promise("no driver, nothing optional", ", ".join(unwanted) or "none", not unwanted),
            ),
            note=f"{len(modules)} modules, of the heavy ones of Python: {', '.join(heavy) or 'none'}",
        )
    ]
