"""Faults that a request asks for: the process that answers it is killed, or says that it has begun."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from factfold.storage.sqlite import SQLite

DIE = "x-die"
"""A header: "unanswered" kills the process when the order is carried out, and the answer not sent."""

BEGUN = "x-begun"
"""A header: a file into which the process writes its number when the request has reached it."""


def begin(headers: Mapping[str, str]) -> None:
    """The request with these headers (their names in lower case) has come."""
    if begun := headers.get(BEGUN):
        unseen = Path(f"{begun}.part")
        unseen.write_text(str(os.getpid()))
        unseen.rename(begun)


def end(headers: Mapping[str, str]) -> str:
    """Its answer is about to be sent; gives the number of the process."""
    if headers.get(DIE) == "unanswered":
        os.kill(os.getpid(), signal.SIGKILL)
    return str(os.getpid())


def path() -> Path:
    """The file, as the example's own command line says it."""
    return Path(os.environ["BANK_DB"])


def storage() -> SQLite:
    """In this file. BANK_PATIENCE is how many seconds to wait for others' writes."""
    return SQLite(path(), synchronous="normal", timeout=float(os.environ["BANK_PATIENCE"]))
