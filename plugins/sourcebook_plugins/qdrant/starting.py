"""Starts the index process of a data folder, unless somebody else just does."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from sourcebook.errors import IndexUnavailable
from sourcebook_plugins.qdrant import runtime

T = TypeVar("T")

START_SECONDS = 30.0
"""Opening a folder takes tenths of a second; reading back a full write-ahead log takes a few."""

KEPT = ("HOME", "LANG", "LC_ALL", "PATH", "PYTHONHOME", "TMPDIR", "TZ", "XDG_RUNTIME_DIR")
"""What the process gets of our environment: no secret is among it."""


async def connect_or_start(folder: Path, idle_seconds: float, connect: Callable[[], Awaitable[T | None]]) -> T:
    """What `connect` returns once there is a process to connect to; it returns None while there is none.

    Of all who come here at the same moment, the one with the start lock starts a process, and the others find it.
    Raises `IndexUnavailable` when the process cannot start.
    """
    deadline = time.monotonic() + START_SECONDS
    lock: int | None = None
    process: subprocess.Popen[bytes] | None = None
    try:
        while time.monotonic() < deadline:
            if (connected := await connect()) is not None:
                return connected
            if lock is None:
                lock = runtime.try_lock(runtime.start_lock(folder))
                # Whoever had the lock before us may have started one since we looked: look again, then start.
            elif process is None:
                process = _spawn(folder, idle_seconds)
            elif process.poll() is not None:
                raise IndexUnavailable(
                    f"The index process could not start: {last_words(folder)}", remedy=f"Read {_log_path(folder)}."
                )
            await asyncio.sleep(0.01)
    finally:
        if lock is not None:
            os.close(lock)
    raise IndexUnavailable(
        f"The index process did not answer within {START_SECONDS:.0f} s: {last_words(folder)}",
        remedy=f"Read {_log_path(folder)}.",
    )


def _spawn(folder: Path, idle_seconds: float) -> subprocess.Popen[bytes]:
    """A process that does not end with us: its own session, no pipe to us, its words in a log beside the data."""
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    if paths := os.environ.get("PYTHONPATH"):
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(p).absolute()) for p in paths.split(os.pathsep) if p)
    # -P: its working folder, which is not ours, must not be searched for modules.
    module = "sourcebook_plugins.qdrant.child"
    if _log_path(folder).exists():
        _log_path(folder).replace(_log_path(folder).with_suffix(".log.1"))  # it may tell how the last one died
    with _log_path(folder).open("wb") as words:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(folder.resolve()), str(idle_seconds)],
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    # It may end long after this client is closed; somebody has to wait for it, or it stays a zombie.
    threading.Thread(target=process.wait, name="index-reaper", daemon=True).start()
    return process


def _log_path(folder: Path) -> Path:
    return folder / "index.log"


def last_words(folder: Path) -> str:
    """What the index process of a folder logged last."""
    try:
        lines = _log_path(folder).read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    return lines[-1][:500] if lines else "it said nothing."
