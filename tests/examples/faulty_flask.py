"""Serves the bank with Flask and faults: python -m tests.examples.faulty_flask FILE."""

from __future__ import annotations

from examples.web.serving import options_of
from examples.web_flask.__main__ import serve

if __name__ == "__main__":
    serve("tests.examples.web_faults:flask()", options_of("web_flask"))
