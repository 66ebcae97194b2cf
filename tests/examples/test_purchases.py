"""The purchases of a music shop are replayed to the cent, and what is wrong in the file is named."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from examples import purchases
from factfold import AsyncStore, Store
from factfold.storage.sqlite import SQLite

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "cdnow_master.txt"
HEADER = " customer_id  date number_of_cds  dollar_value\r\n"

SMALL = (
    HEADER
    + " 00001 19970102  1   11.77\r\n"
    + " 00002 19970101  2   99.99\r\n"
    + " 00002 19970105  5    0.01\r\n"
    + " 00003 19970102  1    0.00\r\n"
    + " 00003 19970105 50 1000.00\r\n"
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "purchases.txt"
    file.write_bytes(SMALL.encode())
    return file


async def replayed(file: Path, store: Path) -> tuple[list[purchases.Purchased], purchases.Report]:
    bought = list(purchases.read_purchases(file))
    async with AsyncStore(SQLite(store), cache_size=100_000) as opened:
        await purchases.replay(opened, bought)
        return bought, await purchases.report(opened)


async def test_a_small_file_is_replayed_to_the_cent(small: Path, tmp_path: Path) -> None:
    bought, report = await replayed(small, tmp_path / "small.db")
    assert list(report.differences(bought)) == []
    assert report.totals == (5, 59, Decimal("1111.77"))
    assert {id: one.level.value for id, one in report.customers.items()} == {
        "00001": "basic",
        "00002": "silver",
        "00003": "gold",
    }
    takings = {day: (one.takings, one.closed) for day, one in report.days.items()}
    assert takings == {
        "1997-01-01": (Decimal("99.99"), True),
        "1997-01-02": (Decimal("11.77"), True),
        "1997-01-05": (Decimal("1000.01"), False),
    }


def test_nothing_can_be_bought_on_a_day_that_is_closed(small: Path) -> None:
    purchase = next(purchases.read_purchases(small))
    with Store("memory:") as store:
        store.execute(purchases.close_day, purchase.day)
        with pytest.raises(purchases.DayIsClosedError):
            store.execute(purchases.buy, purchase)
        assert store.state(purchases.customers(purchase.customer)) == purchases.Customer()


def test_the_script_prints_the_report(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert purchases.main([str(small)]) == 0
    printed = capsys.readouterr().out
    assert "dollars        1,111.77" in printed
    assert "  00003     gold            2     51    1,000.00" in printed


@pytest.mark.parametrize(
    "line",
    [
        "",
        " 00001 19970102  1",
        " 00001 19970102  1   11.77 9",
        " 00001 19970102  1   11.7",
        " 00001 19970102  1  -11.77",
        " 00001 19970102 -1   11.77",
        " 00001 19970230  1   11.77",
        " 00001 1997-1-2  1   11.77",
        " abc   19970102  1   11.77",
        " 00001 19970102  \u0661   11.77",
        " 00001 19970102  1   NaN",
    ],
)
def test_a_malformed_line_is_refused_with_file_and_number(
    line: str, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small.open("a", encoding="utf-8", newline="") as file:
        file.write(line + "\r\n")
    assert purchases.main([str(small), "--store", str(tmp_path / "new.db")]) == 2
    refused = capsys.readouterr()
    assert refused.err.startswith(f"purchases.py: {small}:7: ")
    assert len(refused.err.splitlines()) == 1
    assert not refused.out
    assert not (tmp_path / "new.db").exists()


def test_a_file_without_the_header_is_refused(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small.write_text(SMALL.removeprefix(HEADER))
    assert purchases.main([str(small)]) == 2
    assert f"{small}:1: the header" in capsys.readouterr().err


def test_a_missing_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert purchases.main([str(tmp_path / "missing.txt")]) == 2
    assert "missing.txt" in capsys.readouterr().err


def test_a_store_that_holds_events_already_is_refused(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(small), "--store", str(tmp_path / "kept.db")]
    assert purchases.main(arguments) == 0
    assert purchases.main(arguments) == 2
    assert "holds events already" in capsys.readouterr().err


@pytest.mark.skipif(not REAL.is_file(), reason="the real purchases are not beside this repository")
async def test_the_real_purchases_come_to_the_known_figures(tmp_path: Path) -> None:
    bought, report = await replayed(REAL, tmp_path / "real.db")
    assert list(report.differences(bought)) == []
    assert report.totals == (69_659, 167_881, Decimal("2500315.63"))
    assert (len(report.customers), len(report.days)) == (23_570, 546)
    assert sum(purchase.dollars == 0 for purchase in bought) == 80
    assert sum(day.closed for day in report.days.values()) == 545
