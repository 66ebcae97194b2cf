"""For those who test with factfold, or write a storage for it.

`StorageContract` is the contract of `factfold.storage` as a class of pytest tests; it needs pytest. `event_samples`
proves that what was ever stored still loads.
"""

from __future__ import annotations

import pytest

# Asserts outside of test modules tell the values they compared only when pytest is asked for it before their import.
pytest.register_assert_rewrite("factfold.testing.contract")

from factfold.testing.contract import StorageContract  # noqa: E402 (must come after the line above)
from factfold.testing.samples import Sample, event_samples  # noqa: E402

__all__ = ["Sample", "StorageContract", "event_samples"]
