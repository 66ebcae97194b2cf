"""A process that runs the process manager of examples/fulfilment until it is killed."""

from __future__ import annotations

from pathlib import Path

from examples.fulfilment.process import fulfilment
from factfold import Store
from factfold.observing import Execution, Observer
from factfold.storage.base import Storage


class Repeats(Observer):
    """Writes a byte to a file for each step that a runner before had done already."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def executed(self, execution: Execution, error: BaseException | None) -> None:
        if execution.repeated:
            self._file.write(b".")


def run_until_killed(storage: Storage, lease: float, repeats: Path) -> None:
    """Runs it; takes over when the lease of the one that was killed before is over."""
    fulfilment.lease = lease
    with Store(storage, observer=Repeats(repeats)) as store:
        store.run(fulfilment)
