"""`sourcebook serve`: from exec to the first 200 of /readyz, on an empty and on a warm data folder, and its memory.

Beside it, what cannot be avoided: a process that imports the server's libraries and nothing else. `/readyz` is 200 only
when the database has its schema and the index process has answered, so both are part of the time.

`--install` weighs instead: packages and megabytes of a fresh venv with the wheel alone. It needs a package index, or
`--venv`, a venv that has it already; it exits with 1 where the budget is exceeded.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from measuring import Words, machine, median, processes_below, table, workspace
from serving import environment, serving
from weighing import install, weigh

_IMPORTS = "import fastapi, uvicorn, sqlalchemy.ext.asyncio, pydantic, dynaconf"
_ROLES = (("index process", "sourcebook_plugins.qdrant.child"), ("jail's parent", "jail"), ("serving process", "serve"))


def imports() -> float:
    """Seconds from exec to the end of a process that only imports."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", _IMPORTS], env=environment(), check=True)
    return time.perf_counter() - began


def start(folder: Path) -> float:
    """Seconds to ready; the server is stopped again, and its index process with it."""
    with serving(folder) as server:
        return server.ready_after


def memory(folder: Path) -> dict[str, tuple[int, int]]:
    """Role -> resident and private bytes, of a server that has ingested one document and answered one search."""
    with serving(folder) as server:
        notebook = server.notebook_with(Words(2).paragraph(500))
        server.call("POST", "/search", {"question": "ba den", "notebooks": [notebook]})
        sizes: dict[str, tuple[int, int]] = {}
        for process in processes_below(server.process.pid):
            role = next(name for name, mark in _ROLES if mark in process.command)
            resident, private = sizes.get(role, (0, 0))
            sizes[role] = (resident + process.resident, private + process.private)
        return sizes


def main() -> None:
    """Measure in turn, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="once: to see that it runs")
    parser.add_argument("--install", action="store_true", help="weigh a fresh venv with the wheel")
    parser.add_argument("--venv", type=Path, help="weigh this venv, which has the wheel already")
    given = parser.parse_args()
    if given.install or given.venv:
        with workspace("install") as folder:
            print(machine())
            sys.exit(not weigh(given.venv or install(folder)))
    rounds = 1 if given.quick else given.rounds
    with workspace("startup") as folder:
        (folder / "warm").mkdir()
        sizes = memory(folder / "warm")  # which also writes the bytecode, and something into the data folder
        times: dict[str, list[float]] = {"bare imports": [], "empty data folder": [], "warm data folder": []}
        for turn in range(rounds):
            (folder / f"empty-{turn}").mkdir()
            times["bare imports"].append(imports())
            times["empty data folder"].append(start(folder / f"empty-{turn}"))
            times["warm data folder"].append(start(folder / "warm"))
    print("startup: seconds from exec to ready")
    print(machine())
    rows = [(what, f"{median(t):.2f}", f"{min(t):.2f}", f"{max(t):.2f}") for what, t in times.items()]
    table(("", "median", "least", "most"), rows)
    bare = median(times["bare imports"])
    empty, warm = median(times["empty data folder"]), median(times["warm data folder"])
    print(f"ratio to bare imports: empty {empty / bare:.2f}, warm {warm / bare:.2f}\n")
    sized = [(role, f"{sizes[role][0] / 2**20:.0f}", f"{sizes[role][1] / 2**20:.0f}") for role in sorted(sizes)]
    table(("memory, MiB", "resident", "private"), sized)


if __name__ == "__main__":
    main()
