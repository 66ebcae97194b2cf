"""Purity: a command that runs twice on equal states, at one time and with the same ids, does the same twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, cast, overload

from factfold.commands import check_command, name_of
from factfold.errors import ImpureCommandError
from factfold.sameness import same
from factfold.testing.differences import all_same, line_difference, lines_of
from factfold.testing.scenarios import Scenario, scenario
from factfold.testing.setting import Run
from factfold.transaction import Transaction

P = ParamSpec("P")


@overload
def assert_pure(
    command: Callable[Concatenate[Transaction, P], object], /, *args: P.args, **kwargs: P.kwargs
) -> None: ...
@overload
def assert_pure(
    given: Scenario, command: Callable[Concatenate[Transaction, P], object], /, *args: P.args, **kwargs: P.kwargs
) -> None: ...
def assert_pure(given: object, /, *args: object, **kwargs: object) -> None:
    """Runs a command twice, after nothing or in a scenario, and fails unless both runs did the same.

        assert_pure(open_account, "alice", "Alice")
        assert_pure(scenario().given(accounts("alice"), Opened("Alice")), withdraw, "alice", 30)

    Compared are what it read, what it appended, and what it returned or raised. The arguments are the same objects in
    both runs: a command that changes them is found out.

    Raises:
        AssertionError: the two runs differ; it says in what.
        InvalidCommandError: it is no command.
    """
    __tracebackhide__ = True
    start, command, arguments = _taken_apart(given, args)
    check_command(command)
    first = start.setting.run(command, arguments, kwargs)
    second = start.setting.run(command, arguments, kwargs)
    for run in (first, second):
        if isinstance(run.error, ImpureCommandError):
            raise AssertionError(f"{name_of(command)} is not pure: {run.error}") from run.error
    if not _did_the_same(first, second):
        raise AssertionError(
            f"{name_of(command)} is not pure: on equal states, it did other things when it ran again (- first run, "
            f"+ second run):\n{line_difference(_told(first), _told(second))}\n"
            "A command takes the time from tx.now and ids from tx.new_id(), changes nothing outside, and gets "
            "everything else as an argument."
        )


def _taken_apart(given: object, args: tuple[object, ...]) -> tuple[Scenario, Callable[..., object], tuple[object, ...]]:
    if not isinstance(given, Scenario):
        return scenario(), cast("Callable[..., object]", given), args  # it is checked by check_command
    if not args:
        raise TypeError(
            "assert_pure(scenario) needs a command and its arguments, as in "
            "assert_pure(scenario().given(...), withdraw, 'alice', 30)"
        )
    return given, cast("Callable[..., object]", args[0]), args[1:]  # the same


def _did_the_same(first: Run, second: Run) -> bool:
    return (
        first.reads == second.reads
        and [one.streams for one in first.events] == [one.streams for one in second.events]
        and all_same([one.event for one in first.events], [one.event for one in second.events])
        and same(first.result, second.result)
        and _facts(first.error) == _facts(second.error)
    )


def _facts(error: Exception | None) -> tuple[object, ...]:
    return () if error is None else (type(error), error.args, vars(error))


def _told(run: Run) -> list[str]:
    """What a run did, line by line."""
    lines = [f"read {stream}" for stream in run.reads]
    for one in run.events:
        lines += [f"appended to {', '.join(one.streams)}:", *lines_of(one.event)]
    if run.error is not None:
        return [*lines, f"raised {run.error!r}"]
    return [*lines, f"returned {run.result!r}"]
