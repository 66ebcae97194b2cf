"""The numbers that a store keeps about its own work."""

from __future__ import annotations

from msgspec import Struct


class Stats(Struct, frozen=True):
    """What a store has done since it was opened, in this process.

    Attributes:
        commands: commands that were answered.
        batches: groups of commands that were decided together.
        attempts: how often a batch was decided.
        conflicts: how often others were faster, or a guess was wrong, and a batch was decided again.
        loads: requests to load states; each may bring many.
        guesses: how often a command took a stream for empty, and did not load it.
        wrong_guesses: streams that were not empty then.
        hits, misses: reads of a state that was, or was not, in the cache.
        refreshes: cached states that others' events moved on.
        evictions: streams that were dropped because the cache was full.
        cached: streams in the cache now.
        snapshots_used: loads that went on from a snapshot.
        snapshots_refused: snapshots that did not fit: of another fold, damaged, or not borne out by the log.
        snapshots_saved: snapshots that were written.
        snapshots_failed: snapshots that could not be written.
        snapshots_dropped: snapshots that were not tried, because too many waited or the store was closed.
    """

    commands: int
    batches: int
    attempts: int
    conflicts: int
    loads: int
    guesses: int
    wrong_guesses: int
    hits: int
    misses: int
    refreshes: int
    evictions: int
    cached: int
    snapshots_used: int
    snapshots_refused: int
    snapshots_saved: int
    snapshots_failed: int
    snapshots_dropped: int
