"""The two documents that come with the package: what `sourcebook demo` and the page's first notebook are made of."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable

TITLE = "Tolvane harbour"
DESCRIPTION = "Two bundled documents to try things with: a harbour's handbook and the orders of its watch."

_FOLDER = files("sourcebook_api") / "demo"


def documents() -> list[Traversable]:
    """The files, by name."""
    return sorted((f for f in _FOLDER.iterdir() if f.name.endswith((".pdf", ".docx"))), key=lambda f: f.name)


def questions() -> list[str]:
    """What they answer."""
    lines = (_FOLDER / "questions.txt").read_text(encoding="utf-8").split("\n")
    return [line.strip() for line in lines if line.strip()]
