"""What goes wrong, as HTTP tells it: a status, and a body of the kind application/problem+json (RFC 9457)."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

import msgspec

from examples.bank.accounts import Status
from examples.bank.errors import (
    AccountExistsError,
    AccountNotOpenError,
    BankError,
    InsufficientFundsError,
)
from examples.web.errors import (
    EndingError,
    InvalidKeyError,
    InvalidPositionError,
    MalformedBodyError,
    NotBuiltYetError,
    NotCaughtUpError,
    NotNowError,
    OtherOrderError,
    RequestError,
    TooManyStreamsError,
    UnknownPositionError,
)
from examples.web.orders import client_key
from factfold import (
    ConflictError,
    ConsumerStoppedError,
    FactfoldError,
    KeyReusedError,
    LogDivergedError,
    OutcomeUnknownError,
    StorageFullError,
    StoreClosedError,
    StoreUnavailableError,
)

_log = logging.getLogger("bank")

MEDIA_TYPE = "application/problem+json"

STATUSES: Mapping[type[Exception], int] = {
    # The request cannot be understood.
    InvalidKeyError: 400,
    InvalidPositionError: 400,
    MalformedBodyError: 400,
    # It can, and what it asks for cannot be.
    BankError: 422,
    RequestError: 422,
    KeyReusedError: 422,
    # It could be, and is not possible as things are.
    AccountExistsError: 409,
    AccountNotOpenError: 409,
    InsufficientFundsError: 409,
    UnknownPositionError: 409,
    # Not now: the same request, with the same key, may go well in a moment.
    ConflictError: 503,
    ConsumerStoppedError: 503,
    EndingError: 503,
    LogDivergedError: 503,
    NotBuiltYetError: 503,
    NotCaughtUpError: 503,
    NotNowError: 503,
    OutcomeUnknownError: 503,
    StorageFullError: 503,
    StoreClosedError: 503,
    StoreUnavailableError: 503,
    TimeoutError: 503,  # of `wait_for`
    TooManyStreamsError: 503,
}
"""How each kind of error is answered, its subclasses too. What is not here is a bug: the framework answers 500."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The body of an answer: `type` is for programs, `detail` for people."""

    type: str
    title: str
    status: int
    detail: str

    @property
    def headers(self) -> dict[str, str]:
        """What goes with it."""
        return {"Retry-After": "1"} if self.status == 503 else {}

    @staticmethod
    def of_http(status: int, detail: str) -> Problem:
        """What the framework itself refuses: no such path, no such method."""
        return Problem("about:blank", HTTPStatus(status).phrase, status, detail)

    def encode(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self)


def problem_of(error: Exception) -> Problem:
    """How an error of `STATUSES` is answered. It is called as its class, and says what a client can use."""
    match error:
        case KeyReusedError():
            error = OtherOrderError(client_key(error.key))
        case ConsumerStoppedError() | TimeoutError():
            _log.warning("%s", error)
            error = NotCaughtUpError()
        case FactfoldError():  # where the file is, and what became of it, is for those who run the service
            _log.warning("%s: %s", type(error).__name__, error)
            error = NotNowError()
    status = next(STATUSES[cls] for cls in type(error).__mro__ if cls in STATUSES)
    if isinstance(error, AccountNotOpenError) and error.status == Status.UNKNOWN.value:
        status = 404
    words = re.findall("[A-Z][a-z]+", type(error).__name__.removesuffix("Error"))
    return Problem("-".join(words).lower(), " ".join(words).capitalize(), status, str(error))
