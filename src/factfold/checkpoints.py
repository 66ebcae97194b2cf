"""What is kept of consumers in the storage: how far each is, who runs it, which version serves, and what was parked.

Who runs a consumer keeps its *lease* alive by writing it again and again. When it has grown old, by the clock of the
storage, anybody may take it over. The *checkpoint* is only ever swapped for the one that its writer has read or written
last, so that whoever has lost the lease without noticing cannot move it, not even late: the next one has rewritten it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from factfold.errands import Errands, ReadValues
from factfold.storage.base import EMPTY, Head, Put

CHECKPOINTS = "checkpoints"
LEASES = "leases"
SERVING = "serving"
"""Places: of checkpoints and leases by the consumer's key, of the version of a projection that serves by its name."""

MANY = 1000
"""How many entries of a place are asked for at a time."""


class Failure(Struct, frozen=True):
    """What a consumer could not do.

    Attributes:
        position: of the event in question; 0 when it was none.
        type: the stored name of the event.
        error: the class of the error, and its message.
        at: when it was given up, in UTC.
        traceback: where it came from.
    """

    position: int
    type: str
    error: str
    at: datetime
    traceback: str = ""

    @property
    def reason(self) -> str:
        """The same in a sentence."""
        return f"the event at position {self.position} ({self.type}) failed: {self.error}." if self.type else self.error


Course: TypeAlias = Literal["running", "stopped", "failed", "inline"]
"""What becomes of a consumer: whether it may be run, has to be mended first, or is part of every append."""


class Checkpoint(Struct, frozen=True, omit_defaults=True):
    """What is kept of a consumer. All up to `position` is done; the event there has the id `id` (hexadecimal).

    `epoch` counts its owners. `types` are the stored names of the events that it handles. `ready`: it was set up.
    """

    position: int
    id: str
    types: tuple[str, ...]
    epoch: int = 0
    owner: str = ""
    ready: bool = False
    course: Course = "running"
    failure: Failure | None = None

    @property
    def head(self) -> Head:
        """What it rests on."""
        return Head(self.position, bytes.fromhex(self.id)) if self.position else EMPTY

    def moved(self, head: Head) -> Checkpoint:
        """The same, when all up to there is done."""
        return msgspec.structs.replace(self, position=head.position, id=head.id.hex())

    def encode(self) -> bytes:
        """As it is stored."""
        return _encode(self)

    @staticmethod
    def decode(value: bytes) -> Checkpoint:
        """From what is stored."""
        return _decode(value)


class ParkedEvent(Struct, frozen=True):
    """An event that a consumer could not handle, and has left aside.

    Attributes:
        consumer: the key of the consumer.
        position: of the event.
        failure: why it was left.
    """

    consumer: str
    position: int
    failure: Failure


def projection_key(name: str, version: int) -> str:
    """The key of a projection."""
    return f"projection/{name}/{version}"


def parts_of(key: str) -> tuple[str, str, int]:
    """What a consumer of this key is, its name, and its version: of a reaction there is one."""
    kind, name, *version = key.split("/")
    return kind, name, int(version[0]) if version else 1


def serving_version(name: str) -> Errands[int]:
    """The version of a projection that serves; 0 when none does."""
    values: Mapping[str, bytes] = yield ReadValues(SERVING, (name,))
    return int(values.get(name, b"0"))


def as_serving(name: str, version: int) -> Put:
    """What makes a version of a projection the one that serves."""
    return Put(SERVING, name, b"%d" % version)


def parked_place(key: str) -> str:
    """Where the events that a consumer has parked are kept, by position."""
    return f"parked/{key}"


def parked_key(position: int) -> str:
    """The key of an event there: in order of positions."""
    return f"{position:020}"


encode_failure = msgspec.json.Encoder().encode
decode_failure = msgspec.json.Decoder(Failure).decode
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Checkpoint).decode
