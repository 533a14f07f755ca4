"""Which processes live, on one machine: each holds a lock on a file of its own, which its death lets go.

A lease tells the dead from the slow by a clock; this needs none, and need not wait. It holds for one machine only,
which is where all who share an SQLite file are.
"""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from sourcebook.ids import new_id


def process_of(worker: str) -> str:
    """The process that a worker is in: its name without the last part."""
    return worker.rpartition("-")[0]


class Presence:
    """Locks in `folder`, one a process, named after it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = -1
        self.name = f"{socket.gethostname()[:40]}-{os.getpid()}-{new_id('p')[-6:]}"

    def enter(self) -> None:
        """Be seen from now on."""
        if self._descriptor >= 0:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(self._path(self.name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def leave(self) -> None:
        """Be seen no longer. Idempotent."""
        if self._descriptor >= 0:
            self._path(self.name).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1

    def alive(self, name: str) -> bool:
        """Whether the process of this name lives; the file of a dead one is removed."""
        if name == self.name:
            return self._descriptor >= 0
        path = self._path(name)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # it left, or never came
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            path.unlink(missing_ok=True)
            return False
        finally:
            os.close(descriptor)

    def anyone(self) -> bool:
        """Whether any process lives that has entered."""
        return any(self.alive(path.stem) for path in self._folder.glob("*.lock"))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name.replace('/', '_')}.lock"
