"""The local blob store: one file a blob, under folders named after the last two characters of the key."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import threading
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from sourcebook.errors import BlobMissing, StoreError
from sourcebook.hookspecs import hookimpl
from sourcebook.interfaces import Blob, BlobStore, ComponentSettings, Context

CHUNK = 256 * 1024
"""Bytes in one chunk of `read`."""

_GATHER = 1024 * 1024  # bytes to write at once: a hop to a thread costs as much as writing 64 KiB
_STALE = 24 * 3600.0  # seconds without a write, after which nobody is writing an unfinished file any more
_KEY = re.compile(r"[a-z0-9_]{1,200}")
_INCOMING = ".incoming"  # no key holds a dot
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FilesSettings(ComponentSettings):
    """`folder`: where the blobs are, relative to the store's own folder in the data folder; empty means just there."""

    folder: str = ""


class Files(BlobStore[FilesSettings]):
    """Blobs as files of this machine.

    `put` writes beside, syncs, renames and syncs the folder: a name is either absent or holds all of its bytes, and
    what was acknowledged survives power loss. All disk work happens in threads.
    """

    name = "files"
    Settings = FilesSettings
    root: Path

    async def open(self, context: Context) -> None:
        """Make the folder, and clear away what uploads left that died with their process."""
        self.root = context.folder / self.settings.folder
        with _disk(str(self.root)):
            await asyncio.to_thread(self._prepare)

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> Blob:
        """Store all chunks. Whatever is raised, by `chunks` or by a cancellation too, nothing of them is left.

        The same key again replaces. Raises `StoreError`, code `storage_full` when the disk is.
        """
        upload = _Upload(self._path(key), self.root / _INCOMING)
        try:
            waiting = bytearray()
            async for chunk in chunks:
                waiting += chunk
                if len(waiting) >= _GATHER:
                    await asyncio.to_thread(upload.write, waiting)
                    waiting = bytearray()
            return await asyncio.to_thread(upload.finish, waiting)
        except BaseException:
            # A cancelled call leaves its thread running: `abandon` waits for it, and a second cancel does not stop it.
            await asyncio.shield(asyncio.to_thread(upload.abandon))
            raise

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Await it, then iterate: the bytes `[start, end)`, cut at the blob's end, in chunks of `CHUNK`."""
        if start < 0 or (end is not None and end < start):
            raise ValueError(f"[{start}, {end}) is no range of bytes")
        size = await self.size(key)
        return self._chunks(key, start, size if end is None else min(end, size))

    async def size(self, key: str) -> int:
        """In bytes. Raises `BlobMissing`."""
        path = self._path(key)
        with _stored(key):
            return (await asyncio.to_thread(path.stat)).st_size

    @asynccontextmanager
    async def local(self, key: str) -> AsyncGenerator[Path, None]:
        """The blob's own file: read it, never write it. Raises `BlobMissing`."""
        path = self._path(key)
        with _stored(key):
            path.stat()  # a look at a name takes a fraction of the way to a thread
        yield path

    async def delete(self, key: str) -> None:
        """Remove it, for good also after power loss; nothing to remove is success."""
        path = self._path(key)
        with _disk(key):
            await asyncio.to_thread(_remove, path)

    async def list(self) -> AsyncIterator[str]:
        """Every key, in no order. What is put or deleted meanwhile may be among them or not."""
        for folder in await asyncio.to_thread(_names, self.root):
            if _KEY.fullmatch(folder) and len(folder) <= 2:
                for name in await asyncio.to_thread(_names, self.root / folder):
                    if _KEY.fullmatch(name):
                        yield name

    async def _chunks(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        with _stored(key):
            # Opened on the first step, so that a reader who never takes one leaves no file open.
            file = await _opened(self._path(key))
        try:
            await asyncio.to_thread(file.seek, start)
            while start < end:
                with _stored(key):
                    chunk = await asyncio.to_thread(file.read, min(CHUNK, end - start))
                if not chunk:
                    raise BlobMissing(f"The stored file {key} ended before its size.", key=key)
                start += len(chunk)
                yield chunk
        finally:
            file.close()

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key[:80]!r} is no blob key; a key matches [a-z0-9_]+")
        return self.root / key[-2:] / key

    def _prepare(self) -> None:
        incoming = self.root / _INCOMING
        incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = time.time() - _STALE
        for path in incoming.iterdir():
            # Other processes share the folder: a young file may be theirs, and any may go while we look.
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()


class _Upload:
    """One upload's file. Its methods run in threads, one after the other: a lock sees to it."""

    def __init__(self, target: Path, incoming: Path) -> None:
        self._target = target
        self._part = incoming / f"{target.name}.{uuid.uuid4().hex}.part"
        self._lock = threading.Lock()
        self._hash = hashlib.sha256()
        self._size = 0
        self._fd = -1
        self._abandoned = False
        self._fresh = False  # our file stands at the target, where none stood before

    def write(self, data: bytes | bytearray) -> None:
        with self._lock, _disk(self._target.name):
            if not self._abandoned:
                self._write(data)

    def finish(self, data: bytes | bytearray) -> Blob:
        """Write the last bytes and publish: durable when this returns."""
        with self._lock, _disk(self._target.name):
            if not self._abandoned:
                self._write(data)
                os.fsync(self._fd)
                self._close()
                _make_shard(self._target.parent)
                fresh = not self._target.exists()
                self._part.replace(self._target)
                self._fresh = fresh
                _sync(self._target.parent)
        return Blob(self._target.name, self._hash.hexdigest(), self._size)

    def abandon(self) -> None:
        """Leave nothing behind. A blob that ours has already replaced is gone, so ours stays in its place."""
        with self._lock:
            self._abandoned = True
            # The put's own error is the one to tell; `open` clears away what cannot be removed now.
            with suppress(OSError):
                self._close()
            with suppress(OSError):
                self._part.unlink(missing_ok=True)
            if self._fresh:
                with suppress(OSError):
                    _remove(self._target)

    def _write(self, data: bytes | bytearray) -> None:
        if self._fd < 0:  # with the first bytes: a small file is one way to a thread and back
            self._fd = os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self._hash.update(data)
        self._size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


async def _opened(path: Path) -> BinaryIO:
    """The open file. A reader who is cancelled while a thread opens it would leave it open for nobody."""
    opening = asyncio.ensure_future(asyncio.to_thread(path.open, "rb"))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_late)
        raise


def _close_late(opening: asyncio.Task[Any]) -> None:
    if opening.exception() is None:
        opening.result().close()


@contextmanager
def _disk(what: str) -> Iterator[None]:
    """Turn what the disk says into our errors."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreError(
                "The disk that keeps the sources is full.",
                remedy="Free some space or move the data folder, then try again.",
                code="storage_full",
            ) from error
        raise StoreError(f"The file store failed on {what}: {error.strerror or error}.") from error


@contextmanager
def _stored(key: str) -> Iterator[None]:
    """The same for a blob that should be there."""
    with _disk(key):
        try:
            yield
        except FileNotFoundError as error:
            raise BlobMissing(f"The stored file {key} is missing.", key=key) from error


def _make_shard(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync(folder.parent)


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
        _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make a rename or a removal in `folder` survive power loss."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _names(folder: Path) -> tuple[str, ...]:
    try:
        return tuple(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return ()


@hookimpl
def register_blob_stores() -> list[type[Files]]:
    """The local store."""
    return [Files]
