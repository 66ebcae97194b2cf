"""The services with faults that a request asks for: the process that answers it is killed, or says that it has begun.

The store of the Flask one has been used before the fork. BANK_PATIENCE is how many seconds to wait for others' writes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI
from flask import Flask, Response, request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.web_fastapi.app import make_app as make_fastapi
from examples.web_flask.app import make_app as make_flask
from factfold import AsyncStore, Store
from factfold.storage.sqlite import SQLite

DIE = "x-die"
"""A header: "unanswered" kills the process when the order is carried out, and the answer not sent."""

BEGUN = "x-begun"
"""A header: a file into which the process writes its number when the request has reached it."""


def _obey(headers: Mapping[str, str]) -> None:
    if begun := headers.get(BEGUN):
        unseen = Path(f"{begun}.part")
        unseen.write_text(str(os.getpid()))
        unseen.rename(begun)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class FaultyASGI:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope.get("headers", ())}
        _obey(headers)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                if headers.get(DIE) == "unanswered":
                    _die()
                message["headers"] = [*message["headers"], (b"x-process", str(os.getpid()).encode())]
            await send(message)

        await self._app(scope, receive, answer)


def _storage() -> SQLite:
    return SQLite(os.environ["BANK_DB"], synchronous="normal", timeout=float(os.environ["BANK_PATIENCE"]))


def fastapi() -> FastAPI:
    """The FastAPI service."""
    app = make_fastapi(AsyncStore(_storage()), Path(os.environ["BANK_DB"]))
    app.add_middleware(FaultyASGI)
    return app


def flask() -> Flask:
    """The Flask service, with a store that was open when the server forked."""
    store = Store(_storage())
    store.head()
    app = make_flask(store, Path(os.environ["BANK_DB"]))

    @app.before_request
    def _() -> None:
        _obey({name.lower(): value for name, value in request.headers.items()})

    @app.after_request
    def _(response: Response) -> Response:
        if request.headers.get(DIE) == "unanswered":
            _die()
        response.headers["X-Process"] = str(os.getpid())
        return response

    return app
