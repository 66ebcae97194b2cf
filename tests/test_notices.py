"""What is logged: what nobody can be told by an exception, in few words, and rarely."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from factfold import OutcomeUnknownError, Receipt, Transaction, deciding, notices
from tests.faults import once, raising
from tests.ledger import accounts, deposit
from tests.together import Together

ENGINES = ("memory",)

ROOT = Path(__file__).parent.parent


def test_a_store_in_good_health_says_nothing(together: Together, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "factfold"):
        together.execute((deposit, "ann", 1), (deposit, "ben", 2))
        together.store.state(accounts("ann"))
    assert caplog.records == []


def test_an_append_that_was_cut_off_is_logged(together: Together, caplog: pytest.LogCaptureFixture) -> None:
    together.faulty.after["append"] = once(raising(OutcomeUnknownError("the connection broke")))
    with caplog.at_level(logging.WARNING, "factfold"):
        (outcome,) = together.execute((deposit, "ann", 1))
    assert isinstance(outcome, Receipt)
    assert [record.getMessage() for record in caplog.records] == [
        "An append to memory: [default] was cut off. It is asked whether the events were written."
    ]


def test_a_command_that_keeps_others_waiting_is_logged_once_by_its_name(
    together: Together, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def think(tx: Transaction) -> None:
        monkeypatch.setattr(deciding, "MAX_LOCKED_SECONDS", -1.0)  # from here on everything takes too long

    monkeypatch.setattr(notices, "_slow", set())
    with caplog.at_level(logging.WARNING, "factfold"):
        together.execute((think,))
        together.execute((think,), (think,))
    said = [record.getMessage() for record in caplog.records if "think" in record.getMessage()]
    assert len(said) == 1
    assert re.match(r"The command tests\.test_notices\..*think took \d+\.\d seconds", said[0])


def test_a_logging_filter_that_raises_fails_no_command(
    together: Together, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    filtered: list[logging.LogRecord] = []

    def moody(record: logging.LogRecord) -> bool:
        filtered.append(record)
        raise LookupError("bad luck")

    monkeypatch.setattr(logging.getLogger("factfold"), "filters", [moody])
    together.faulty.after["append"] = once(raising(OutcomeUnknownError("the connection broke")))
    (outcome,) = together.execute((deposit, "ann", 1))
    assert isinstance(outcome, Receipt)
    assert len(filtered) == 1


def test_every_message_is_in_the_documentation() -> None:
    page = " ".join((ROOT / "docs" / "how-to" / "observability.md").read_text("utf-8").split())
    messages = [
        message
        for source in (ROOT / "src" / "factfold").glob("*.py")
        for message in re.findall(r'\bwarn\(\s*"([^"]+)"', source.read_text("utf-8"))
    ]
    assert len(messages) >= 5
    for message in messages:
        for part in re.split(r"%\S+", message.split(". ")[0]):
            assert part.strip(" .:") in page, f"docs/how-to/observability.md does not say what is meant by: {message}"
