"""Stored documents come back as they were, and only to those who may see them."""

from __future__ import annotations

import pytest

from sourcebook.database.engine import now
from sourcebook.database.tables import document_segments, generations, passages, sources
from sourcebook.documents import LONGEST_SEGMENT, SEGMENT, Place, Segment
from sourcebook.errors import NotFound
from sourcebook.interfaces import Scope, ScopedNotebook
from sourcebook.reading import Reading, encode_segment
from sourcebook.segments import join_segments

from .support import Room, both_stores, in_a_room

pytestmark = both_stores

PARAGRAPH = "Ünïcode 😀 words. "
LONG = "\n\n".join(f"{n}: " + PARAGRAPH * 300 for n in range(40))  # over several segments


async def document_id(room: Room, source_id: str) -> str:
    return (await room.source(source_id)).document_id or ""


def scope_of(room: Room, *, spec: str = "") -> Scope:
    n = room.notebook
    return Scope((ScopedNotebook(n.id, n.owner_id, spec or n.index_spec_id),))


@in_a_room()
async def test_every_range_of_a_long_document_reads_as_it_was_written(room: Room) -> None:
    document = await document_id(room, await room.ready("a.txt", LONG))
    segments = await room.book.reading.segments(document)
    whole = join_segments(segments)
    assert len(segments) > 2
    assert whole.text.startswith("0: Ünïcode")
    ranges = [(0, 1), (SEGMENT - 5, SEGMENT + 5), (0, len(whole.text)), (2 * SEGMENT, 2 * SEGMENT + 1), (7, 7)]
    texts = await room.book.reading.texts([(document, start, end) for start, end in ranges])
    assert texts == [whole.text[start:end] for start, end in ranges]
    for start, end in ranges:
        assert await room.book.reading.text(document, start, end) == whole.text[start:end]
        assert await room.book.reading.places(document, start, end) == whole.places(start, end)


@in_a_room()
async def test_a_passage_brings_its_text_and_its_place(room: Room) -> None:
    source_id = await room.ready("a.txt", LONG)
    generation = (await room.source(source_id)).generation_id or ""
    found = await room.book.reading.passages_of(generation, 100)
    document = join_segments(await room.book.reading.segments(found[0].document_id))
    assert [p.ordinal for p in found] == list(range(40))
    for p in found:
        assert p.text == document.text[p.start : p.end]
        assert p.places == (Place(paragraph=p.ordinal + 1),)
        assert p.title == "a.txt"
    assert [p.ordinal for p in await room.book.reading.passages_of(generation, 2, after=7)] == [8, 9]


@in_a_room()
async def test_only_ready_alive_passages_of_the_pinned_spec_are_seen(room: Room) -> None:
    source_id = await room.ready("a.txt", "Roses.\n\nTulips.")
    ids = list(room.index.points)
    seen = room.book.reading.passages

    assert set(await seen([*ids, "no-such-id"], scope_of(room))) == set(ids)
    assert await seen(ids, Scope()) == {}
    assert await seen(ids, scope_of(room, spec="spec_other")) == {}
    other = await room.book.create_notebook(room.me, "Other")
    assert await seen(ids, Scope((ScopedNotebook(other.id, other.owner_id, other.index_spec_id),))) == {}

    await room.change(generations, state="indexing")
    assert await seen(ids, scope_of(room)) == {}
    await room.change(generations, state="ready")
    assert set(await seen(ids, scope_of(room))) == set(ids)
    await room.change(sources, sources.c.id == source_id, deleted_at=now())
    assert await seen(ids, scope_of(room)) == {}


@in_a_room()
async def test_a_document_that_is_not_there_is_not_found(room: Room) -> None:
    with pytest.raises(NotFound):
        await room.book.reading.document("doc_none")
    assert await room.book.reading.text("doc_none", 0, 10) == ""


@in_a_room()
async def test_segments_are_small(room: Room) -> None:
    await room.ready("a.txt", LONG)
    rows = await room.rows(document_segments)
    assert max(len(row["text"]) for row in rows) <= SEGMENT
    assert all(row["end"] - row["start"] == len(row["text"]) for row in rows)


@in_a_room()
async def test_a_passage_far_into_a_segment_as_long_as_earlier_versions_stored_is_found(room: Room) -> None:
    said = "the lamp is green at night"
    text = "x" * (LONGEST_SEGMENT - 40) + said
    reading = Reading(room.book.database)
    generation = (await room.source(await room.ready("a.txt", "The lamp is green."))).generation_id or ""
    (found,) = await reading.passages_of(generation, 2)
    async with room.book.database.write() as c:
        row = encode_segment(Segment(0, len(text), text, (), ()))
        await c.execute(document_segments.update().values(**row))
        near = {"start": LONGEST_SEGMENT - 40, "end": LONGEST_SEGMENT - 40 + len(said)}
        await c.execute(passages.update().where(passages.c.id == found.id).values(**near))
    assert [p.text for p in await reading.passages_of(generation, 2)] == [said]
