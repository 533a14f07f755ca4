"""Looks whether the stores agree with each other and this machine has what is needed; mends what it can.

What is found of the stores, and what is done about it, is in `checkup`; this is the list, and the machine.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from sourcebook import __version__
from sourcebook.app import Sourcebook
from sourcebook.checkup import Checkup, Finding
from sourcebook.config_check import several
from sourcebook.database.tables import SCHEMA
from sourcebook.database.upgrade import current, mismatch
from sourcebook.errors import SourcebookError
from sourcebook.queued import WHO, attended, queued

__all__ = ["Finding", "examine"]

_LOW_DISK = 1 << 30
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p"}  # where SQLite's locks do not hold
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}

Check = Callable[[], Awaitable[Finding]]


async def examine(book: Sourcebook, *, repair: bool = False) -> AsyncIterator[Finding]:
    """Every check in turn; one that cannot be made is a finding too. With `repair`, each mends what it finds.

    To mend may mean to index again, which this waits for: it needs workers, of this process or another.
    """
    stores = Checkup(book, repair=repair)
    for check in (*_machine_checks(book, repair), *stores.checks):
        name = check.__name__.strip("_")
        try:
            yield await check()
        except SourcebookError as error:
            yield Finding(name, False, error.detail, error.problem())


def _machine_checks(book: Sourcebook, repair: bool) -> list[Check]:
    async def machine() -> Finding:
        versions = {"sourcebook": __version__, "python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
        versions["system"] = platform.platform()
        return Finding("machine", True, ", ".join(f"{k} {v}" for k, v in versions.items()), dict(versions))

    async def disk() -> Finding:
        free = shutil.disk_usage(book.folder).free
        ok = free >= _LOW_DISK and os.access(book.folder, os.W_OK)
        detail = f"{book.folder}: {free / (1 << 30):.1f} GiB free"
        kind = await asyncio.to_thread(_filesystem, book.folder)
        if kind in _REMOTE and book.database.sqlite:
            return Finding("disk", False, f"{detail}, on {kind}: SQLite needs a local disk", {"filesystem": kind})
        return Finding("disk", ok, detail, {"free": free, "filesystem": kind})

    async def folder() -> Finding:
        mode = stat.S_IMODE(book.folder.stat().st_mode)
        open_to = mode & 0o077
        if open_to and repair:
            book.folder.chmod(0o700)
            return Finding("folder", True, f"{book.folder}", repaired=f"mode {mode:o} is 700 now")
        return Finding("folder", not open_to, f"{book.folder} has mode {mode:o}, and holds what is its owner's alone")

    async def schema() -> Finding:
        have = await current(book.database)
        problem = await mismatch(book.database)
        newer = "" if have == SCHEMA else f"; this version's is {SCHEMA}"
        return Finding(
            "schema", not problem, problem or f"the database has {have}, which this version works with{newer}"
        )

    async def jail() -> Finding:
        layers = dict(await book.jail.layers())
        strict = book.settings.jail.mode == "strict"
        ok = not strict or all(state == "active" for state in layers.values())
        return Finding("jail", ok, ", ".join(f"{k}: {v}" for k, v in layers.items()), dict(layers))

    async def plugins() -> Finding:
        failed = {i.name: i.reason for i in book.plugins.infos.values() if i.state == "failed"}
        active = sum(i.state == "active" for i in book.plugins.infos.values())
        detail = "; ".join(f"{n}: {r}" for n, r in failed.items()) or f"{active} active"
        return Finding("plugins", not failed, detail, dict(failed))

    async def keys() -> Finding:
        host, any_keys = book.settings.server.host, await book.owners.any_keys()
        detail = f"server.host is {host}, and there are {'' if any_keys else 'no '}active keys"
        return Finding("keys", any_keys or host in _LOOPBACK, detail)

    async def processes() -> Finding:
        count, limits = book.settings.server.workers, book.settings.limits
        if count == 1:
            return Finding("processes", True, "one process serves the port")
        alone = limits.counters.startswith("memory")
        said = [f"{count} processes serve the port"]
        if alone:
            said.append(f"each counts its requests alone, so that a key has up to {count} times its limits")
        wrong = [error.detail for error in several(book.settings)]
        return Finding("processes", not wrong, "; ".join([*said, *wrong]), {"workers": count})

    async def queue() -> Finding:
        return await _queue(book)

    return [machine, disk, folder, schema, jail, plugins, keys, processes, queue]


async def _queue(book: Sourcebook) -> Finding:
    waiting, tended = await queued(book.database), await attended(book.database, book.folder)
    said = "no jobs wait" if not waiting else "1 job waits" if waiting == 1 else f"{waiting} jobs wait"
    if waiting and not tended:  # nothing is wrong with that: they are safe, and done when somebody comes
        said += f", and no worker is there to do {'it' if waiting == 1 else 'them'}: start {WHO}"
    return Finding("queue", True, said, {"queued": waiting, "attended": tended})


def _filesystem(folder: Path) -> str:
    """The kind that /proc/mounts says `folder` lies on; empty where there is no such list."""
    best, kind = "", ""
    try:
        for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
            _, where, what, *_ = line.split(" ")
            if folder.is_relative_to(where) and len(where) > len(best):
                best, kind = where, what
    except (OSError, ValueError):
        return ""
    return kind
