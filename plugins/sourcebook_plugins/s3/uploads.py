"""One blob on its way to the bucket: in one request, or in parts of which one is sent while the next one arrives."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from html import escape
from typing import Any

from sourcebook.errors import StoreError
from sourcebook.http import HttpResponse
from sourcebook.interfaces import Blob
from sourcebook_plugins.s3.bucket import Bucket, xml

_LAST_WORDS = 10.0  # seconds that clearing away may take; after that it is the bucket's own rule to do it


class Upload:
    """Call `write`, then `finish`; `abandon` after anything that went wrong in between."""

    def __init__(self, bucket: Bucket, path: str, part_size: int, log: logging.Logger) -> None:
        self._bucket = bucket
        self._path = path
        self._part_size = part_size
        self._log = log
        self._hash = hashlib.sha256()
        self._size = 0
        self._waiting = bytearray()
        self._beginning: asyncio.Task[str] | None = None
        self._id = ""  # of the upload in parts
        self._parts: list[str] = []
        self._sending: asyncio.Task[None] | None = None
        self._publishing: asyncio.Task[HttpResponse] | None = None  # the object may be there already

    async def write(self, chunk: bytes) -> None:
        """Take more bytes; waits while the part before is still being sent."""
        self._waiting += chunk
        while len(self._waiting) >= self._part_size:
            part = bytes(memoryview(self._waiting)[: self._part_size])
            self._waiting = self._waiting[self._part_size :]
            await self._begin(part)

    async def finish(self, key: str) -> Blob:
        """All is there; durable when this returns."""
        rest, self._waiting = bytes(self._waiting), bytearray()
        if self._id:
            if rest:
                await self._begin(rest)
            await self._sent()
            await self._complete()
        else:
            await self._count(rest)
            await self._publish("PUT", body=rest)
        return Blob(key, self._hash.hexdigest(), self._size)

    async def abandon(self) -> None:
        """Leave nothing in the bucket, as far as it can still be told."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])
        try:
            async with asyncio.timeout(_LAST_WORDS):
                # What is on its way comes to its end first: what it made, or had no name for us, could stay otherwise.
                begun = [task for task in (self._beginning, self._publishing) if task is not None]
                if begun:
                    await asyncio.wait(begun)
                if self._beginning is not None:
                    await self._clear_parts()
                if self._publishing is not None:  # the key is new, so nothing else can be there
                    await self._bucket.ask("DELETE", self._path, expected=(204, 200, 404), tries=2)
        except (StoreError, TimeoutError) as error:
            self._log.warning("an upload that broke off may have left parts in the bucket: %s", error)
        finally:
            if self._publishing is not None:
                self._publishing.cancel()

    async def _publish(self, method: str, query: Mapping[str, str] | None = None, **request: Any) -> HttpResponse:
        """The request after which the object is there. Who stops waiting for it does not stop it."""
        self._publishing = asyncio.create_task(self._bucket.ask(method, self._path, query, **request))
        return await asyncio.shield(self._publishing)

    async def _begin(self, part: bytes) -> None:
        await self._count(part)
        if self._beginning is None:
            self._beginning = asyncio.create_task(self._named())
            self._id = await asyncio.shield(self._beginning)
        await self._sent()
        self._sending = asyncio.create_task(self._send(part, len(self._parts) + 1))

    async def _named(self) -> str:
        """A new upload in parts."""
        root = xml((await self._bucket.ask("POST", self._path, {"uploads": ""})).body)
        name = root.findtext("{*}UploadId") if root is not None else None
        if not name:
            raise StoreError("The blob store began an upload without naming it.")
        return str(name)

    async def _clear_parts(self) -> None:
        """Give up every upload of this object, that of a try whose answer was lost too: the key is ours alone."""
        root = xml((await self._bucket.ask("GET", query={"uploads": "", "prefix": self._path}, tries=2)).body)
        for found in root.findall("{*}Upload") if root is not None else ():
            if found.findtext("{*}Key") == self._path:
                query = {"uploadId": found.findtext("{*}UploadId")}
                await self._bucket.ask("DELETE", self._path, query, expected=(204, 200, 404), tries=2)

    async def _count(self, part: bytes) -> None:
        self._size += len(part)
        await asyncio.to_thread(self._hash.update, part)

    async def _sent(self) -> None:
        """The part before has arrived."""
        if self._sending is not None:
            await self._sending
            self._sending = None

    async def _send(self, part: bytes, number: int) -> None:
        query = {"partNumber": str(number), "uploadId": self._id}
        answer = await self._bucket.ask("PUT", self._path, query, body=part)
        self._parts.append(answer.headers.get("etag", ""))

    async def _complete(self) -> None:
        parts = (
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(tag, quote=False)}</ETag></Part>"
            for number, tag in enumerate(self._parts, 1)
        )
        body = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()
        # 404: an earlier try got through, and only its answer was lost; the size tells whether it did.
        answer = await self._publish("POST", {"uploadId": self._id}, body=body, expected=(200, 404))
        if answer.status == 404:
            found = await self._bucket.ask("HEAD", self._path, expected=(200, 404))
            if found.status == 404 or int(found.headers.get("content-length", -1)) != self._size:
                raise StoreError("The blob store forgot an upload before its end.", said="NoSuchUpload")
