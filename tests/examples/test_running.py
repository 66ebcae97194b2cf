"""The examples run from the command line, on the place that is given or on one that is gone afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples.bank import __main__ as day
from examples.running import run
from factfold import Store

ROOT = Path(__file__).parents[2]


def test_an_example_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "examples.bank"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.startswith("alice deposits 100 EUR")
    assert not result.stderr


def test_what_happened_can_be_looked_at_afterwards(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/bank.db"
    assert run("bank", day.main, "", [url]) == 0
    with Store(url) as store:
        assert store.head() > 0


def test_a_place_that_holds_events_already_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/bank.db"
    run("bank", day.main, "", [url])
    with pytest.raises(SystemExit) as caught:
        run("bank", day.main, "", [url])
    assert caught.value.code == 2
    assert "events already, and the story begins with none" in capsys.readouterr().err


def test_a_url_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bank", day.main, "", ["nowhere"]) == 2
    assert capsys.readouterr().err.startswith("python -m examples.bank: ")
