"""Files of this machine that hold a blob while somebody reads it.

Each process has a folder of its own, and a lock on it: what a process that died left behind is removed by the next one
that opens the store, and nothing that a living one uses.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import uuid
from pathlib import Path

_OURS = "copies-"


class Copies:
    """Folders in `folder`, one a process. `open` and `close` use the disk: a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own: Path | None = None
        self._lock = -1

    def open(self) -> None:
        """Make ours, and clear away those of the dead."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        gate = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Held while one folder is made and the others are looked at: a new one is never seen without its lock.
            fcntl.flock(gate, fcntl.LOCK_EX)
            for path in self._folder.glob(f"{_OURS}*"):
                if _is_dead(path):
                    shutil.rmtree(path, ignore_errors=True)
            self._own = Path(tempfile.mkdtemp(prefix=_OURS, dir=self._folder))
            self._lock = os.open(self._own, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(gate)

    def close(self) -> None:
        """Remove ours. Idempotent."""
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
            os.close(self._lock)
            self._own = None

    def new(self) -> Path:
        """A name for one more file."""
        assert self._own is not None, "the store is not open"
        return self._own / uuid.uuid4().hex


def _is_dead(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # its process has just removed it
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)
