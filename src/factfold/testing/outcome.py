"""What has to come of a command: its events, its result, or its error."""

from __future__ import annotations

from typing import Generic, Self, TypeVar

from factfold.sameness import same
from factfold.testing.aftermath import Aftermath
from factfold.testing.differences import difference

__unittest = True  # see aftermath

R = TypeVar("R")


class Outcome(Aftermath, Generic[R]):
    """What came of a command in a scenario. Every method gives the outcome again, so that the next may follow.

    Where the command raised, `then_raises` comes first; anything else raises the command's error again.
    """

    def then_result(self, result: R) -> Self:
        """The command returned something equal to this."""
        __tracebackhide__ = True
        self._events()
        if self._run.error is not None:
            self._fail("returned nothing")
        if not same(result, self._run.result):
            self._fail(
                "returned another result than expected (- expected, + returned):\n"
                f"{difference([result], [self._run.result])}"
            )
        return self

    def _instead(self) -> str:
        return f" It returned {self._run.result!r}"
