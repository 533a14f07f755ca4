"""What every blob store must do. Subclass `BlobStoreContract` in a test module, and pytest runs it on yours."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from sourcebook.errors import BlobMissing, StoreError
from sourcebook.interfaces import BlobStore, Context
from sourcebook.testing.deadlines import Timely

if TYPE_CHECKING:
    from sourcebook.http import Http

Use = Callable[[BlobStore[Any]], Awaitable[None]]


async def chunked(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """`data` as an upload brings it: in pieces of `size` bytes, with other work in between."""
    for start in range(0, len(data), size):
        await asyncio.sleep(0)
        yield data[start : start + size]


async def content(store: BlobStore[Any], key: str, start: int = 0, end: int | None = None) -> bytes:
    """All bytes of a blob, or those of `[start, end)`."""
    return b"".join([chunk async for chunk in await store.read(key, start, end)])


async def local(store: BlobStore[Any], key: str) -> bytes:
    """All bytes of a blob, from its file on this machine."""
    async with store.local(key) as path:
        return path.read_bytes()


async def keys(store: BlobStore[Any]) -> list[str]:
    """Every key, sorted."""
    return sorted([key async for key in store.list()])


class BlobStoreContract(Timely):
    """The suite. A subclass gives `store`; it overrides `context` where its store needs more than a folder and a log.

        class TestMine(BlobStoreContract):
            def store(self) -> BlobStore:
                return Mine(Mine.Settings())

    Each test opens a new store on an empty folder and closes it. A store that is elsewhere must be empty then.
    """

    data = bytes(range(256)) * 3000  # more than one chunk of any store

    def store(self) -> BlobStore[Any]:
        """A store that is not open yet."""
        raise NotImplementedError

    def context(self, folder: Path) -> Context:
        """What it is opened with."""
        return Context(log=logging.getLogger("blobs"), folder=folder, http=cast("Http", None))

    def run(self, folder: Path, use: Use) -> None:
        """Open a store, `use` it, close it."""

        async def main() -> None:
            store = self.store()
            try:
                await store.open(self.context(folder))
                await use(store)
            finally:
                await store.close()

        self._run(f"The store {type(self).__name__!r}", main())

    @pytest.mark.parametrize("size", [0, 1, 4096, 768_000])
    def test_what_is_put_is_read_back(self, tmp_path: Path, size: int) -> None:
        async def use(store: BlobStore[Any]) -> None:
            blob = await store.put("src_1", chunked(self.data[:size]))
            assert blob.key == "src_1"
            assert await content(store, "src_1") == self.data[:size]
            assert await store.size("src_1") == blob.size == size
            async with store.local("src_1") as path:
                assert path.read_bytes() == self.data[:size]

        self.run(tmp_path, use)

    def test_the_hash_is_the_sha256_of_the_bytes(self, tmp_path: Path) -> None:
        async def use(store: BlobStore[Any]) -> None:
            blob = await store.put("src_1", chunked(self.data, 777))
            assert blob.sha256 == hashlib.sha256(self.data).hexdigest()

        self.run(tmp_path, use)

    @pytest.mark.parametrize(
        ("start", "end"), [(0, 1), (5, 5), (100, 300_000), (767_999, 768_000), (700_000, None), (768_000, None)]
    )
    def test_a_range_is_read_alone(self, tmp_path: Path, start: int, end: int | None) -> None:
        async def use(store: BlobStore[Any]) -> None:
            await store.put("src_1", chunked(self.data, 50_000))
            assert await content(store, "src_1", start, end) == self.data[start:end]

        self.run(tmp_path, use)

    def test_a_range_is_cut_at_the_end_of_the_blob(self, tmp_path: Path) -> None:
        async def use(store: BlobStore[Any]) -> None:
            await store.put("src_1", chunked(b"0123456789"))
            assert await content(store, "src_1", 7, 99) == b"789"
            assert await content(store, "src_1", 50, 99) == b""

        self.run(tmp_path, use)

    def test_the_same_key_again_replaces(self, tmp_path: Path) -> None:
        async def use(store: BlobStore[Any]) -> None:
            await store.put("src_1", chunked(b"before"))
            await store.put("src_1", chunked(b"after it"))
            assert await content(store, "src_1") == b"after it"
            assert await keys(store) == ["src_1"]

        self.run(tmp_path, use)

    def test_a_broken_upload_leaves_nothing(self, tmp_path: Path) -> None:
        async def breaking() -> AsyncIterator[bytes]:
            yield self.data
            raise ConnectionError("the client is gone")

        async def use(store: BlobStore[Any]) -> None:
            with pytest.raises(ConnectionError):
                await store.put("src_1", breaking())
            await self.check_absent(store, "src_1")

        self.run(tmp_path, use)

    def test_a_cancelled_upload_leaves_nothing(self, tmp_path: Path) -> None:
        async def use(store: BlobStore[Any]) -> None:
            waits = asyncio.Event()

            async def stuck() -> AsyncIterator[bytes]:
                yield self.data
                waits.set()
                await asyncio.Event().wait()

            task = asyncio.ensure_future(store.put("src_1", stuck()))
            await waits.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await self.check_absent(store, "src_1")

        self.run(tmp_path, use)

    def test_an_upload_is_not_seen_before_it_is_whole(self, tmp_path: Path) -> None:
        async def use(store: BlobStore[Any]) -> None:
            async def watched() -> AsyncIterator[bytes]:
                for _ in range(3):
                    yield self.data
                    await self.check_absent(store, "src_1")

            await store.put("src_1", watched())
            assert await store.size("src_1") == 3 * len(self.data)

        self.run(tmp_path, use)

    def test_a_broken_upload_leaves_the_blob_that_it_would_replace(self, tmp_path: Path) -> None:
        async def breaking() -> AsyncIterator[bytes]:
            yield b"half"
            raise ConnectionError("the client is gone")

        async def use(store: BlobStore[Any]) -> None:
            await store.put("src_1", chunked(b"before"))
            with pytest.raises(ConnectionError):
                await store.put("src_1", breaking())
            assert await content(store, "src_1") == b"before"

        self.run(tmp_path, use)

    def test_delete_removes_one_blob_and_may_be_repeated(self, tmp_path: Path) -> None:
        async def use(store: BlobStore[Any]) -> None:
            await store.put("src_1", chunked(b"one"))
            await store.put("src_2", chunked(b"two"))
            for _ in range(2):
                await store.delete("src_1")
                await self.check_absent(store, "src_1")
            assert await content(store, "src_2") == b"two"

        self.run(tmp_path, use)

    def test_list_gives_every_key_once(self, tmp_path: Path) -> None:
        names = [f"src_{i:03}" for i in range(30)] + ["a", "x_y", "0"]

        async def use(store: BlobStore[Any]) -> None:
            assert await keys(store) == []
            await asyncio.gather(*(store.put(name, chunked(name.encode())) for name in names))
            assert await keys(store) == sorted(names)
            assert [await content(store, name) for name in names] == [name.encode() for name in names]

        self.run(tmp_path, use)

    def test_a_missing_blob_raises_before_the_first_chunk(self, tmp_path: Path) -> None:
        async def use(store: BlobStore[Any]) -> None:
            await self.check_absent(store, "src_1")

        self.run(tmp_path, use)

    @pytest.mark.parametrize("key", ["", ".", "..", "a/b", "../a", "A", "a.b", "a b", "é", "a\n", "a\x00"])
    def test_a_key_that_is_not_ours_is_refused(self, tmp_path: Path, key: str) -> None:
        def uses(store: BlobStore[Any]) -> Iterable[Awaitable[object]]:
            yield store.put(key, chunked(b"x"))
            yield content(store, key)
            yield store.size(key)
            yield local(store, key)
            yield store.delete(key)

        async def use(store: BlobStore[Any]) -> None:
            for call in uses(store):
                with pytest.raises((ValueError, StoreError)):
                    await call
            assert await keys(store) == []

        self.run(tmp_path, use)

    def test_blobs_outlive_the_store(self, tmp_path: Path) -> None:
        async def write(store: BlobStore[Any]) -> None:
            await store.put("src_1", chunked(b"kept"))

        async def read(store: BlobStore[Any]) -> None:
            assert await content(store, "src_1") == b"kept"
            await store.delete("src_1")

        self.run(tmp_path, write)
        self.run(tmp_path, read)

    async def check_absent(self, store: BlobStore[Any], key: str) -> None:
        """Nothing at `key`, by any call."""
        assert key not in await keys(store)
        for call in (content(store, key), store.size(key), local(store, key)):
            with pytest.raises(BlobMissing):
                await call
