"""The dashboard counts what comes, reads what a projection has written, and shows it on a terminal or in a pipe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from examples.bank.accounts import accounts
from examples.bank.commands import agree_overdraft, close, deposit, open_account, transfer, withdraw
from examples.bank.money import AccountId, Money
from examples.bank.statements import statements
from examples.dashboard.__main__ import main, watch
from examples.dashboard.figures import HISTORY, LAST, Figures, Flow, read_books
from examples.dashboard.screen import bars, line, picture, summary, told
from examples.dashboard.traffic import FIRST_DEPOSIT, OWNERS, welcome
from factfold import Store
from tests.sqlite_by_hand import by_hand

ALICE, BOB = AccountId("alice"), AccountId("bob")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bank.db"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    """Alice had 100 EUR and has given 30 to Bob, who has taken 5 home."""
    with Store(f"sqlite:///{file}") as store:
        store.execute(open_account, ALICE, "Alice Liddell")
        store.execute(open_account, BOB, "Bob Cratchit")
        store.execute(deposit, ALICE, Money(100_00))
        store.execute(transfer, ALICE, BOB, Money(30_00), "lunch")
        store.execute(withdraw, BOB, Money(5_00))
        yield store


class Watch:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def flow_of(store: Store, clock: Watch) -> Flow:
    """All that has happened, in one moment."""
    flow = Flow(clock)
    for recorded in store.log(types=accounts):
        flow.add(recorded)
    return flow


# -- Figures -----------------------------------------------------------------------------------------------------------


def test_transfers_are_counted_for_each_second_that_is_over(store: Store) -> None:
    clock = Watch()
    flow = Flow(clock)
    (transferred,) = store.execute(transfer, ALICE, BOB, Money(1)).events
    (sent,) = [one for one in store.log(types=accounts) if one.position == transferred.position]
    assert (flow.history(), flow.per_second) == ([], 0)
    for count in (2, 0, 3):
        for _ in range(count):
            flow.add(sent)
        clock.now += 1
    flow.add(sent)
    assert (flow.history(), flow.per_second, flow.transfers) == ([2, 0, 3], 3, 6)


def test_only_the_last_seconds_and_events_are_remembered(store: Store) -> None:
    clock = Watch()
    flow = flow_of(store, clock)
    *_, last = store.log(types=accounts)
    for _ in range(2 * HISTORY):
        clock.now += 1
        flow.add(last)
    assert flow.history() == [0] * HISTORY
    assert list(flow.last) == [last] * LAST


def test_the_books_are_what_the_projection_has_written(store: Store, file: Path) -> None:
    store.catch_up(statements)
    books = read_books(str(file))
    assert books.balances == (("alice", "Alice Liddell", 70_00), ("bob", "Bob Cratchit", 25_00))
    assert (books.deposited, books.withdrawn, books.total, books.balanced) == (100_00, 5_00, 95_00, True)
    with by_hand(file) as sql:
        sql.execute("UPDATE balances_v1 SET cents = cents + 1 WHERE account = 'bob'")
    assert not read_books(str(file)).balanced


# -- How it looks ------------------------------------------------------------------------------------------------------


def test_the_highest_bar_is_as_high_as_can_be() -> None:
    assert bars([0, 1, 400, 800]) == " ▁▄█"
    assert bars([]) == ""
    assert bars([0, 0]) == "  "


def test_events_are_told_as_people_say_them(store: Store) -> None:
    store.execute(agree_overdraft, BOB, 10_00)
    store.execute(close, ALICE, BOB)
    assert [told(recorded) for recorded in store.log(types=accounts)] == [
        "Alice Liddell opened an account",
        "Bob Cratchit opened an account",
        "100.00 EUR deposited",
        "alice to bob: 30.00 EUR, lunch",
        "5.00 EUR withdrawn",
        "OverdraftAgreed",
        "alice to bob: 70.00 EUR, remainder",
        "Closed",
    ]


def test_all_figures_are_on_the_screen_and_in_a_line(store: Store, file: Path) -> None:
    store.catch_up(statements)
    clock = Watch()
    flow = flow_of(store, clock)
    clock.now += 1.5
    figures = Figures(flow, read_books(str(file)), store.projections())
    console = Console(file=StringIO(), width=100, record=True)
    console.print(picture(figures))
    shown = console.export_text()
    for expected in (
        "1 transfers/s █",
        "Alice Liddell 70.00 EUR",
        "4 alice to bob: 30.00 EUR, lunch",
        "statements stopped 5",
    ):
        assert expected in re.sub(" +", " ", shown), shown
    assert line(figures).startswith("   2 s      1 transfers/s  95.00 EUR on 2 accounts  statements stopped, 0 events")
    assert summary(figures) == (
        "1 transfers in 2 s; 100.00 EUR were deposited, 5.00 EUR withdrawn, 95.00 EUR are there: the books are balanced"
    )


# -- The program -------------------------------------------------------------------------------------------------------


def test_it_shows_what_another_process_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "1.2"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert all(
        re.fullmatch(r" +1 s +\d+ transfers/s  [\d,.]+ EUR on \d accounts  statements .*behind", one) for one in lines
    )
    found = re.match(r"([\d,]+) transfers in 1 s; ([\d,]+\.00) EUR were deposited", last)
    assert found is not None, last
    assert int(found[1].replace(",", "")) > 0
    assert found[2] == f"{len(OWNERS) * FIRST_DEPOSIT.cents // 100:,}.00"
    assert last.endswith("the books are balanced")


async def test_a_terminal_gets_a_picture_that_moves(store: Store, file: Path) -> None:
    console = Console(file=StringIO(), width=100, force_terminal=True)
    assert await watch(console, str(file), 0.3) == 0
    assert isinstance(console.file, StringIO)
    drawn = console.file.getvalue()
    assert drawn.count("transfers/s") >= 2
    assert "Bob Cratchit" in drawn


def test_books_that_are_not_balanced_are_a_failure(
    store: Store, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.catch_up(statements)
    with by_hand(file) as sql:
        sql.execute("UPDATE balances_v1 SET cents = cents + 1 WHERE account = 'bob'")
    assert main([str(file), "--seconds", "0.01"]) == 1
    assert "THE BOOKS ARE NOT BALANCED" in capsys.readouterr().out


def test_a_file_that_is_not_there_or_no_store_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path / "nothing.db")])
    assert caught.value.code == 2
    (tmp_path / "text.db").write_text("no database at all, " * 100)
    assert main([str(tmp_path / "text.db"), "--seconds", "0.01"]) == 2
    assert "there is no file" in (told := capsys.readouterr().err)
    assert "python -m examples.dashboard: " in told


def test_an_owner_is_welcomed_once(store: Store) -> None:
    before = store.head()
    store.execute(welcome, ALICE, "Alice Liddell")
    assert store.head() == before
    assert store.execute(welcome, AccountId("emma"), "Emma Woodhouse").position == before + 2
