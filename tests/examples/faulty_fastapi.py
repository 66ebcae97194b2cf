"""Serves the bank with FastAPI and faults: python -m tests.examples.faulty_fastapi FILE."""

from __future__ import annotations

from examples.web.serving import options_of
from examples.web_fastapi.__main__ import serve

if __name__ == "__main__":
    serve("tests.examples.web_faults:fastapi", options_of("web_fastapi"))
