"""A full disk, a signal in every stage, damaged bytes: refused by name, and all is well again afterwards."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sourcebook.app import Sourcebook
from sourcebook.configuration import load
from sourcebook.errors import StoreError
from sourcebook.failpoints import NAMES
from sourcebook.testing.llm_server import FakeLLMServer

from .harness import Server, Torture, environment, proof

KILLS = int(os.environ.get("SOURCEBOOK_KILLS", "4"))

pytestmark = proof

FULL = """
import asyncio, resource, sys
from pathlib import Path
from sourcebook.app import Sourcebook
from sourcebook.configuration import load
from sourcebook.doctor import examine
from sourcebook.errors import SourcebookError

HARD = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

async def text(n):
    yield f"Number {n}.\\n\\n".encode() + b"High water comes at six. " * 400

async def main(folder, steps, pages):
    settings = {"storage": {"path": folder}, "jobs": {"backoff": 0.1, "poll": 0.1, "attempts": 1000},
                "retrievers": {"qdrant": {"idle_seconds": 0}}}
    async with Sourcebook(load(environ={}, overrides=settings)) as book:
        me = await book.owners.local()
        notebook = await book.create_notebook(me, "n")
        accepted, refused = [], 0

        async def ready(ids):
            for i in ids:
                while (await book.sources.get(me, i)).state != "ready":
                    await asyncio.sleep(0.05)

        accepted.append((await book.sources.accept(notebook, "warm.txt", text(0)))[0])
        await ready(accepted)
        wal = Path(folder) / "sourcebook.db-wal"
        for n in range(1, steps):
            # Of a file of so many bytes the n-th page is one too many; below 3, so are the source's own bytes.
            limit = 4096 * n if n < 3 else (wal.stat().st_size if wal.exists() else 0) + 4096 * pages * (n - 3)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, HARD))
            try:
                accepted.append((await book.sources.accept(notebook, f"{n}.txt", text(n)))[0])
            except SourcebookError as error:
                assert error.problem_code == "storage_full", error.problem()
                refused += 1
            await asyncio.sleep(0.05)
            assert len((await book.sources.listing(me, notebook.id, 100)).items) == len(accepted)  # reads go on
            resource.setrlimit(resource.RLIMIT_FSIZE, (HARD, HARD))
        await asyncio.wait_for(ready(accepted), 60)
        assert len((await book.sources.listing(me, notebook.id, 100)).items) == len(accepted)
        findings = [f async for f in examine(book) if not f.ok and f.check != "disk"]
        assert not findings, findings
        print(len(accepted), refused)

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_disk_that_is_full_at_the_nth_write_is_named_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Every n with SOURCEBOOK_KILLS=50 and more; every fourth in the ordinary run."""
    steps, pages = ("60", "1") if KILLS >= 50 else ("15", "4")
    command = [sys.executable, "-c", FULL, str(tmp_path / "data"), steps, pages]
    run = subprocess.run(command, capture_output=True, text=True, timeout=380, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    accepted, refused = map(int, run.stdout.split())
    assert refused >= 3
    assert accepted >= 3


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sigterm_in_every_stage_ends_well_and_what_was_being_done_goes_on_afterwards(tmp_path: Path) -> None:
    """Each stage with SOURCEBOOK_KILLS=50 and more; two of them in the ordinary run."""
    names = NAMES if KILLS >= 50 else ("parse.parsed", "index.upserted")
    with FakeLLMServer() as fake:
        server = Server(tmp_path, environment(tmp_path, fake, SOURCEBOOK_SERVER__SHUTDOWN_GRACE="4"))
        torture = Torture(server, 5, fake)
        try:
            torture.begin()
            for _ in range(8):
                torture.operate()
            server.client.timeout = 4
            for name in names:
                server.terminate()
                torture.counts["deaths: term"] += 1
                server.start(f"{name}=pause:1")
                for _ in range(3):
                    torture.operate()
                time.sleep(0.3)
                began = time.monotonic()
                assert server.terminate() == 0
                assert time.monotonic() - began < 30
                # What had been sent to the embedder, and was not answered in time, is sent again.
                torture.counts["deaths: term"] += 1
                server.start()
                torture.check()
            server.client.timeout = 15
            torture.settle()
        finally:
            server.close()


# Damaged bytes.


async def _one(book: Sourcebook, text: bytes) -> str:
    async def chunks() -> AsyncIterator[bytes]:
        yield text

    notebook = await book.create_notebook(await book.owners.local(), "n")
    return (await book.sources.accept(notebook, "a.txt", chunks()))[0]


def _settings(folder: Path) -> dict[str, object]:
    return {"storage": {"path": str(folder)}, "retrievers": {"qdrant": {"idle_seconds": 0}}}


def test_a_source_whose_stored_bytes_were_changed_is_not_read(tmp_path: Path) -> None:
    async def main() -> None:
        configuration = load(environ={}, overrides=_settings(tmp_path))
        async with Sourcebook(configuration, workers=0) as book:
            source_id = await _one(book, b"High water comes at six.")
            me = await book.owners.local()
            async with book.blobs.local((await book.sources.get(me, source_id)).blob_key) as path:
                path.write_bytes(b"High water comes at ten.")
        async with Sourcebook(configuration) as book:
            me = await book.owners.local()
            while (source := await book.sources.get(me, source_id)).state != "failed":
                await asyncio.sleep(0.02)
            assert (source.problem or {})["code"] == "blob_damaged"

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_damaged_database_page_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        configuration = load(environ={}, overrides=_settings(tmp_path))
        async with Sourcebook(configuration, workers=0) as book:
            for n in range(30):
                await _one(book, f"Number {n}. ".encode() * 200)
        path = tmp_path / "sourcebook.db"
        data = bytearray(path.read_bytes())
        for page in range(1, len(data) // 4096):  # every page but the first, which says what the file is
            data[page * 4096 : page * 4096 + 8] = b"\xff" * 8
        path.write_bytes(data)
        for name in ("sourcebook.db-wal", "sourcebook.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        with pytest.raises(StoreError) as caught:
            async with Sourcebook(configuration, workers=0) as book:
                await book.sources.listing(await book.owners.local(), "nb_x")
        assert caught.value.problem_code == "database_damaged"
        assert "restore" in caught.value.remedy

    asyncio.run(asyncio.wait_for(main(), 60))
