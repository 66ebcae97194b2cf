"""Inline projections: read models that every append writes, in its own transaction.

That all writers do so is kept in the storage (`INLINE`): who would append without, is refused there. A projection that
begins to run inline is brought up to the head first, and for what was appended meanwhile the writers wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import msgspec

from factfold.checkpoints import CHECKPOINTS, Checkpoint, as_serving, projection_key, serving_version
from factfold.consumers import HandlerFailedError, Place
from factfold.errands import Call, Errands, ReadValues, Transact
from factfold.errors import DefinitionError, InlineProjectionsError, StoreUnavailableError, UnsupportedError
from factfold.events import RecordedEvent
from factfold.feed import Filter
from factfold.hub import Decoder
from factfold.projections import Projection
from factfold.reading import FIRST_PAGE, size_after
from factfold.requests import AskHead
from factfold.storage.base import INLINE, Head, Inline, Put, StoredEvent, Swap

Inside: TypeAlias = Callable[[Errands[object]], object]
"""Runs errands while a transaction is open, and gives what comes of them: it is to be awaited, if it can be."""

ATTEMPTS = 100
"""How often it is tried to begin or to end while others write."""


class ChangedError(Exception):
    """Somebody else was faster; it is to be done again."""


class InlineProjections:
    """The projections that one store runs inline."""

    def __init__(self, projections: Sequence[Projection], decode: Decoder, place: Place, log: str) -> None:
        self.projections = projections
        self._filters: list[tuple[Projection, Filter]] = [(one, one.filter()) for one in projections]
        self._decode = decode
        self._place = place
        self._log = log

    @property
    def accompaniment(self) -> Inline | None:
        """What appends are accompanied by."""
        if not self.projections:
            return None
        return Inline(_names({one.name: one.version for one in self.projections}), self._handle)

    def without(self, name: str) -> InlineProjections:
        """The same without one of them."""
        rest = [one for one in self.projections if one.name != name]
        return InlineProjections(rest, self._decode, self._place, self._log)

    def missing(self) -> Errands[list[Projection]]:
        """Those that do not run inline yet. Raises InlineProjectionsError when others do that this store lacks."""
        required = yield from _required()
        mine = {one.name: one.version for one in self.projections}
        lacking = [name for name, version in required.items() if mine.get(name, 0) < version]
        if lacking:
            raise InlineProjectionsError(
                f"{self._log}: every writer has to run {_listed(required)} inline, and this store runs "
                f"{_listed(mine)}. Nothing was changed. Open it with Store(..., inline=[...]) that has them; what is "
                "not to run inline any more is taken off with store.withdraw(...)."
            )
        return [one for one in self.projections if required.get(one.name) != one.version]

    def activate(self, projection: Projection, inside: Inside) -> Errands[None]:
        """Has a projection that was brought near the head run inline from now on, for all writers."""
        for _ in range(ATTEMPTS):
            required = yield from _required()
            values: Mapping[str, bytes] = yield ReadValues(CHECKPOINTS, (projection.key,))
            serves = yield from serving_version(projection.name)
            if serves > projection.version:
                raise InlineProjectionsError(
                    f"{self._log}: {projection.label} cannot run inline: version {serves} serves."
                )
            stored = values.get(projection.key)
            if stored is None or required.get(projection.name) == projection.version:
                return
            checkpoint = Checkpoint.decode(stored)
            inline = msgspec.structs.replace(checkpoint, course="inline", epoch=checkpoint.epoch + 1, owner="")
            names = _names({**required, projection.name: projection.version})
            former = yield from _ended(projection.name, required.get(projection.name), checkpoint)
            swap = Swap(
                Put(CHECKPOINTS, projection.key, inline.encode()),
                stored,
                (Put(*INLINE, names), as_serving(projection.name, projection.version), *former),
                exclusive=True,
            )
            finish = self._finishing(projection, checkpoint.head, required, inside)
            try:
                if (yield Transact(swap, finish)):
                    return
            except ChangedError:
                continue
            except HandlerFailedError as error:
                raise _failed(self._log, projection, error) from error.__cause__
        raise StoreUnavailableError(
            f"{self._log}: {projection.label} could not begin to run inline: others were faster."
        )

    def _finishing(
        self, projection: Projection, head: Head, required: Mapping[str, int], inside: Inside
    ) -> Callable[[object], object]:
        """The last steps to the head, while all writers wait."""

        def errands(connection: object) -> Errands[None]:
            if (yield from _required()) != required:
                raise ChangedError
            filter, position, size = projection.filter(), head.position, FIRST_PAGE
            place = self._place.on(connection)
            while True:
                page: Sequence[StoredEvent] = yield filter.page(position, size)
                events = self._decoded(filter, page)
                yield Call(partial(projection.work, events, place))
                if len(page) < size:
                    break
                position, size = page[-1].position, size_after(page)
            yield Call(partial(projection.switch, place))

        return lambda connection: inside(errands(connection))

    # -- Within an append ------------------------------------------------------------------------------------------

    def _handle(self, connection: object, events: Sequence[StoredEvent]) -> object:
        """Has all projections handle what an append has written."""
        place = self._place.on(connection)
        if any(projection.is_async for projection in self.projections):
            return self._handle_async(place, events)
        for projection, filter in self._filters:
            try:
                projection.work(self._decoded(filter, events), place)
            except HandlerFailedError as error:
                raise _failed(self._log, projection, error) from error.__cause__
        return None

    async def _handle_async(self, place: Place, events: Sequence[StoredEvent]) -> None:
        for projection, filter in self._filters:
            try:
                returned = projection.work(self._decoded(filter, events), place)
                if isinstance(returned, Awaitable):
                    await returned
            except HandlerFailedError as error:
                raise _failed(self._log, projection, error) from error.__cause__

    def _decoded(self, filter: Filter, stored: Sequence[StoredEvent]) -> list[RecordedEvent[object]]:
        by_name = filter.by_name or {}
        return [self._decode(one, by_name[one.type]) for one in stored if filter.takes(one)]


def withdrawing(name: str, log: str, inside: Inside) -> Errands[None]:
    """Has a projection not run inline any more, in no writer; from then on it can be run like others.

    Raises LookupError when it does not run inline.
    """
    for _ in range(ATTEMPTS):
        required = yield from _required()
        if name not in required:
            raise LookupError(f"{log}: the projection {name!r} does not run inline; what does is {_listed(required)}.")
        rest = {other: version for other, version in required.items() if other != name}
        swap = Swap(Put(*INLINE, _names(rest) or None), _names(required), exclusive=True)
        if (yield Transact(swap, partial(_stopping, inside, projection_key(name, required[name])))):
            return
    raise StoreUnavailableError(f"{log}: the projection {name!r} could not be withdrawn: others were faster.")


def _ended(name: str, version: int | None, successor: Checkpoint) -> Errands[list[Put]]:
    """Ends the version that runs inline, if there is one: it has done all that its successor has done."""
    if version is None:
        return []
    key = projection_key(name, version)
    values: Mapping[str, bytes] = yield ReadValues(CHECKPOINTS, (key,))
    checkpoint = Checkpoint.decode(values[key]).moved(successor.head)
    return [Put(CHECKPOINTS, key, msgspec.structs.replace(checkpoint, course="stopped").encode())]


def _stopping(inside: Inside, key: str, connection: object) -> object:
    """While nobody appends: what is to be kept of a projection that has run inline up to here, and does no more."""

    def errands() -> Errands[Put]:
        values: Mapping[str, bytes] = yield ReadValues(CHECKPOINTS, (key,))
        head: Head = yield AskHead()
        stopped = msgspec.structs.replace(Checkpoint.decode(values[key]).moved(head), course="stopped")
        return Put(CHECKPOINTS, key, stopped.encode())

    return inside(errands())


def check_inline(projections: Sequence[object], log: str, *, transactions: bool, asynchronous: bool) -> None:
    """Refuses what cannot run inline. Raises DefinitionError, UnsupportedError."""
    names: set[str] = set()
    for projection in projections:
        if not isinstance(projection, Projection):
            raise DefinitionError(f"{projection!r} is no Projection, and cannot run inline.")
        if projection.name in names:
            raise DefinitionError(f"inline=[...] names {projection.label} and another version of it.")
        names.add(projection.name)
        projection.check_store(asynchronous=asynchronous)
    if projections and not transactions:
        raise UnsupportedError(f"{log}: this storage has no transactions for read models, so none can run inline.")


def _required() -> Errands[dict[str, int]]:
    """The versions of the projections that all writers have to run inline, by name."""
    place, key = INLINE
    values: Mapping[str, bytes] = yield ReadValues(place, (key,))
    lines = values[key].decode().split("\n") if key in values else []
    return {name: int(version) for name, _, version in (line.rpartition(":") for line in lines)}


def _names(versions: Mapping[str, int]) -> bytes:
    return "\n".join(f"{name}:{version}" for name, version in sorted(versions.items())).encode()


def _listed(versions: Mapping[str, int]) -> str:
    return ", ".join(f"{name}:{version}" for name, version in sorted(versions.items())) or "no projection"


def _failed(log: str, projection: Projection, error: HandlerFailedError) -> InlineProjectionsError:
    cause = error.__cause__ or error
    return InlineProjectionsError(
        f"{log}: {projection.label}, which runs inline, has failed on what was to be appended: {cause!r}. Nothing was "
        "written."
    )
