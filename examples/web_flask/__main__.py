"""Serves the bank: python -m examples.web_flask [FILE] [--workers N]."""

from __future__ import annotations

import os
import sys
from typing import Never

from examples.web.serving import Options, options_of


def serve(app: str, options: Options) -> Never:
    """Becomes gunicorn, which serves what this expression gives until it is told to end."""
    arguments = ["-c", "python:examples.web_flask.gunicorn_settings", "-w", str(options.workers)]
    arguments += ["-b", f"{options.host}:{options.port}", app]
    environment = {**os.environ, "BANK_DB": str(options.path)}
    os.execve(sys.executable, [sys.executable, "-m", "gunicorn", *arguments], environment)


if __name__ == "__main__":
    serve("examples.web_flask.app:from_environment()", options_of("web_flask"))
