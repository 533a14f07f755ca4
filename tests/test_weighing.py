"""`bench/startup.py --venv` counts what is installed, and fails where it is more than the budget."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "bench" / "startup.py"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the scripts read /proc")]


def weighed(venv: Path, packages: int, megabytes: int) -> subprocess.CompletedProcess[str]:
    """What the script says of a made-up venv: so many packages, the first of which has a large file."""
    site = venv / "lib" / "python3.11" / "site-packages"
    for n in range(packages):
        info = site / f"made{n}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: made{n}\nVersion: 1.0\n")
        (info / "RECORD").write_text("made0.bin,,\n" if n == 0 else "")
    (site / "made0.bin").write_bytes(os.urandom(megabytes * 1_000_000))
    command = [sys.executable, str(SCRIPT), "--venv", str(venv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_what_is_within_the_budget_is_counted(tmp_path: Path) -> None:
    done = weighed(tmp_path, 3, 5)
    assert done.returncode == 0, done.stderr
    assert "packages      3     80" in done.stdout
    assert "MB            5    300" in done.stdout
    assert "made0         5" in done.stdout
    assert "budget: kept" in done.stdout


@pytest.mark.parametrize(("packages", "megabytes"), [(80, 1), (2, 301)])
def test_what_exceeds_the_budget_fails(tmp_path: Path, packages: int, megabytes: int) -> None:
    done = weighed(tmp_path, packages, megabytes)
    assert done.returncode == 1
    assert "budget: EXCEEDED" in done.stdout
