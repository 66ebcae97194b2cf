"""The pages of the web services: these start as a page says, and its curl lines answer what stands below them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from itertools import islice
from pathlib import Path

import pytest

from tests.examples.web_serving import ROOT, serving

BLOCK = re.compile(r"^```sh\n((?:curl .*\n)+)```\n\n```text\n((?:.*\n)*?)```", re.MULTILINE)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("framework", ["fastapi", "flask"])
def test_the_curl_lines_of_a_page_answer_what_it_says(framework: str, tmp_path: Path) -> None:
    page = (ROOT / "examples" / f"web_{framework}" / "README.md").read_text("utf-8")
    blocks = BLOCK.findall(page)
    assert page.count("\ncurl ") == sum(block.count("curl ") for block, _ in blocks) > 0
    with serving(framework, tmp_path / "bank.db") as server:
        for block, expected in blocks:
            lines = len(expected.splitlines()) if "--no-buffer" in block else None
            answered = "".join(f"{curl(line, server.url, lines)}\n" for line in block.splitlines())
            pattern = ".*".join(map(re.escape, expected.strip().split("...")))
            assert re.fullmatch(pattern, answered.strip()), f"{block}answers\n{answered}and the page says\n{expected}"


def curl(line: str, url: str, lines: int | None) -> str:
    """What a line of a page prints, asked of this server; only so many lines of what has no end."""
    words = shlex.split(line.replace("localhost:8000", url))
    assert words[0] == "curl"
    with subprocess.Popen(
        ["curl", "--silent", "--show-error", *words[1:]], stdout=subprocess.PIPE, text=True
    ) as asking:
        assert asking.stdout is not None
        printed = "".join(islice(asking.stdout, lines))
        if lines is not None:
            asking.terminate()
    return printed.strip()
