"""What the site's own code does to a page: fences, and what would be fetched from another server."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest
from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent


PAGE = cast("Page", SimpleNamespace(file=SimpleNamespace(src_uri="how-to/somewhere.md")))  # a real one needs a site


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hooks_of_the_site", ROOT / "docs" / "_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_marked_fence_is_shown_by_its_language(hooks: ModuleType) -> None:
    page = "```python fragment\nx = 1\n```\n\n```text\nx\n```\n"
    assert hooks.on_page_markdown(page) == "```python\nx = 1\n```\n\n```text\nx\n```\n"


@pytest.mark.parametrize(
    "tag",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/a.css">',
        '<link href="https://fonts.example" rel="preconnect" crossorigin>',
        "<img alt=x src=http://images.example/a.png>",
    ],
)
def test_a_page_that_fetches_something_from_elsewhere_is_refused(hooks: ModuleType, tag: str) -> None:
    with pytest.raises(PluginError, match=r"how-to/somewhere\.md: the page fetches .*\.example"):
        hooks.on_post_page(f"<html>{tag}</html>", page=PAGE)


def test_a_page_may_have_links_and_what_the_site_has_itself(hooks: ModuleType) -> None:
    page = (
        '<link rel="canonical" href="https://docs.example/a.html"><link rel="stylesheet" href="../assets/a.css">'
        '<script src="../assets/a.js"></script><a href="https://dcb.events/specification/">DCB</a>'
    )
    assert hooks.on_post_page(page, page=PAGE) == page
