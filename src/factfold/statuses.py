"""How consumers are, as the storage and this process know it, and what is done about the events that they have parked.

All of it is errands: it runs under Store and under AsyncStore.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from msgspec import Struct

from factfold.checkpoints import (
    CHECKPOINTS,
    LEASES,
    SERVING,
    Checkpoint,
    ParkedEvent,
    decode_failure,
    parked_key,
    parked_place,
    parts_of,
    serving_version,
)
from factfold.consumers import HandlerFailedError, Place
from factfold.consuming import Consumption, nothing_between
from factfold.errands import Call, Errands, ReadEntries, ReadValues, Transact
from factfold.errors import ConsumerStoppedError
from factfold.events import RecordedEvent
from factfold.handling import AnyConsumer
from factfold.hub import Decoder
from factfold.leases import is_over, owner_of
from factfold.requests import AskHead
from factfold.storage.base import Entry, Head, LogPage, Put, StoredEvent, Swap

PAGE = 1000
"""How many entries are listed at a time."""

ConsumerState: TypeAlias = Literal[
    "waiting", "catching up", "live", "retrying", "running", "inline", "failed", "superseded", "stopped"
]
"""What a consumer does.

- "catching up", "live", "retrying", "waiting" (another process runs it): it is run by this store;
- "running": another store or process runs it; "inline": every append does its work;
- "failed": it has stopped at an event; "superseded": a higher version serves; "stopped": nobody runs it.
"""


class ConsumerStatus(Struct, frozen=True):
    """How a projection or a reaction is.

    Attributes:
        kind: "projection" or "reaction".
        name, version: of it.
        state: what it does.
        position: up to where everything is done, or not for it.
        lag_events: how many events it is behind the head, counting those that are not for it.
        lag_seconds: how long ago the first event behind its position was recorded; 0 when there is none.
        parked: how many events it has left aside.
        serving: whether its views, if it has some, are what readers see.
        error: why it has failed, or "".
        stalled_for: seconds without progress although there is something to do; known where it is run.
    """

    kind: str
    name: str
    version: int
    state: ConsumerState
    position: int
    lag_events: int
    lag_seconds: float
    parked: int
    serving: bool
    error: str
    stalled_for: float = 0.0


class Health(Struct, frozen=True):
    """Whether a store can be worked with.

    Attributes:
        ok: the storage answers, and no consumer of this store has failed or does not get on.
        storage: where it is.
        head: the position of the last event; None when the storage does not answer.
        error: why not, or "".
        durability: what is promised to those whose commands were acknowledged.
        consumers: projections and reactions, of all processes.
    """

    ok: bool
    storage: str
    head: int | None
    error: str
    durability: str
    consumers: tuple[ConsumerStatus, ...]


# -- Status ------------------------------------------------------------------------------------------------------------


def statuses(local: Sequence[Consumption]) -> Errands[tuple[ConsumerStatus, ...]]:
    """How all consumers are that the storage knows, and those that are run here."""
    here = {consumption.consumer.key: consumption for consumption in local}
    stored = {entry.key: Checkpoint.decode(entry.value) for entry in (yield from entries_of(CHECKPOINTS))}
    alive = {entry.key for entry in (yield from entries_of(LEASES)) if not is_over(entry)}
    serving = {entry.key: int(entry.value) for entry in (yield from entries_of(SERVING))}
    head: Head = yield AskHead()
    found: list[ConsumerStatus] = []
    for key in sorted({*stored, *here}):
        kind, name, version = parts_of(key)
        checkpoint, consumption = stored.get(key, Checkpoint(0, "", ())), here.get(key)
        position = head.position if checkpoint.course == "inline" else checkpoint.position
        if consumption is not None:
            position = max(position, consumption.position)
        superseded = kind == "projection" and serving.get(name, 0) > version
        state = _state(checkpoint, consumption, superseded, key in alive)
        parked = yield from entries_of(parked_place(key))
        error = "" if checkpoint.failure is None or state != "failed" else checkpoint.failure.error
        if consumption is not None and consumption.error is not None:
            error = str(consumption.error)
        found.append(
            ConsumerStatus(
                kind,
                name,
                version,
                state,
                position,
                max(0, head.position - position),
                (yield from age_after(position, head.position)),
                len(parked),
                kind != "projection" or serving.get(name) == version,
                error,
                0.0 if consumption is None else consumption.stalled_for,
            )
        )
    return tuple(found)


def entries_of(place: str) -> Errands[list[Entry]]:
    """All entries of a place."""
    found: list[Entry] = []
    while True:
        page: Sequence[Entry] = yield ReadEntries(place, found[-1].key if found else "", PAGE)
        found += page
        if len(page) < PAGE:
            return found


def _state(checkpoint: Checkpoint, consumption: Consumption | None, superseded: bool, alive: bool) -> ConsumerState:
    if checkpoint.course == "inline":
        return "inline"
    if consumption is not None and consumption.state != "stopped":
        return consumption.state
    if superseded:
        return "superseded"
    if checkpoint.course == "failed":
        return "failed"
    return "running" if alive else "stopped"


def age_after(position: int, head: int) -> Errands[float]:
    """How long ago the event behind a position was recorded; 0 when there is none."""
    if position >= head:
        return 0.0
    page: Sequence[StoredEvent] = yield LogPage(position, 1, system=True)
    return max(0.0, datetime.now(UTC).timestamp() - page[0].recorded_at / 1e6) if page else 0.0


# -- Waiting -----------------------------------------------------------------------------------------------------------


def reached(consumer: AnyConsumer, position: int, local: Consumption | None) -> Errands[bool]:
    """Whether a consumer has done everything up to a position. Raises ConsumerStoppedError when it never will."""
    key, label = consumer.key, consumer.label
    if local is not None and local.position >= position:
        return True
    values: Mapping[str, bytes] = yield ReadValues(CHECKPOINTS, (key,))
    if key in values:
        checkpoint = Checkpoint.decode(values[key])
        if checkpoint.position >= position:
            return True
        head: Head = yield AskHead()
        if head.position >= position and (  # what is not there yet has been done by nobody
            checkpoint.course == "inline"
            or (yield from nothing_between(consumer.filter(), checkpoint.position, position))
        ):
            return True
        runs = local is not None and local.state not in ("stopped", "superseded")  # and so it tries again
        if checkpoint.course == "failed" and checkpoint.failure is not None and not runs:
            raise ConsumerStoppedError(label, checkpoint.position, checkpoint.failure.reason)
    error = None if local is None else local.error
    if local is not None and error is not None and (yield from owner_of(key)) in ("", local.lease.owner):
        reason = error.reason if isinstance(error, ConsumerStoppedError) else f"{error}"
        raise ConsumerStoppedError(label, local.position, reason) from error
    if consumer.kind == "projection":
        serving = yield from serving_version(consumer.name)
        if serving > consumer.version:
            raise ConsumerStoppedError(
                label, 0, f"version {serving} serves, and this one is not kept up to date any more."
            )
    return False


# -- Parked events -----------------------------------------------------------------------------------------------------


def parked_by(consumer: AnyConsumer) -> Errands[tuple[ParkedEvent, ...]]:
    """The events that a consumer has parked, in order."""
    found = yield from entries_of(parked_place(consumer.key))
    return tuple(ParkedEvent(consumer.key, int(entry.key), decode_failure(entry.value)) for entry in found)


def replay(consumer: AnyConsumer, position: int, decode: Decoder, transactions: bool, place: Place) -> Errands[bool]:
    """Has a parked event handled, and is done with it. False: it is not parked (any more).

    Raises what the handler raises; then it stays parked.
    """
    swap = yield from _unparking(consumer, position)
    if swap is None:
        return False
    page: Sequence[StoredEvent] = yield LogPage(position - 1, 1)
    by_name = consumer.filter().by_name or {}
    if not page or page[0].position != position or page[0].type not in by_name:
        raise LookupError(
            f"{consumer.label} handles no event at position {position}; discard what it has parked there."
        )
    events: tuple[RecordedEvent[object], ...] = (decode(page[0], by_name[page[0].type]),)
    try:
        if transactions and consumer.kind == "projection":
            done: bool = yield Transact(swap, lambda connection: consumer.work(events, place.on(connection)))
        else:
            yield Call(lambda: consumer.work(events, place))
            done = yield swap
    except HandlerFailedError as error:
        raise error.__cause__ or error from None
    return done


def discard(consumer: AnyConsumer, position: int) -> Errands[bool]:
    """Is done with a parked event, without having it handled. False: it is not parked (any more)."""
    swap = yield from _unparking(consumer, position)
    return False if swap is None else (yield swap)


def _unparking(consumer: AnyConsumer, position: int) -> Errands[Swap | None]:
    place, key = parked_place(consumer.key), parked_key(position)
    values: Mapping[str, bytes] = yield ReadValues(place, (key,))
    return Swap(Put(place, key, None), values[key]) if key in values else None
