"""Event sourcing for Python: facts are appended to an immutable log and folded into state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from factfold.errors import (
    AppendRefusedError,
    ConflictError,
    DecodingError,
    DefinitionError,
    EncodingError,
    FactfoldError,
    ForeignViewError,
    ImpureCommandError,
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
    WrongEventError,
    WrongStreamsError,
)
from factfold.events import JSON, Metadata, RecordedEvent, event, metadata
from factfold.handlers import Context, Handlers
from factfold.receipt import Receipt
from factfold.retry import Retry
from factfold.settings import Stats
from factfold.storage.base import StreamInfo
from factfold.store import Store
from factfold.streams import Stream, StreamType, stream
from factfold.subscriptions import Subscription
from factfold.transaction import Transaction, View
from factfold.verification import Verification

if TYPE_CHECKING:
    from factfold.aio import AsyncStore
    from factfold.aio_subscriptions import AsyncSubscription
else:

    def __getattr__(name: str) -> object:
        """Imports what needs asyncio at its first use: asyncio takes longer to import than all the rest."""
        if name in ("AsyncStore", "AsyncSubscription"):
            from factfold.aio import AsyncStore
            from factfold.aio_subscriptions import AsyncSubscription

            globals().update(AsyncStore=AsyncStore, AsyncSubscription=AsyncSubscription)
            return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__version__ = "0.1.0"

__all__ = [
    "JSON",
    "AppendRefusedError",
    "AsyncStore",
    "AsyncSubscription",
    "ConflictError",
    "Context",
    "DecodingError",
    "DefinitionError",
    "EncodingError",
    "FactfoldError",
    "ForeignViewError",
    "Handlers",
    "ImpureCommandError",
    "InvalidCommandError",
    "InvalidNamespaceError",
    "InvalidStreamIdError",
    "InvalidUrlError",
    "KeyReusedError",
    "LockLostError",
    "LogDivergedError",
    "Metadata",
    "MissingDriverError",
    "NestedExecutionError",
    "NotReplicatedError",
    "OutcomeUnknownError",
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
    "UnsafeStorageError",
    "Verification",
    "View",
    "WrongEventError",
    "WrongStreamsError",
    "event",
    "metadata",
    "stream",
]
