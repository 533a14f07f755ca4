"""Notebooks: whose they are, who else may, and what a request may see."""

from __future__ import annotations

import pytest

from sourcebook.database.tables import index_specs
from sourcebook.errors import ConfigError, Conflict, InvalidInput, NotFound

from .support import Room, both_stores, in_a_room

pytestmark = both_stores


@in_a_room()
async def test_what_is_somebody_elses_does_not_exist(room: Room) -> None:
    bob, notebooks = await room.principal("bob"), room.book.notebooks
    for attempt in (
        notebooks.get(bob, room.notebook.id),
        notebooks.edit(bob, room.notebook.id, {"title": "mine"}),
        notebooks.share(bob, room.notebook.id, bob.owner_id, "write"),
        notebooks.scope(bob, [room.notebook.id]),
        room.book.search(bob, "q", [room.notebook.id]),
        room.book.ask(bob, "q", [room.notebook.id]),
        room.book.sources.delete_notebook(bob, room.notebook),
    ):
        with pytest.raises(NotFound) as caught:
            await attempt
        assert caught.value.detail == f"There is no notebook {room.notebook.id}."
    assert await notebooks.find(bob, "Garden") is None
    assert (await notebooks.listing(bob)).items == []


@in_a_room()
async def test_a_grant_lets_another_owner_read_and_not_write(room: Room) -> None:
    bob, notebooks = await room.principal("bob"), room.book.notebooks
    source = await room.ready("a.txt", "Roses need water.")
    await notebooks.share(room.me, room.notebook.id, bob.owner_id, "read")
    assert (await notebooks.get(bob, room.notebook.id)).title == "Garden"
    assert (await room.book.sources.get(bob, source)).name == "a.txt"
    assert len((await room.book.search(bob, "water", [room.notebook.id])).passages) == 1
    for attempt in (
        notebooks.get(bob, room.notebook.id, "write"),
        notebooks.edit(bob, room.notebook.id, {"title": "mine"}),
        room.book.sources.get(bob, source, "write"),
        room.book.sources.delete(bob, source),
    ):
        with pytest.raises(NotFound):
            await attempt


@in_a_room()
async def test_a_grant_to_write_is_none_to_share_or_to_delete_the_notebook(room: Room) -> None:
    bob, notebooks = await room.principal("bob"), room.book.notebooks
    await notebooks.share(room.me, room.notebook.id, bob.owner_id, "read")
    await notebooks.share(room.me, room.notebook.id, bob.owner_id, "write")  # the later word counts
    assert (await notebooks.edit(bob, room.notebook.id, {"title": "Ours"})).title == "Ours"
    carol = await room.principal("carol")
    with pytest.raises(NotFound):
        await notebooks.share(bob, room.notebook.id, carol.owner_id, "read")
    with pytest.raises(NotFound):
        await room.book.sources.delete_notebook(bob, room.notebook)
    with pytest.raises(InvalidInput):
        await notebooks.share(room.me, room.notebook.id, carol.owner_id, "admin")


@in_a_room()
async def test_two_who_edit_at_once_do_not_overwrite_each_other(room: Room) -> None:
    first = await room.book.notebooks.edit(room.me, room.notebook.id, {"title": "One", "owner_id": "own_x"}, version=1)
    assert (first.title, first.version, first.owner_id) == ("One", 2, room.me.owner_id)
    with pytest.raises(Conflict) as caught:
        await room.book.notebooks.edit(room.me, room.notebook.id, {"title": "Two"}, version=1)
    assert caught.value.problem_code == "edited_meanwhile"
    assert (await room.book.notebooks.get(room.me, room.notebook.id)).title == "One"


@in_a_room()
async def test_a_scope_names_each_notebook_once_with_its_pinned_spec(room: Room) -> None:
    other = await room.book.create_notebook(room.me, "Kitchen")
    scope, found = await room.book.notebooks.scope(room.me, [other.id, room.notebook.id, other.id])
    assert scope.ids == [n.id for n in found] == [other.id, room.notebook.id]
    assert {n.index_spec_id for n in scope.notebooks} == {room.notebook.index_spec_id}
    with pytest.raises(NotFound, match="nb_none"):
        await room.book.notebooks.scope(room.me, [other.id, "nb_none"])


@in_a_room()
async def test_equal_index_specs_are_one(room: Room) -> None:
    await room.book.create_notebook(room.me, "Kitchen")
    specs = await room.rows(index_specs)
    assert len(specs) == 1
    assert specs[0]["spec"]["embedder"] == "letters/1"
    assert specs[0]["spec"]["indexes"] == ["memory"]


@in_a_room()
async def test_a_notebook_needs_a_pipeline_that_there_is(room: Room) -> None:
    with pytest.raises(ConfigError, match=r"no pipeline 'other'; there are: default") as caught:
        await room.book.create_notebook(room.me, "x", pipeline="other")
    assert caught.value.problem_code == "pipeline_gone"


@in_a_room()
async def test_a_list_is_read_page_by_page_newest_first(room: Room) -> None:
    for n in range(4):
        await room.book.create_notebook(room.me, f"N{n}")
    seen, cursor = [], None
    for _ in range(3):
        found = await room.book.notebooks.listing(room.me, 2, cursor)
        seen += [n.id for n in found.items]
        cursor = found.next_cursor
    assert cursor is None
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == 5
