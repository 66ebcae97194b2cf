"""Snapshots: folded states that are kept in the storage, so that a load need not fold everything. No I/O is done here.

A snapshot is never trusted over the log. It names the last event that it rests on; a load begins with just that
event, and goes on from the snapshot only if the log has it at that version. Otherwise, or when it was made by another
fold, the fold replays from the beginning, and what was found is replaced.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from factfold.cache import AnyStream, Key
from factfold.codec import Transform
from factfold.errors import DefinitionError, EncodingError, StorageFormatError
from factfold.notices import warn
from factfold.overlay import Seal
from factfold.states import StateCodec
from factfold.storage.base import Selection, StoredEvent, StreamPage, version_in

PLACE = "snapshots"
"""Where in the storage they are."""

QUEUE = 256
"""How many states wait to be saved at most."""

DRAIN = 5.0
"""Seconds that closing a store waits for them."""


class Snapshot(Struct, frozen=True, eq=False):
    """A state of a stream, and the event that it rests on: the last one, `version` in the stream, that the fold saw.

    Version 0 is no state, but the wish that what is saved be removed.
    """

    stream: AnyStream
    state: object
    version: int
    position: int
    id: bytes

    @staticmethod
    def of(stream: AnyStream, state: object, version: int, stored: Sequence[StoredEvent]) -> Snapshot:
        """The snapshot of a state, given the event that it rests on. Raises StorageFormatError when that is another."""
        if version == 0:
            return Snapshot(stream, None, 0, 0, b"")
        if not stored or version_in(stored[0], stream.id) != version:
            raise StorageFormatError(
                f"{stream.id} had an event of version {version} when its state was read, and now has none: the log was "
                "replaced meanwhile. No snapshot was written; call again."
            )
        return Snapshot(stream, state, version, stored[0].position, stored[0].id)

    @property
    def key(self) -> str:
        """What it is kept under."""
        return key_of(self.stream)

    def rests_on(self, stored: StoredEvent) -> bool:
        """Whether this is the event."""
        return stored.id == self.id and version_in(stored, self.stream.id) == self.version


class _Fit(Struct, frozen=True):
    """What has to be the same for a snapshot to be of use. `sealed`: whether a transform has rewritten the state."""

    stream: str
    snapshot_version: int
    fingerprint: str
    sealed: bool


class _Saved(Struct, frozen=True):
    """A snapshot as it is written down."""

    fit: _Fit
    version: int
    position: int
    id: bytes
    state: msgspec.Raw


_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder(_Saved).decode


def key_of(stream: AnyStream) -> str:
    """The key of a stream's snapshot.

    The snapshot's version is not part of it: what a changed fold cannot use is replaced, and does not stay for ever.
    """
    return f"{stream.fold.name} {stream.id}"  # no name of a function has a space


def codec_of(stream: AnyStream) -> StateCodec:
    """How the states of a stream are saved. Raises DefinitionError when they are not."""
    codec = stream.fold.codec
    if codec is None:
        raise DefinitionError(
            f"store.snapshot({stream.id}): {stream.fold.name} keeps no snapshots, and would never look for one. "
            "Tell it to: @stream(..., snapshot_every=200)."
        )
    return codec


def last_page(stream: AnyStream, version: int) -> StreamPage:
    """Where the event stands that a state of this version rests on."""
    return StreamPage(Selection(stream.id, stream.fold.selected), version - 1, 1)


class Snapshots:
    """Reads and writes snapshots, and holds those that wait to be saved: one for each fold of a stream, the newest.

    Attributes:
        used, refused: those that loads went on from, or could not, because they did not fit.
        saved, failed: those that were written, or could not be.
        dropped: those that were not even tried, because too many waited or the store was closed.
    """

    def __init__(self, seal: Seal | None, transform: Transform | None) -> None:
        self.used = self.refused = self.saved = self.failed = self.dropped = 0
        self._seal = seal
        self._transform = transform
        self._waiting: OrderedDict[Key, Snapshot] = OrderedDict()

    # -- as they are written down ----------------------------------------------------------------------------------

    def encode(self, snapshot: Snapshot) -> bytes | None:
        """A snapshot as it is saved; None when it is to be removed. Raises EncodingError."""
        stream, state = snapshot.stream, snapshot.state
        codec = codec_of(stream)
        if snapshot.version == 0:
            return None
        try:
            data = codec.to_json(state)
            equal = bool(codec.from_json(data) == state)
        except Exception as error:
            raise EncodingError(f"The state of {stream.id} cannot be saved: {error}") from error
        if not equal:
            raise EncodingError(
                f"The state of {stream.id} would come back from its snapshot as something else. Give all that "
                f"{stream.fold.name} returns the types that it is annotated with."
            )
        sealed = data if self._seal is None else self._seal(data)
        fit = self._fit(stream, codec)
        return _to_json(_Saved(fit, snapshot.version, snapshot.position, snapshot.id, msgspec.Raw(sealed)))

    def decode(self, stream: AnyStream, data: bytes) -> Snapshot | None:
        """A snapshot as it was saved; None when it is of another fold, or of another stream, or damaged."""
        codec = codec_of(stream)
        try:
            saved = _from_json(data)
            if saved.fit != self._fit(stream, codec):
                return None
            state = bytes(saved.state)
            state = state if self._transform is None else self._transform.incoming(state)
            found = Snapshot(stream, codec.from_json(state), saved.version, saved.position, saved.id)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, the log has all that it could tell
            return None
        return found if found.version > 0 else None

    def _fit(self, stream: AnyStream, codec: StateCodec) -> _Fit:
        return _Fit(stream.id, stream.fold.snapshot_version, codec.fingerprint, self._transform is not None)

    # -- waiting to be saved, with the heart's guard held ----------------------------------------------------------

    def offer(self, snapshot: Snapshot) -> None:
        """Lets a snapshot wait to be saved, instead of an older one. Drops it when too many wait."""
        key = snapshot.stream.key
        if key not in self._waiting and len(self._waiting) >= QUEUE:
            self.dropped += 1
        else:
            self._waiting[key] = snapshot

    @property
    def waiting(self) -> bool:
        """Whether there is something to save."""
        return bool(self._waiting)

    def next(self) -> Snapshot | None:
        """What has waited longest; it does not wait any more."""
        return self._waiting.popitem(last=False)[1] if self._waiting else None

    def give_up(self) -> None:
        """Drops all that wait."""
        self.dropped += len(self._waiting)
        self._waiting.clear()

    def could_not_save(self, snapshot: Snapshot, error: Exception) -> None:
        """Counts and logs a failure: nobody waits for the snapshot, and nobody misses it."""
        self.failed += 1
        warn("The snapshot of %s was not saved: %s", snapshot.stream.id, error)
