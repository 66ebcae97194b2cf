"""Serves the bank with faults: python -m tests.examples.faulty fastapi|flask FILE, as the examples serve it without."""

from __future__ import annotations

import sys
from importlib import import_module

from examples.web.serving import options_of

APPS = {"fastapi": "tests.examples.faulty_fastapi:app", "flask": "tests.examples.faulty_flask:app()"}

if __name__ == "__main__":
    framework, *arguments = sys.argv[1:]
    options = options_of(f"web_{framework}", arguments)
    import_module(f"examples.web_{framework}.__main__").serve(APPS[framework], options)
