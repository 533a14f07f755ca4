"""The blocks of a page, and one language's of them run as a script, in order, in one interpreter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
ADDRESS = "127.0.0.1:8000"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_MARK = "=== the next block ==="

# Language of a block -> what runs a file of it, the file's ending, and a statement that prints the mark.
RUNNERS: Mapping[str, tuple[list[str], str, str]] = {
    "bash": (["bash", "-euo", "pipefail"], "sh", f"printf '%s\\n' '{_MARK}'"),
    "python": ([sys.executable, "-W", "error"], "py", f'print("{_MARK}", flush=True)'),
    "javascript": (["node"], "mjs", f'console.log("{_MARK}");'),
}
NEEDS = {"bash": "curl", "javascript": "node"}


@dataclass
class Step:
    """A block of one language, and what it prints: None where the page does not say."""

    code: str
    shown: str | None = None


def files(page: str) -> dict[str, str]:
    """What the page's reader writes into files before the first step: a `markdown` and perhaps a `toml` block."""
    found = _BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    first = next(n for n, (language, _) in enumerate(found) if language in RUNNERS)
    return {language: text for language, text in found[:first] if language in ("markdown", "toml")}


def steps(page: str, language: str) -> list[Step]:
    """The blocks of a language. A `text` block is what those right before it print, whatever their languages."""
    found: list[Step] = []
    fresh: Step | None = None
    for kind, text in _BLOCK.findall((DOCS / page).read_text(encoding="utf-8")):
        if kind == language:
            fresh = Step(text)
            found.append(fresh)
        elif kind == "text" and fresh is not None:
            fresh.shown, fresh = text, None
    return found


def run(found: list[Step], language: str, folder: Path, address: str) -> list[str]:
    """Run all of them as one script; what each printed."""
    command, ending, mark = RUNNERS[language]
    script = folder / f"page.{ending}"
    script.write_text("\n".join(f"{step.code}\n{mark}" for step in found).replace(ADDRESS, address), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SOURCEBOOK_")}
    done = subprocess.run(
        [*command, str(script)], cwd=folder, env=environment, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout.split(f"{_MARK}\n")[:-1]


def fits(printed: str, shown: str) -> bool:
    """Whether it is what the page shows, where `…` stands for anything within a line."""
    return re.fullmatch(re.escape(shown.strip()).replace("…", ".+"), printed.strip()) is not None
