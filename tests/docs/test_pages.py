"""The quick start and the guide do what they say, in each of their three languages, against a real server."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from .pages import NEEDS, RUNNERS, files, fits, run, steps

PAGES = ["quickstart.md", "guide.md"]


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """`sourcebook serve` as the page's reader starts it, in the folder that the page's files were written into."""
    written = files(request.getfixturevalue("page"))
    (tmp_path / "harbour.md").write_text(written["markdown"], encoding="utf-8")
    (tmp_path / "sourcebook.toml").write_text(written.get("toml", ""), encoding="utf-8")
    command = [sys.executable, "-m", "sourcebook_api", "serve", "--port", "0"]
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    try:
        yield _address(process, tmp_path / "server.log")
    finally:
        process.terminate()
        assert process.wait(30) == 0


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where it listens, once it has said so; the test's own timeout bounds the wait."""
    while "is ready on http://" not in (said := log.read_text(encoding="utf-8")):
        assert process.poll() is None, said
        time.sleep(0.05)
    address = said.partition("is ready on http://")[2].split()[0]
    assert httpx.get(f"http://{address}/readyz").status_code == 200
    return address


@pytest.mark.slow
@pytest.mark.timeout(300)  # answers come at a walking pace, and the machine may be busy
@pytest.mark.parametrize("language", RUNNERS)
@pytest.mark.parametrize("page", PAGES)
def test_every_step_runs_and_prints_what_the_page_shows(page: str, language: str, server: str, tmp_path: Path) -> None:
    if shutil.which(needed := NEEDS.get(language, "")) is None and needed:
        pytest.skip(f"{needed} is not installed")
    found = steps(page, language)
    printed = run(found, language, tmp_path, server)
    for step, text in zip(found, printed, strict=True):
        if step.shown is not None:
            assert fits(text, step.shown), f"{step.code}\nprinted:\n{text}\nthe page shows:\n{step.shown}"


@pytest.mark.parametrize("page", PAGES)
def test_every_step_is_there_in_each_language_and_says_what_it_prints(page: str) -> None:
    each = {language: steps(page, language) for language in RUNNERS}
    assert len({len(found) for found in each.values()}) == 1
    (one, *others) = ([step.shown for step in found] for found in each.values())
    assert all(shown == one for shown in others)
    assert sum(shown is not None for shown in one) >= len(one) - 1  # the first one prepares


def test_what_a_page_shows_is_compared() -> None:
    assert fits("nb_123\n", "nb_…\n")
    assert not fits("nb_123\nmore", "nb_…\n")
    assert not fits("src_123", "nb_…")
    assert not fits("", "nb_…")
