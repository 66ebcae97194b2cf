"""Every public name and every command stands in the reference, with a docstring, and nothing else does."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import griffe
import pytest
import typer.main
from typer.core import TyperGroup

import factfold
import factfold.storage
import factfold.testing
from factfold.cli.app import app
from factfold.testing import Outcome, Projected, Reacted, Scenario, strategies

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "reference"
PUBLIC = (factfold, factfold.storage, factfold.testing)
PUBLIC_NAMES = [(module, name) for module in PUBLIC for name in module.__all__]
DIRECTIVES = {
    name
    for page in FOLDER.glob("*.md")
    for name in re.findall(r"^::: ([\w.]+)$", page.read_text("utf-8"), re.MULTILINE)
}
"""The full names of what mkdocstrings renders."""
SAID_BY_ANOTHER = {
    "factfold.storage.AsyncEngine",
    "factfold.storage.AsyncLog",
    "factfold.storage.AsyncTransactionalLog",
}
"""Classes whose methods are those of another one, with `async def`."""
ERRORS = {name for name in factfold.__all__ if name.endswith("Error")}
OVERVIEW = (FOLDER / "index.md").read_text("utf-8")
TROUBLESHOOTING = (ROOT / "docs" / "how-to" / "errors.md").read_text("utf-8")
COMMAND_LINE = (FOLDER / "command-line.md").read_text("utf-8")
cli = typer.main.get_command(app)
assert isinstance(cli, TyperGroup)
COMMANDS = cli.commands


def places_of(module: ModuleType, name: str) -> set[str]:
    """The full names under which the modules give the same thing."""
    thing = getattr(module, name)
    return {f"{each.__name__}.{name}" for each in PUBLIC if getattr(each, name, None) is thing}


def rows_of(page: str) -> list[str]:
    """The names that the rows of a page's tables begin with."""
    return re.findall(r"^\| `(\w+)", page, re.MULTILINE)


@pytest.fixture(scope="module")
def source() -> griffe.Object:
    """The package as mkdocstrings sees it: from its source."""
    package = griffe.load("factfold", search_paths=[ROOT / "src"])
    assert isinstance(package, griffe.Object)
    return package


@pytest.mark.parametrize(("module", "name"), PUBLIC_NAMES, ids=lambda part: getattr(part, "__name__", part))
def test_every_public_name_has_a_place_in_the_reference(module: ModuleType, name: str) -> None:
    assert places_of(module, name) & DIRECTIVES, f"docs/reference/ has no line ::: {module.__name__}.{name}"


@pytest.mark.parametrize("name", sorted(DIRECTIVES))
def test_what_the_reference_shows_exists_and_says_what_it_is(name: str, source: griffe.Object) -> None:
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)
    shown = source[name.removeprefix("factfold.")]
    assert shown.has_docstring


def test_every_public_method_says_what_it_does(source: griffe.Object) -> None:
    names = {f"{module.__name__}.{name}" for module, name in PUBLIC_NAMES} - SAID_BY_ANOTHER
    shown = [source[name.removeprefix("factfold.")] for name in sorted(names)]
    members = [member for each in shown if each.is_class for member in each.all_members.values()]
    ours = [member for member in members if not member.name.startswith("_") and is_ours(member)]
    assert len(ours) > 100
    assert [member.path for member in ours if not member.has_docstring] == []


def is_ours(member: griffe.Object | griffe.Alias) -> bool:
    """Whether it is a method or property of factfold's."""
    return member.path.startswith("factfold.") and (member.is_function or "property" in member.labels)


def test_every_public_name_is_in_the_overview_and_every_error_in_the_table_of_what_to_do() -> None:
    assert sorted(rows_of(OVERVIEW)) == sorted(set(factfold.__all__) - ERRORS)
    assert sorted(rows_of(TROUBLESHOOTING)) == sorted(ERRORS)


def test_the_methods_of_a_store_are_in_the_overview() -> None:
    methods = {name for name in dir(factfold.Store) if not name.startswith("_") and "fork" not in name}
    documented = set(re.findall(r"`\.(\w+)[(`]", OVERVIEW))
    assert methods <= documented, methods - documented
    assert all(hasattr(factfold.Store, name) or hasattr(factfold.StreamType, name) for name in documented)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_command_line_is_documented_with_its_options(name: str) -> None:
    assert f"`factfold {name}" in COMMAND_LINE
    for parameter in COMMANDS[name].params:
        for option in parameter.opts:
            assert not option.startswith("-") or option in COMMAND_LINE, f"factfold {name} {option}"


TESTING = (ROOT / "docs" / "how-to" / "testing.md").read_text("utf-8")


@pytest.mark.parametrize("name", [*factfold.testing.__all__, *strategies.__all__])
def test_every_name_of_the_testing_kit_is_in_the_page_about_it(name: str) -> None:
    section = TESTING.partition("## What there is")[2]
    assert re.search(rf"^\|.*`(?:strategies\.)?{name}\b.* \| ", section, flags=re.MULTILINE), name


def test_every_method_of_a_scenario_is_in_the_page_about_testing() -> None:
    for methods in (Scenario, Outcome, Projected, Reacted):
        for name in dir(methods):
            assert name.startswith("_") or name == "setting" or f"`{name}" in TESTING or f"`.{name}(" in TESTING, name
