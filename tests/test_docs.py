"""What the README and the docs say is true: their code runs, and what they name exists.

The blocks of a page run in order, in one module and one directory. What a block prints stands in the ```text block
after it (`...` stands for anything); one without such a block prints nothing. Functions named `test_...` are called.
A ```python fragment is only compiled, and what it imports from factfold exists. The `factfold` commands of a ```sh
block run too, on what the page has made. Where one of the urls of SERVERS stands in what runs, a real server stands
behind it.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import mypy.api
import pytest
import typer.main
from typer.core import TyperGroup
from typer.testing import CliRunner

from factfold.cli.app import app
from factfold.storage.postgres import Postgres
from factfold.storage.valkey import Valkey

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").glob("**/*.md"))]
RUNS_LONG = {"demo"}
WRONG_ON_PURPOSE = {"concepts", "evolution", "tutorial"}
"""Pages that show what happens to code that a type checker refuses, or that change a name's type under way."""
SERVERS = {"postgresql://db.example/shop": "postgres_url", "valkey://db.example/0": "valkey_url"}
"""The urls of the pages that mean a server, each with the fixture that gives the url of the test's own."""
OTHERS = {"createdb", "gunicorn", "pg_dump", "pg_restore", "uvicorn", "valkey-cli"}
"""Programs of others that a page may name."""


cli = typer.main.get_command(app)
assert isinstance(cli, TyperGroup)
OPTIONS = {
    name: {option for parameter in command.params for option in parameter.opts if option.startswith("-")}
    for name, command in cli.commands.items()
}
"""The options of each command of the command line."""


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind the fence, the text, and the number of its first line."""

    info: str
    text: str
    line: int


def blocks_of(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    opened: int | None = None
    info, lines = "", list[str]()
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        if line.startswith("```") and opened is None:
            opened, info, lines = number + 1, line.removeprefix("```").strip(), []
        elif line == "```" and opened is not None:
            yield Block(info, "\n".join(lines) + "\n", opened)
            opened = None
        elif opened is not None:
            lines.append(line)
    assert opened is None, f"{page.name}: the block in line {opened} has no end"


def name_of(page: Path) -> str:
    """A page's name in the output of pytest: where it is."""
    return page.relative_to(ROOT).as_posix()


def module_of(page: Path) -> str:
    """The module in which the code of a page runs: named after the page, or its folder where it is the first one."""
    named_after_folder = page.stem in ("index", "README") and page.parent != ROOT
    return (page.parent.name if named_after_folder else page.stem).lower().replace("-", "_")


def prose_of(page: Path) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def expected_after(blocks: list[Block], index: int) -> str:
    """What the block is said to print: the text block that follows on it."""
    following = blocks[index + 1] if index + 1 < len(blocks) else None
    return following.text if following is not None and following.info == "text" else ""


def assert_printed(printed: str, expected: str, where: str) -> None:
    pattern = ".*".join(map(re.escape, expected.split("...")))
    assert re.fullmatch(pattern, printed), f"{where} prints\n{printed}and the page says\n{expected}"


@pytest.fixture
def postgres_url(direct: Postgres) -> str:
    """A schema of its own."""
    return f"{direct.url}?schema={direct.schema}"


@pytest.fixture
def valkey_url(valkey: Valkey) -> str:
    """A place of its own."""
    return f"{valkey.url}?prefix={valkey.prefix}"


def at_servers(text: str, request: pytest.FixtureRequest) -> str:
    """The text with the urls of the test's servers, which are started when they are needed."""
    for url, fixture in SERVERS.items():
        if url in text:
            text = text.replace(url, request.getfixturevalue(fixture))
    return text


def run_python(module: ModuleType, block: Block, page: Path) -> str:
    """Runs a block, and the tests that it defines; gives what it printed."""
    before = dict(vars(module))
    source = "\n" * (block.line - 1) + block.text  # so that a traceback tells the line of the page
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, str(page), "exec", dont_inherit=True), vars(module))
        for name, value in list(vars(module).items()):
            if name.startswith("test_") and before.get(name) is not value:
                value()
    return printed.getvalue()


def assert_imports_exist(block: Block, where: str) -> None:
    """Compiles a block that cannot run by itself, and imports what it names of factfold."""
    compile(block.text, where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "factfold":
            module = importlib.import_module(node.module or "")
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{where}: {node.module} has no {missing}"


def commands_of(block: Block) -> Iterator[list[str]]:
    """The command lines of a shell block, as words."""
    for line in block.text.splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def run_factfold(words: list[str]) -> str:
    """Runs a command of the command line; gives what it printed."""
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, f"factfold {shlex.join(words)} exits with {result.exit_code}: {result.output}"
    return result.output


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_a_page_does_what_the_page_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType(module_of(page))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    blocks = list(blocks_of(page))
    for index, block in enumerate(blocks):
        where = f"{page.name}:{block.line}"
        match block.info:
            case "python":
                code = replace(block, text=at_servers(block.text, request))
                assert_printed(run_python(module, code, page), expected_after(blocks, index), where)
            case "python fragment":
                assert_imports_exist(block, where)
            case "sh":
                if any(tmp_path.iterdir()):
                    ran = [
                        words[1:]
                        for words in commands_of(block)
                        if words[0] == "factfold" and words[1] not in RUNS_LONG
                    ]
                    printed = "".join(run_factfold([at_servers(word, request) for word in words]) for words in ran)
                    if expected := expected_after(blocks, index):
                        assert_printed(printed, expected, where)
            case "sql":
                assert page.name == "postgresql.md", f"{where}: tests/test_postgres.py runs the sql of another page"
            case "text":
                assert blocks[index - 1].info in ("python", "sh"), f"{where}: what prints this?"
            case other:
                pytest.fail(f"{where}: a block is python, python fragment, sh, sql or text, and not {other!r}")


def test_a_strict_type_checker_accepts_the_code_of_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for page in PAGES:
        code = "\n".join(block.text for block in blocks_of(page) if block.info == "python")
        if code and module_of(page) not in WRONG_ON_PURPOSE:
            with (tmp_path / f"{module_of(page)}.py").open("x", encoding="utf-8") as module:  # no two of one name
                module.write(code)
    monkeypatch.setenv("MYPYPATH", str(ROOT / "src"))
    # A page may define a fold a second time, as the next version of a program would.
    options = ["--strict", "--disable-error-code=no-redef", "--follow-imports=silent", "--config-file="]
    found, wrong, status = mypy.api.run([*options, f"--cache-dir={tmp_path / 'cache'}", str(tmp_path)])
    assert status == 0, found + wrong


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_every_shell_command_of_a_page_exists(page: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
    inline = (Block("sh", f"{code}\n", 0) for code in re.findall(r"`((?:make|factfold|python) [^`]+)`", prose_of(page)))
    for block in (*(block for block in blocks_of(page) if block.info == "sh"), *inline):
        for words in commands_of(block):
            match words:
                case ["pip", "install", package]:
                    found = re.fullmatch(r"factfold\[(\w+)\]", package)
                    assert found is not None, package
                    assert found[1] in extras
                case ["make", target, *_]:
                    assert target in targets, target
                case ["python", "-m", module, *_]:
                    path = ROOT.joinpath(*module.split("."))
                    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
                case ["python", script, *_]:
                    assert (ROOT / script).is_file(), script
                case ["curl", *_]:
                    pass  # tests/examples/test_web_pages.py runs it
                case ["uvicorn" | "gunicorn", *_, served] if served.startswith("examples."):
                    path = ROOT.joinpath(*served.partition(":")[0].split("."))
                    assert path.with_suffix(".py").is_file(), served
                case ["factfold", name, *arguments]:
                    assert name in OPTIONS, name
                    for argument in arguments:
                        assert not argument.startswith("-") or argument in OPTIONS[name], f"factfold {name} {argument}"
                case [name, *_] if name in OTHERS:
                    pass
                case _:
                    pytest.fail(f"{page.name}:{block.line}: is there a command {shlex.join(words)}?")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", prose_of(there), flags=re.MULTILINE)
            assert anchor in {anchor_of(heading) for heading in headings}, f"{page.name} links to {target}"


def anchor_of(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_every_file_and_every_test_that_a_page_names_exists(page: Path) -> None:
    paths = re.findall(r"`((?:src|tests|docs|examples|benchmarks)/[\w./]*)", prose_of(page))
    sources = [*ROOT.glob("tests/**/*.py"), *ROOT.glob("src/factfold/testing/**/*.py")]
    tests = {name for source in sources for name in re.findall(r"def (test_\w+)", source.read_text("utf-8"))}
    known = tests | {source.stem for source in sources}
    missing = {path for path in paths if not (ROOT / path).exists()}
    missing |= set(re.findall(r"\b(test_\w+)", prose_of(page))) - known
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_test_is_in_the_file_in_which_a_page_says_it_is(page: Path) -> None:
    prose = prose_of(page)
    said = [(path, test) for test, path in re.findall(r"`(test_\w+)`\s+in\s+`(tests/[\w/]+\.py)`", prose)]
    for path, listed in re.findall(r"`(tests/[\w/]+\.py)`\s+\(((?:`test_\w+`[,\s]*)+)\)", prose):
        said += [(path, test) for test in re.findall(r"test_\w+", listed)]
    assert said or page.name != "promises.md"
    assert [one for one in said if f"def {one[1]}(" not in (ROOT / one[0]).read_text("utf-8")] == []
