"""Runs a text as a module of its own: for definitions that are wrong on purpose, and for syntax of newer Pythons."""

from __future__ import annotations

import itertools
import sys
from textwrap import dedent
from types import ModuleType

import pytest

PRELUDE = """
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NewType, Never, Optional, TypeVar, Union, TYPE_CHECKING
from factfold.events import event as event_class
from factfold.streams import stream
frozen = dataclass(frozen=True)
@frozen
class Opened:
    owner: str
@frozen
class Deposited:
    amount: int
T = TypeVar("T")
"""
"""What modules that define stream types begin with."""

python_3_12 = pytest.mark.skipif(sys.version_info < (3, 12), reason="the `type` statement came with Python 3.12")

_numbers = itertools.count(1)


def run(source: str) -> ModuleType:
    """The module that the text makes, as if it had been imported; names that it defines are its attributes."""
    module = ModuleType(f"example_{next(_numbers)}")
    sys.modules[module.__name__] = module
    code = compile(dedent(source), f"{module.__name__}.py", "exec", dont_inherit=True)
    exec(code, module.__dict__)
    return module
