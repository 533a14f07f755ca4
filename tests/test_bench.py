"""Every benchmark runs, on sizes that measure nothing: a script that nobody starts rots."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
# Each script, with how many ratios and tables it prints.
SCRIPTS = {"startup": 1, "plugins": 1, "ingest": 2, "search": 2, "stream": 4, "load": 1, "parse": 1}
# What drives a browser, where there is one.
WITH_BROWSER = {"page": 4}
# What asks for a collection or a model that is not in the repository.
WITH_DATA = {"abstain", "chunking", "export_minilm"}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the scripts read /proc")]


def test_every_script_is_run_here() -> None:
    runnable = {path.stem for path in BENCH.glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert runnable == SCRIPTS.keys() | WITH_BROWSER.keys() | WITH_DATA


# .ci/run measures a start by itself, and drives a browser for long enough.
_LONG = {"startup", "page", "load"}


@pytest.mark.parametrize(
    "script",
    [pytest.param(s, marks=[pytest.mark.proof] if s in _LONG else []) for s in [*SCRIPTS, *WITH_BROWSER]],
)
def test_a_benchmark_prints_its_ratios_and_leaves_nothing_behind(script: str, tmp_path: Path) -> None:
    if script in WITH_BROWSER and (shutil.which("chromium") is None or find_spec("playwright") is None):
        pytest.skip("there is no chromium, or no playwright")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SOURCEBOOK_")}
    # Short, since Chromium makes a socket in it, whose path holds 107 bytes.
    with tempfile.TemporaryDirectory(prefix="b") as folder:
        run = subprocess.run(
            [sys.executable, str(BENCH / f"{script}.py"), "--quick"],
            cwd=tmp_path,
            env={**environment, "TMPDIR": folder},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        left = [p.name for p in Path(folder).iterdir() if p.name.startswith("bench-")]
    assert run.returncode == 0, run.stderr[-3000:]
    lines = run.stdout.splitlines()
    assert sum("cores" in line and "Python" in line for line in lines) == 1
    ratios = [line for line in lines if line.startswith("ratio")]
    assert len(ratios) == {**SCRIPTS, **WITH_BROWSER}[script], run.stdout
    assert all(re.search(r"\d\.\d\d", line) and "nan" not in line for line in ratios), ratios
    assert left == []
