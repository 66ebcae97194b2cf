"""What a projection or a reaction was not able to handle, as a test names it: the event, and the class of the error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from factfold.checkpoints import ParkedEvent
from factfold.events import RecordedEvent
from factfold.sameness import same
from factfold.testing.differences import listed
from factfold.testing.rehearsing import AnyConsumer


class Handled(Struct, frozen=True):
    """What was given to a consumer, and what it has parked of it."""

    label: str
    events: Mapping[int, RecordedEvent[object]]
    parked: Sequence[ParkedEvent]

    def first_after(self, position: int) -> RecordedEvent[object] | None:
        """The first event behind a position that is for this consumer."""
        return next((one for at, one in self.events.items() if at > position), None)

    def told(self, parked: ParkedEvent) -> str:
        """A parked event, for those who read what a test says."""
        return f"the event at position {parked.position}, {self.events[parked.position].event!r}"


class Parking:
    """Parked events of which a test names one after the other."""

    def __init__(self, handled: Handled) -> None:
        self._handled = handled
        self._named: set[int] = set()

    def name(self, event: object, error: type[Exception]) -> str | None:
        """Says that this event, or that at this position, was parked because of such an error; or what is wrong."""
        handled, parked = self._handled, self._handled.parked
        unnamed = [one for one in parked if one.position not in self._named]
        found = next((one for one in unnamed if is_meant(event, handled.events[one.position])), None)
        if found is None:
            shown = [handled.events[one.position].event for one in parked]
            all_parked = f"All that it parked:\n{listed(shown)}" if shown else "It parked nothing."
            return f"did not park {told_of(event)}\n{all_parked}"
        name = found.failure.error.partition(":")[0]
        if name not in _names_of(error):
            return f"parked {handled.told(found)}, because of {found.failure.error}, and not of {error.__name__}"
        self._named.add(found.position)
        return None

    def unnamed(self) -> str | None:
        """What was parked and nobody has named."""
        for one in self._handled.parked:
            if one.position not in self._named:
                event = self._handled.events[one.position].event
                name = one.failure.error.partition(":")[0]
                return (
                    f"parked {self._handled.told(one)}, because of {one.failure.error}\n"
                    f"Where it has to, say so first: .then_parked({event!r}, {name})"
                )
        return None


def is_meant(event: object, recorded: RecordedEvent[object]) -> bool:
    """Whether this event, or position, is that one."""
    return event == recorded.position if type(event) is int else same(event, recorded.event)


def told_of(event: object) -> str:
    """An event or a position, as it is called in a sentence."""
    return f"the event at position {event}" if type(event) is int else repr(event)


def check_event(call: str, event: object, consumer: AnyConsumer) -> None:
    """Refuses what is neither an event that is handled, nor a position. Raises TypeError."""
    if type(event) is int or type(event) in consumer.types:
        return
    if isinstance(event, type):
        hint = f"It is a class: make an event of it, {event.__name__}(...)."
    else:
        hint = "Give such an event, or its position in the log (1 for the first that was given)."
    raise TypeError(
        f".{call}({event!r}, ...): {consumer.label} handles {', '.join(cls.__name__ for cls in consumer.types)}. {hint}"
    )


def _names_of(error: type[Exception]) -> set[str]:
    """Of the class and its subclasses: what is kept of an error is its name."""
    names = {error.__name__}
    for subclass in error.__subclasses__():
        names |= _names_of(subclass)
    return names
