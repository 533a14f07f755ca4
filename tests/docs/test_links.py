"""Every link within the Markdown leads somewhere, every page is in an index, every test that a page names exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted(DOCS.rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
_FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(file: Path) -> str:
    """A page without its code, where nothing is a link."""
    return _FENCE.sub("", file.read_text(encoding="utf-8"))


def links(file: Path) -> Iterator[str]:
    """The targets of a page's links, but for those to other hosts."""
    for target in _LINK.findall(re.sub(r"`[^`\n]*`", "", prose(file))):
        if not re.match(r"[a-z]+:", target):
            yield unquote(target)


def anchors(file: Path) -> set[str]:
    """What GitHub makes of the headings: lower case, letters, digits, hyphens; a second one of a name gets a number."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+?)\s*#*$", prose(file), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (anchor := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(anchor)
    return found


def broken(file: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    wrong = []
    for link in links(file):
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        inside = target.is_relative_to(ROOT)
        if not inside or not target.exists() or (anchor and (target.suffix != ".md" or anchor not in anchors(target))):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("file", PAGES, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_every_link_and_anchor_leads_somewhere(file: Path) -> None:
    assert not broken(file)


def test_what_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = DOCS / "README.md"
    assert anchors(page) == {"documentation"}
    assert anchors(DOCS / "configuration.md") >= {"pipelinesname", "variables-that-are-no-settings"}
    twice = tmp_path / "twice.md"
    twice.write_text(
        "# A `b` c_d\n\n# A `b` c_d\n\n```\n# no heading\n[no](link)\n```\n`[no](link)` [x](gone.md) [y](#a-b-c_d-1)"
    )
    assert anchors(twice) == {"a-b-c_d", "a-b-c_d-1"}
    assert list(links(twice)) == ["gone.md", "#a-b-c_d-1"]


@pytest.mark.parametrize("index", [DOCS / "README.md", DOCS / "plugins" / "README.md"], ids=["docs", "plugins"])
def test_every_page_is_in_its_index(index: Path) -> None:
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert {page for page in index.parent.glob("*.md") if page != index} <= linked


def test_every_index_is_linked_from_the_one_above() -> None:
    assert "docs/README.md" in set(links(ROOT / "README.md"))
    assert "plugins/README.md" in set(links(DOCS / "README.md"))


def test_every_test_that_a_page_names_exists() -> None:
    threats = (DOCS / "threat-model.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)(?:::(test_\w+))?`", threats)
    assert len(named) > 40
    for file, test in named:
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, f"{file}::{test}"


def test_every_file_of_tests_that_any_page_names_exists() -> None:
    for page in PAGES:
        for file in re.findall(r"`(tests/[\w/.]+|bench/[\w/.]+)`", page.read_text(encoding="utf-8")):
            assert (ROOT / file).exists(), f"{page.name}: {file}"
