"""`sourcebook --help` with ten plugins installed, and without: from exec to exit.

The ten are made anew, each with a command of its own and an import that takes half a second: `--help` must show the
commands from their metadata and import none. Beside it, what cannot be avoided: a Python that imports typer.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from measuring import machine, median, table, workspace

PLUGINS = 10
_HELP = [sys.executable, "-m", "sourcebook_api", "--help"]
_TYPER = [sys.executable, "-c", "import typer, typer.core, rich"]


def install(folder: Path) -> None:
    """Ten distributions, as pip leaves them."""
    for number in range(PLUGINS):
        module = f"acme_slow_{number}"
        (folder / f"{module}.py").write_text("import time\ntime.sleep(0.5)\n")
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-slow-{number}\nVersion: 1.0\n")
        groups = f"[sourcebook]\n{module} = {module}\n[sourcebook.commands]\nslow-{number} = {module}\n"
        (info / "entry_points.txt").write_text(groups)


def timed(command: list[str], site: Path | None, here: Path) -> tuple[float, str]:
    """Seconds, and what it printed."""
    clean = {n: v for n, v in os.environ.items() if not n.startswith("SOURCEBOOK_")}
    environment = {**clean, "PYTHONPATH": str(site or "")}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=here, capture_output=True, text=True, check=True)
    return time.perf_counter() - began, done.stdout


def main() -> None:
    """Measure in turn, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="once: to see that it runs")
    given = parser.parse_args()
    with workspace("plugins") as folder:
        site = folder / "site"
        site.mkdir()
        install(site)
        enabled = ", ".join(f'"acme-slow-{n}"' for n in range(PLUGINS))
        (folder / "sourcebook.toml").write_text(f"[plugins]\nenabled = [{enabled}]\n")
        _, shown = timed(_HELP, site, folder)  # which also writes the bytecode
        if shown.count("slow-") < PLUGINS:
            raise SystemExit("the plugins' commands are not listed")
        times: dict[str, list[float]] = {"a Python that imports typer": [], "--help": [], "--help, ten plugins": []}
        for _ in range(1 if given.quick else given.rounds):
            for what, command, path in zip(times, (_TYPER, _HELP, _HELP), (None, None, site), strict=True):
                times[what].append(timed(command, path, folder)[0])
    print("plugins: seconds from exec to exit")
    print(machine())
    rows = [(what, f"{median(t):.3f}", f"{min(t):.3f}", f"{max(t):.3f}") for what, t in times.items()]
    table(("", "median", "least", "most"), rows)
    bare, plain, ten = map(median, times.values())
    print(f"ratio to a Python that imports typer: {plain / bare:.2f}, with ten plugins {ten / bare:.2f}")
    print(f"with ten plugins {ten:.3f} s; the goal is under 0.3 s on an idle machine")


if __name__ == "__main__":
    main()
