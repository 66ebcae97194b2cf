"""mypy and pyright, both strict, accept what stands in `accepted/`, and refuse the marked lines of `rejected/`.

A line that is to be refused ends in `# type: ignore[code]`, with mypy's code. The checkers see it without that comment,
and have to find fault with exactly these lines.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import mypy.api
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SOURCES = [ROOT, ROOT / "src"]
ACCEPTED = sorted((HERE / "accepted").glob("*.py"))
REJECTED = sorted((HERE / "rejected").glob("*.py"))
MARK = re.compile(r"  # type: ignore\[(.+)\]$", re.MULTILINE)

Faults: TypeAlias = Mapping[tuple[str, int], frozenset[str]]
"""File name and line, and the codes of what a checker says about it."""


@pytest.fixture(scope="module")
def unmarked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files of `rejected/`, without their marks."""
    directory = tmp_path_factory.mktemp("unmarked")
    for path in REJECTED:
        (directory / f"rejected_{path.name}").write_text(MARK.sub("", path.read_text()))
    return directory


@pytest.fixture(scope="module")
def mypy_faults(unmarked: Path) -> Faults:
    # without a cache: out of it, mypy repeats faults under the names that the files had in an earlier run
    options = ["--strict", "--python-version=3.11", "--config-file=", "--cache-dir", os.devnull]
    options += ["--no-error-summary", "--hide-error-context", "--namespace-packages", "--explicit-package-bases"]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MYPYPATH", os.pathsep.join(map(str, [*SOURCES, unmarked])))
        output, complaints, _ = mypy.api.run([*options, *map(str, [*ACCEPTED, *sorted(unmarked.glob("*.py"))])])
    assert not complaints
    return _collected(re.findall(r"^(.+?):(\d+): error: .*?(?:\[([a-z-]+)\])?$", output, re.MULTILINE), unmarked)


@pytest.fixture(scope="module")
def pyright_faults(unmarked: Path) -> Faults:
    config = {
        "include": [str(HERE / "accepted"), str(unmarked)],
        "extraPaths": [str(path) for path in SOURCES],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
    }
    (unmarked / "pyrightconfig.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(unmarked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=140)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)["generalDiagnostics"]
    return _collected([(one["file"], one["range"]["start"]["line"] + 1, one["rule"]) for one in found], unmarked)


@pytest.fixture(params=["mypy", "pyright"])
def faults(request: pytest.FixtureRequest) -> Faults:
    """What one of the checkers says about all these files."""
    found: Faults = request.getfixturevalue(f"{request.param}_faults")
    return found


def test_what_is_accepted_has_no_fault(faults: Faults) -> None:
    assert {place: codes for place, codes in faults.items() if place[0].startswith("accepted")} == {}


def test_exactly_the_marked_lines_are_refused(faults: Faults) -> None:
    marked = set(_marked())
    refused = {place for place in faults if place[0].startswith("rejected")}
    assert marked
    assert sorted(marked - refused) == []
    assert sorted(refused - marked) == []


def test_mypy_refuses_a_line_for_the_marked_reason(mypy_faults: Faults) -> None:
    assert {place: codes for place, codes in mypy_faults.items() if place[0].startswith("rejected")} == _marked()


@pytest.mark.parametrize("path", ACCEPTED, ids=lambda path: path.stem)
def test_what_is_accepted_can_be_imported(path: Path) -> None:
    importlib.import_module(f"tests.typing.accepted.{path.stem}")


def _marked() -> Faults:
    return {
        (f"rejected/{path.name}", number): frozenset(mark[1].split(","))
        for path in REJECTED
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (mark := MARK.search(line))
    }


def _collected(found: list[tuple[str, int, str]], unmarked: Path) -> Faults:
    """What concerns these files: that the library itself has no fault is not asked here."""
    faults: dict[tuple[str, int], frozenset[str]] = {}
    for file, line, code in found:
        path = Path(file)
        if path.parent == unmarked:
            place = (path.name.replace("_", "/", 1), int(line))
        elif path.parent == HERE / "accepted":
            place = (f"accepted/{path.name}", int(line))
        else:
            continue
        faults[place] = faults.get(place, frozenset()) | {code}
    return faults
