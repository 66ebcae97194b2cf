"""What goes wrong behind the callers' backs, where nobody can be told by an exception: Python's logging is."""

from __future__ import annotations


def warn(message: str, *args: object) -> None:
    """A warning of the logger `factfold`; `args` are filled into the message as logging does it."""
    # Here, so that `import factfold` need not wait for it: as a rule there is nothing to say.
    import logging

    logging.getLogger("factfold").warning(message, *args)
