"""The command line `factfold`: its entry point, which tells what to install when the extra `cli` is missing."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line and exits with its status: 0, 1 when a check failed, 2 when the input was wrong."""
    try:
        from factfold.cli.app import app  # typer and rich are optional
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "factfold":
            raise
        sys.exit(
            f"factfold: the command line needs the package {error.name!r}. Install it: pip install 'factfold[cli]'"
        )
    app()
