"""What goes wrong behind the callers' backs, where nobody can be told by an exception: Python's logging is."""

from __future__ import annotations

from contextlib import suppress


def warn(message: str, *args: object, error: BaseException | None = None) -> None:
    """A warning of the logger `factfold`; `args` are filled into the message as logging does it.

    With `error` its traceback follows: for what is wrong in somebody's code, and not for what a server answers. Where a
    filter or a handler of the application raises, the warning is lost, and nothing else.
    """
    # Here, so that `import factfold` need not wait for it: as a rule there is nothing to say.
    import logging

    with suppress(Exception):  # it would fail the commands of others, or end the thread that warns
        logging.getLogger("factfold").warning(message, *args, exc_info=error)


_slow: set[str] = set()
"""The commands of which it was said that they are slow."""


def warn_of_slow(command: str, seconds: float) -> None:
    """Says of a command, once in a process, that others wait for it: nobody else would find out whom they wait for."""
    if command not in _slow:
        _slow.add(command)
        warn(
            "The command %s took %.1f seconds, in which no other command of its store ran. A command should only "
            "decide: fetch or compute before execute() what takes long.",
            command,
            seconds,
        )
