"""What has to come of what appends events: each `then` asks for one thing, and fails with what came instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, Self, TypeVar

from factfold.events import RecordedEvent
from factfold.sameness import same
from factfold.streams import Stream
from factfold.testing.differences import all_same, difference, listed
from factfold.testing.named import Exactly, check_events, checked_stream
from factfold.testing.raised import check_error_class, explain, other_than
from factfold.testing.setting import Run

# A failure points at the test's own line: unittest shows no frames of a module that has this name, and pytest none of a
# function that sets __tracebackhide__.
__unittest = True

S = TypeVar("S")
E = TypeVar("E")


class Aftermath:
    """What came of it. Every method gives this again, so that the next may follow.

    Where it raised, `then_raises` comes first; anything else raises the error again.
    """

    def __init__(self, what: str, run: Run) -> None:
        self._what = what
        self._run = run
        self._expected_error = False
        self._named: set[int] = set()  # the positions of events that a `then` has named
        self._shared: set[int] = set()  # and those that a `then_shared` has

    def then(self, stream: Exactly[S, E], /, *events: E) -> Self:
        """It appended these events to the stream, in this order, and no others that the stream's fold looks at.

        Shared events are among them. Without events: none. What it appended to other streams is not asked here, and
        what nobody asks for is found by `then_nothing_else`.
        """
        __tracebackhide__ = True
        named = checked_stream("then", stream)
        check_events("then", named, events)
        fold = named.fold
        appended = [one for one in self._events() if named.id in one.streams and one.type in fold.selected]
        seen = [fold.decode(one.stored, named.id) for one in appended]
        if not all_same(events, seen):
            self._fail(
                f"appended other events to {named.id} than expected (- expected, + appended):\n"
                f"{difference(events, seen)}"
            )
        self._named.update(one.position for one in appended)
        return self

    def then_shared(self, event: E, stream: Stream[object, E], /, *streams: Stream[object, E]) -> Self:
        """It appended this one event to all of these streams at once, and to no other stream.

        The next call with an equal event asks for another one.
        """
        __tracebackhide__ = True
        named = [checked_stream("then_shared", each) for each in (stream, *streams)]
        for each in named:
            check_events("then_shared", each, (event,))
        ids = {each.id for each in named}
        unnamed = (one for one in self._events() if one.position not in self._shared)
        found = next((one for one in unnamed if set(one.streams) == ids and same(event, one.event)), None)
        if found is None:
            self._fail(f"did not append this event to {', '.join(sorted(ids))} together:\n{listed([event])}")
        self._shared.add(found.position)
        self._named.add(found.position)
        return self

    def then_nothing(self) -> Self:
        """It appended nothing, to no stream."""
        __tracebackhide__ = True
        if self._events():
            self._fail("should have appended nothing")
        return self

    def then_nothing_else(self) -> Self:
        """It appended nothing but what the calls of `then` and `then_shared` before have named."""
        __tracebackhide__ = True
        others = [one for one in self._events() if one.position not in self._named]
        if others:
            self._fail(f"appended more than was expected:\n{shown(others)}")
        return self

    def then_raises(self, error: type[Exception], /, **attributes: object) -> Self:
        """It raised an error of this class, or of a subclass, with attributes equal to these."""
        __tracebackhide__ = True
        check_error_class(f".then_raises({error!r})", error)
        raised = self._run.error
        if raised is None:
            self._fail(f"raised nothing, and {error.__name__} was expected.{self._instead()}")
        wrong = other_than(raised, error, attributes)
        if wrong is not None:
            self._fail(wrong, raised)
        self._expected_error = True
        return self

    def then_state(self, stream: Exactly[S, E], state: S, /) -> Self:
        """The stream's state is equal to this, after all that happened; also where it raised."""
        __tracebackhide__ = True
        named = checked_stream("then_state", stream)
        self._events()
        found = self._run.store.state(named)
        if not same(state, found):
            self._fail(
                f"left {named.id} in another state than expected (- expected, + found):\n{difference([state], [found])}"
            )
        return self

    # -- inside ----------------------------------------------------------------------------------------------------

    def _events(self) -> Sequence[RecordedEvent[object]]:
        """What it appended. Raises what it raised, unless that was expected."""
        if self._run.error is not None and not self._expected_error:
            explain(self._run.error, f".then_raises({type(self._run.error).__name__})")
            raise self._run.error
        return self._run.events

    def _instead(self) -> str:
        """What it did instead of raising, if there is something to say."""
        return ""

    def _fail(self, what: str, cause: Exception | None = None) -> NoReturn:
        __tracebackhide__ = True
        if self._run.events:
            appended = f"All that it appended:\n{shown(self._run.events)}"
        elif self._run.error is None or cause is not None:
            appended = "It appended nothing."
        else:
            appended = f"It appended nothing, as it raised {self._run.error!r}."
        raise AssertionError(f"{self._what} {what}\n{appended}") from cause


def shown(events: Sequence[RecordedEvent[object]]) -> str:
    """Events, and the streams that they are in."""
    return "\n".join([f"  to {', '.join(one.streams)}:\n{listed([one.event])}" for one in events])
