"""Bombs built by code, uploaded to a real server. The slow ones are for `make proof`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import bombs
from .laboratory import Canary, Laboratory
from .outcomes import compare

PROOF = bool(os.environ.get("SOURCEBOOK_PROOF"))


@pytest.fixture
def canary() -> Iterator[Canary]:
    listening = Canary()
    yield listening
    listening.close()


@pytest.mark.slow
def test_bombs_are_refused_by_name_and_hurt_nobody(tmp_path: Path, canary: Canary) -> None:
    files = {name: make() for name, make in bombs.FAST.items()}
    files |= {name: make(canary.url) for name, make in bombs.CALLING.items()}
    with Laboratory(tmp_path) as lab:
        outcomes = lab.outcomes(files)
        for source in lab.everything():
            if source["state"] == "ready":
                assert "root:" not in lab.text(source), source["name"]  # what /etc/passwd begins with
        if "huge_page.pdf" in lab.sources:
            assert lab.page(lab.sources["huge_page.pdf"]).status_code in (200, 422)
        lab.check_unharmed()
    assert canary.asked == 0
    compare("fast", outcomes)


@pytest.mark.skipif(not PROOF, reason="long: for make proof (SOURCEBOOK_PROOF)")
@pytest.mark.timeout(900)
def test_slow_bombs_run_into_a_limit_and_hurt_nobody(tmp_path: Path) -> None:
    files = {name: make() for name, make in bombs.SLOW.items()}
    with Laboratory(tmp_path) as lab:
        outcomes = lab.outcomes(files)
        lab.everything()
        if "huge_image.pdf" in lab.sources:
            assert lab.page(lab.sources["huge_image.pdf"]).status_code in (200, 422)
        lab.check_unharmed()
    compare("slow", outcomes)
