"""Errors as a test names them: by class and attributes."""

from __future__ import annotations

from collections.abc import Mapping

from factfold.testing.differences import all_same, line_difference


def check_error_class(call: str, error: object) -> None:
    """Refuses what is no class of errors. Raises TypeError saying how to give one."""
    if not isinstance(error, type) or not issubclass(error, Exception):
        raise TypeError(
            f"{call}: the class of the error is needed, and its attributes by name, as in "
            ".then_raises(InsufficientFunds, amount=30)"
        )


def other_than(raised: Exception, error: type[Exception], attributes: Mapping[str, object]) -> str | None:
    """What is wrong with an error, where one of this class, with attributes equal to these, is expected."""
    if not isinstance(raised, error):
        return f"raised {raised!r}, and {error.__name__} was expected"
    for name in attributes:
        if not hasattr(raised, name):
            has = ", ".join(vars(raised)) or "none"
            return f"raised {raised!r}, which has no attribute {name!r}. Its attributes: {has}"
    found = {name: getattr(raised, name) for name in attributes}
    if not all_same(list(attributes.values()), list(found.values())):
        return (
            f"raised {type(raised).__name__} with other attributes than expected (- expected, + raised):\n"
            f"{line_difference(_assigned(attributes), _assigned(found))}"
        )
    return None


def explain(error: Exception, how: str) -> None:
    """Adds to an error, once, how a scenario would have expected it."""
    if not any(note.startswith(_EXPECTING) for note in getattr(error, "__notes__", ())):
        error.add_note(f"{_EXPECTING}{how}")


_EXPECTING = "To a scenario, this is an error like any other. Where it has to be raised, say so first: "


def _assigned(attributes: Mapping[str, object]) -> list[str]:
    return [f"{name}={value!r}" for name, value in attributes.items()]
