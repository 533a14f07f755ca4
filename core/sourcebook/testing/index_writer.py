"""A process that stores points until it is killed, by which the contract sees what an index in its own process keeps.

It imports the class of the tests, opens the index as that does, and says on stdout what was acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sourcebook.testing.index_points import SCOPE, point, vectors

if TYPE_CHECKING:
    from sourcebook.testing.indexes import IndexContract

BATCH = 10
_SAID = "acknowledged "
_PATIENCE = 90.0  # seconds for the first points: engines are slow to import


def killed_while_storing(suite: type[IndexContract], attributes: dict[str, Any], folder: Path, enough: int) -> int:
    """Start one, kill it (-9) once it has stored `enough` points, and tell how many it had acknowledged.

    Raises `AssertionError` with what it printed, where it ended by itself or took too long.
    """
    told: dict[str, Any] = {
        "path": sys.path,
        "module": suite.__module__,
        "name": suite.__qualname__,
        "folder": str(folder),
    }
    told |= {"file": getattr(sys.modules.get(suite.__module__), "__file__", "") or "", "attributes": attributes}
    command = [sys.executable, "-m", "sourcebook.testing.index_writer"]
    with (folder / "writer.log").open("w+") as log:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as process:
            late = threading.Timer(_PATIENCE, process.kill)
            late.start()
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(json.dumps(told) + "\n")
                process.stdin.flush()
                stored = 0
                for line in process.stdout:
                    stored = max(stored, _stored(line))
                    if stored >= enough:
                        process.kill()  # it goes on storing until the signal comes: the loop ends with its last words
            finally:
                late.cancel()
                process.kill()
        log.seek(0)
        assert stored >= enough, f"the process that stores ended by itself, or was too slow:\n{log.read()[-4000:]}"
    return stored


def _stored(line: str) -> int:
    return int(line.removeprefix(_SAID)) if line.startswith(_SAID) and line.endswith("\n") else 0


def _class(told: dict[str, Any]) -> Any:
    """The class of the tests: by its module's name, or from its file where pytest gave the module that name itself."""
    try:
        found: Any = import_module(told["module"])
    except ImportError:
        spec = spec_from_file_location(told["module"], told["file"])
        if spec is None or spec.loader is None:
            raise
        found = sys.modules[told["module"]] = module_from_spec(spec)
        spec.loader.exec_module(found)
    for name in told["name"].split("."):
        found = getattr(found, name)
    return found


async def _store(suite: IndexContract, folder: Path) -> None:
    async with suite.opened(folder) as index:
        stored = 0
        while True:
            batch = range(stored, stored + BATCH)
            points = [point(i, f"tea number {i}") for i in batch]
            await index.upsert(SCOPE, points, vectors(*([1, i, 0, 0] for i in batch)))
            stored += BATCH
            sys.stdout.write(f"{_SAID}{stored}\n")
            sys.stdout.flush()


def main() -> None:
    """Store until killed."""
    told = json.loads(sys.stdin.readline())
    sys.path[:] = told["path"]
    suite = _class(told)()
    for name, value in told["attributes"].items():
        setattr(suite, name, value)
    asyncio.run(_store(suite, Path(told["folder"])))


if __name__ == "__main__":
    main()
