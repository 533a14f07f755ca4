"""A file of lines that several processes append to, and that none of them loses or turns over twice."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BYTES, FILES = 10 * 1024 * 1024, 10


class AuditFile:
    """`path`, with the files before it as `path.1`, `path.2` and so on: `files` of them, each of `size` bytes.

    Only their owner may read them. Processes are told apart by a lock on `path.lock`, which is held for one line: a
    size that was looked at without it may be that of a file which another process has just put away.
    """

    def __init__(self, path: Path, size: int = BYTES, files: int = FILES) -> None:
        self._path = path
        self._lock = path.with_name(f"{path.name}.lock")
        self._size = size
        self._files = files

    def append(self, line: bytes) -> None:
        """Add a line, which `line` does not end. Raises `OSError`."""
        with self._locked():
            with suppress(FileNotFoundError):
                if self._path.stat().st_size + len(line) >= self._size:
                    self._turn_over()
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                if os.write(descriptor, line + b"\n") <= len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(descriptor)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _turn_over(self) -> None:
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._files))]
        for older, newer in zip(reversed(names), list(reversed(names))[1:], strict=False):
            if newer.exists():
                newer.replace(older)
