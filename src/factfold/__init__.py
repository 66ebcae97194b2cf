"""Event sourcing for Python: facts are appended to an immutable log and folded into state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factfold.checkpoints import Failure, ParkedEvent
from factfold.codec import Transform
from factfold.errors import (
    AppendRefusedError,
    ConflictError,
    ConsumerStoppedError,
    DecodingError,
    DefinitionError,
    EncodingError,
    FactfoldError,
    ForeignViewError,
    ImpureCommandError,
    InlineProjectionsError,
    InvalidCommandError,
    InvalidNamespaceError,
    InvalidStreamIdError,
    InvalidUrlError,
    KeyReusedError,
    LockLostError,
    LogDivergedError,
    MissingDriverError,
    NestedExecutionError,
    NotReplicatedError,
    OutcomeUnknownError,
    StorageError,
    StorageFormatError,
    StorageFullError,
    StorageReadOnlyError,
    StoreClosedError,
    StoreUnavailableError,
    UnsafeStorageError,
    UnsupportedError,
    WrongEventError,
    WrongStreamsError,
)
from factfold.events import JSON, Metadata, RecordedEvent, event, metadata
from factfold.handlers import Context, Handlers
from factfold.receipt import Receipt
from factfold.retry import Retry
from factfold.stats import Stats
from factfold.statuses import ConsumerStatus, Health
from factfold.storage.base import StreamInfo
from factfold.store import Store
from factfold.streams import Stream, StreamType, stream
from factfold.subscriptions import Subscription
from factfold.transaction import Transaction, View
from factfold.upcasting import upcast
from factfold.verification import Verification

if TYPE_CHECKING:
    from factfold.aio import AsyncStore
    from factfold.aio_subscriptions import AsyncSubscription
    from factfold.projections import Projection, ProjectionContext, ReadModel
    from factfold.reactions import AsyncReactionContext, Reaction, ReactionContext
else:
    _LATER = {
        "AsyncStore": "factfold.aio",
        "AsyncSubscription": "factfold.aio_subscriptions",
        "Projection": "factfold.projections",
        "ProjectionContext": "factfold.projections",
        "ReadModel": "factfold.projections",
        "AsyncReactionContext": "factfold.reactions",
        "Reaction": "factfold.reactions",
        "ReactionContext": "factfold.reactions",
    }

    def __getattr__(name: str) -> object:
        """Imports what is not always needed at its first use: asyncio takes longer to import than all the rest."""
        if name in _LATER:
            from importlib import import_module

            found = globals()[name] = getattr(import_module(_LATER[name]), name)
            return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__version__ = "0.1.0"

__all__ = [
    "AppendRefusedError",
    "AsyncReactionContext",
    "AsyncStore",
    "AsyncSubscription",
    "ConflictError",
    "ConsumerStatus",
    "ConsumerStoppedError",
    "Context",
    "DecodingError",
    "DefinitionError",
    "EncodingError",
    "FactfoldError",
    "Failure",
    "ForeignViewError",
    "Handlers",
    "Health",
    "ImpureCommandError",
    "InlineProjectionsError",
    "InvalidCommandError",
    "InvalidNamespaceError",
    "InvalidStreamIdError",
    "InvalidUrlError",
    "JSON",
    "KeyReusedError",
    "LockLostError",
    "LogDivergedError",
    "Metadata",
    "MissingDriverError",
    "NestedExecutionError",
    "NotReplicatedError",
    "OutcomeUnknownError",
    "ParkedEvent",
    "Projection",
    "ProjectionContext",
    "Reaction",
    "ReactionContext",
    "ReadModel",
    "Receipt",
    "RecordedEvent",
    "Retry",
    "Stats",
    "StorageError",
    "StorageFormatError",
    "StorageFullError",
    "StorageReadOnlyError",
    "Store",
    "StoreClosedError",
    "StoreUnavailableError",
    "Stream",
    "StreamInfo",
    "StreamType",
    "Subscription",
    "Transaction",
    "Transform",
    "UnsafeStorageError",
    "UnsupportedError",
    "Verification",
    "View",
    "WrongEventError",
    "WrongStreamsError",
    "event",
    "metadata",
    "stream",
    "upcast",
]
