"""How much lies in notebooks, and when each was last used."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from sourcebook.callers import Caller
from sourcebook.counting import Counting, Counts
from sourcebook.database.tables import generations, notebooks
from sourcebook.errors import InvalidInput, Malformed
from sourcebook.notebooks import Notebook
from sourcebook.owners import Principal

from .support import Room, both_stores, in_a_room

pytestmark = both_stores


async def counts(room: Room, *of: Notebook, who: Principal | None = None) -> dict[str, Counts]:
    return await Counting(room.book.database).of(who or room.me, [n.id for n in of or (room.notebook,)])


@in_a_room()
async def test_sources_are_counted_by_what_became_of_them(room: Room) -> None:
    other = await room.book.create_notebook(room.me, "Kitchen")
    await room.ready("a.txt", "Roses need water.")
    await room.ready("b.txt", "Herbs need sun.")
    room.jail.error = Malformed("torn")
    await room.add("c.txt", "x")
    await room.work()
    room.jail.error = None
    await room.add("d.txt", "On its way.")
    gone = await room.add("e.txt", "Gone.")
    await room.book.sources.delete(room.me, gone)
    found = await counts(room, room.notebook, other)
    assert found == {room.notebook.id: Counts(4, 2, 1, 1), other.id: Counts()}
    assert await Counting(room.book.database).of(room.me, []) == {}


@in_a_room()
async def test_a_source_that_is_read_again_stays_ready_and_is_counted_once(room: Room) -> None:
    source = await room.ready("a.txt", "Roses need water.")
    await room.book.sources.reparse(room.me, source)
    assert (await counts(room))[room.notebook.id] == Counts(1, 1, 0, 0)
    room.jail.error = Malformed("torn")
    await room.work()
    assert {g["state"] for g in await room.rows(generations)} == {"ready", "failed"}
    assert (await counts(room))[room.notebook.id] == Counts(1, 1, 0, 0)


@in_a_room()
async def test_notes_are_everybodys_and_conversations_the_askers_own(room: Room) -> None:
    other = await room.book.create_notebook(room.me, "Kitchen")
    bob = await room.principal("bob")
    await room.book.notebooks.share(room.me, room.notebook.id, bob.owner_id, "read")
    await room.book.notes.create(room.notebook, "One", "x")
    talk, both = room.book.conversations, [room.notebook.id, other.id]
    await talk.create(room.me, "", both)
    deleted = await talk.create(room.me, "", [room.notebook.id])
    await talk.delete(room.me, deleted.id)
    await talk.create(bob, "", [room.notebook.id])
    found = await counts(room, room.notebook, other)
    assert [(c.notes, c.conversations) for c in found.values()] == [(1, 1), (0, 1)]
    assert (await counts(room, who=bob))[room.notebook.id].conversations == 1
    listed = await talk.listing(room.me, notebook_id=other.id)
    assert [c.notebooks for c in listed.items] == [both]
    assert (await talk.listing(room.me, notebook_id="nb_other")).items == []


@in_a_room()
async def test_a_hundred_notebooks_take_as_many_statements_as_one(room: Room) -> None:
    said: list[str] = []

    def heard(*args: Any) -> None:
        said.append(args[2])

    many = [await room.book.create_notebook(room.me, f"N{n}") for n in range(100)]
    engine = room.book.database._reader.sync_engine
    sa.event.listen(engine, "before_cursor_execute", heard)
    try:
        await counts(room, room.notebook)
        one = len(said)
        await counts(room, *many)
    finally:
        sa.event.remove(engine, "before_cursor_execute", heard)
    assert len(said) == 2 * one


async def age(room: Room, *of: Notebook, hours: float = 1) -> None:
    """As if this had happened some time ago."""
    for notebook in of:
        (row,) = await room.rows(notebooks, notebooks.c.id == notebook.id)
        before = (row["used_at"] or row["updated_at"]) - timedelta(hours=hours)
        await room.change(notebooks, notebooks.c.id == notebook.id, used_at=before)


async def used(room: Room) -> Any:
    return (await room.book.notebooks.get(room.me, room.notebook.id)).used_at


@in_a_room()
async def test_asking_searching_and_changing_are_use_and_looking_is_none(room: Room) -> None:
    caller, notes = Caller(room.book, room.me), room.book.notes
    await age(room, room.notebook)
    before = await used(room)
    await caller.notebook(room.notebook.id)
    await counts(room)
    assert await used(room) == before

    async def ask() -> None:
        run = await caller.ask("water?", [room.notebook.id], grace=0.0)
        async for _ in run.follow():
            pass

    async def delete() -> None:
        await notes.delete(room.me, note.id)

    note = await notes.create(room.notebook, "One", "x")
    for use in (
        lambda: caller.search("water", [room.notebook.id]),
        ask,
        lambda: room.ready("a.txt", "Roses need water."),
        lambda: notes.create(room.notebook, "Two", "x"),
        lambda: notes.edit(room.me, note.id, {"text": "y"}),
        delete,
        lambda: room.book.notebooks.edit(room.me, room.notebook.id, {"title": "Park"}),
    ):
        await age(room, room.notebook)
        before = await used(room)
        await use()
        assert await used(room) > before


@in_a_room()
async def test_questions_within_a_minute_write_once(room: Room) -> None:
    caller = Caller(room.book, room.me)
    await age(room, room.notebook)
    await caller.search("water", [room.notebook.id])
    first = await used(room)
    await caller.search("sun", [room.notebook.id])
    assert await used(room) == first


@in_a_room()
async def test_a_row_of_an_older_schema_was_last_used_when_it_was_edited(room: Room) -> None:
    await room.change(notebooks, used_at=None)
    found = await room.book.notebooks.get(room.me, room.notebook.id)
    assert found.used_at == found.updated_at


@in_a_room()
async def test_a_list_by_last_use_is_read_page_by_page(room: Room) -> None:
    made = [room.notebook, *[await room.book.create_notebook(room.me, f"N{n}") for n in range(6)]]
    for n, notebook in enumerate(made):
        await age(room, notebook, hours=10 * ((n * 3) % 7) + 1)
    at = (await room.book.notebooks.get(room.me, made[1].id)).used_at
    await room.change(notebooks, notebooks.c.id.in_([made[2].id, made[4].id]), used_at=at)  # a tie, over a page's end
    seen, cursor = [], None
    while True:
        page = await room.book.notebooks.listing(room.me, 2, cursor, "used")
        seen += page.items
        if (cursor := page.next_cursor) is None:
            break
    assert [n.id for n in seen] == [n.id for n in sorted(seen, key=lambda n: (n.used_at, n.id), reverse=True)]
    assert {n.id for n in seen} == {n.id for n in made}
    assert len(seen) == len(made)


@in_a_room()
async def test_a_cursor_of_another_order_is_refused(room: Room) -> None:
    await room.book.create_notebook(room.me, "Kitchen")
    for of, to in (("made", "used"), ("used", "made")):
        page = await room.book.notebooks.listing(room.me, 1, None, of)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput):
            await room.book.notebooks.listing(room.me, 1, page.next_cursor, to)  # type: ignore[arg-type]
