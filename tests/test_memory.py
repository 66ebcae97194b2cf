"""What is specific to the log in memory."""

from __future__ import annotations

import pytest

from factfold import StoreUnavailableError
from factfold.storage import memory
from factfold.storage.base import EMPTY, Appended
from factfold.storage.memory import Memory
from factfold.testing.contract.scribe import appending, asking, new


def test_a_resolve_that_waits_in_vain_leaves_the_lock_with_its_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LOCK_TIMEOUT", 0.01)
    storage = Memory()
    log, other = storage.open().log("default"), storage.open().log("default")
    lost = appending([new("a:1")], EMPTY)
    log.lock(asking(EMPTY))

    for asked in (log, other):
        with pytest.raises(StoreUnavailableError):
            asked.resolve(lost)
    with pytest.raises(StoreUnavailableError):
        other.append(lost)

    assert isinstance(log.append(appending([new("a:1")], EMPTY)), Appended)
    assert isinstance(other.append(appending([new("a:2")], log.head())), Appended)


def test_a_fork_leaves_the_lock_with_its_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LOCK_TIMEOUT", 0.01)
    storage = Memory()
    log, other = storage.open().log("default"), storage.open().log("default")
    log.lock(asking(EMPTY))

    storage.before_fork()
    storage.after_fork_in_parent()

    with pytest.raises(StoreUnavailableError):
        other.append(appending([new("a:1")], EMPTY))
    log.unlock()
    assert isinstance(other.append(appending([new("a:1")], EMPTY)), Appended)
