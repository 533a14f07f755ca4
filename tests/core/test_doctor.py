"""What `doctor` says of stores that do not agree: every planted difference is found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from sourcebook.app import Sourcebook
from sourcebook.configuration import Configuration, load
from sourcebook.doctor import Finding, examine
from sourcebook.ids import passage_id
from sourcebook.interfaces import Point, Scope, ScopedNotebook


async def _bytes() -> AsyncIterator[bytes]:
    yield b"The lamp is lit at dusk.\n\nIt burns until dawn."


async def _findings(book: Sourcebook) -> dict[str, Finding]:
    return {f.check: f async for f in examine(book)}


def test_every_planted_difference_is_found(tmp_path: Path) -> None:
    asyncio.run(_plant(load(environ={}, overrides={"storage": {"path": str(tmp_path)}})))


async def _plant(configuration: Configuration) -> None:
    async with Sourcebook(configuration) as book:
        me = await book.owners.local()
        notebook = await book.create_notebook(me, "n")
        source_id, _ = await book.sources.accept(notebook, "a.txt", _bytes())
        while (source := await book.sources.get(me, source_id)).state != "ready":
            await asyncio.sleep(0.02)
        assert all(f.ok for f in (await _findings(book)).values())

        # A point that SQL knows nothing of.
        scope = Scope((ScopedNotebook(notebook.id, me.owner_id, notebook.index_spec_id),))
        stray = passage_id("gen_stray", 0)
        index = book.pipelines.indexes[0]
        point = Point(stray, me.owner_id, notebook.id, notebook.index_spec_id, "src_x", "gen_stray", "stray")
        await index.upsert(scope, [point], None)
        found = (await _findings(book))["index"]
        assert not found.ok
        assert found.data["orphans"] == {"qdrant": [stray]}
        await index.delete(scope, "src_x")

        # A passage without its point, and a file cut short.
        await index.delete(scope, source_id)
        blob = await book.blobs.local(source.blob_key)
        blob.chmod(0o600)
        blob.write_bytes(b"The lamp")
        found = (await _findings(book))["index"]
        assert found.data["missing"]["qdrant"] == [
            p.id for p in await book.reading.passages_of(str(source.generation_id), 9)
        ]
        assert (await _findings(book))["blobs"].data == {source_id: "8 of 46 bytes"}
