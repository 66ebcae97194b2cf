"""The bank's endpoints: orders that are carried out once, fresh states, balances from a table, a stream of events."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import msgspec
from flask import Blueprint, Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException

from examples.bank.accounts import AccountEvent, Status, account, accounts
from examples.bank.errors import AccountNotOpenError
from examples.bank.money import AccountId
from examples.web.balances import balances, read_balances
from examples.web.errors import InvalidBodyError, MalformedBodyError, UnknownPositionError
from examples.web.orders import Deposit, OpenAccount, Order, Transfer, answer_to, checked_key, stored_key
from examples.web.problems import MEDIA_TYPE, STATUSES, Problem, problem_of
from examples.web.streams import OpenStreams, at_termination, beginning, notice_of, position_in
from factfold import LogDivergedError, Store, Subscription, metadata
from factfold.storage.sqlite import SQLite

T = TypeVar("T")

MOST_STREAMS = 8
"""Each stream keeps a thread of its process busy, and some have to be left for the rest."""

STREAM_SECONDS = 60.0
"""A thread that waits for events does not see that its client is gone. So it ends, and who is there connects again."""

views = Blueprint("bank", __name__)

# -- What views need ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bank:
    """What the process has: the store, the file in which the read model is, too, and the streams that are open."""

    store: Store
    path: Path
    streams: OpenStreams


def the_bank(app: Flask | None = None) -> Bank:
    """The bank of an application; by default, of the one that answers the request."""
    return cast("Bank", (app or current_app).extensions["bank"])  # `make_app` has put it there


def _body(type: type[T]) -> T:
    try:
        return msgspec.json.decode(request.get_data(), type=type)
    except msgspec.ValidationError as error:
        raise InvalidBodyError(str(error)) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedBodyError(str(error)) from error


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, mimetype="application/json")


# -- Endpoints ---------------------------------------------------------------------------------------------------------


@views.post("/accounts")
def post_account() -> Response:
    """Opens an account."""
    return _carry_out(_body(OpenAccount))


@views.post("/deposits")
def post_deposit() -> Response:
    """Puts money on an account."""
    return _carry_out(_body(Deposit))


@views.post("/transfers")
def post_transfer() -> Response:
    """Moves money from one account to another."""
    return _carry_out(_body(Transfer))


@views.get("/accounts/<id>")
def get_account(id: str) -> Response:
    """An account as it is now, from its own events."""
    state = the_bank().store.state(account(AccountId(id)))
    if state.status is Status.UNKNOWN:
        raise AccountNotOpenError(id, state.status.value)
    return _json(state)


@views.get("/balances")
def get_balances() -> Response:
    """All open accounts, from the read model; not older than the position `after`."""
    bank = the_bank()
    position = position_in(request.args.get("after", "0"), "after")
    if position > bank.store.head():
        raise UnknownPositionError(position)
    bank.store.wait_for(balances, position, timeout=5.0)
    return _json(read_balances(bank.path))


@views.get("/events")
def get_events() -> Response:
    """What happens to the accounts, as it happens."""
    bank = the_bank()
    start = beginning(request.headers.get("Last-Event-ID"), request.args.get("after"))
    try:
        subscription = bank.store.subscribe(types=accounts, after=start)
    except LogDivergedError as error:
        raise UnknownPositionError(int(start)) from error  # from "head", a log cannot differ
    bank.streams.add(subscription)
    response = Response(_told(subscription), mimetype="text/event-stream", headers={"Cache-Control": "no-cache"})
    response.call_on_close(lambda: bank.streams.remove(subscription))
    return response


@views.get("/health")
def get_health() -> Response:
    """Whether this process can work: 200, or 503."""
    health = the_bank().store.health()
    return _json(health, 200 if health.ok else 503)


def _carry_out(order: Order) -> Response:
    key = checked_key(request.headers.get("Idempotency-Key"))
    with metadata(correlation_id=key):
        receipt = the_bank().store.execute_once(stored_key(key), order)
    response = _json(answer_to(order, key, receipt), 201)
    if receipt.repeated:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def _told(subscription: Subscription[AccountEvent]) -> Iterator[str]:
    """The events of a subscription as text, until it is closed."""
    end = threading.Timer(STREAM_SECONDS, subscription.close)
    end.daemon = True
    end.start()
    try:
        yield "retry: 500\n\n"
        for recorded in subscription:
            yield f"event: {recorded.type}\ndata: {notice_of(recorded)}\nid: {recorded.position}\n\n"
    finally:
        end.cancel()


# -- The application ---------------------------------------------------------------------------------------------------


def make_app(store: Store, path: Path) -> Flask:
    """The service on a store in the SQLite file at this path. `begin` and `end` are for the processes that serve it."""
    app = Flask("bank")
    app.extensions["bank"] = Bank(store, path, OpenStreams(MOST_STREAMS))
    app.register_blueprint(views)
    for kind in STATUSES:
        app.register_error_handler(kind, _refuse)
    app.register_error_handler(HTTPException, _refuse_request)
    return app


def from_environment() -> Flask:
    """The service on the file that BANK_DB names. Nothing is opened here: a server may fork after it."""
    path = Path(os.environ.get("BANK_DB", "bank.db"))
    return make_app(Store(SQLite(path)), path)


def begin(app: Flask) -> None:
    """To be called in the main thread of a process that begins to serve, after a fork."""
    bank = the_bank(app)
    bank.store.start(balances)
    at_termination(lambda: threading.Thread(target=bank.streams.end).start())  # closing a stream takes locks


def end(app: Flask) -> None:
    """To be called when such a process has answered all requests."""
    the_bank(app).store.close()


def _refuse(error: Exception) -> Response:
    return _response(problem_of(error))


def _refuse_request(error: HTTPException) -> Response:
    return _response(Problem.of_http(error.code or 500, error.description or ""))


def _response(problem: Problem) -> Response:
    return Response(problem.encode(), problem.status, problem.headers, mimetype=MEDIA_TYPE)
