"""The FastAPI service with faults."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.web_fastapi.app import make_app
from factfold import AsyncStore
from tests.examples import web_faults


class Faults:
    """Around the application, as other middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope.get("headers", ())}
        web_faults.begin(headers)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-process", web_faults.end(headers).encode())]
            await send(message)

        await self._app(scope, receive, answer)


def app() -> FastAPI:
    """What uvicorn serves."""
    app = make_app(AsyncStore(web_faults.storage()), web_faults.path())
    app.add_middleware(Faults)
    return app
