"""The storage contract as one class of tests, which anybody who writes a storage subclasses."""

from __future__ import annotations

import pytest

from factfold.storage.base import Storage
from factfold.testing.contract.appends import AppendContract
from factfold.testing.contract.async_transactions import AsyncTransactionContract
from factfold.testing.contract.asynchronous import AsyncContract
from factfold.testing.contract.emptiness import EmptyContract
from factfold.testing.contract.life import LifeContract
from factfold.testing.contract.locks import LockContract
from factfold.testing.contract.news import NewsContract
from factfold.testing.contract.odd import OddContract
from factfold.testing.contract.outcomes import OutcomeContract
from factfold.testing.contract.pages import PageContract
from factfold.testing.contract.processes import ProcessContract
from factfold.testing.contract.races import RaceContract
from factfold.testing.contract.slices import SliceContract
from factfold.testing.contract.swaps import SwapContract


class StorageContract(
    AppendContract,
    EmptyContract,
    NewsContract,
    OutcomeContract,
    SliceContract,
    PageContract,
    OddContract,
    LifeContract,
    SwapContract,
    LockContract,
    RaceContract,
    ProcessContract,
    AsyncContract,
    AsyncTransactionContract,
):
    """Everything that `factfold.storage.base` asks of a storage, as tests. Subclass it, with one fixture:

        class TestMyStorage(StorageContract):
            @pytest.fixture
            def storage(self, tmp_path: Path) -> Storage:
                return MyStorage(tmp_path / "events")

    The tests open, close and reopen the storage themselves, often several times at once: all engines opened on one
    `Storage` object see the same logs, and what was written is still there when it is opened again. Every test works in
    namespaces of its own, so that the fixture may give the same place again and again.

    What the engine's `capabilities` do not promise is skipped with a reason: `shared=False` skips the tests with
    several processes, `locks=False` those of the writers' lock, `transactions=False` those of read models. A storage
    that is shared must be picklable, and is opened in processes started by the "spawn" method. The asynchronous tests
    run event loops of their own: no plugin is needed.

    A failing test names the rule that was broken; the rules are in the docstrings of `factfold.storage.base`.
    """

    @pytest.fixture
    def storage(self) -> Storage:
        """The storage to be tested, not opened yet."""
        raise NotImplementedError(
            f"{type(self).__name__} needs a fixture `storage` that returns the storage to be tested"
        )
