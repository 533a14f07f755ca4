"""Where bytes come from and where they are kept: fetchers and blob stores."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from sourcebook.interfaces.components import Component, S


@dataclass(frozen=True)
class Fetched:
    """What a fetcher learned beside the bytes it wrote. `url` is the last one, after redirects."""

    url: str
    media_type: str
    name: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Fetcher(Component[S]):
    """Gets a source from an address. `schemes` are lower case, without the colon."""

    schemes: ClassVar[tuple[str, ...]]

    @abstractmethod
    async def fetch(self, url: str, file: BinaryIO) -> Fetched:
        """Write the bytes to `file`. Raises `FetchError`; code `fetch_blocked` where the address is not allowed."""


@dataclass(frozen=True)
class Blob:
    """A stored file: lower-case hex SHA-256 and size in bytes of what was written."""

    key: str
    sha256: str
    size: int


class BlobStore(Component[S]):
    """Keeps the sources' bytes.

    A key is ours (never a user's file name), is new with each blob, and matches `[a-z0-9_]+`.
    """

    @abstractmethod
    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> Blob:
        """Store all chunks, hashed on the way, durable when this returns; a broken upload leaves nothing."""

    @abstractmethod
    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Await it, then iterate: the bytes `[start, end)`. Raises `BlobMissing` before the first chunk."""

    @abstractmethod
    async def size(self, key: str) -> int:
        """In bytes. Raises `BlobMissing`."""

    @abstractmethod
    def local(self, key: str) -> AbstractAsyncContextManager[Path]:
        """`async with`: a path on this machine that holds the bytes, for as long as the context lasts.

        A store that is elsewhere copies them, and removes its copy at the end: what is deleted is gone from here too.
        To be read, never written. Raises `BlobMissing`.
        """

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Remove it; nothing to remove is success."""

    @abstractmethod
    def list(self) -> AsyncIterator[str]:
        """Every key."""
