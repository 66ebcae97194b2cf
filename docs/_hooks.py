"""What the site does to a page: a fence shows its language alone, and nothing is fetched from another server."""

from __future__ import annotations

import re

from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

_MARKED_FENCE = re.compile(r"^```(\w+) .*$", re.MULTILINE)
"""A fence with more than a language behind it, such as `python fragment`: that is for tests/test_docs.py."""

_FETCHING = re.compile(
    r"<(?:script|img|iframe)\b[^>]*>|<link\b[^>]*\brel=\"?(?:icon|preconnect|preload|stylesheet)\b[^>]*>"
)
_ELSEWHERE = re.compile(r"\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")


def on_page_markdown(markdown: str, **_: object) -> str:
    """The page with fences that the renderer knows."""
    return _MARKED_FENCE.sub(r"```\1", markdown)


def on_post_page(output: str, *, page: Page, **_: object) -> str:
    """Refuses a page that would fetch a font, a script or an image from elsewhere."""
    for tag in _FETCHING.findall(output):
        if found := _ELSEWHERE.search(tag):
            raise PluginError(f"{page.file.src_uri}: the page fetches {found[1]}. Put what it needs into docs/.")
    return output
