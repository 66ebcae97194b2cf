"""A process may fork while its stores are in use: parent and child both go on, and neither disturbs the other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import factfold
from tests.forking import PROGRAMS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
ROOT = Path(__file__).parent.parent
LIMIT = 60


@pytest.mark.parametrize("engine", ["memory", "sqlite"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_fork(program: str, engine: str, tmp_path: Path) -> None:
    database = "memory" if engine == "memory" else str(tmp_path / "log.db")
    source = str(Path(factfold.__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forking", program, database],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": source, "PYTHONFAULTHANDLER": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 6)  # SIGABRT: each process tells where it stands; only this test's group gets it
        output, _ = process.communicate(timeout=LIMIT)
        pytest.fail(f"parent or child did not end in {LIMIT} seconds:\n{output}")
    assert process.returncode == 0, output
