"""What has to hold of a log and of everything that was seen of it, however many stores worked on it at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import msgspec

from factfold import RecordedEvent
from factfold.cache import Cache
from factfold.errors import (
    AppendRefusedError,
    ConflictError,
    FactfoldError,
    OutcomeUnknownError,
    StoreUnavailableError,
)
from factfold.storage.base import StoredEvent
from tests.properties.boxes import BrokenError
from tests.properties.model import Fact, Outcome, facts_of, run, state_of, state_through, version_of
from tests.properties.programs import EVENTS_PER_PROGRAM, Program, Run, poisoned

FAILURES: tuple[type[FactfoldError], ...] = (
    AppendRefusedError,
    ConflictError,
    OutcomeUnknownError,
    StoreUnavailableError,
)
"""What a store may report of a command that is in order: it could not be written, or nobody knows whether it was."""


@dataclass
class Call:
    """A program that was given to a store, and what came of it.

    Attributes:
        since: the position of the head when it was given.
        key: the key of an `execute_once`.
        until: the position of the head when the answer was there; None while there is none.
        repeated: says the answer that an earlier call had used up the key.
    """

    program: Program
    since: int
    key: str | None = None
    until: int | None = None
    result: object = None
    error: BaseException | None = None
    events: Sequence[RecordedEvent[object]] = ()
    repeated: bool = False


class Written(NamedTuple):
    """Events that a command wrote: the position before the first, and how they come to be when it is run there."""

    after: int
    outcome: Outcome


def check_log(stored: Sequence[StoredEvent]) -> None:
    """Positions are dense, and versions are dense in each stream."""
    versions: dict[str, int] = {}
    for position, one in enumerate(stored, 1):
        assert one.position == position
        for stream, version in one.streams.items():
            assert version == versions.get(stream, 0) + 1, f"{stream} at {position}"
            versions[stream] = version


def check_run(each: Run, stored: Sequence[StoredEvent]) -> None:
    """What a run saw, and it need not count, was the log up to one position, and what others of its batch appended.

    That is the cut, or the log's beginning where it took streams for empty.
    """
    differences = [_difference(each, facts_of(stored[:position])) for position in (each.position, 0)]
    assert None in differences, f"at {each.position}, after {each.before}: {differences[0]}; and at 0: {differences[1]}"


def _difference(each: Run, log: Sequence[Fact]) -> str | None:
    """What the run would have seen in another way if this had been the log."""
    there = [*log, *each.before]
    for seen in each.seen:
        try:
            if seen.what == "version":
                expected: object = version_of(seen.stream, there)
            else:
                expected = state_of(seen.stream, [*there, *seen.own])
        except BrokenError:
            return f"saw {seen}, which cannot be folded"
        if seen.value != expected:
            return f"saw {seen}, and there was {expected}"
    return None


def check_runs(programs: Sequence[Program], stored: Sequence[StoredEvent]) -> None:
    """`check_run`, for all runs of these programs."""
    for program in programs:
        for each in program.runs:
            check_run(each, stored)


def check_calls(
    calls: Sequence[Call], stored: Sequence[StoredEvent], failures: tuple[type[FactfoldError], ...] = FAILURES
) -> None:
    """The log is what comes of running its commands one after another, and each answer fits into that order."""
    written = _run_one_after_another(calls, stored)
    for call in calls:
        if call.until is None:
            continue
        if isinstance(call.error, FactfoldError):
            assert isinstance(call.error, failures), f"{call} failed for no good reason"
            _check_failure(call, call.error, call.program.number in written)
        elif call.key is not None and call.error is None:
            _check_once(call, call.key, call.until, stored)
        elif call.program.number in written:
            _check_written(call, call.until, written[call.program.number], stored)
        else:
            _check_decision(call, call.until, stored)


def _run_one_after_another(calls: Sequence[Call], stored: Sequence[StoredEvent]) -> dict[int, Written]:
    by_number = {call.program.number: call for call in calls}
    written: dict[int, Written] = {}
    after = 0
    for number, grouped in groupby(stored, _owner):
        group = list(grouped)
        if number in by_number:
            call = by_number[number]
            outcome = run(call.program, facts_of(stored[:after]))
            assert number not in written, f"{call} wrote twice, at {written[number].after} and {after}"
            assert list(outcome.appended) == facts_of(group), (
                f"{call} wrote after {after} what it would not write there"
            )
            assert after >= call.since, f"{call} wrote after {after}, before it was called"
            written[number] = Written(after, outcome)
        after += len(group)
    return written


def _owner(one: StoredEvent) -> int:
    """The number of the program that wrote an event; 0 for strangers, -1 for the library itself."""
    facts = facts_of([one])
    return facts[0].event.n // EVENTS_PER_PROGRAM if facts else -1


def _check_written(call: Call, until: int, written: Written, stored: Sequence[StoredEvent]) -> None:
    after, outcome = written
    assert call.error is None, f"{call} raised, and wrote after {after}"
    assert call.result == outcome.result
    _check_events(call, stored[after : after + len(outcome.appended)])
    assert after + len(outcome.appended) <= until


def _check_events(call: Call, stored: Sequence[StoredEvent]) -> None:
    told = [(event.position, dict(event.streams), event.event) for event in call.events]
    facts = facts_of(stored)
    assert told == [(one.position, dict(one.streams), fact.event) for one, fact in zip(stored, facts, strict=True)], (
        call
    )


def _check_decision(call: Call, until: int, stored: Sequence[StoredEvent]) -> None:
    """It wrote nothing: then there was a moment, while it was on its way, at which that was right."""
    assert not call.events
    told = Outcome(call.result, call.error, ()).decision
    moments = range(call.since, until + 1)
    assert any(run(call.program, facts_of(stored[:moment])).decision == told for moment in moments), (
        f"{call} was right nowhere from {call.since} to {until}"
    )


def _check_once(call: Call, key: str, until: int, stored: Sequence[StoredEvent]) -> None:
    """The key was used up by one command, whose result and events are what every call with the key is told."""
    (used,) = (one for one in stored if f"$once:{key}" in one.streams)
    executed = msgspec.json.decode(used.data)
    first = used.position - 1 - executed["events"]
    assert call.result == msgspec.json.decode(executed["result"])
    _check_events(call, stored[first : used.position - 1])
    assert used.position <= until
    if not call.repeated:
        assert first >= call.since
        expected = run(call.program, facts_of(stored[:first]))
        assert expected.decision == (call.result, type(None), (), *facts_of(stored[first : used.position]))


def _check_failure(call: Call, error: FactfoldError, wrote: bool) -> None:
    if not isinstance(error, OutcomeUnknownError):
        assert not wrote, f"{call} failed, and wrote"
    if isinstance(error, AppendRefusedError):
        assert poisoned(call.program.runs[-1].wrote), f"{call} failed for what others wrote"


def check_cache(cache: Cache, stored: Sequence[StoredEvent]) -> None:
    """What is cached is the log up to the cut, through each fold."""
    assert cache.head is not None
    there = stored[: cache.head.position]
    facts = facts_of(there)
    for stream, slot in cache.slots.items():
        members = sum(1 for one in there if stream in one.streams)
        assert slot.version in {None, members}, f"{stream} has version {slot.version} at {cache.head.position}"
        for fold, folded in slot.folds.items():
            if fold.category.startswith("$") or folded.error is not None:
                continue
            looked_at = [one.streams[stream] for one in there if stream in one.streams and one.type in fold.selected]
            assert folded.version == max(looked_at, default=0), f"{stream} through {fold.name} at {cache.head.position}"
            expected = state_through(fold, stream, facts)
            assert folded.state == expected, f"{stream} through {fold.name} at {cache.head.position}"


def check_nothing_is_pinned(cache: Cache) -> None:
    """When all are answered, the cache keeps no more than its size."""
    assert not [stream for stream, slot in cache.slots.items() if slot.pins]
    assert len(cache) <= cache._size
