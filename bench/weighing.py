"""What an installation weighs: the wheel without extras in a fresh venv, against the budget that it has."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

from measuring import table

ROOT = Path(__file__).parents[1]
MOST_PACKAGES, MOST_MEGABYTES = 80, 300
_SHOWN = 8  # the heaviest packages


def install(folder: Path) -> Path:
    """Build the wheel of this checkout and install it, with the pinned versions, into a new venv: its folder."""
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("sourcebook-*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), str(wheel)], check=True)
    return venv


def weigh(venv: Path) -> bool:
    """Print packages and megabytes (10^6 bytes on the disk), and whether both are below the budget."""
    (site,) = venv.glob("lib/python3*/site-packages")
    packages = list(distributions(path=[str(site)]))
    whole = _on_disk([p for p in venv.rglob("*") if p.is_file() and not p.is_symlink()])
    heaviest = sorted(((_of(p), p.name) for p in packages), reverse=True)[:_SHOWN]
    good = len(packages) < MOST_PACKAGES and whole < MOST_MEGABYTES
    print("install: a fresh venv with the wheel and no extra, pip and setuptools included")
    rows = [("packages", f"{len(packages)}", f"{MOST_PACKAGES}"), ("MB", f"{whole:.0f}", f"{MOST_MEGABYTES}")]
    table(("", "found", "below"), rows)
    table(("heaviest, MB", ""), [(name, f"{size:.0f}") for size, name in heaviest])
    print(f"budget: {'kept' if good else 'EXCEEDED'}")
    return good


def _of(package: Distribution) -> float:
    files = [Path(str(package.locate_file(f))) for f in package.files or ()]
    return _on_disk([f for f in files if f.is_file()])


def _on_disk(files: list[Path]) -> float:
    return sum(f.stat().st_blocks for f in files) * 512 / 1e6
