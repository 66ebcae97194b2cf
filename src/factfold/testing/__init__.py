"""For those who test with factfold, or write a storage for it.

Scenarios say what happened before, what is done now, and what has to come of it. They need neither pytest nor a store.
What needs pytest (`StorageContract`) or hypothesis (`factfold.testing.strategies`) is imported where it is used.
`event_samples` proves that what was ever stored still loads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from factfold.testing.clock import Clock
from factfold.testing.fixed import NOW, nth_id
from factfold.testing.outcome import Outcome
from factfold.testing.purity import assert_pure
from factfold.testing.samples import Sample, event_samples
from factfold.testing.scenario import Scenario, scenario

if TYPE_CHECKING:
    from factfold.testing.contract import StorageContract
else:

    def __getattr__(name: str) -> object:
        """Imports the contract suite, and pytest with it, at its first use."""
        if name == "StorageContract":
            import pytest

            # Asserts outside of test modules tell what they compared only when pytest is asked for it before.
            pytest.register_assert_rewrite("factfold.testing.contract")
            from factfold.testing.contract import StorageContract

            globals()[name] = StorageContract
            return StorageContract
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "NOW",
    "Clock",
    "Outcome",
    "Sample",
    "Scenario",
    "StorageContract",
    "assert_pure",
    "event_samples",
    "nth_id",
    "scenario",
]
