"""Two versions side by side: what a newer schema allows older code, and what it refuses it."""

from __future__ import annotations

from pathlib import Path

import pytest

import sourcebook.database.migrations.versions as versions
from sourcebook.app import Sourcebook
from sourcebook.configuration import load
from sourcebook.database.tables import SCHEMA, schema_compatible
from sourcebook.database.upgrade import current, mismatch, revisions, statements, upgrade
from sourcebook.doctor import examine
from sourcebook.errors import StoreError
from sourcebook.readiness import ready
from tests.next_version import NEXT, upgraded_to_the_next

from .support import Room, Store, in_a_room


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """One of the test's own: what the next version did to it is of no use to others."""
    if request.param == "sqlite":
        return Store(tmp_path)
    return Store(tmp_path, request.getfixturevalue("postgres").migrated())


def test_migrations_are_numbered_in_the_order_in_which_they_run() -> None:
    (folder,) = versions.__path__
    names = sorted(path.stem for path in Path(folder).glob("[0-9]*.py"))
    assert [name.partition("_")[0] for name in names] == revisions()
    assert revisions() == [f"{n:04}" for n in range(1, len(names) + 1)]


def test_every_migration_says_who_can_go_on_and_none_takes_that_back() -> None:
    said = statements()
    assert sorted(said) == revisions()
    assert all(since <= revision for revision, since in said.items())
    in_order = [said[revision] for revision in revisions()]
    assert in_order == sorted(in_order)  # what an older version could not go on with, a later migration cannot mend


def again(room: Room) -> Sourcebook:
    """This version, started anew on the room's database."""
    url = "" if room.book.database.sqlite else room.book.database.url.render_as_string(hide_password=False)
    return Sourcebook(
        load(environ={}, overrides={"storage": {"path": str(room.book.folder), "database": url}}), workers=0
    )


@in_a_room()
async def test_an_upgrade_writes_down_what_its_newest_migration_says(room: Room) -> None:
    (row,) = await room.rows(schema_compatible)
    assert row == {"revision": SCHEMA, "since": statements()[SCHEMA]}


@in_a_room()
async def test_older_code_goes_on_where_the_next_schema_says_so(room: Room) -> None:
    before = await room.ready("a.txt", "High water comes at six.")
    await upgraded_to_the_next(room.book.database, room.book.folder / "next", since=SCHEMA)
    assert await current(room.book.database) == NEXT
    assert await mismatch(room.book.database) == ""
    # The one that runs already.
    await room.ready("b.txt", "Low water comes at noon.")
    await room.book.sources.delete(room.me, before)
    await room.work()
    assert (await ready(room.book))["database"] == "ok"
    findings = {f.check: f async for f in examine(room.book)}
    assert findings["schema"].ok
    assert f"has {NEXT}" in findings["schema"].detail
    # And one that starts now.
    async with again(room) as book:
        assert len((await book.sources.listing(room.me, room.notebook.id, 10)).items) == 1
    await upgrade(room.book.database)  # as `sourcebook db upgrade` of the older version: nothing to do
    assert await current(room.book.database) == NEXT


@in_a_room()
async def test_older_code_is_refused_by_name_where_the_next_schema_does_not_say_so(room: Room) -> None:
    await room.ready("a.txt", "High water comes at six.")
    await upgraded_to_the_next(room.book.database, room.book.folder / "next", since=NEXT)
    book = again(room)
    for attempt in (book.open(), upgrade(room.book.database)):
        with pytest.raises(StoreError) as raised:
            await attempt
        assert raised.value.problem_code == "schema_newer"
        assert NEXT in raised.value.detail
        assert SCHEMA in raised.value.detail
        assert not raised.value.transient
    await book.close()
    # The one that runs already is taken out by whoever asks whether it is ready.
    assert NEXT in (await ready(room.book))["database"]
    findings = {f.check: f async for f in examine(room.book)}
    assert not findings["schema"].ok


@in_a_room()
async def test_a_newer_schema_that_says_nothing_is_refused(room: Room) -> None:
    await upgraded_to_the_next(room.book.database, room.book.folder / "next", since=SCHEMA)
    async with room.book.database.write() as c:
        await c.execute(schema_compatible.delete())
    assert NEXT in await mismatch(room.book.database)
