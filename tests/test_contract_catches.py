"""The storage contract suite can fail: each of its tests catches one of the faults in `tests/broken`."""

from __future__ import annotations

from pathlib import Path

import pytest

from factfold.errors import FactfoldError
from factfold.testing import StorageContract
from tests.broken import answers, life, processes, reads, swaps, writes
from tests.broken.storage import Broken, Fault, Sound, SoundEngine, SoundLoop, SoundTransactions

FAULTS: list[Fault] = [
    fault
    for module in (writes, answers, reads, life, processes, swaps)
    for fault in vars(module).values()
    if isinstance(fault, type)
    and issubclass(fault, (Sound, SoundEngine, SoundLoop))
    and fault.__module__ == module.__name__
]


def declared(attribute: str) -> list[tuple[Fault, str]]:
    """The faults with the tests that they name under this attribute."""
    return [(fault, test) for fault in FAULTS for test in vars(fault).get(attribute, ())]


CAUGHT = declared("caught_by")
RAISING = declared("raises_in")
BETWEEN_PROCESSES = declared("caught_between_processes_by")
IN_TRANSACTIONS = {test for fault, test in CAUGHT if issubclass(fault, SoundTransactions)}
IN_MEMORY = sorted({test for _, test in CAUGHT + RAISING} - IN_TRANSACTIONS)


def run(test: str, storage: Broken) -> None:
    """Runs one test of the suite on a storage."""
    getattr(StorageContract(), f"test_{test}")(storage)


def names(cases: list[tuple[Fault, str]]) -> list[str]:
    return [f"{fault.__name__}-{test}" for fault, test in cases]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the waits of which one knows that they are in vain."""
    monkeypatch.setattr("factfold.testing.contract.life.PATIENCE", 0.3)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("fault", "test"), CAUGHT, ids=names(CAUGHT))
def test_the_fault_is_caught(fault: Fault, test: str, tmp_path: Path) -> None:
    broken = Broken(fault, tmp_path if issubclass(fault, SoundTransactions) else None)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run(test, broken)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("fault", "test"), RAISING, ids=names(RAISING))
def test_the_fault_ends_in_an_error(fault: Fault, test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("factfold.storage.memory.LOCK_TIMEOUT", 0.2)
    with pytest.raises((FactfoldError, AssertionError)):
        run(test, Broken(fault))


@pytest.mark.parametrize(("fault", "test"), BETWEEN_PROCESSES, ids=names(BETWEEN_PROCESSES))
def test_the_fault_shows_between_processes(
    fault: Fault, test: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("factfold.testing.contract.processes.FAIRNESS_SECONDS", 0.5)
    with pytest.raises((AssertionError, FactfoldError)):
        run(test, Broken(fault, tmp_path))


@pytest.mark.parametrize("test", IN_MEMORY)
def test_a_storage_without_a_fault_passes(test: str) -> None:
    run(test, Broken())


@pytest.mark.parametrize("test", sorted(IN_TRANSACTIONS))
def test_a_storage_with_transactions_without_a_fault_passes(test: str, tmp_path: Path) -> None:
    run(test, Broken(SoundTransactions, tmp_path))


@pytest.mark.parametrize("test", ["lock_then_append", "async_lock_is_exclusive_and_blocks_no_loop"])
def test_locks_that_are_not_promised_are_skipped(test: str) -> None:
    with pytest.raises(pytest.skip.Exception, match=r"capabilities\.locks is False"):
        run(test, Broken(life.PromisesNothing))


@pytest.mark.parametrize("test", sorted(test for _, test in BETWEEN_PROCESSES))
def test_processes_that_are_not_promised_are_skipped(test: str) -> None:
    with pytest.raises(pytest.skip.Exception, match=r"capabilities\.shared is False"):
        run(test, Broken(life.PromisesNothing))


@pytest.mark.parametrize("test", sorted(test for _, test in BETWEEN_PROCESSES))
def test_a_shared_storage_that_no_process_can_be_given_is_caught(test: str) -> None:
    with pytest.raises(AssertionError, match="must be picklable"):
        run(test, Broken(life.PromisesToBeShared))


def test_every_test_of_the_suite_can_fail() -> None:
    suite = {name.removeprefix("test_") for name in dir(StorageContract) if name.startswith("test_")}
    assert suite == {test for _, test in CAUGHT + RAISING + BETWEEN_PROCESSES}
