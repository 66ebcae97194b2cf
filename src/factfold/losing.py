"""Who of a batch has lost against other writers, and on which streams: the others need not hear of it."""

from __future__ import annotations

from collections.abc import Sequence

from factfold.errors import ConflictError, StoreUnavailableError
from factfold.job import Job
from factfold.storage.base import Append, Conflict, Selection


def losers(jobs: Sequence[Job], append: Append, answer: Conflict, attempts: int) -> list[tuple[Job, ConflictError]]:
    """Those who wanted to write, and had read what others have written to since."""
    touched: dict[str, list[Selection]] = {}
    for index in sorted(answer.news.touched):
        selection = append.check.selections[index]
        touched.setdefault(selection.stream, []).append(selection)
    found: list[tuple[Job, ConflictError]] = []
    for job in jobs:
        streams = [
            stream
            for stream, fold in job.reads
            for one in touched.get(stream, ())
            if one.types is None or one.types == fold.selected
        ]
        streams += [stream for stream, _ in job.reads if stream in answer.not_empty]
        if streams:
            found.append((job, ConflictError(list(dict.fromkeys(streams)), attempts)))
    return found


def gone(error: Exception) -> StoreUnavailableError:
    """What is told of the last append that was allowed, when it turned out not to have happened."""
    told = StoreUnavailableError(
        f"The storage was lost in the middle of an append ({error}), and it is certain by now that nothing of it was "
        "written. No more attempts were allowed: execute the command again, or allow more with "
        "Store(retry=Retry(max_attempts=...))."
    )
    told.__cause__ = error
    return told
