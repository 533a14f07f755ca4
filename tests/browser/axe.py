"""axe-core, from npm when it is first needed: it is a tool of the tests, and no part of what is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

VERSION = "4.14.1"
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_RUN = """async tags => {
  const {violations} = await axe.run(document, {runOnly: tags, resultTypes: ['violations']});
  return violations.map(v => ({id: v.id, impact: v.impact, help: v.help,
    nodes: v.nodes.map(n => n.target.flat().join(' ') + ': ' + n.failureSummary)}));
}"""


@cache
def source() -> str:
    """The script's text. Skips the test where there is no npm, or it gets nothing."""
    npm = shutil.which("npm") or pytest.skip("there is no npm to get axe-core with")
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sourcebook-tests"
    packed = folder / f"axe-core-{VERSION}.tgz"
    if not packed.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "pack", f"axe-core@{VERSION}", "--silent", "--pack-destination", str(folder)]
        got = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if got.returncode:
            pytest.skip(f"npm gets no axe-core {VERSION}: {got.stderr[-300:]}")
    with tarfile.open(packed) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


def findings(page: Page) -> list[dict[str, Any]]:
    """What axe-core finds on the page as it is, each with `id`, `impact`, `help` and `nodes`."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(source())
    return list(page.evaluate(_RUN, _RULES))


def grave(found: list[dict[str, Any]]) -> list[str]:
    """The serious and critical ones, a line each."""
    return [
        f"{f['impact']} {f['id']}: {f['help']}\n  " + "\n  ".join(f["nodes"][:5])
        for f in found
        if f["impact"] in ("serious", "critical")
    ]
