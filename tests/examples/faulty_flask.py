"""The Flask service with faults, on a store that was open when the server forked."""

from __future__ import annotations

from flask import Flask, Response, request

from examples.web_flask.app import make_app
from factfold import Store
from tests.examples import web_faults


def app() -> Flask:
    """What gunicorn serves."""
    store = Store(web_faults.storage())
    store.head()
    app = make_app(store, web_faults.path())

    @app.before_request
    def _() -> None:
        web_faults.begin(_headers())

    @app.after_request
    def _(response: Response) -> Response:
        response.headers["X-Process"] = web_faults.end(_headers())
        return response

    return app


def _headers() -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}
