"""Malformed and hostile files from the test suites of others, uploaded to a real server.

SOURCEBOOK_EVAL_DATA names the folder that holds them; they have other people's licences, and are not shipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .laboratory import Laboratory
from .outcomes import compare

DATA = os.environ.get("SOURCEBOOK_EVAL_DATA", "")


@pytest.mark.skipif(not DATA, reason="SOURCEBOOK_EVAL_DATA names no folder of hostile files")
@pytest.mark.timeout(900)
@pytest.mark.slow
def test_hostile_files_end_as_the_table_says_and_hurt_nobody(tmp_path: Path) -> None:
    found = sorted(p for p in (Path(DATA) / "hostile").iterdir() if p.name not in ("SOURCES.md", "manifest.jsonl"))
    assert len(found) > 60
    with Laboratory(tmp_path) as lab:
        outcomes = lab.outcomes({path.name: path.read_bytes() for path in found})
        for source in lab.everything():
            if source["state"] == "ready":
                assert "root:x:0" not in lab.text(source), source["name"]
        lab.check_unharmed()
    compare("corpus", outcomes)
