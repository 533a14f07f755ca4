"""A whole installation whose files are in a bucket: read, shown, backed up, restored, checked, deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fpdf import FPDF

from sourcebook.app import Sourcebook
from sourcebook.backup import read_backup, write_backup
from sourcebook.configuration import load
from sourcebook.doctor import examine
from sourcebook.errors import StoreError
from sourcebook.notebooks import Notebook
from tests.s3 import S3Server, running


def settings(s3: S3Server, bucket: str, folder: Path) -> dict[str, Any]:
    instance = {"use": "s3", "bucket": bucket, "endpoint": s3.address, "prefix": "sources", "tries": 1}
    keys = {"access_key_id": "test", "secret_access_key": "a secret of the tests"}
    return {
        "storage": {"path": str(folder), "blobs": "bucket"},
        "blob_stores": {"bucket": instance | keys},
        "jobs": {"backoff": 0.05, "poll": 0.05, "attempts": 1000},
        "retrievers": {"qdrant": {"idle_seconds": 0}},
    }


def a_pdf() -> bytes:
    pdf = FPDF()
    pdf.add_page()
    pdf.set_font("helvetica", size=12)
    pdf.multi_cell(0, 8, "The lighthouse keeper logs the tide at six every morning.")
    return bytes(pdf.output())


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def ready(book: Sourcebook, me: Any, notebook: Notebook, name: str, data: bytes) -> str:
    source_id = (await book.sources.accept(notebook, name, once(data)))[0]
    while (await book.sources.get(me, source_id)).state != "ready":
        await asyncio.sleep(0.02)
    return source_id


async def clean(book: Sourcebook) -> list[str]:
    return [f"{f.check}: {f.detail}" async for f in examine(book) if not f.ok and f.check not in ("disk", "folder")]


@pytest.mark.slow
def test_files_in_a_bucket_are_read_shown_backed_up_restored_and_deleted(s3: S3Server, tmp_path: Path) -> None:
    first, second = s3.bucket(), s3.bucket()
    backup = tmp_path / "all.zip"

    async def main() -> None:
        async with Sourcebook(load(environ={}, overrides=settings(s3, first, tmp_path / "one"))) as book:
            me = await book.owners.local()
            notebook = await book.create_notebook(me, "n")
            source_id = await ready(book, me, notebook, "log.pdf", a_pdf())
            source = await book.sources.get(me, source_id)
            assert s3.objects(first) == [f"sources/{source.blob_key}"]
            assert (await book.pages.image(source, 1)).startswith(b"\x89PNG")
            assert (await write_backup(book, backup))["blobs"] == 1
            assert await clean(book) == []

        configuration = load(environ={}, overrides=settings(s3, second, tmp_path / "two"))
        assert (await read_backup(configuration, backup))["blobs"] == 1
        assert s3.objects(second) == s3.objects(first)
        async with Sourcebook(configuration) as other:
            me = await other.owners.local()
            found = await other.search(me, "When is the tide logged?", [notebook.id])
            while not found.passages:  # the index is built again
                await asyncio.sleep(0.05)
                found = await other.search(me, "When is the tide logged?", [notebook.id])
            await other.sources.delete(me, source_id)
            while s3.objects(second):
                await asyncio.sleep(0.05)
            assert await clean(other) == []

    asyncio.run(asyncio.wait_for(main(), 100))
    assert not list(tmp_path.rglob("copies-*"))


@pytest.mark.slow
def test_a_bucket_that_is_down_refuses_uploads_and_the_queue_waits_for_it(tmp_path: Path) -> None:
    async def main(s3: S3Server) -> None:
        bucket = s3.bucket()
        async with Sourcebook(load(environ={}, overrides=settings(s3, bucket, tmp_path))) as book:
            me = await book.owners.local()
            notebook = await book.create_notebook(me, "n")
            await ready(book, me, notebook, "a.txt", b"High water comes at six.")
            s3.kill()
            with pytest.raises(StoreError) as raised:
                await book.sources.accept(notebook, "b.txt", once(b"Low water comes at noon."))
            assert raised.value.problem_code == "blob_store_unreachable"
            found = await book.search(me, "When is high water?", [notebook.id])
            assert found.passages  # what is read already needs no file
            s3.start()
            s3.make(bucket)
            await ready(book, me, notebook, "b.txt", b"Low water comes at noon.")
            assert [f.check async for f in examine(book) if not f.ok and f.check != "disk"] == [
                "blobs"
            ]  # it forgot a.txt

    for server in running():
        asyncio.run(asyncio.wait_for(main(server), 100))
