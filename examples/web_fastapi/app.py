"""The bank's endpoints: orders that are carried out once, fresh states, balances from a table, a stream of events."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from examples.bank.accounts import Account, AccountEvent, Status, account, accounts
from examples.bank.errors import AccountNotOpenError
from examples.bank.money import AccountId
from examples.web.balances import Balances, balances, read_balances
from examples.web.errors import InvalidBodyError, MalformedBodyError, UnknownPositionError
from examples.web.orders import Answer, Deposit, OpenAccount, Order, Transfer, answer_to, checked_key, stored_key
from examples.web.problems import MEDIA_TYPE, STATUSES, Problem, problem_of
from examples.web.streams import OpenStreams, at_termination, beginning, notice_of, position_in
from factfold import AsyncStore, AsyncSubscription, LogDivergedError, metadata
from factfold.storage.sqlite import SQLite

router = APIRouter()

# -- What endpoints need -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bank:
    """What the process has: the store, the file in which the read model is, too, and the streams that are open."""

    store: AsyncStore
    path: Path
    streams: OpenStreams


def the_bank(request: Request) -> Bank:
    """The bank of this process."""
    bank: Bank = request.app.state.bank
    return bank


ABank = Annotated[Bank, Depends(the_bank)]


def the_key(idempotency_key: Annotated[str | None, Header()] = None) -> str:
    """The client's key for its order."""
    return checked_key(idempotency_key)


AKey = Annotated[str, Depends(the_key)]


async def the_subscription(
    bank: ABank,
    after: str | None = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> AsyncIterator[AsyncSubscription[AccountEvent]]:
    """Events from where the client is. That there is no such position is told before the stream begins."""
    start = beginning(last_event_id, after)
    async with AsyncExitStack() as leaving:
        try:
            subscription = await leaving.enter_async_context(bank.store.subscribe(types=accounts, after=start))
        except LogDivergedError as error:
            raise UnknownPositionError(int(start)) from error  # from "head", a log cannot differ
        leaving.enter_context(bank.streams.holding(subscription))
        yield subscription


# -- Endpoints ---------------------------------------------------------------------------------------------------------


@router.post("/accounts", status_code=201)
async def post_account(order: OpenAccount, bank: ABank, key: AKey, response: Response) -> Answer:
    """Opens an account."""
    return await _carry_out(order, bank, key, response)


@router.post("/deposits", status_code=201)
async def post_deposit(order: Deposit, bank: ABank, key: AKey, response: Response) -> Answer:
    """Puts money on an account."""
    return await _carry_out(order, bank, key, response)


@router.post("/transfers", status_code=201)
async def post_transfer(order: Transfer, bank: ABank, key: AKey, response: Response) -> Answer:
    """Moves money from one account to another."""
    return await _carry_out(order, bank, key, response)


@router.get("/accounts/{id}")
async def get_account(id: str, bank: ABank) -> Account:
    """An account as it is now, from its own events."""
    state = await bank.store.state(account(AccountId(id)))
    if state.status is Status.UNKNOWN:
        raise AccountNotOpenError(id, state.status.value)
    return state


@router.get("/balances")
async def get_balances(bank: ABank, after: str = "0") -> Balances:
    """All open accounts, from the read model; not older than the position `after`."""
    position = position_in(after, "after")
    if position > await bank.store.head():
        raise UnknownPositionError(position)
    await bank.store.wait_for(balances, position, timeout=5.0)
    return await asyncio.to_thread(read_balances, bank.path)


@router.get("/events", response_class=EventSourceResponse)
async def get_events(
    subscription: Annotated[AsyncSubscription[AccountEvent], Depends(the_subscription)],
) -> AsyncIterator[ServerSentEvent]:
    """What happens to the accounts, as it happens."""
    yield ServerSentEvent(retry=500)
    async for recorded in subscription:
        yield ServerSentEvent(raw_data=notice_of(recorded), event=recorded.type, id=str(recorded.position))


@router.get("/health")
async def get_health(bank: ABank) -> Response:
    """Whether this process can work: 200, or 503."""
    health = await bank.store.health()
    return Response(msgspec.json.encode(health), 200 if health.ok else 503, media_type="application/json")


async def _carry_out(order: Order, bank: Bank, key: str, response: Response) -> Answer:
    with metadata(correlation_id=key):
        receipt = await bank.store.execute_once(stored_key(key), order)
    answer = answer_to(order, key, receipt)
    if receipt.repeated:
        response.headers["Idempotent-Replayed"] = "true"
    return answer


# -- The application ---------------------------------------------------------------------------------------------------


def make_app(store: AsyncStore, path: Path) -> FastAPI:
    """The service on a store in the SQLite file at this path. The store opens and closes with the application."""
    app = FastAPI(title="A bank", lifespan=_lifespan)
    app.state.bank = Bank(store, path, OpenStreams(most=1000))
    app.include_router(router)
    for kind in STATUSES:
        app.add_exception_handler(kind, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_body)
    app.add_exception_handler(HTTPException, _refuse_request)
    return app


def from_environment() -> FastAPI:
    """The service on the file that BANK_DB names: what a server is told to serve, in each of its processes."""
    path = Path(os.environ.get("BANK_DB", "bank.db"))
    return make_app(AsyncStore(SQLite(path)), path)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    bank: Bank = app.state.bank
    async with bank.store as store:  # closed when the server has answered all requests
        await store.start(balances)
        at_termination(partial(asyncio.get_running_loop().call_soon_threadsafe, bank.streams.end))
        yield


async def _refuse(request: Request, error: Exception) -> Response:
    return _response(problem_of(error))


async def _refuse_body(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = error.errors()
    reasons = "; ".join(f"{'.'.join(map(str, one['loc'][1:])) or 'all of it'}: {one['msg']}" for one in wrong)
    kind = MalformedBodyError if wrong[0]["type"] == "json_invalid" else InvalidBodyError
    return _response(problem_of(kind(reasons)))


async def _refuse_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _response(Problem.of_http(error.status_code, error.detail))


def _response(problem: Problem) -> Response:
    return Response(problem.encode(), problem.status, problem.headers, MEDIA_TYPE)
