"""Runs a text as a module of its own: for definitions that are wrong on purpose, and for syntax of newer Pythons."""

from __future__ import annotations

import itertools
import sys
from textwrap import dedent
from types import ModuleType

_numbers = itertools.count(1)


def run(source: str) -> ModuleType:
    """The module that the text makes, as if it had been imported; names that it defines are its attributes."""
    module = ModuleType(f"example_{next(_numbers)}")
    sys.modules[module.__name__] = module
    code = compile(dedent(source), f"{module.__name__}.py", "exec", dont_inherit=True)
    exec(code, module.__dict__)
    return module
