"""A reaction in a scenario: it handles what was given and what follows from that, and then all of it once more."""

from __future__ import annotations

from msgspec import Struct

from factfold.consumers import HandlerFailedError
from factfold.errors import ConsumerStoppedError
from factfold.reactions import Reaction
from factfold.store import Store
from factfold.testing.aftermath import shown
from factfold.testing.noting import Notes
from factfold.testing.parking import Handled
from factfold.testing.rehearsing import Rehearsal, rehearsal, rehearsed
from factfold.testing.setting import Run, Setting


class Reacting(Struct, frozen=True):
    """What came of a reaction. `twice`: what it did again when its handlers were called again, or ""."""

    reaction: Reaction
    run: Run
    handled: Handled
    twice: str


def react(setting: Setting, reaction: Reaction) -> Reacting:
    """Runs a reaction over what was given, until nothing more follows. Raises what an append of that raises."""
    store = setting.empty()
    notes = Notes(setting.now)
    first = rehearsed(reaction)
    first.start = "beginning"
    with rehearsal(reaction, store, notes) as running:
        for given in setting.givens:
            running.give(given)
        stopped = _run(first, store, running)
        events = tuple(notes.appended)
        recorded = store.log(types=reaction, category=reaction.category)
        handled = Handled(reaction.label, {one.position: one for one in recorded}, running.parked(first))
        twice = _run_again(first, handled, stopped, running, notes)
    cause = None if stopped is None else stopped.__cause__
    error = cause if isinstance(cause, Exception) else stopped
    return Reacting(reaction, Run(store, None, error, events, ()), handled, twice)


def _run(reaction: Reaction, store: Store, running: Rehearsal) -> ConsumerStoppedError | None:
    """Runs it until it has nothing to do; gives why it stopped."""
    head = -1
    while head < (now := store.head()):
        head = now
        try:
            running.catch_up(reaction)
        except ConsumerStoppedError as error:
            return error
    return None


def _run_again(
    reaction: Reaction, handled: Handled, stopped: ConsumerStoppedError | None, running: Rehearsal, notes: Notes
) -> str:
    """Has all events handled again that were handled, as after a crash; says what was done again."""
    parked = {one.position for one in handled.parked}
    told: list[str] = []
    notes.count_anew()
    for position, recorded in handled.events.items():
        if position in parked or (stopped is not None and position > stopped.position):
            continue
        before = len(notes.appended)
        failed = ""
        try:
            running.handle(reaction, recorded)
        except HandlerFailedError as error:
            failed = f"\n  it raised {error.__cause__!r}"
        again = notes.appended[before:]
        if again or failed:
            appended = f"\n{shown(again)}" if again else ""
            told.append(f"for {recorded.event!r} at position {position}{appended}{failed}")
    if not told:
        return ""
    listed = "\n".join(told)
    return (
        "did something else when its handlers were called again with the same events, as after a crash:\n"
        f"{listed}\n"
        "They append by context.execute(...), which does nothing the second time, and gives the first receipt.\n"
        "They decide by receipts, and not by the time, by chance, or by a state that has changed since."
    )
