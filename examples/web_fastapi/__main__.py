"""Serves the bank: python -m examples.web_fastapi [FILE] [--workers N]."""

from __future__ import annotations

import os

import uvicorn

from examples.web.serving import Options, options_of


def serve(app: str, options: Options) -> None:
    """Serves what this function makes, in each worker process anew, until the process is told to end."""
    os.environ["BANK_DB"] = str(options.path)
    uvicorn.run(
        app,
        factory=True,
        host=options.host,
        port=options.port,
        workers=options.workers,
        timeout_graceful_shutdown=10,
        access_log=False,
    )


if __name__ == "__main__":
    serve("examples.web_fastapi.app:from_environment", options_of("web_fastapi"))
