"""A client that openapi-python-client generates from the document works. Part of `make proof`: it makes a venv."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.support import Served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.environ.get("SOURCEBOOK_PROOF"), reason="part of `make proof`"),
]
ROOT = Path(__file__).parents[2]
GENERATOR = "openapi-python-client>=0.26"


def run(*command: str | Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PIP_CONSTRAINT"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_a_generated_client_is_whole_and_a_session_with_it_passes(tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    bin_ = tmp_path / "venv" / "bin"
    run(bin_ / "pip", "install", "-q", "--disable-pip-version-check", GENERATOR)
    made: list[str | Path] = ["generate", "--path", ROOT / "docs" / "openapi.json", "--meta", "none"]
    said = run(bin_ / "openapi-python-client", *made, "--output-path", tmp_path / "generated")
    # Only a picture is nothing that the generator knows; whatever else it leaves out is a gap of ours.
    assert "will not be generated" not in said, said
    assert said.count("WARNING") == said.count("Unsupported content_type image/png"), said
    with Served(tmp_path / "data") as server:
        key = server.key("ada", "read", "write")["Authorization"].split()[1]
        done = run(bin_ / "python", Path(__file__).with_name("session.py"), tmp_path, server.url, key)
    assert "the session passed" in done
