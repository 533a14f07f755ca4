"""Compaction: another process optimises a copy of the shard, and this one changes over to it.

    copying    the copy is made; searches are answered, writes wait (a second or two for a gigabyte)
    building   the copy is optimised; everything is answered, and every write is also kept in a journal
    catching up   the journal is played to the new shard, a few writes at a time, while the old one answers
    taking over   the last of it, a flush, and the layout names the new shard: a pause of less than a second

Until the layout names it, the new shard is only a folder that the next start removes. What was acknowledged is in the
old shard's write-ahead log all the time.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sourcebook_plugins.qdrant.frames import pack, unpacked
from sourcebook_plugins.qdrant.shard import Shard

log = logging.getLogger("sourcebook.index")

WRITES = frozenset({"ensure", "ensure_fields", "set_fields", "upsert", "delete", "restore", "remove"})
LOOK_SECONDS = 1.0
QUIET_SECONDS = 2.0
"""A pause between writes. A compaction waits for one, unless very much is waiting."""
MUCH = 4
GROWTH = 4
"""It also waits until what is new is a quarter of what is compacted, so that the work grows with the data."""
SLICE = 8
FAILED_SECONDS = 600.0


class Compactor:
    """Watches one index process's shard. `writable` is clear while writes must wait."""

    def __init__(self, shard: Shard, replace: Callable[[Shard], None]) -> None:
        self._shard = shard
        self._replace = replace
        self._tuning: dict[str, Any] = {"compact_above": 0}
        self._last_write = time.monotonic()
        self._journal: Path | None = None
        self._not_before = 0.0
        for left in shard.folder.glob("journal"):
            left.unlink()
        self.writable = asyncio.Event()
        self.writable.set()
        self.done = 0

    def tune(self, tuning: dict[str, Any]) -> None:
        """The settings of whoever opened the index last."""
        self._tuning = tuning

    def wrote(self, request: dict[str, Any], raw: memoryview) -> None:
        """A write was carried out."""
        self._last_write = time.monotonic()
        if self._journal:
            with self._journal.open("ab") as file:
                file.write(pack(request, bytes(raw)))

    async def watch(self) -> None:
        """Settle in every pause, and compact whenever it is worth it; for as long as the process lives."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._quiet():
                self._settle()
            if self._due():
                try:
                    await self.compact()
                except Exception:
                    log.exception("compaction failed; it is tried again later")
                    self._not_before = time.monotonic() + FAILED_SECONDS
                finally:
                    self.writable.set()
                    self._drop_journal()

    def _due(self) -> bool:
        above = self._tuning["compact_above"]
        if not above or time.monotonic() < self._not_before:
            return False
        new = self._shard.points - self._shard.compacted
        if new < max(above, self._shard.compacted // GROWTH):
            return False
        return self._quiet() or new > MUCH * above

    def _settle(self) -> None:
        try:
            self._shard.settle()
        except Exception:  # Edge raises nothing more precise; a full disk must not end the watch
            log.warning("the index is not wholly on the disk; it is tried again in the next pause", exc_info=True)
            self._last_write = time.monotonic()

    def _quiet(self) -> bool:
        return time.monotonic() - self._last_write > QUIET_SECONDS

    async def compact(self) -> None:
        """One whole compaction."""
        began, old = time.monotonic(), self._shard
        folder = old.folder
        name = f"shard-{time.time_ns()}"
        builder = await self._build(folder / old.name, folder / name)
        if await builder.wait() != 0:
            shutil.rmtree(folder / name, ignore_errors=True)
            raise RuntimeError(f"the builder ended with {builder.returncode}")
        new = Shard(folder, name)
        played = await self._catch_up(new, 0)
        # From here on nothing is awaited until the new shard answers.
        self._play(new, played, None)
        new.take_over()
        self._drop_journal()
        self._shard = new
        self._replace(new)
        old.close()
        _give_back()
        self.done += 1
        log.info("compacted %d points in %.1f s", new.points, time.monotonic() - began)
        await asyncio.to_thread(shutil.rmtree, folder / old.name, ignore_errors=True)

    async def _build(self, source: Path, target: Path) -> asyncio.subprocess.Process:
        """Start the builder; returns when it has its copy, and writes go on."""
        above = self._tuning["hnsw_above"]
        tuning = {
            "spaces": list(self._shard.spaces.values()),
            "quantization": self._tuning["quantization"],
            "on_disk": self._tuning["on_disk"],
            "hnsw": bool(above) and self._shard.points >= above,
        }
        self.writable.clear()
        self._shard.settle()
        builder = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "sourcebook_plugins.qdrant.builder",
            os.fspath(source),
            os.fspath(target),
            json.dumps(tuning),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        assert builder.stdout is not None
        await builder.stdout.readline()
        self._journal = source.with_name("journal")
        self._journal.write_bytes(b"")
        self.writable.set()
        return builder

    async def _catch_up(self, new: Shard, played: int) -> int:
        """Play what has been written meanwhile, in slices, until little is left; how far the journal is played."""
        assert self._journal is not None
        while self._journal.stat().st_size - played > 0:
            before = played
            played = self._play(new, played, SLICE)
            await asyncio.sleep(0)
            if self._journal.stat().st_size - played < played - before:
                break
        return played

    def _play(self, new: Shard, at: int, most: int | None) -> int:
        assert self._journal is not None
        with self._journal.open("rb") as file:
            file.seek(at)
            while most is None or most > 0:
                frame = unpacked(file)
                if frame is None:
                    break
                request, raw = frame
                getattr(new, request["op"])(request, raw)
                most = None if most is None else most - 1
            return file.tell()

    def _drop_journal(self) -> None:
        if self._journal:
            self._journal.unlink(missing_ok=True)
            self._journal = None


def _give_back() -> None:
    """To the system, the memory of what was closed: glibc keeps it, twice as much as all that is still in use."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
