"""What a command is: a plain callable whose first parameter is a transaction. Anything else is refused, with why."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from functools import partial
from types import AsyncGeneratorType, CodeType, CoroutineType, FunctionType, GeneratorType, MethodType

from factfold.errors import InvalidCommandError

_WAITING = (GeneratorType, CoroutineType, AsyncGeneratorType)
_checked: dict[int, tuple[CodeType, type]] = {}
"""The functions and methods that have passed; a function takes the transaction itself, a method its object first.

They are found by the `id` of their code, which is kept: to hash code takes longer than all the rest.
"""
_REMEMBERED = 10_000


class Wrapper:
    """A command of the library's own around somebody's: messages are about that one, `command`."""

    command: Callable[..., object]


def name_of(command: Callable[..., object]) -> str:
    """How a command is called in messages, and in the log by `execute_once`: module and qualified name."""
    command = innermost(command)
    named = command if hasattr(command, "__qualname__") else type(command)
    return f"{named.__module__}.{named.__qualname__}"


def check_command(command: Callable[..., object]) -> None:
    """Refuses what cannot be a command, before it runs.

    Raises:
        InvalidCommandError: says why, and what to do instead.
    """
    checked = _checked.get(id(getattr(command, "__code__", None)))
    if checked is not None and checked[1] is type(command):
        return
    if not callable(command):
        raise InvalidCommandError(f"{command!r} is no command: execute takes a function whose first parameter is tx")
    unwrapped = innermost(command)
    if isinstance(unwrapped, type):
        raise InvalidCommandError(
            f"{name_of(command)} is a class, and to call it would only make an object: give one that is made already, "
            f"whose __call__ takes the transaction, as in execute({unwrapped.__name__}(...))"
        )
    if getattr(unwrapped, "__module__", None) == "builtins":
        raise InvalidCommandError(f"{name_of(command)} is Python's own and knows no Transaction, so it is no command")
    function, bound = _function_of(unwrapped)
    code: CodeType | None = getattr(function, "__code__", None)
    if code is None:
        return
    if code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        raise InvalidCommandError(_why_not(command, "is an async function"))
    if code.co_flags & inspect.CO_GENERATOR:
        raise InvalidCommandError(_why_not(command, "is a generator function"))
    if unwrapped is command and code.co_argcount <= bound and not code.co_flags & inspect.CO_VARARGS:
        raise InvalidCommandError(
            f"{name_of(command)} takes no positional parameter: a command's first parameter is a Transaction, "
            "as in def deposit(tx: Transaction, account: str, amount: int)"
        )
    if isinstance(command, FunctionType | MethodType):
        if len(_checked) >= _REMEMBERED:
            _checked.clear()  # somebody makes functions without end
        _checked[id(code)] = code, type(command)


def refusal_of_result(command: Callable[..., object], result: object) -> InvalidCommandError | None:
    """Why the command was none after all, when what it returned shows that it still has to wait for something."""
    if type(result) not in _WAITING:
        return None
    if inspect.iscoroutine(result):
        result.close()  # or Python warns that nobody awaited it
    return InvalidCommandError(_why_not(command, "returned a coroutine or a generator"))


def return_annotation(command: Callable[..., object]) -> object:
    """What the command says that it returns; None when it does not say it, or in words that cannot be resolved here."""
    function, _ = _function_of(innermost(command))
    annotation = getattr(function, "__annotations__", {}).get("return")
    if annotation is None:
        return None

    def alone() -> None: ...

    alone.__annotations__ = {"return": annotation}  # the others may name what is only there for type checkers
    try:
        return typing.get_type_hints(alone, globalns=getattr(function, "__globals__", {})).get("return")
    except (NameError, TypeError, AttributeError, SyntaxError):
        return None


def check_has_name(command: Callable[..., object]) -> None:
    """Refuses what could not be told from other commands by its name. Raises InvalidCommandError."""
    name = name_of(command)
    if name.endswith("<lambda>"):
        raise InvalidCommandError(
            f"execute_once knows a command by its name, and all lambdas are called {name}: give it one with `def`. "
            "(Arguments, and what a function encloses, are not compared: they belong into the key.)"
        )


def innermost(command: Callable[..., object]) -> Callable[..., object]:
    """The command itself, without what was put around it."""
    while isinstance(command, partial | Wrapper):
        wrapped = command if isinstance(command, Wrapper) else None
        command = wrapped.command if wrapped else typing.cast("partial[object]", command).func  # of whatever result
    return command


def _function_of(command: Callable[..., object]) -> tuple[Callable[..., object], int]:
    """The function that is called, and how many of its parameters are bound already."""
    if isinstance(command, FunctionType):
        return command, 0
    if isinstance(command, MethodType):
        return command.__func__, 1
    static = isinstance(inspect.getattr_static(type(command), "__call__", None), staticmethod)
    return type(command).__call__, 0 if static else 1


def _why_not(command: Callable[..., object], what: str) -> str:
    return (
        f"{name_of(command)} {what}, and a command is a plain function: it is pure and may run more than once, on "
        "states that are loaded for it, so it has nothing to wait for. Fetch what comes from outside before execute() "
        "and pass it as an argument; AsyncStore runs the same plain commands."
    )
