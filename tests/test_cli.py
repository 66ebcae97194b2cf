"""The command line: what it prints on a terminal and in a pipe, and how it refuses."""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from factfold import Store, Transaction, event, stream
from factfold.cli import bank
from factfold.cli.app import app
from factfold.cli.audit import audit
from factfold.cli.crew import Crew
from factfold.cli.latency import Latencies
from factfold.cli.worker import Job
from factfold.storage.sqlite import SQLite
from tests.servers.postgres import PASSWORD, PostgresServer


@event(streams=("cli.shelf", "cli.reader"))
@dataclass(frozen=True)
class Lent:
    title: str


@dataclass(frozen=True)
class Placed:
    title: str


@stream("cli.shelf", initial=0)
def shelves(state: int, event: Placed | Lent) -> int:
    return state + 1 if isinstance(event, Placed) else state - 1


@stream("cli.reader", initial=0)
def readers(state: int, event: Lent) -> int:
    return state + 1


def fill(tx: Transaction, title: str) -> None:
    shelf, reader = tx.read(shelves("a"), readers("ann"))
    shelf.append(Placed(title), Placed("[red]markup[/red]"))
    tx.append(Lent(title), shelf, reader)


@pytest.fixture
def library(tmp_path: Path) -> str:
    """The url of a store with three events in two streams."""
    url = f"sqlite:///{tmp_path / 'library.db'}"
    with Store(url) as store:
        store.execute(fill, "Emma\x9b\u202e")
    return url


def run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    """Runs the command line in this process, as in a pipe; with FORCE_COLOR as on a terminal."""
    return CliRunner().invoke(app, arguments, env=env)


TERMINAL = {"FORCE_COLOR": "1", "COLUMNS": "160", "TERM": "xterm"}

# -- streams, show, log, verify ----------------------------------------------------------------------------------------


def test_streams_are_listed_with_version_and_last_position(library: str) -> None:
    result = run("streams", library)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["cli.reader:ann\t1\t3", "cli.shelf:a\t3\t3"]


def test_streams_of_one_category_are_listed_alone(library: str) -> None:
    assert run("streams", library, "cli.shelf").stdout.splitlines() == ["cli.shelf:a\t3\t3"]


def test_a_stream_is_shown_event_by_event(library: str) -> None:
    result = run("show", library, "cli.shelf:a")
    assert result.exit_code == 0
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [(version, position, type) for version, position, _, type, _ in rows] == [
        ("1", "1", "Placed"),
        ("2", "2", "Placed"),
        ("3", "3", "Lent"),
    ]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", rows[0][2])
    assert rows[1][4] == '{"title":"[red]markup[/red]"}'


def test_the_log_tells_which_streams_an_event_belongs_to(library: str) -> None:
    last = run("log", library, "--after", "2").stdout.splitlines()
    assert len(last) == 1
    position, _, type, streams, _ = last[0].split("\t")
    assert (position, type) == ("3", "Lent")
    assert set(streams.split(", ")) == {"cli.shelf:a v3", "cli.reader:ann v1"}


def test_the_log_can_be_limited(library: str) -> None:
    assert [line.split("\t")[0] for line in run("log", library, "--limit", "2").stdout.splitlines()] == ["1", "2"]


def test_what_could_move_the_cursor_of_a_terminal_is_escaped(library: str) -> None:
    printed = run("log", library).stdout
    assert "Emma\\x9b\\u202e" in printed
    assert all(character.isprintable() or character in "\t\n" for character in printed)


def test_on_a_terminal_rows_stand_in_a_table_and_nothing_is_taken_as_markup(library: str) -> None:
    result = run("log", library, env=TERMINAL)
    assert result.exit_code == 0
    assert "position" in result.stdout.splitlines()[1]
    assert "[red]markup[/red]" in result.stdout


def test_a_whole_log_is_verified(library: str) -> None:
    result = run("verify", library)
    assert (result.exit_code, result.stdout) == (0, "whole: 3 events in 2 streams\n")


def test_factfolds_own_events_are_counted_apart(library: str) -> None:
    with Store(library) as store:
        store.execute_once("key", fill, "Emma")
    assert run("verify", library).stdout == "whole: 6 events in 2 streams, and 1 of factfold's own\n"
    assert len(run("log", library).stdout.splitlines()) == 6


def test_a_broken_log_is_told_of_and_the_exit_status_is_1(library: str) -> None:
    damage(Path(library.removeprefix("sqlite:///")))
    result = run("verify", library)
    assert result.exit_code == 1
    assert "cli.reader:ann" in result.stdout
    assert "problem(s): 3 events" in result.stdout.splitlines()[-1]


def damage(path: Path) -> None:
    """Takes one membership away, behind the store's back."""
    connection = sqlite3.connect(path)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    with connection:
        deleted = sum(
            connection.execute(f'DELETE FROM "{name}" WHERE stream = ?', ("cli.reader:ann",)).rowcount
            for name in tables
            if {"stream", "version"} <= {column[1] for column in connection.execute(f'PRAGMA table_info("{name}")')}
        )
    connection.close()
    assert deleted


def test_another_namespace_can_be_looked_into(library: str) -> None:
    with Store(library, namespace="other") as store:
        store.execute(fill, "Persuasion")
        store.execute(fill, "Persuasion")
    assert run("verify", library, "--namespace", "other").stdout == "whole: 6 events in 2 streams\n"


@pytest.mark.parametrize("command", [("streams",), ("log",), ("verify",), ("show", "cli.shelf:a")])
def test_a_namespace_that_is_not_there_is_refused_and_not_made(command: tuple[str, ...], library: str) -> None:
    path = Path(library.removeprefix("sqlite:///"))
    before = path.read_bytes(), sorted(path.parent.iterdir())
    result = run(command[0], library, *command[1:], "--namespace", "other")
    assert_refused(result, "no namespace 'other'", "it has 'default'")
    assert (path.read_bytes(), sorted(path.parent.iterdir())) == before


def test_of_many_namespaces_a_few_are_named(library: str) -> None:
    with Store(library) as store:
        for number in range(9):
            store.namespace(f"tenant-{number}").head()
    assert_refused(run("log", library, "--namespace", "tenant-9"), "'tenant-3' and 5 more")


# -- bad input ---------------------------------------------------------------------------------------------------------


def assert_refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("factfold: ")
    for word in words:
        assert word in result.stderr
    assert not result.stdout


@pytest.mark.parametrize("command", ["streams", "log", "verify"])
def test_a_file_that_is_missing_is_refused_and_not_made(command: str, tmp_path: Path) -> None:
    missing = tmp_path / "missing.db"
    assert_refused(run(command, f"sqlite:///{missing}"), str(missing))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    assert_refused(run("verify", f"sqlite:///{empty}"), "empty")
    assert empty.stat().st_size == 0


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("Dear reader, " * 100)
    assert_refused(run("log", f"sqlite:///{text}"), str(text))


def test_a_url_without_a_scheme_is_refused_with_a_hint() -> None:
    assert_refused(run("log", "bank.db"), "sqlite:///bank.db")


def test_an_unknown_scheme_is_refused() -> None:
    assert_refused(run("streams", "nosuch://host"), "nosuch")


def test_memory_cannot_be_looked_into() -> None:
    assert_refused(run("streams", "memory:"), "memory:")


def test_an_unknown_stream_is_refused(library: str) -> None:
    assert_refused(run("show", library, "cli.shelf:b"), "cli.shelf:b")


def test_a_category_that_cannot_be_one_is_refused(library: str) -> None:
    assert_refused(run("streams", library, "No Category!"), "No Category!")


@pytest.mark.parametrize("option", ["--after=-1", "--after=x", "--limit=0"])
def test_options_out_of_range_are_refused(option: str, library: str) -> None:
    result = run("log", library, option)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


def test_a_reader_of_the_output_may_stop_early(library: str) -> None:
    with Store(library) as store:
        for _ in range(300):
            store.execute(fill, "x" * 1000)
    with subprocess.Popen(
        [sys.executable, "-m", "factfold.cli", "log", library], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"1\t")
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_missing_extra_is_named() -> None:
    blocked = "import sys; sys.modules['typer'] = None; from factfold.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 1
    assert "pip install 'factfold[cli]'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


# -- the demo ----------------------------------------------------------------------------------------------------------


def factfold(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command line as people do."""
    environment = {**os.environ, "TMPDIR": str(cwd)}
    return subprocess.run(
        [sys.executable, "-m", "factfold.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment,
        timeout=60,
    )


def test_the_demo_keeps_every_promise_with_two_processes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    result = factfold("demo", "--seconds", "1", "--processes", "2", "--tasks", "8", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    assert "FAILED" not in result.stdout
    kept = re.findall(r"^ok +(.+?)  ", result.stdout, re.MULTILINE)
    assert kept[:2] == ["no money appeared or vanished", "no account is overdrawn"]
    assert len(kept) == 6
    commands = re.search(r"^commands +([\d,]+) in", result.stdout, re.MULTILINE)
    assert commands is not None
    assert int(commands[1].replace(",", "")) > 0
    shown = re.findall(r" [\d,]+ (?:to|from) [0-9a-f]+/\d+", result.stdout)
    assert 1 <= len(shown) <= 5, "the last transfers of an account, of which a slow machine makes few"
    assert list(tmp_path.iterdir()) == []


def test_the_demo_runs_in_memory_in_one_process() -> None:
    result = run("demo", "--store", "memory:", "--seconds", "0.2", "--accounts", "10")
    assert result.exit_code == 0, result.output
    assert "FAILED" not in result.stdout


def test_the_demo_runs_again_and_again_on_a_store_of_ones_own(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'own.db'}"
    for _ in range(2):
        result = run("demo", "--store", url, "--seconds", "0.2", "--processes", "1", "--accounts", "5")
        assert result.exit_code == 0, result.output
    assert len(run("streams", url, "demo.account").stdout.splitlines()) == 10


def test_the_demo_refuses_memory_with_several_processes() -> None:
    assert_refused(run("demo", "--store", "memory:", "--processes", "2"), "memory:", "--processes 1")


def test_the_demo_refuses_a_file_that_is_no_database(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("Dear reader, " * 100)
    assert_refused(run("demo", "--store", f"sqlite:///{text}"), str(text))


def test_the_demo_fails_when_money_appears(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless_transfer(tx: Transaction, run: str, source: int, target: int, amount: int) -> None:
        bank.transfer(tx, run, source, target, amount)
        tx.read(bank.accounts(run, target)).append(bank.Opened(1))

    monkeypatch.setattr("factfold.cli.worker.transfer", careless_transfer)
    result = run("demo", "--store", "memory:", "--seconds", "0.2")
    assert result.exit_code == 1
    assert re.search("^FAILED +no money appeared or vanished", result.stdout, re.MULTILINE)


def test_the_demo_fails_when_a_command_fails_unexpectedly(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_transfer(tx: Transaction, run: str, source: int, target: int, amount: int) -> None:
        raise ZeroDivisionError(f"from {source} to {target}")

    monkeypatch.setattr("factfold.cli.worker.transfer", broken_transfer)
    result = run("demo", "--store", "memory:", "--seconds", "30")
    assert result.exit_code == 1
    assert re.search("^FAILED +no command failed +worker 1: ZeroDivisionError: from", result.stdout, re.MULTILINE)


@pytest.fixture
def opened_bank(tmp_path: Path) -> Iterator[Store]:
    """Four accounts in `bank.db`, of the run "run", with 1,000 each."""
    with Store(SQLite(tmp_path / "bank.db")) as store:
        for number in range(4):
            store.execute(bank.open_account, "run", number, 1000)
        yield store


def broken(store: Store, *, acknowledged: int, whole: bool = True) -> list[str]:
    """The promises that an audit finds broken."""
    audited = audit(store, "run", 4, 1000, acknowledged, 0, whole=whole)
    assert audited.passed == all(check.kept for check in audited.checks)
    return [check.promise for check in audited.checks if not check.kept]


def test_the_audit_finds_nothing_where_nothing_is_wrong(opened_bank: Store) -> None:
    opened_bank.execute(bank.transfer, "run", 0, 1, 10)
    assert broken(opened_bank, acknowledged=1) == []


def test_the_audit_finds_an_acknowledged_transfer_that_is_not_in_the_log(opened_bank: Store) -> None:
    assert broken(opened_bank, acknowledged=1) == ["each acknowledged transfer is in the log"]


def test_the_audit_finds_a_transfer_that_happened_twice(opened_bank: Store) -> None:
    opened_bank.execute(bank.transfer, "run", 0, 1, 10)
    opened_bank.execute(bank.transfer, "run", 0, 1, 10)
    assert broken(opened_bank, acknowledged=1) == ["each acknowledged transfer is in the log"]


def test_transfers_that_a_lost_worker_did_not_tell_of_are_no_fault_of_the_log(opened_bank: Store) -> None:
    opened_bank.execute(bank.transfer, "run", 0, 1, 10)
    assert broken(opened_bank, acknowledged=0, whole=False) == []


def test_the_audit_finds_an_overdrawn_account(opened_bank: Store) -> None:
    def overdraw(tx: Transaction) -> None:
        tx.append(bank.Transferred("run/0", "run/1", 1001), *tx.read(bank.accounts("run", 0), bank.accounts("run", 1)))

    opened_bank.execute(overdraw)
    assert broken(opened_bank, acknowledged=1) == ["no account is overdrawn"]


def test_a_worker_that_dies_is_a_failure_and_the_others_are_ended(opened_bank: Store, tmp_path: Path) -> None:
    with Crew(Job(SQLite(tmp_path / "bank.db"), "run", 4, 2, 600.0), 2, in_process=False) as workers:
        assert workers.begin()
        multiprocessing.active_children()[0].kill()
        while workers.running:
            workers.listen(1.0)
    assert len(workers.failures) == 1
    assert "ended without a word" in workers.failures[0]
    assert not multiprocessing.active_children()


def test_a_worker_that_hangs_is_a_failure_and_is_ended(
    opened_bank: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Crew(Job(SQLite(tmp_path / "bank.db"), "run", 4, 2, 600.0), 1, in_process=False) as workers:
        assert workers.begin()
        monkeypatch.setattr(workers, "_deadline", 0.0)
        workers.listen(1.0)
    assert ["hangs" in failure for failure in workers.failures] == [True]
    assert not multiprocessing.active_children()


def test_a_worker_that_cannot_open_the_store_says_why(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("Dear reader, " * 100)
    with Crew(Job(SQLite(text), "run", 4, 2, 600.0), 1, in_process=False) as workers:
        assert not workers.begin()
    assert len(workers.failures) == 1
    assert str(text) in workers.failures[0]


@given(st.lists(st.floats(1e-6, 60.0), min_size=1), st.sampled_from([1, 50, 95, 99, 100]))
def test_a_percentile_is_off_by_two_percent_at_most(durations: list[float], percent: int) -> None:
    first, second = Latencies(), Latencies()
    for index, duration in enumerate(durations):
        (first if index % 2 else second).add(duration)
    first.merge(second)
    exact = sorted(durations)[math.ceil(len(durations) * percent / 100) - 1]
    assert first.percentile(percent) == pytest.approx(exact, rel=0.021)


def test_no_durations_have_no_percentile() -> None:
    assert Latencies().percentile(95) == 0


# -- migrate -----------------------------------------------------------------------------------------------------------


def test_migrate_makes_what_is_missing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    made = CliRunner().invoke(app, ["migrate", url])
    assert (made.exit_code, made.output) == (0, f"{url} is up to date.\n")
    assert (tmp_path / "new.db").stat().st_size


def test_migrate_makes_a_schema_and_repeats_no_password(postgres_server: PostgresServer, postgres_schema: str) -> None:
    url = f"{postgres_server.url}?schema={postgres_schema}"
    for _ in range(2):
        made = CliRunner().invoke(app, ["migrate", url])
        assert made.exit_code == 0, made.output
        assert PASSWORD not in made.output
    looked = CliRunner().invoke(app, ["verify", url])
    assert_refused(looked, "no namespace 'default'", "none at all")
    assert PASSWORD not in looked.output
    with Store(url) as store:
        store.head()
    assert CliRunner().invoke(app, ["verify", url]).output == "whole: 0 events in 0 streams\n"


def test_migrate_prints_the_sql_without_a_server() -> None:
    printed = CliRunner().invoke(app, ["migrate", "postgresql://nowhere.invalid/bank?schema=shop", "--sql"])
    assert printed.exit_code == 0
    assert 'CREATE TABLE "shop".events' in printed.output
    assert printed.output.startswith("BEGIN;\n")


def test_there_is_no_sql_for_a_file(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["migrate", f"sqlite:///{tmp_path / 'new.db'}", "--sql"])
    assert refused.exit_code == 2
    assert "no SQL to print" in refused.output
    assert not (tmp_path / "new.db").exists()
