"""What has to come of a reaction: the events of the commands that it executed, once, whatever crashes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from factfold.events import RecordedEvent
from factfold.testing.aftermath import Aftermath
from factfold.testing.parking import Parking, check_event
from factfold.testing.raised import check_error_class
from factfold.testing.reacting import Reacting

__unittest = True  # see aftermath


class Reacted(Aftermath):
    """What came of a reaction in a scenario. Every method gives this again, so that the next may follow.

    Where a handler raised, `then_raises` comes first (or `then_parked`); anything else raises the error again. It
    fails, too, when something more happened when the handlers were called again with the same events.
    """

    def __init__(self, reacting: Reacting) -> None:
        super().__init__(reacting.reaction.label, reacting.run)
        self._reacting = reacting
        self._parking = Parking(reacting.handled)

    def then_parked(self, event: object, error: type[Exception], /) -> Self:
        """It parked this event, or the one at this position, because of an error of this class, or of a subclass.

        The next call with an equal event asks for another one.
        """
        __tracebackhide__ = True
        check_event("then_parked", event, self._reacting.reaction)
        check_error_class(f".then_parked(event, {error!r})", error)
        super()._events()
        wrong = self._parking.name(event, error)
        if wrong is not None:
            self._fail(wrong)
        return self

    def _events(self) -> Sequence[RecordedEvent[object]]:
        """What it appended. Fails when something went wrong that nobody has expected."""
        __tracebackhide__ = True
        events = super()._events()
        wrong = self._parking.unnamed() or self._reacting.twice
        if wrong:
            self._fail(wrong)
        return events
