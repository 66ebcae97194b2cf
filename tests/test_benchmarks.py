"""The benchmarks run, and fail when a command fails or the data is wrong: with them nothing is measured here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

import pytest

from benchmarks import __main__ as command_line
from benchmarks import (
    bare,
    breadth,
    delivery,
    harness,
    imports,
    memory,
    postgres,
    processes,
    reading,
    snapshots,
    writing,
)
from benchmarks.bank import accounts, audit, deposit, fund, names, total, transfer
from benchmarks.harness import TINY, Budget, Measured, Row, WrongDataError
from factfold import Store
from factfold.storage.base import Storage
from factfold.storage.sqlite import SQLite

GROUPS = {
    "imports": imports,
    "memory": memory,
    "breadth": breadth,
    "writing": writing,
    "processes": processes,
    "reading": reading,
    "snapshots": snapshots,
    "delivery": delivery,
    "postgres": postgres,
}


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that the user of a server may enter, too."""
    with tempfile.TemporaryDirectory(prefix="factfold-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.mark.parametrize("group", GROUPS)
def test_every_row_runs_and_has_figures(group: str, public: Path) -> None:
    for row in GROUPS[group].rows(TINY, public):
        assert row.ours, row.title
        assert all(run.rate > 0 for run in row.ours), row.title
        assert list(public.iterdir()) == []


def test_importing_factfold_brings_no_driver_and_nothing_optional_and_no_asyncio(tmp_path: Path) -> None:
    modules = imports.Interpreter(str(tmp_path)).brought_along()
    assert "factfold.store" in modules
    assert modules & (imports.DRIVERS | imports.OPTIONAL | imports.HEAVY) == set()


def test_the_command_line_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["memory", "--budget", "tiny", "--directory", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "memory, one thread" in shown
    assert "microseconds" in shown


def test_a_benchmark_that_fails_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(budget: Budget, directory: Path | None) -> list[Row]:
        raise WrongDataError("one euro is missing")

    monkeypatch.setattr(command_line, "GROUPS", {"broken": broken, "memory": memory.rows})
    assert command_line.main(["--budget", "tiny"]) == 1
    shown = capsys.readouterr()
    assert "one euro is missing" in shown.err
    assert "FAILED" in shown.err
    assert "memory, one thread" in shown.out


@pytest.mark.parametrize("wrong", [{"money": 1}, {"events": 1}, {"counted": 1}], ids=str)
def test_the_audit_finds_what_is_missing(wrong: Mapping[str, int]) -> None:
    ids = names(3)
    with Store("memory:") as store:
        store.execute(fund, ids, 10)
        expected = {"money": 30, "events": 3, "counted": 0}
        audit(store, ids=ids, **expected)
        with pytest.raises(WrongDataError):
            audit(store, ids=ids, **{**expected, **wrong})


def test_a_transfer_without_money_fails(tmp_path: Path) -> None:
    with Store("memory:") as store:
        store.execute(deposit, "0", 5)
        with pytest.raises(WrongDataError):
            store.execute(transfer, "0", "1", 6)
        assert store.execute(total, ["0", "1"]).result == 5
        assert store.state(accounts("0")) == 5


def test_a_failing_worker_fails_its_benchmark(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        processes.in_processes(divide_by_zero, 2, SQLite(tmp_path / "log.db"), TINY.seconds)


def divide_by_zero(storage: Storage, number: int, seconds: float) -> processes.Work:
    raise ZeroDivisionError


def test_the_bare_loop_writes_what_it_says(tmp_path: Path) -> None:
    measured = bare.write(tmp_path, names(3), 0.01)
    assert measured.commands == len(measured.latencies) > 0
    assert sum(measured.latencies) == pytest.approx(measured.seconds)


# -- The harness -------------------------------------------------------------------------------------------------------


def test_sides_take_turns_and_change_their_order(tmp_path: Path) -> None:
    order: list[str] = []

    def side(name: str) -> harness.Side:
        def run(directory: Path) -> Measured:
            assert list(directory.iterdir()) == []
            (directory / "database").write_text(name)
            order.append(name)
            return Measured(1, 1.0)

        return run

    runs = harness.alternate({"bare": side("bare"), "ours": side("ours")}, 3, tmp_path)
    assert order == ["bare", "ours", "ours", "bare", "bare", "ours"]
    assert {name: len(done) for name, done in runs.items()} == {"bare": 3, "ours": 3}
    assert list(tmp_path.iterdir()) == []


def test_ratios_are_taken_round_by_round() -> None:
    slow_round, fast_round = Measured(10, 1.0), Measured(100, 1.0)
    ours = [Measured(5, 1.0), Measured(50, 1.0)]
    assert harness.ratios(ours, [slow_round, fast_round]) == [0.5, 0.5]


def test_percentiles_are_values_that_occurred() -> None:
    ascending = [float(number) for number in range(1, 101)]
    assert [harness.percentile(ascending, percent) for percent in (50, 95, 99, 100)] == [50.0, 95.0, 99.0, 100.0]
    assert harness.percentile([7.0], 50) == 7.0


def test_promises_are_judged_by_the_middle_round() -> None:
    assert harness.at_least(0.6, [0.1, 0.61, 0.9], "of the rate").kept
    assert not harness.at_least(0.6, [0.1, 0.59, 0.9], "of the rate").kept
    assert harness.at_most(20, median([1, 20, 90]), "microseconds").kept
    assert not harness.at_most(20, 20.1, "microseconds").kept
