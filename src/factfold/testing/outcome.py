"""What has to come of a command: each `then` asks for one thing, and fails with what came instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, NoReturn, Self, TypeVar

from factfold.events import RecordedEvent
from factfold.sameness import same
from factfold.streams import Stream
from factfold.testing.differences import all_same, difference, line_difference, listed
from factfold.testing.named import Exactly, check_events, checked_stream
from factfold.testing.setting import Run

# A failure points at the test's own line: unittest shows no frames of a module that has this name, and pytest none of a
# function that sets __tracebackhide__.
__unittest = True

S = TypeVar("S")
E = TypeVar("E")
R = TypeVar("R")


class Outcome(Generic[R]):
    """What came of a command in a scenario. Every method gives the outcome again, so that the next may follow.

    Where the command raised, `then_raises` comes first; anything else raises the command's error again.
    """

    def __init__(self, command: str, run: Run) -> None:
        self._command = command
        self._run = run
        self._expected_error = False
        self._named: set[int] = set()  # the positions of events that a `then` has named
        self._shared: set[int] = set()  # and those that a `then_shared` has

    def then(self, stream: Exactly[S, E], /, *events: E) -> Self:
        """The command appended these events to the stream, in this order, and no others that its fold looks at.

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
        """The command appended this one event to all of these streams at once, and to no other stream.

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
        """The command appended nothing, to no stream."""
        __tracebackhide__ = True
        if self._events():
            self._fail("should have appended nothing")
        return self

    def then_nothing_else(self) -> Self:
        """The command appended nothing but what the calls of `then` and `then_shared` before have named."""
        __tracebackhide__ = True
        others = [one for one in self._events() if one.position not in self._named]
        if others:
            self._fail(f"appended more than was expected:\n{_shown(others)}")
        return self

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

    def then_raises(self, error: type[Exception], /, **attributes: object) -> Self:
        """The command raised an error of this class, or of a subclass, with attributes equal to these."""
        __tracebackhide__ = True
        _check_error_class(error)
        raised = self._run.error
        if raised is None:
            self._fail(f"raised nothing, and {error.__name__} was expected. It returned {self._run.result!r}")
        if not isinstance(raised, error):
            self._fail(f"raised {raised!r}, and {error.__name__} was expected", raised)
        for name in attributes:
            if not hasattr(raised, name):
                has = ", ".join(vars(raised)) or "none"
                self._fail(f"raised {raised!r}, which has no attribute {name!r}. Its attributes: {has}", raised)
        found = {name: getattr(raised, name) for name in attributes}
        if not all_same(list(attributes.values()), list(found.values())):
            self._fail(
                f"raised {type(raised).__name__} with other attributes than expected (- expected, + raised):\n"
                f"{line_difference(_assigned(attributes), _assigned(found))}",
                raised,
            )
        self._expected_error = True
        return self

    def then_state(self, stream: Exactly[S, E], state: S, /) -> Self:
        """The stream's state is equal to this, after all that happened; also where the command raised."""
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
        """What the command appended. Raises what it raised, unless that was expected."""
        if self._run.error is not None and not self._expected_error:
            _explain(self._run.error)
            raise self._run.error
        return self._run.events

    def _fail(self, what: str, cause: Exception | None = None) -> NoReturn:
        __tracebackhide__ = True
        if self._run.events:
            appended = f"All that it appended:\n{_shown(self._run.events)}"
        elif self._run.error is None or cause is not None:
            appended = "It appended nothing."
        else:
            appended = f"It appended nothing, as it raised {self._run.error!r}."
        raise AssertionError(f"{self._command} {what}\n{appended}") from cause


def _check_error_class(error: object) -> None:
    if not isinstance(error, type) or not issubclass(error, Exception):
        raise TypeError(
            f".then_raises({error!r}): the class of the error is needed, and its attributes by name, as in "
            ".then_raises(InsufficientFunds, amount=30)"
        )


_EXPECTING = (
    "To a scenario, this is an error like any other. Where the command has to raise it, say so first: .then_raises("
)


def _explain(error: Exception) -> None:
    """Adds to an error, once, how a scenario would have expected it."""
    if not any(note.startswith(_EXPECTING) for note in getattr(error, "__notes__", ())):
        error.add_note(f"{_EXPECTING}{type(error).__name__})")


def _shown(events: Sequence[RecordedEvent[object]]) -> str:
    return "\n".join([f"  to {', '.join(one.streams)}:\n{listed([one.event])}" for one in events])


def _assigned(attributes: Mapping[str, object]) -> list[str]:
    return [f"{name}={value!r}" for name, value in attributes.items()]
