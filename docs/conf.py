"""How `make docs` builds a site from these pages: Sphinx with MyST, which reads the Markdown that stands here as it is.

The pages know nothing of it. The navigation is made from the links of the two READMEs, and what lies outside this
folder can be downloaded from the site.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

project = "Sourcebook"
author = "The Sourcebook authors"
extensions = ["myst_parser"]
root_doc = "README"
exclude_patterns = ["conf.py"]

myst_heading_anchors = 4  # the anchors that GitHub makes
# `…` in an example's JSON; hooks stand at the third level under a title.
suppress_warnings = ["misc.highlighting_failure", "myst.header"]

html_theme = "furo"
html_title = "Sourcebook"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False

_HERE = Path(__file__).parent
_LINK = re.compile(r"\]\(([\w./-]+)\.md((?:#[\w-]+)?)\)")


def _read(app: Any, name: str, source: list[str]) -> None:
    """Make links to Markdown outside of this folder downloads, and give an index page its table of contents."""
    folder = (_HERE / name).parent

    def link(found: re.Match[str]) -> str:
        inside = (folder / f"{found[1]}.md").resolve().is_relative_to(_HERE)
        return found[0] if inside else f"](path:{found[1]}.md)"

    source[0] = _LINK.sub(link, source[0])
    if Path(name).name == "README":
        pages = dict.fromkeys(path for path, _ in _LINK.findall(source[0]) if not path.startswith(".."))
        source[0] += "\n\n```{toctree}\n:hidden:\n\n" + "\n".join(pages) + "\n```\n"


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
