"""The component: blobs as objects of a bucket."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from sourcebook.errors import BlobMissing, StoreError
from sourcebook.interfaces import Blob, BlobStore, Context
from sourcebook_plugins.s3.bucket import Bucket, Signer, xml
from sourcebook_plugins.s3.copies import Copies
from sourcebook_plugins.s3.settings import S3Settings
from sourcebook_plugins.s3.uploads import Upload

CHUNK = 256 * 1024
"""Bytes in one chunk of `read`."""

_WINDOW = 16 * CHUNK  # bytes of one GET: a reader who is slow holds no connection, and one that breaks is asked again
_KEY = re.compile(r"[a-z0-9_]{1,200}")


class S3(BlobStore[S3Settings]):
    """Blobs as objects named `<prefix><key>`. An object is there with all of its bytes or not at all.

    Nothing is asked of the bucket before the first call, so that a process starts while it is down.
    """

    name = "s3"
    Settings = S3Settings
    _copies: Copies | None = None

    async def open(self, context: Context) -> None:
        """Find the credentials. Raises `PluginError` without any, and without the extra."""
        self._log = context.log
        signer = await asyncio.to_thread(Signer, self.settings)
        self._bucket = Bucket(self.settings, context.http, signer, context.log)
        self._copies = Copies(context.folder)
        await asyncio.to_thread(self._copies.open)

    async def close(self) -> None:
        """Remove what copies are left."""
        if self._copies is not None:
            await asyncio.to_thread(self._copies.close)

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> Blob:
        """Store all chunks. Whatever is raised, by `chunks` or by a cancellation too, nothing of them is left."""
        upload = Upload(self._bucket, self._path(key), self.settings.part_size, self._log)
        try:
            async for chunk in chunks:
                await upload.write(chunk)
            return await upload.finish(key)
        except BaseException:
            await asyncio.shield(upload.abandon())
            raise

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Await it, then iterate: the bytes `[start, end)`, cut at the blob's end, in chunks of `CHUNK`."""
        if start < 0 or (end is not None and end < start):
            raise ValueError(f"[{start}, {end}) is no range of bytes")
        size, tag = await self._head(key)
        return self._chunks(key, tag, start, size if end is None else min(end, size))

    async def size(self, key: str) -> int:
        """In bytes. Raises `BlobMissing`."""
        return (await self._head(key))[0]

    @asynccontextmanager
    async def local(self, key: str) -> AsyncGenerator[Path, None]:
        """A copy, which is removed at the end. Raises `BlobMissing`."""
        chunks = await self.read(key)
        assert self._copies is not None, "the store is not open"
        path = self._copies.new()
        try:
            file = await asyncio.to_thread(_new_file, path)
            try:
                async for chunk in chunks:
                    await asyncio.to_thread(file.write, chunk)
            finally:
                await asyncio.to_thread(file.close)
            yield path
        finally:
            path.unlink(missing_ok=True)

    async def delete(self, key: str) -> None:
        """Remove it; nothing to remove is success. A bucket that keeps versions keeps this one."""
        await self._bucket.ask("DELETE", self._path(key), expected=(200, 204, 404))

    async def list(self) -> AsyncIterator[str]:
        """Every key, in the alphabet's order. Objects below the prefix that are not ours are passed over."""
        query = {"list-type": "2", "prefix": self.settings.prefix, "encoding-type": "url"}
        while True:
            root = xml((await self._bucket.ask("GET", query=query)).body)
            if root is None:
                raise StoreError("The blob store's list of objects cannot be read.")
            for found in root.findall("{*}Contents/{*}Key"):
                key = unquote(found.text or "").removeprefix(self.settings.prefix)
                if _KEY.fullmatch(key):
                    yield key
            query["continuation-token"] = root.findtext("{*}NextContinuationToken") or ""
            if not query["continuation-token"]:
                return

    async def _head(self, key: str) -> tuple[int, str]:
        """Size and entity tag. Raises `BlobMissing` where the bucket is there and this is not."""
        answer = await self._bucket.ask("HEAD", self._path(key), expected=(200, 404))
        if answer.status == 404:
            await self._bucket.exists()  # the answer to HEAD has no body that would tell which one is missing
            raise BlobMissing(f"The stored file {key} is missing.", key=key)
        return int(answer.headers["content-length"]), answer.headers.get("etag", "")

    async def _chunks(self, key: str, tag: str, start: int, end: int) -> AsyncIterator[bytes]:
        while start < end:
            window = await self._window(key, tag, start, min(start + _WINDOW, end))
            for at in range(0, len(window), CHUNK):
                yield window[at : at + CHUNK]
            start += len(window)

    async def _window(self, key: str, tag: str, start: int, end: int) -> bytes:
        headers = {"Range": f"bytes={start}-{end - 1}"} | ({"If-Match": tag} if tag else {})
        answer = await self._bucket.ask("GET", self._path(key), headers=headers, expected=(200, 206, 404, 412, 416))
        if answer.status in (404, 412, 416):
            raise BlobMissing(f"The stored file {key} went or changed while it was read.", key=key)
        body = answer.body if answer.status == 206 else answer.body[start:end]
        if len(body) != end - start:
            raise StoreError(f"The blob store sent {len(body)} bytes of {key}, and was asked for {end - start}.")
        return body

    def _path(self, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key[:80]!r} is no blob key; a key matches [a-z0-9_]+")
        return f"{self.settings.prefix}{key}"


def _new_file(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb")
