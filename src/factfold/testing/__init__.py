"""For those who test with factfold, or write a storage for it.

Scenarios say what happened before, what is done now, and what has to come of it. They need neither pytest nor a server.
Each name is imported at its first use: `StorageContract` needs pytest, and `factfold.testing.strategies` hypothesis.
`event_samples` proves that what was ever stored still loads.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from factfold.testing.clock import Clock
    from factfold.testing.contract import StorageContract
    from factfold.testing.faults import Faulty
    from factfold.testing.fixed import NOW, nth_id
    from factfold.testing.outcome import Outcome
    from factfold.testing.projected import Projected
    from factfold.testing.purity import assert_pure
    from factfold.testing.reacted import Reacted
    from factfold.testing.samples import Sample, event_samples
    from factfold.testing.scenarios import Scenario, scenario
else:
    _MODULES = {
        "NOW": "fixed",
        "Clock": "clock",
        "Faulty": "faults",
        "Outcome": "outcome",
        "Projected": "projected",
        "Reacted": "reacted",
        "Sample": "samples",
        "Scenario": "scenarios",
        "StorageContract": "contract",
        "assert_pure": "purity",
        "event_samples": "samples",
        "nth_id": "fixed",
        "scenario": "scenarios",
    }

    def __getattr__(name: str) -> object:
        """Imports what is asked for: pytest loads this package with its plugin, also where nobody uses it."""
        if (module := _MODULES.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if module == "contract":
            try:
                import pytest
            except ModuleNotFoundError as error:
                raise ModuleNotFoundError(
                    "factfold.testing.StorageContract needs pytest: pip install 'factfold[test]'", name=error.name
                ) from error

            # Asserts outside of test modules tell what they compared only when pytest is asked for it before.
            pytest.register_assert_rewrite("factfold.testing.contract")
        found = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "NOW",
    "Clock",
    "Faulty",
    "Outcome",
    "Projected",
    "Reacted",
    "Sample",
    "Scenario",
    "StorageContract",
    "assert_pure",
    "event_samples",
    "nth_id",
    "scenario",
]
