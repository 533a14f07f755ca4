"""The site builds from the same Markdown without a warning, and loads nothing from another host."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
# Elements that make a browser load what their attribute names. `<a>` loads nothing until somebody clicks on it.
LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}


class Loaded(HTMLParser):
    """Collects what a page loads, and how many links lead to other hosts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if (value := dict(attrs).get(LOADS.get(tag, ""))) is not None:
            self.found.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make docs` builds."""
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-b",
        "html",
        "-W",
        "--keep-going",
        "-q",
        str(ROOT / "docs"),
        str(folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.slow
def test_every_page_is_built(site: Path) -> None:
    pages = {p.relative_to(ROOT / "docs").with_suffix(".html") for p in (ROOT / "docs").rglob("*.md")}
    assert not [page for page in pages if not (site / page).exists()]
    assert "architecture" in (site / "README.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    loaded = 0
    for page in site.rglob("*.html"):
        parser = Loaded()
        parser.feed(page.read_text(encoding="utf-8"))
        loaded += len(parser.found)
        assert not [v for v in parser.found if re.match(r"(\w+:)?//", v) or v.startswith("http")], page
    assert loaded > 100
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_the_picture_says_what_it_shows_and_is_readable_in_the_dark() -> None:
    file = ROOT / "docs" / "architecture.svg"
    picture = ElementTree.parse(file).getroot()
    space = "{http://www.w3.org/2000/svg}"
    labels = [picture.find(f"{space}{name}") for name in ("title", "desc")]
    assert [label.get("id") for label in labels if label is not None] == (picture.get("aria-labelledby") or "").split()
    assert all(label is not None and (label.text or "").strip() for label in labels)
    light, _, dark = file.read_text(encoding="utf-8").partition("@media (prefers-color-scheme: dark)")
    coloured = set(re.findall(r"\.(\w+) \{[^}]*(?:fill|stroke): #", light))
    assert coloured <= set(re.findall(r"\.(\w+) \{", dark.partition("</style>")[0]))


def test_the_extra_holds_what_the_site_is_built_with() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {re.split(r"[<>=]", line)[0] for line in extras["docs"]} == {"sphinx", "myst-parser", "furo"}
    assert "sourcebook[docs]" in extras["dev"]
