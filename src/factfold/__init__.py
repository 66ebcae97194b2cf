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
    OutcomeUnknownError,
    StorageError,
    StorageFormatError,
    StorageFullError,
    StorageReadOnlyError,
    StoreClosedError,
    StoreUnavailableError,
    WrongEventError,
    WrongStreamsError,
)
from factfold.events import JSON, Metadata, RecordedEvent, event, metadata
from factfold.receipt import Receipt
from factfold.retry import Retry
from factfold.settings import Stats
from factfold.storage.base import StreamInfo
from factfold.store import Store
from factfold.streams import Stream, StreamType, stream
from factfold.transaction import Transaction, View
from factfold.verification import Verification

if TYPE_CHECKING:
    from factfold.aio import AsyncStore
else:

    def __getattr__(name: str) -> object:
        """Imports AsyncStore at its first use: asyncio takes longer to import than all the rest."""
        if name == "AsyncStore":
            from factfold.aio import AsyncStore

            globals()[name] = AsyncStore
            return AsyncStore
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__version__ = "0.1.0"

__all__ = [
    "JSON",
    "AppendRefusedError",
    "AsyncStore",
    "ConflictError",
    "DecodingError",
    "DefinitionError",
    "EncodingError",
    "FactfoldError",
    "ForeignViewError",
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
    "Transaction",
    "Verification",
    "View",
    "WrongEventError",
    "WrongStreamsError",
    "event",
    "metadata",
    "stream",
]
