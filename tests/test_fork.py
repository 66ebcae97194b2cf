"""A process may fork while its stores are in use: parent and child both go on, and neither disturbs the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import factfold
from factfold.storage.valkey import Valkey
from tests.forking import PROGRAMS
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
ROOT = Path(__file__).parent.parent
LIMIT = 100
"""Seconds; it takes one."""


def aborted(process: subprocess.Popen[str]) -> str:
    """Ends the process and its children; what they said, and where they stood."""
    os.killpg(process.pid, signal.SIGABRT)  # PYTHONFAULTHANDLER has each tell it; they are a group of their own
    try:
        return process.communicate(timeout=10)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate(timeout=10)[0]


@pytest.mark.parametrize("engine", ["memory", "sqlite", "postgres", "valkey"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_fork(program: str, engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    database = "memory" if engine == "memory" else str(tmp_path / "log.db")
    if engine == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        database = f"{server.url}?schema={request.getfixturevalue('postgres_schema')}"
    elif engine == "valkey":
        valkey: Valkey = request.getfixturevalue("valkey")
        database = f"{valkey.url}?prefix={valkey.prefix}"
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
        pytest.fail(f"parent or child did not end in {LIMIT} seconds:\n{aborted(process)}")
    assert process.returncode == 0, output
