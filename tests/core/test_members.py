"""Files inside files: their depth, and one budget for all that stems from one upload."""

from __future__ import annotations

from typing import Any

from sourcebook.database.tables import sources
from sourcebook.sources import Source
from sourcebook.writer import Member

from .support import Room, in_a_room, pieces


async def by_name(room: Room) -> dict[str, Source]:
    page = await room.book.sources.listing(room.me, room.notebook.id, 100)
    return {s.name: s for s in page.items}


def warnings(source: Source) -> list[Any]:
    return [w["code"] for w in (source.document or {})["warnings"]]


def files(prefix: str, count: int, size: int = 5) -> list[Member]:
    return [Member(f"{prefix}{n}.txt", f"{prefix}{n:04}".encode().ljust(size, b".")) for n in range(count)]


@in_a_room()
async def test_archives_in_archives_are_followed_two_deep_and_the_rest_is_named(room: Room) -> None:
    room.jail.members = {
        "a.txt": [Member("b.txt", b"Second.")],
        "b.txt": [Member("c.txt", b"Third.")],
        "c.txt": [Member("d.txt", b"Fourth.")],
    }
    await room.ready("a.txt", "First.")
    found = await by_name(room)
    assert set(found) == {"a.txt", "b.txt", "c.txt"}
    assert [warnings(found[name]) for name in ("a.txt", "b.txt", "c.txt")] == [[], [], ["members_too_deep"]]


@in_a_room(jail={"members": 5})
async def test_one_upload_may_hold_so_many_files_at_whatever_depth(room: Room) -> None:
    room.jail.members = {"a.txt": files("b", 3), "b0.txt": files("c", 3)}
    await room.ready("a.txt", "First.")
    found = await by_name(room)
    assert len(found) == 1 + 5
    assert warnings(found["b0.txt"]) == ["members_left_out"]
    assert found["b0.txt"].document is not None
    assert "1 of 3 files" in found["b0.txt"].document["warnings"][0]["message"]


@in_a_room(jail={"member_bytes": 2500})
async def test_one_upload_may_hold_so_many_bytes_at_whatever_depth(room: Room) -> None:
    room.jail.members = {"a.txt": files("b", 1, 1000), "b0.txt": files("c", 3, 1000)}
    await room.ready("a.txt", "First.")
    found = await by_name(room)
    assert {name for name in found if name.startswith("c")} == {"c0.txt"}
    assert warnings(found["b0.txt"]) == ["members_left_out"]


@in_a_room(jail={"member_seconds": 100.0})
async def test_a_tree_that_used_up_its_time_is_read_no_further(room: Room) -> None:
    room.jail.members = {"a.txt": files("b", 2)}
    top = await room.add("a.txt", "First.")
    await room.step()
    await room.change(sources, sources.c.id == top, tree_seconds=99.0)
    await room.step()  # the first member, within the budget
    (row,) = await room.rows(sources, sources.c.id == top)
    assert row["tree_seconds"] > 99.0
    await room.change(sources, sources.c.id == top, tree_seconds=101.0)
    await room.work()
    found = await by_name(room)
    states = sorted((s.state, (s.problem or {}).get("code")) for s in found.values())
    assert states == [("failed", "timeout"), ("ready", None), ("ready", None)]


@in_a_room(jail={"members": 3})
async def test_reading_an_archive_again_counts_nothing_twice_and_drops_what_it_lost(room: Room) -> None:
    room.jail.members = {"a.txt": files("b", 3)}
    top = await room.ready("a.txt", "First.")
    before = await by_name(room)
    room.jail.members = {"a.txt": [*files("b", 1), Member("new.txt", b"New.")]}
    await room.book.sources.replace(room.me, top, pieces(b"Second."))
    await room.work()
    found = await by_name(room)
    assert set(found) == {"a.txt", "b0.txt", "new.txt"}
    assert found["b0.txt"].id == before["b0.txt"].id
    assert warnings(found["a.txt"]) == []
