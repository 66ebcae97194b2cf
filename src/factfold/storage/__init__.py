"""Storages: where a store keeps its log. Here are the contract, for those who write an engine, and `open_storage`."""

from __future__ import annotations

from factfold.storage.base import (
    EMPTY,
    INLINE,
    NEWS_BYTES,
    NEWS_LIMIT,
    Append,
    Appended,
    AsyncEngine,
    AsyncLog,
    AsyncTransactionalLog,
    Capabilities,
    Check,
    Conflict,
    Engine,
    Entry,
    Head,
    Inline,
    Inspectable,
    Load,
    Loaded,
    Log,
    LogPage,
    NewEvent,
    News,
    Put,
    Selection,
    Slice,
    Storage,
    StoredEvent,
    StreamInfo,
    StreamPage,
    Swap,
    TransactionalLog,
    Wanted,
    events_of,
    touched_by,
)

__all__ = [
    "EMPTY",
    "INLINE",
    "NEWS_BYTES",
    "NEWS_LIMIT",
    "Append",
    "Appended",
    "AsyncEngine",
    "AsyncLog",
    "AsyncTransactionalLog",
    "Capabilities",
    "Check",
    "Conflict",
    "Engine",
    "Entry",
    "Head",
    "Inline",
    "Inspectable",
    "Load",
    "Loaded",
    "Log",
    "LogPage",
    "NewEvent",
    "News",
    "Put",
    "Selection",
    "Slice",
    "Storage",
    "StoredEvent",
    "StreamInfo",
    "StreamPage",
    "Swap",
    "TransactionalLog",
    "Wanted",
    "events_of",
    "open_storage",
    "touched_by",
]


def open_storage(storage: str | Storage) -> Storage:
    """The storage that a url means, or the one that was given. Opens nothing, and imports only what this url needs.

    Raises `InvalidUrlError`, which says what can be used, and `MissingDriverError`.
    """
    # Here, so that `import factfold` need not wait for what reads urls.
    from factfold.storage._urls import storage_at

    return storage_at(storage)
