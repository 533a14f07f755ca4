"""A source read again: the old generation serves until the new one is ready, and then nothing is left of it."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import pytest

from sourcebook import generations as module
from sourcebook.database.engine import now
from sourcebook.database.tables import citations, conversations, documents, generations, jobs, messages, passages
from sourcebook.database.tables import sources as sources_table
from sourcebook.errors import Encrypted, IndexUnavailable, NotFound
from sourcebook.ids import new_id

from .support import Room, Store, furnished, in_a_room, pieces
from .test_ingestion import restarted

OLD = "The lamp is green.\n\nThe gate is shut."
NEW = "The lamp is red."
SMALL = {"jobs": {"batch": 3, "backoff": 0.001}}


@pytest.fixture(autouse=True)
def _forget_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 0.0)


async def replaced(room: Room, source_id: str, text: str) -> str | None:
    return await room.book.sources.replace(room.me, source_id, pieces(text.encode()))


async def found(room: Room, question: str) -> str:
    """The best passage."""
    answer = await room.book.search(room.me, question, [room.notebook.id])
    return answer.passages[0].text


async def only(room: Room, source_id: str, texts: list[str]) -> None:
    """One generation, its passages and points, one document, one blob: and these texts."""
    source = await room.source(source_id)
    assert (source.state, source.pending, source.passages) == ("ready", None, len(texts))
    (generation,) = await room.rows(generations)
    assert (generation["id"], generation["state"]) == (source.generation_id, "ready")
    ids = {row["id"] for row in await room.rows(passages)}
    assert len(ids) == len(texts)
    assert set(room.index.points) == ids
    assert [row["id"] for row in await room.rows(documents)] == [source.document_id]
    assert set(room.blobs.blobs) == {source.blob_key}
    stored = await room.book.reading.passages_of(source.generation_id or "", 100)
    assert [p.text for p in stored] == texts


@in_a_room()
async def test_the_old_generation_serves_until_the_new_one_is_ready(room: Room) -> None:
    source_id = await room.ready("lamp.txt", OLD)
    before = await room.source(source_id)
    job_id = await replaced(room, source_id, NEW)
    waiting = await room.source(source_id)
    assert (waiting.state, waiting.sha256, waiting.document_id) == ("ready", before.sha256, before.document_id)
    assert waiting.pending == {"state": "queued", "problem": None, "job_id": job_id}
    assert await found(room, "lamp") == "The lamp is green."
    await room.work()
    assert await found(room, "lamp") == "The lamp is red."
    after = await room.source(source_id)
    assert after.size == len(NEW)
    assert after.version == before.version + 1
    await only(room, source_id, [NEW])


@in_a_room()
async def test_of_generations_that_become_ready_together_the_latest_of_each_source_serves(room: Room) -> None:
    """Also one that was there before is then superseded, and another source's is not."""
    ids = [await room.ready("lamp.txt", OLD), await room.ready("gate.txt", NEW)]
    lamp, gate = [await room.source(i) for i in ids]
    first, second = f"{lamp.generation_id}1", f"{lamp.generation_id}2"
    new = {"source_id": lamp.id, "state": "indexing", "created_at": now()}
    new["index_spec_id"] = (await room.rows(generations))[0]["index_spec_id"]
    async with room.book.database.write() as c:
        await c.execute(generations.insert(), [{"id": i, **new} for i in (first, second)])
        await module.Generations(room.book.jobs).ready(c, [second, first])
    states = {row["id"]: row["state"] for row in await room.rows(generations)}
    assert states == {
        lamp.generation_id: "superseded",
        first: "superseded",
        second: "ready",
        gate.generation_id: "ready",
    }
    retired = {row["payload"]["generation_id"] for row in await room.rows(jobs, jobs.c.kind == "retire")}
    assert retired == {lamp.generation_id, first}


@in_a_room()
async def test_the_same_bytes_change_nothing(room: Room) -> None:
    source_id = await room.ready("lamp.txt", OLD)
    assert await replaced(room, source_id, OLD) is None
    assert not await room.rows(jobs, jobs.c.state == "queued")
    await only(room, source_id, OLD.split("\n\n"))


@in_a_room()
async def test_new_bytes_that_cannot_be_read_leave_the_old_ones_in_place(room: Room) -> None:
    source_id = await room.ready("lamp.txt", OLD)
    before = await room.source(source_id)
    room.jail.error = Encrypted("A password is needed.")
    await replaced(room, source_id, NEW)
    await room.work()
    after = await room.source(source_id)
    assert (after.state, after.problem, after.sha256) == ("ready", None, before.sha256)
    assert after.pending is not None
    assert (after.pending["state"], after.pending["problem"]["code"]) == ("failed", "encrypted")
    assert await found(room, "lamp") == "The lamp is green."
    assert await replaced(room, source_id, NEW) is None  # they failed already
    room.jail.error = None
    await replaced(room, source_id, NEW + "\n\nAnd more.")
    await room.work()
    await only(room, source_id, [NEW, "And more."])


@in_a_room()
async def test_the_last_of_several_replacements_wins(room: Room) -> None:
    source_id = await room.ready("lamp.txt", OLD)
    for text in ("One.", "Two.", "Three."):
        await replaced(room, source_id, text)
        await asyncio.sleep(0.002)  # ids sort by milliseconds
    await room.work()
    await only(room, source_id, ["Three."])


@in_a_room()
async def test_a_failed_source_is_read_again(room: Room) -> None:
    room.jail.error = Encrypted("A password is needed.")
    source_id = await room.add("lamp.txt", OLD)
    await room.work()
    assert (await room.source(source_id)).state == "failed"
    room.jail.error = None
    await room.book.sources.reparse(room.me, source_id)
    assert (await room.source(source_id)).state == "queued"
    await room.work()
    await only(room, source_id, OLD.split("\n\n"))


@in_a_room()
async def test_a_document_is_kept_while_an_answer_cites_it(room: Room) -> None:
    source_id = await room.ready("lamp.txt", OLD)
    before = await room.source(source_id)
    await cite(room, source_id, before.document_id or "")
    await replaced(room, source_id, NEW)
    await room.work()
    assert await room.book.reading.text(before.document_id or "", 0, 8) == "The lamp"
    (citation,) = await room.rows(citations)
    assert (citation["document_id"], citation["passage_id"]) == (before.document_id, None)
    assert len(await room.rows(documents)) == 2


async def cite(room: Room, source_id: str, document_id: str) -> None:
    generation = (await room.source(source_id)).generation_id
    (first, *_) = await room.rows(passages, passages.c.generation_id == generation)
    talk, message, at = new_id("conv"), new_id("msg"), now()
    async with room.book.database.write() as c:
        stamps = {"created_at": at, "updated_at": at}
        await c.execute(conversations.insert().values(id=talk, owner_id=room.me.owner_id, notebooks=[], **stamps))
        row = {"role": "assistant", "text": "Green.", "state": "complete", "details": {}, "created_at": at}
        await c.execute(messages.insert().values(id=message, conversation_id=talk, **row))
        of = {"source_id": source_id, "document_id": document_id, "passage_id": first["id"]}
        where = {"start": 0, "end": 8, "quote": "The lamp", "answer_start": 0, "answer_end": 6, "supported": True}
        await c.execute(citations.insert().values(id=new_id("cit"), message_id=message, n=1, **of, **where))


@in_a_room()
async def test_a_document_that_a_running_answer_may_cite_is_kept_a_while(room: Room) -> None:
    module.KEPT = 3600.0
    source_id = await room.ready("lamp.txt", OLD)
    before = await room.source(source_id)
    await replaced(room, source_id, NEW)
    await room.work()
    assert len(await room.rows(documents)) == 2
    assert await room.book.reading.text(before.document_id or "", 0, 8) == "The lamp"
    (left,) = await room.rows(jobs, jobs.c.kind == "retire", jobs.c.state == "queued")
    await room.change(jobs, jobs.c.id == left["id"], run_at=now())
    module.KEPT = 0.0
    await room.work()
    await only(room, source_id, [NEW])


@in_a_room()
async def test_a_source_that_is_deleted_while_it_is_read_again_is_gone_whole(room: Room) -> None:
    source_id = await room.ready("lamp.txt", OLD)
    await replaced(room, source_id, NEW)
    await room.book.sources.delete(room.me, source_id)
    await room.work()
    assert (await room.rows(generations), await room.rows(documents), await room.rows(passages)) == ([], [], [])
    assert (room.blobs.blobs, room.index.points) == ({}, {})
    with pytest.raises(NotFound):
        await room.book.sources.reparse(room.me, source_id)


@pytest.mark.slow
def test_replacing_survives_a_crash_at_every_write(tmp_path: Path) -> None:
    async def attempt(folder: Path, at: int) -> bool:
        async with furnished(Store(folder), jobs=SMALL["jobs"]) as room:
            source_id = await room.ready("lamp.txt", OLD)
            await replaced(room, source_id, NEW)
            crashed = await restarted(room, at, room.work)
            await only(room, source_id, [NEW])
            return crashed

    at, step = 1, 1 if int(os.environ.get("SOURCEBOOK_KILLS", "0")) >= 50 else 4
    while asyncio.run(attempt(tmp_path / str(at), at)):
        at += step
    assert at > 10


# Passwords.


@in_a_room()
async def test_a_password_reaches_the_parser_and_is_forgotten(room: Room) -> None:
    room.book.jobs.keeping = lambda: None  # no worker of its own: the test does what is due
    source_id, _ = await room.book.sources.accept(room.notebook, "a.txt", pieces(OLD.encode()), password="s3cret")
    await room.work()
    assert (await room.source(source_id)).state == "ready"
    assert room.jail.passwords == ["s3cret"]
    generation = (await room.source(source_id)).generation_id
    assert room.book.sources.passwords.of(generation) is None
    for table in (jobs, sources_table, generations, documents):
        assert "s3cret" not in str(await room.rows(table))


@in_a_room()
async def test_a_job_with_a_password_is_done_by_the_process_that_knows_it(room: Room) -> None:
    room.book.jobs.keeping = lambda: None  # no worker of its own: the test does what is due
    await room.book.sources.accept(room.notebook, "a.txt", pieces(OLD.encode()), password="s3cret")
    mine, room.book.jobs.keeper = room.book.jobs.keeper, "another process"
    assert await room.step() is None
    room.book.jobs.keeper = mine
    await room.work()
    assert room.jail.passwords == ["s3cret"]


@in_a_room()
async def test_a_password_that_died_with_its_process_is_asked_for_again(room: Room) -> None:
    room.book.jobs.keeping = lambda: None  # no worker of its own: the test does what is due
    source_id, _ = await room.book.sources.accept(room.notebook, "a.txt", pieces(OLD.encode()), password="s3cret")
    room.book.jobs.keeper = "another process"
    room.book.sources.passwords._known.clear()
    room.jail.error = Encrypted("The file is protected by a password.")
    await room.change(jobs, jobs.c.state == "leased", lease_until=now() - timedelta(seconds=1))
    await room.work()
    source = await room.source(source_id)
    assert (source.problem or {})["code"] == "encrypted"
    assert "password" in (source.problem or {})["remedy"]
    room.jail.error = None
    again, new = await room.book.sources.accept(room.notebook, "a.txt", pieces(OLD.encode()), password="s3cret")
    assert (again, new) == (source_id, True)
    await room.work()
    assert room.jail.passwords == [None, "s3cret"]
    await only(room, source_id, OLD.split("\n\n"))


@in_a_room(**SMALL)
async def test_a_password_outlives_a_passing_failure(room: Room) -> None:
    room.book.jobs.keeping = lambda: None  # no worker of its own: the test does what is due
    room.jail.error = IndexUnavailable("Down.")
    source_id, _ = await room.book.sources.accept(room.notebook, "a.txt", pieces(OLD.encode()), password="s3cret")
    await room.step()
    (job,) = await room.rows(jobs)
    assert (job["state"], job["worker"]) == ("leased", room.book.jobs.keeper)
    room.jail.error = None
    await asyncio.sleep(0.05)
    await room.work()
    assert (await room.source(source_id)).state == "ready"
    assert room.jail.passwords == ["s3cret", "s3cret"]


@in_a_room(**SMALL)
async def test_a_process_without_workers_reads_what_it_knows_the_password_of(room: Room) -> None:
    plain = await room.add("b.txt", NEW)
    source_id, _ = await room.book.sources.accept(room.notebook, "a.txt", pieces(OLD.encode()), password="s3cret")
    while (await room.source(source_id)).state != "ready":
        await asyncio.sleep(0.01)
    assert (await room.source(plain)).state == "queued"
