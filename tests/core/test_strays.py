"""Bytes of uploads that died before their row: removed, and no others."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from sourcebook.database.engine import now
from sourcebook.database.tables import sources
from sourcebook.ids import first_id_at, new_id
from sourcebook.strays import stray_blobs, sweep

from .support import Room, both_stores, in_a_room, pieces

pytestmark = both_stores
OLD = first_id_at("blob", now() - timedelta(hours=1))


@in_a_room()
async def test_what_nobody_names_is_removed_and_what_is_named_stays(room: Room) -> None:
    await room.ready("a.txt", "One paragraph.")
    young = new_id("blob")
    for key in (OLD, young):
        await room.blobs.put(key, pieces(b"left"))
    assert await stray_blobs(room.book.database, room.blobs, 60) == {OLD}
    named = {row["blob_key"] for row in await room.rows(sources)}
    assert await sweep(room.book.database, room.blobs, 0.05) == 2
    assert set(room.blobs.blobs) == named


@in_a_room()
async def test_a_long_upload_whose_row_comes_between_two_looks_keeps_its_bytes(room: Room) -> None:
    """Its key was made when it began, so its age alone says nothing."""
    source_id = await room.ready("a.txt", "One paragraph.")
    await room.blobs.put(OLD, pieces(b"left"))
    sweeping = asyncio.create_task(sweep(room.book.database, room.blobs, 0.5))
    await asyncio.sleep(0.2)
    await room.change(sources, blob_key=OLD)
    await sweeping
    assert OLD in room.blobs.blobs
    assert (await room.source(source_id)).blob_key == OLD
