"""`factfold projections`: what it lists, runs, rebuilds and replays, and how it refuses."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from factfold import Store
from factfold.cli.app import app
from tests.racing import eventually

PROGRAM = '''
import os
import sqlite3
import time
from dataclasses import dataclass

from factfold import Projection, ProjectionContext, ReadModel, Retry, Transaction, stream


@dataclass(frozen=True)
class Paid:
    amount: int


@stream("cli.till", initial=0)
def tills(state: int, event: Paid) -> int:
    return state + event.amount


def pay(tx: Transaction, till: str, amount: int) -> None:
    tx.read(tills(till)).append(Paid(amount))


def takings_of(version: int) -> Projection:
    takings = Projection("takings", version=version, on_error="park", retry=Retry(max_attempts=1))

    @takings.setup
    def _(model: ReadModel[sqlite3.Connection]) -> None:
        model.connection.execute(f"CREATE TABLE {model.table('takings')} (amount INTEGER, version INTEGER)")

    @takings.on
    def _(event: Paid, context: ProjectionContext[sqlite3.Connection]) -> None:
        while os.path.exists("closed"):
            time.sleep(1e-3)
        if event.amount > 1000 and "FORGIVING" not in os.environ:
            raise ValueError("too much")
        context.connection.execute(f"INSERT INTO {context.table('takings')} VALUES (?, ?)", (event.amount, version))

    return takings


takings = takings_of(1)
again = (takings_of(2),)


slow = Projection("slow", tables=())


@slow.on
async def _(event: Paid, context: ProjectionContext[sqlite3.Connection]) -> None:
    """Does nothing, on a loop."""
'''


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the module `takings_program`, and the log that it is about."""
    (tmp_path / "takings_program.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import takings_program  # type: ignore[import-not-found]  # it has just been written

    with Store("sqlite:///till.db") as store:
        for amount in (1, 2, 5000, 3):
            store.execute(takings_program.pay, "a", amount)
    yield tmp_path
    del sys.modules["takings_program"]


URL = "sqlite:///till.db"


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["projections", URL, *arguments])


def amounts() -> list[tuple[int, int]]:
    with closing(sqlite3.connect("till.db")) as connection:
        return connection.execute("SELECT amount, version FROM takings ORDER BY amount").fetchall()


@contextmanager
def running(folder: Path, *arguments: str, action: str = "run") -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "factfold.cli", "projections", URL, *arguments, action],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_projection_is_run_until_it_is_told_to_stop(program: Path) -> None:
    with running(program, "takings_program:takings") as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any("takings v1: live" in line for line in lines)
        assert "live" not in invoke("list").output
        assert "running" in invoke("list").output
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert amounts() == [(1, 1), (2, 1), (3, 1)]
    listed = invoke()
    assert listed.exit_code == 0
    assert listed.output.split("\t")[:8] == ["projection", "takings", "1", "stopped", "yes", "4", "0", "0.0"]


def test_a_storage_that_is_away_does_not_end_who_runs(program: Path) -> None:
    with running(program, "takings_program:takings") as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert any("takings v1: live" in line for line in lines)
        (program / "till.db").rename(program / "away.db")
        assert any("takings v1: retrying" in line for line in lines)
        (program / "away.db").rename(program / "till.db")
        with Store(URL) as store:
            store.execute(sys.modules["takings_program"].pay, "a", 7)
        assert any("takings v1: live" in line for line in lines)
        eventually(lambda: (7, 1) in amounts())
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_parked_events_are_listed_replayed_and_discarded(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke("takings_program:takings", "rebuild").exit_code == 0
    parked = invoke("takings_program:takings", "parked").output
    assert parked.split("\t")[:3] == ["takings", "3", "Paid"]
    assert "ValueError: too much" in parked
    failing = invoke("takings_program:takings", "replay")
    assert failing.exit_code == 1
    assert "failed again: ValueError('too much')" in failing.stderr
    assert invoke("takings_program:takings", "replay", "--position", "2").exit_code == 2
    monkeypatch.setenv("FORGIVING", "1")
    assert "1 event(s) replayed" in invoke("takings_program:takings", "replay", "--position", "3").output
    assert amounts() == [(1, 1), (2, 1), (3, 1), (5000, 1)]
    assert "0 event(s) discarded" in invoke("takings_program:takings", "discard").output


def test_a_new_version_is_rebuilt_beside_the_one_that_serves(program: Path) -> None:
    assert invoke("takings_program:takings", "rebuild").exit_code == 0
    refused = invoke("takings_program:takings", "rebuild")
    assert refused.exit_code == 2
    assert "serves already" in refused.stderr
    assert invoke("takings_program:again", "rebuild").exit_code == 0
    assert amounts() == [(1, 2), (2, 2), (3, 2)]
    assert "superseded" in invoke("takings_program:takings", "run").stderr


def test_a_version_that_another_process_builds_is_waited_for(program: Path) -> None:
    module = sys.modules["takings_program"]
    with Store(URL) as store:
        store.catch_up(module.takings)
        (program / "closed").touch()
        store.start(*module.again)
        eventually(lambda: store.projections()[-1].state == "catching up")
        with running(program, "takings_program:again", action="rebuild") as process:
            assert process.stdout is not None
            assert "waiting" in process.stdout.readline()
            (program / "closed").unlink()
            assert process.wait(20) == 0
        assert store.projections()[-1].serving


def test_on_a_terminal_a_bar_shows_how_far_it_is(program: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "factfold.cli", "projections", URL, "takings_program:takings", "rebuild"]
    process = subprocess.Popen(
        command, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # that is how a terminal ends
        while more := os.read(ours, 4096):
            shown += more
    os.close(ours)
    assert process.wait(30) == 0
    text = shown.decode()
    assert "projection takings v1" in text
    assert "\N{BOX DRAWINGS HEAVY HORIZONTAL}" in text
    assert "4/4" in text


def test_handlers_that_are_async_run_on_a_loop(program: Path) -> None:
    assert invoke("takings_program:slow", "rebuild").exit_code == 0
    assert "slow" in invoke("list").output
    assert invoke("takings_program:slow", "parked").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "needs MODULE:NAME"),
        (["takings_program", "run"], "is not MODULE:NAME"),
        (["nowhere:takings", "run"], "there is no module 'nowhere'"),
        (["takings_program:nothing", "run"], "has no 'nothing'"),
        (["takings_program:pay", "run"], "give a Projection"),
        (["takings_program:takings", "run", "--name", "other"], "there is no 'other' among takings"),
        (["withdraw"], "needs --name"),
        (["withdraw", "--name", "takings"], "does not run inline"),
        (["takings_program:takings", "dance"], "'dance' is not one of"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(program: Path, arguments: list[str], said: str) -> None:
    refused = invoke(*arguments)
    assert refused.exit_code == 2
    assert said in " ".join(refused.stderr.split())
