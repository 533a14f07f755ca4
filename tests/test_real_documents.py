"""Real files through a real Sourcebook: the jail, the index process and SQLite as they are deployed.

SOURCEBOOK_EVAL_DATA names a folder with `documents/` (of every format). Without it these tests are skipped: the files
have other people's licences, and are not shipped. Hostile ones are in `tests/hostile`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from sourcebook.accepting import chunks_of
from sourcebook.app import Sourcebook
from sourcebook.configuration import load
from sourcebook.documents import Passage
from sourcebook.owners import Principal
from sourcebook.sources import Source

DATA = os.environ.get("SOURCEBOOK_EVAL_DATA", "")
READ = (".pdf", ".docx", ".md", ".txt", ".pptx", ".xlsx", ".html", ".csv", ".epub", ".odt", ".eml")
# How reading may fail, each with a sentence that says what to do. A parser that died is a bug, whatever the file.
STATED = {
    "corrupt",
    "encrypted",
    "nested_too_deeply",
    "no_text",
    "no_text_layer",
    "out_of_memory",
    "text_too_long",
    "timeout",
    "too_large_unpacked",
    "too_many_members",
    "too_many_pages",
    "unsupported_type",
}
WALL = 20  # seconds for one file: no file may take the test's whole time

pytestmark = [
    pytest.mark.skipif(not DATA, reason="SOURCEBOOK_EVAL_DATA names no folder of real documents"),
    pytest.mark.slow,
]


def files_in(folder: str, suffixes: Sequence[str]) -> list[Path]:
    found = sorted(p for p in (Path(DATA) / folder).rglob("*") if p.suffix in suffixes and p.is_file())
    # What another tool read from the same documents is no document of its own.
    return [p for p in found if "reference_text" not in p.parts and p.name != "SOURCES.md"]


def settled(folder: Path, files: Sequence[Path], check: Callable[[Room], Awaitable[None]]) -> None:
    """Ingest `files` and wait for all of them, and for what was found inside of them; then look."""

    async def run() -> None:
        overrides = {
            "storage": {"path": str(folder)},
            "jail": {"wall": WALL},
            "retrievers": {"qdrant": {"idle_seconds": 0}},
        }
        async with Sourcebook(load(environ={}, overrides=overrides)) as book:
            who = await book.owners.local()
            notebook = await book.create_notebook(who, "real documents")
            for file in files:
                await book.sources.accept(notebook, file.name, chunks_of(file))
            room = Room(book, who, notebook.id)
            while any(source.state not in ("ready", "failed") for source in await room.sources()):
                await asyncio.sleep(0.2)
            await check(room)

    asyncio.run(run())


class Room:
    """One notebook and whoever may read it."""

    def __init__(self, book: Sourcebook, who: Principal, notebook_id: str) -> None:
        self.book = book
        self._who = who
        self._notebook_id = notebook_id

    async def sources(self) -> list[Source]:
        found, cursor = [], None
        while True:
            page = await self.book.sources.listing(self._who, self._notebook_id, 100, cursor)
            found += page.items
            if (cursor := page.next_cursor) is None:
                return found

    async def passages(self, source: Source) -> list[Passage]:
        assert source.generation_id is not None
        return await self.book.reading.passages_of(source.generation_id, 100_000)


def stated(sources: Sequence[Source]) -> dict[str, str]:
    """Name -> how it failed, for every source that is neither ready nor failed as a file may fail."""
    return {
        s.name: f"{s.state}: {s.problem}"
        for s in sources
        if s.state != "ready" and (s.state != "failed" or (s.problem or {}).get("code") not in STATED)
    }


def test_real_documents_are_read_to_the_character(tmp_path: Path) -> None:
    files = files_in("documents", READ)
    assert len(files) > 40, f"{DATA}/documents should hold some dozens of files"

    async def check(room: Room) -> None:
        sources = await room.sources()
        assert stated(sources) == {}
        assert len([s for s in sources if s.parent_id is None]) == len(files)
        ready = [s for s in sources if s.state == "ready"]
        assert len(ready) > 0.8 * len(files)
        for source in ready:
            await exact(room, source)

    settled(tmp_path, files, check)


async def exact(room: Room, source: Source) -> None:
    """Every passage is its range of the document's text; a PDF's says on which page and where on it that stands."""
    assert source.document_id is not None
    segments = await room.book.reading.segments(source.document_id)
    text = "".join(segment.text for segment in segments)
    passages = await room.passages(source)
    assert len(passages) == source.passages > 0, source.name
    covered = bytearray(len(text))
    for passage in passages:
        assert passage.text == text[passage.start : passage.end], (source.name, passage.ordinal)
        covered[passage.start : passage.end] = b"\1" * (passage.end - passage.start)
        if source.media_type == "application/pdf":
            assert any(place.page and place.box for place in passage.places), (source.name, passage.ordinal)
    left_out = [i for i, c in enumerate(text) if not covered[i] and not c.isspace()]
    assert left_out == [], (source.name, text[left_out[0] : left_out[0] + 40] if left_out else "")
