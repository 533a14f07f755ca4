from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from sourcebook.errors import BlobMissing, StoreError
from sourcebook.interfaces import BlobStore, Context
from sourcebook.testing.blob_stores import BlobStoreContract, chunked, content, keys
from sourcebook_plugins.files import CHUNK, Files, FilesSettings


class TestFiles(BlobStoreContract):
    def store(self) -> BlobStore[Any]:
        return Files(FilesSettings())


class TestFilesElsewhere(BlobStoreContract):
    def store(self) -> BlobStore[Any]:
        return Files(FilesSettings(folder="deeper/blobs"))


async def opened(folder: Path) -> Files:
    store = Files(FilesSettings())
    await store.open(Context(log=logging.getLogger("blobs"), folder=folder, http=cast(Any, None)))
    return store


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_blob_is_one_private_file_in_the_folder_of_its_last_two_characters(tmp_path: Path) -> None:
    async def main() -> None:
        store = await opened(tmp_path)
        await store.put("src_abc", chunked(b"x"))

    asyncio.run(main())
    assert files_below(tmp_path) == ["bc/src_abc"]
    assert stat.S_IMODE((tmp_path / "bc/src_abc").stat().st_mode) == 0o600


def test_reading_gives_chunks_of_256_kib(tmp_path: Path) -> None:
    async def main() -> None:
        store = await opened(tmp_path)
        await store.put("a", chunked(bytes(2 * CHUNK + 7), CHUNK))
        assert [len(chunk) async for chunk in await store.read("a")] == [CHUNK, CHUNK, 7]
        assert [len(chunk) async for chunk in await store.read("a", 1, CHUNK + 2)] == [CHUNK, 1]

    asyncio.run(main())


@pytest.mark.parametrize("delay", range(0, 24, 2))
def test_a_cancellation_at_any_moment_leaves_a_whole_blob_or_nothing(tmp_path: Path, delay: int) -> None:
    data = os.urandom(1_500_000)

    async def main() -> None:
        store = await opened(tmp_path)
        task = asyncio.ensure_future(store.put("a", chunked(data, 400_000)))
        for _ in range(delay):
            await asyncio.sleep(0.0005)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            assert files_below(tmp_path) == []
        else:
            assert await content(store, "a") == data

    asyncio.run(main())


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file of this process can grow over 100 KB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        store = await opened(tmp_path)
        with pytest.raises(StoreError) as raised:
            await store.put("a", chunked(bytes(200_000), 50_000))
        assert raised.value.problem_code == "storage_full"
        assert raised.value.transient
        await store.put("b", chunked(b"still works"))

    asyncio.run(main())
    assert files_below(tmp_path) == ["b/b"]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_fault_at_any_step_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def main() -> None:
        store = await opened(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(Path if call == "replace" else os, call, full)
            with pytest.raises(StoreError) as raised:
                await store.put("a", chunked(b"some bytes"))
        assert raised.value.problem_code == "storage_full"
        assert await keys(store) == []

    asyncio.run(main())
    assert files_below(tmp_path) == []


def test_a_fault_after_the_rename_takes_the_name_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[str] = []

    def broken(folder: Path) -> None:
        folders.append(folder.name)
        if folder.name == "a":
            raise OSError(errno.EIO, "Input/output error")

    async def main() -> None:
        store = await opened(tmp_path)
        monkeypatch.setattr("sourcebook_plugins.files._sync", broken)
        with pytest.raises(StoreError) as raised:
            await store.put("a", chunked(b"some bytes"))
        assert raised.value.problem_code == "store_failed"

    asyncio.run(main())
    assert folders[:2] == [tmp_path.name, "a"]
    assert files_below(tmp_path) == []


def test_the_file_is_synced_before_its_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def seen_fsync(fd: int) -> None:
        steps.append("sync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync file")
        fsync(fd)

    def seen_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    async def main() -> None:
        store = await opened(tmp_path)
        await store.put("x_ab", chunked(b"1"))
        monkeypatch.setattr(os, "fsync", seen_fsync)
        monkeypatch.setattr(Path, "replace", seen_replace)
        await store.put("y_ab", chunked(b"2"))
        assert steps == ["sync file", "rename", "sync folder"]
        steps.clear()
        await store.delete("y_ab")
        assert steps == ["sync folder"]

    asyncio.run(main())


def test_a_blob_that_goes_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    async def main() -> None:
        store = await opened(tmp_path)
        data = os.urandom(3 * CHUNK)
        await store.put("a", chunked(data, CHUNK))
        chunks = await store.read("a")
        first = await anext(chunks)
        await store.delete("a")
        assert first + b"".join([chunk async for chunk in chunks]) == data

    asyncio.run(main())


def test_a_blob_that_is_cut_while_it_is_read_is_missing(tmp_path: Path) -> None:
    async def main() -> None:
        store = await opened(tmp_path)
        await store.put("a", chunked(bytes(2 * CHUNK), CHUNK))
        chunks = await store.read("a")
        await anext(chunks)
        async with store.local("a") as path:
            os.truncate(path, CHUNK)
        with pytest.raises(BlobMissing):
            await anext(chunks)

    asyncio.run(main())


def test_open_clears_away_old_unfinished_files_and_no_young_ones(tmp_path: Path) -> None:
    incoming = tmp_path / ".incoming"
    incoming.mkdir()
    (incoming / "old.part").write_bytes(b"x")
    (incoming / "young.part").write_bytes(b"x")
    os.utime(incoming / "old.part", (1e9, 1e9))

    async def main() -> None:
        assert await keys(await opened(tmp_path)) == []

    asyncio.run(main())
    assert files_below(tmp_path) == [".incoming/young.part"]


KILLED = """
import asyncio, logging, os, signal, sys
from pathlib import Path
from sourcebook.interfaces import Context
from sourcebook_plugins.files import Files, FilesSettings

async def chunks():
    yield bytes(3_000_000)
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    store = Files(FilesSettings())
    await store.open(Context(log=logging.getLogger(), folder=Path(sys.argv[1]), http=None))
    await store.put("a", chunks())

asyncio.run(main())
"""


def test_a_process_killed_in_an_upload_leaves_no_blob(tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert died.returncode == -signal.SIGKILL

    async def main() -> None:
        store = await opened(tmp_path)
        assert await keys(store) == []
        with pytest.raises(BlobMissing):
            await store.size("a")

    asyncio.run(main())


def test_uploads_and_reads_run_side_by_side(tmp_path: Path) -> None:
    async def main() -> None:
        store = await opened(tmp_path)
        order: list[str] = []

        async def slow() -> AsyncIterator[bytes]:
            yield b"1"
            while "fast" not in order:
                await asyncio.sleep(0)
            yield b"2"

        async def put(name: str, chunks: AsyncIterator[bytes]) -> None:
            await store.put(name, chunks)
            order.append(name)

        await asyncio.gather(put("slow", slow()), put("fast", chunked(b"x")))
        assert order == ["fast", "slow"]
        assert await content(store, "slow") == b"12"

    asyncio.run(main())
