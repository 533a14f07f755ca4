"""Where the index process and its clients meet: lock files and an address in the data folder, a socket beside.

A Unix socket's path holds about a hundred bytes, so the socket lives in a short runtime folder. Which one that is
depends on the environment (a service has no XDG_RUNTIME_DIR, a shell has), hence the process writes its address into
the data folder, and clients read it there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import stat
import tempfile
from pathlib import Path

MAX_SOCKET_PATH = 103
"""Bytes without the closing NUL: 107 on Linux, 103 on macOS."""


def try_lock(path: Path) -> int | None:
    """An exclusive lock, held until its descriptor is closed or the process dies. None: somebody else holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def owner_lock(folder: Path) -> Path:
    """Held by the index process for as long as it lives."""
    return folder / "owner.lock"


def start_lock(folder: Path) -> Path:
    """Held by the client that starts the index process, until it answers."""
    return folder / "start.lock"


def read_address(folder: Path) -> str:
    """The socket of the process that owns `folder`, or owned it last; empty where there was none."""
    try:
        address = json.loads((folder / "owner.json").read_text("utf-8"))
    except (OSError, ValueError):
        return ""
    return str(address.get("socket", "")) if isinstance(address, dict) else ""


def write_address(folder: Path, path: Path) -> None:
    """Say where we listen; a reader sees the old address or the new one."""
    fresh = folder / "owner.json.new"
    fresh.write_text(json.dumps({"pid": os.getpid(), "socket": str(path)}), "utf-8")
    fresh.replace(folder / "owner.json")


def socket_path(folder: Path) -> Path:
    """A short path for the socket of `folder`, in a folder that is ours alone. Raises `PermissionError`."""
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16] + ".sock"
    preferred = os.environ.get("XDG_RUNTIME_DIR", "")
    bases = [Path(preferred) / "sourcebook"] if preferred and _is_ours(Path(preferred)) else []
    bases.append(Path(tempfile.gettempdir()) / f"sourcebook-{os.geteuid()}")
    bases.append(Path("/tmp") / f"sourcebook-{os.geteuid()}")  # noqa: S108 - checked below to be ours and closed to others
    base = next(b for b in bases if len(os.fsencode(b / name)) <= MAX_SOCKET_PATH)
    base.mkdir(mode=0o700, exist_ok=True)
    if not _is_ours(base):
        raise PermissionError(
            f"The folder {base} must belong to user {os.geteuid()} and be closed to all others (mode 0700)."
        )
    return base / name


def listen(path: Path) -> socket.socket:
    """A listening socket at `path`, mode 0600. Whatever lies there is from a process that died: we hold its lock."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(128)
    return listener


def _is_ours(folder: Path) -> bool:
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
