"""Deleted means gone: from the index, from every table, from the disk, and never given up."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sourcebook.database.engine import now
from sourcebook.database.tables import (
    citations,
    conversations,
    deletions,
    document_segments,
    documents,
    embedding_cache,
    generations,
    jobs,
    messages,
    notebooks,
    passages,
    run_segments,
    sources,
)
from sourcebook.database.tables import metadata as tables
from sourcebook.errors import NotFound, StoreError
from sourcebook.writer import Member

from .support import Room, both_stores, in_a_room
from .test_ingestion import TEXT, restarted

pytestmark = both_stores

SMALL = {"jobs": {"batch": 3, "backoff": 0.001, "attempts": 2}}


async def everything(room: Room) -> str:
    """Every value in every table."""
    return str([await room.rows(table) for table in tables.sorted_tables])


async def assert_gone(room: Room) -> None:
    assert room.index.points == {}
    assert room.blobs.blobs == {}
    for table in (passages, document_segments, documents, generations, embedding_cache):
        assert await room.rows(table) == [], table.name
    assert "Paragraph" not in await everything(room)


@in_a_room(**SMALL)
async def test_deleting_leaves_nothing_of_it(room: Room) -> None:
    source_id = await room.ready("secret plan.txt", TEXT)
    await room.change(sources, tags=["secret tag"], metadata={"a": "secret note"}, url="https://secret.example")
    await room.book.sources.delete(room.me, source_id)
    await room.work()
    await assert_gone(room)
    assert "secret" not in await everything(room)
    deletion = (await room.rows(deletions))[0]
    assert deletion["report"] == {"points": 10, "passages": 10}
    assert deletion["finished_at"] is not None


@in_a_room(**SMALL)
async def test_it_is_invisible_before_anything_is_removed(room: Room) -> None:
    source_id = await room.ready("a.txt", TEXT)
    await room.book.sources.delete(room.me, source_id)
    assert len(room.index.points) == 10
    assert (await room.book.search(room.me, "paragraph", [room.notebook.id])).passages == ()
    assert (await room.book.sources.listing(room.me, room.notebook.id)).items == []
    for attempt in (room.source(source_id), room.book.sources.delete(room.me, source_id)):
        try:
            await attempt
        except NotFound:
            continue
        raise AssertionError("it is still there")


@in_a_room(**SMALL)
async def test_other_sources_keep_all_of_theirs(room: Room) -> None:
    kept = await room.ready("kept.txt", "Paragraph 3 is about the number 3.\n\nTulips.")
    source_id = await room.ready("a.txt", TEXT)
    await room.book.sources.delete(room.me, source_id)
    await room.work()
    assert (await room.source(kept)).state == "ready"
    assert {p.source_id for p, _ in room.index.points.values()} == {kept}
    assert len(await room.rows(passages)) == 2
    assert len(room.blobs.blobs) == 1


@in_a_room(**SMALL)
@pytest.mark.slow
async def test_a_crash_at_any_write_is_made_good(room: Room) -> None:
    at = 0
    crashed = True
    while crashed:
        at += 1
        source_id = await room.ready(f"{at}.txt", f"Paragraph {at}.\n\nAnother.")
        await room.book.sources.delete(room.me, source_id)
        crashed = await restarted(room, at, room.step)
        await assert_gone(room)
        assert {row["state"] for row in await room.rows(jobs)} == {"done"}
    assert at > 10


@in_a_room(**SMALL)
async def test_it_is_tried_again_for_ever(room: Room) -> None:
    source_id = await room.ready("a.txt", TEXT)
    await room.book.sources.delete(room.me, source_id)

    def broken(what: str) -> None:
        raise StoreError("The index is down.", transient=False)

    room.index.tick = broken
    for _ in range(7):
        await room.change(jobs, jobs.c.kind == "delete", run_at=now())
        assert await room.step() is not None
        job = (await room.rows(jobs, jobs.c.kind == "delete"))[0]
        assert job["state"] == "queued"
        assert job["run_at"] > job["updated_at"]
    room.index.tick = lambda _: None
    await room.change(jobs, jobs.c.kind == "delete", run_at=now())
    await room.work()
    await assert_gone(room)


@in_a_room(**SMALL)
async def test_an_index_that_only_says_that_it_deleted_is_not_believed(room: Room) -> None:
    source_id = await room.ready("a.txt", TEXT)
    await room.book.sources.delete(room.me, source_id)
    delete = room.index.delete

    async def lie(*_: object) -> None:
        return None

    room.index.delete = lie  # type: ignore[method-assign, assignment]
    await room.step()
    job = (await room.rows(jobs, jobs.c.kind == "delete"))[0]
    assert (job["state"], job["problem"]["code"]) == ("queued", "index_not_emptied")
    assert len(room.blobs.blobs) == 1  # not before the points are gone
    room.index.delete = delete  # type: ignore[method-assign]
    await room.change(jobs, jobs.c.kind == "delete", run_at=now())
    await room.work()
    await assert_gone(room)


@in_a_room(**SMALL)
async def test_it_waits_for_a_worker_that_may_still_write(room: Room) -> None:
    source_id = await room.add("a.txt", TEXT)
    ingest = await room.book.jobs.claim("other process")
    assert ingest is not None
    await room.book.sources.delete(room.me, source_id)
    deletion = await room.step()
    assert deletion is not None
    row = (await room.rows(jobs, jobs.c.id == deletion.id))[0]
    assert (row["state"], row["attempt"]) == ("queued", 0)
    assert len(room.blobs.blobs) == 1
    await room.book.jobs.cancelled(ingest)
    await room.change(jobs, jobs.c.id == deletion.id, run_at=now())
    await room.work()
    await assert_gone(room)


@in_a_room(**SMALL)
async def test_it_does_not_wait_for_a_worker_that_is_dead(room: Room) -> None:
    source_id = await room.add("a.txt", TEXT)
    await room.book.jobs.claim("dead")
    await room.change(jobs, lease_until=now() - timedelta(seconds=1))
    await room.book.sources.delete(room.me, source_id)
    await room.work()
    await assert_gone(room)
    assert {row["state"] for row in await room.rows(jobs)} == {"cancelled", "done"}


@in_a_room(**SMALL)
async def test_a_deletion_whose_lease_was_lost_does_not_kill_its_worker(room: Room) -> None:
    source_id = await room.ready("a.txt", TEXT)
    await room.book.sources.delete(room.me, source_id)
    job = await room.book.jobs.claim("first")
    assert job is not None
    await room.change(jobs, jobs.c.id == job.id, worker="second")
    await room.book.wirings.current.deletion.failed(job, StoreError("late"))
    assert (await room.rows(jobs, jobs.c.id == job.id))[0]["worker"] == "second"


@in_a_room()
async def test_what_was_found_inside_goes_with_it_at_every_depth(room: Room) -> None:
    room.jail.members = {"a.txt": [Member("b.txt", b"Inner.")], "b.txt": [Member("c.txt", b"Deep.")]}
    source_id = await room.ready("a.txt", TEXT)
    assert len(room.blobs.blobs) == 3
    await room.book.sources.delete(room.me, source_id)
    assert (await room.book.sources.listing(room.me, room.notebook.id)).items == []
    await room.work()
    await assert_gone(room)
    assert len(await room.rows(deletions)) == 3


@in_a_room()
async def test_a_member_that_was_deleted_before_is_not_deleted_again(room: Room) -> None:
    room.jail.members = {"a.txt": [Member("b.txt", b"Inner.")]}
    source_id = await room.ready("a.txt", TEXT)
    member = (await room.rows(sources, sources.c.parent_id.is_not(None)))[0]["id"]
    await room.book.sources.delete(room.me, member)
    await room.work()
    await room.book.sources.delete(room.me, source_id)
    await room.work()
    assert len(await room.rows(deletions)) == 2


@in_a_room()
async def test_a_notebook_goes_with_all_its_sources(room: Room) -> None:
    for n in range(3):
        await room.ready(f"{n}.txt", f"{TEXT}\n\nRun {n}.")
    await room.book.sources.delete_notebook(room.me, room.notebook)
    assert (await room.book.notebooks.listing(room.me)).items == []
    await room.work()
    await assert_gone(room)
    assert [(row["title"], row["description"]) for row in await room.rows(notebooks)] == [("", "")]
    whole = (await room.rows(deletions, deletions.c.kind == "notebook"))[0]
    assert whole["report"] == {"sources": 3, "notes": 0}
    assert whole["finished_at"] is not None


@in_a_room(**SMALL)
async def test_a_notebooks_deletion_is_not_over_while_a_point_of_it_is_left(room: Room) -> None:
    source_id = await room.ready("a.txt", TEXT)
    stray = next(iter(room.index.points.values()))
    await room.book.sources.delete_notebook(room.me, room.notebook)
    job = await room.step()
    assert job is not None
    assert job.source_id == source_id
    room.index.points["stray"] = stray
    job = await room.step()
    assert job is not None
    after = await room.book.jobs.get(job.id, room.me.owner_id)
    assert (after.state, (after.problem or {})["code"]) == ("queued", "index_not_emptied")


@in_a_room()
async def test_an_owner_goes_with_everything_and_the_others_stay(room: Room) -> None:
    bob = await room.principal("bob")
    theirs = await room.book.create_notebook(bob, "Bob's secret")
    await room.add("bobs.txt", TEXT, theirs)
    await room.work()
    await room.book.owners.create_key("bob", ["read"])
    run = await room.book.ask(bob, "What is paragraph 3 about?", [theirs.id])
    await run.wait()
    kept = await room.ready("mine.txt", "My own text.")
    job_id = await room.book.sources.delete_owner(bob.owner_id)
    await room.work()
    assert (await room.book.jobs.get(job_id, bob.owner_id)).state == "done"
    left = await everything(room)
    for word in ("bobs.txt", "secret", "paragraph 3", "Yes [1]", "'bob'"):
        assert word not in left, word
    assert await room.rows(conversations) == []
    assert (await room.source(kept)).state == "ready"
    assert len(room.index.points) == 1


@in_a_room()
async def test_answers_that_cited_it_keep_their_words_and_lose_the_quotes(room: Room) -> None:
    source_id = await room.ready("a.txt", TEXT)
    run = await room.book.ask(room.me, "What is paragraph 3 about?", [room.notebook.id])
    await run.wait()
    assert (await room.rows(citations))[0]["quote"]
    await room.book.sources.delete(room.me, source_id)
    await room.work()
    row = (await room.rows(citations))[0]
    assert (row["quote"], row["document_id"], row["passage_id"]) == ("", None, None)
    assert row["removed_at"] is not None
    assert [m["text"] for m in await room.rows(messages, messages.c.role == "assistant")] == ["Yes [1]."]
    await assert_gone(room)


@in_a_room(runs={"log": "sql", "flush": 0.02})
async def test_an_answer_that_ends_behind_the_deletion_keeps_no_quote_either(room: Room) -> None:
    source_id = await room.ready("a.txt", TEXT)
    finish = room.book.runs.turns.finish

    async def late(*given: object) -> bool:
        await room.book.sources.delete(room.me, source_id)
        await room.work()
        return await finish(*given)  # type: ignore[arg-type]

    room.book.runs.turns.finish = late  # type: ignore[method-assign, assignment]
    run = await room.book.ask(room.me, "What is paragraph 3 about?", [room.notebook.id])
    await run.wait()
    rows = await room.rows(citations)
    assert [(row["quote"], row["document_id"]) for row in rows] == [("", None)]
    await room.book.runs._log.close()  # its last frames are written behind its end
    assert await room.rows(run_segments) == []
    await assert_gone(room)
