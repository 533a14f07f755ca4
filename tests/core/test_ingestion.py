"""From accepted bytes to ready, whatever is interrupted on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import now
from sourcebook.database.tables import document_segments, documents, generations, jobs, passages
from sourcebook.documents import Chunk, Document
from sourcebook.errors import Encrypted, IndexUnavailable, Lost, UnsupportedType
from sourcebook.ids import passage_id
from sourcebook.progress import Following
from sourcebook.writer import Member

from .support import Crash, Room, both_stores, in_a_room

pytestmark = both_stores

TEXT = "\n\n".join(f"Paragraph {n} is about the number {n}." for n in range(10))
SMALL = {"jobs": {"batch": 3, "backoff": 0.001}}


class Faults:
    """Crashes at the n-th write: of a transaction before or after its commit, of the index or of the blob store."""

    def __init__(self, room: Room, at: int) -> None:
        self.left = at
        self._room = room
        self._write = room.book.database.write
        room.book.database.write = self.write  # type: ignore[method-assign]
        room.index.tick = room.blobs.tick = self.tick

    def repair(self) -> None:
        self._room.book.database.write = self._write  # type: ignore[method-assign]
        self._room.index.tick = self._room.blobs.tick = lambda _: None

    def tick(self, what: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash(what)

    @asynccontextmanager
    async def write(self, **how: bool) -> AsyncIterator[AsyncConnection]:
        async with self._write(**how) as c:
            yield c
            self.tick("before commit")
        self.tick("after commit")


async def restarted(room: Room, at: int, first: Callable[[], Any]) -> bool:
    """Run `first` with a crash at write `at`, then all again without. False where there was no such write."""
    faults = Faults(room, at)
    try:
        await first()
    except Crash:
        crashed = True
    else:
        crashed = False
    faults.repair()
    past = now() - timedelta(seconds=1)
    await room.change(jobs, jobs.c.state == "leased", lease_until=past)  # the dead worker's lease is over
    await room.change(jobs, jobs.c.state == "queued", run_at=past)
    await room.work()
    return crashed


async def assert_exact(room: Room, source_id: str, count: int = 10) -> None:
    """Ready, every passage and point exactly once, and nothing half done left over."""
    source = await room.source(source_id)
    assert (source.state, source.problem, source.passages) == ("ready", None, count)
    wanted = {passage_id(source.generation_id or "", n) for n in range(count)}
    rows = await room.rows(passages)
    assert {row["id"] for row in rows} == wanted
    assert len(rows) == count
    assert set(room.index.points) == wanted
    assert [row["complete"] for row in await room.rows(documents)] == [True]
    assert {row["document_id"] for row in await room.rows(document_segments)} == {source.document_id}
    assert [row["state"] for row in await room.rows(jobs)] == ["done"]


@in_a_room(**SMALL)
async def test_a_source_becomes_ready_with_exactly_its_passages(room: Room) -> None:
    source_id = await room.ready("a.txt", TEXT)
    await assert_exact(room, source_id)
    assert room.index.flushes == 1
    assert room.jail.parsed == ["a.txt"]
    point, vector = room.index.points[passage_id((await room.source(source_id)).generation_id or "", 3)]
    assert point.text == "Paragraph 3 is about the number 3."
    assert vector is not None


@in_a_room(**SMALL)
async def test_the_page_that_a_long_file_is_read_at_is_told(room: Room) -> None:
    source_id, seen = await room.add("a.txt", "One."), asyncio.Event()

    parse = room.jail.parse

    async def slow(*args: Any, reached: Callable[[int], object], **keywords: Any) -> Any:
        for page in (1, 2, 7, 5):
            reached(page)
        await seen.wait()
        return await parse(*args, **keywords)

    room.jail.parse = slow  # type: ignore[method-assign, assignment]
    working = asyncio.create_task(room.work())
    following = Following(room.book.database, room.book.jobs).notebook(room.notebook.id)
    async with aclosing(following):
        async for progress in following:
            if progress.running and "page" in progress.running[0]:
                break
    assert (progress.running[0]["stage"], progress.running[0]["page"]) == ("parsing", 7)
    assert (await room.source(source_id)).progress == {"stage": "parsing", "page": 7}
    seen.set()
    await working
    assert (await room.source(source_id)).state == "ready"


@in_a_room(**SMALL)
async def test_its_state_and_progress_are_seen_on_the_way(room: Room) -> None:
    source_id = await room.add("a.txt", TEXT)
    seen: list[tuple[str, Any]] = []
    write = room.book.database.write

    @asynccontextmanager
    async def watched(**how: bool) -> AsyncIterator[AsyncConnection]:
        async with write(**how) as c:
            yield c
        source = await room.source(source_id)
        step = (source.state, source.progress.get("done"))
        if not seen or seen[-1] != step:
            seen.append(step)

    room.book.database.write = watched  # type: ignore[method-assign]
    await room.work()
    states = list(dict.fromkeys(state for state, _ in seen))
    assert states == ["queued", "chunking", "embedding", "indexing", "ready"]
    assert [done for state, done in seen if state == "embedding"] == [0, 3, 6, 9]


@in_a_room(**SMALL)
async def test_that_a_file_is_being_parsed_is_shown_where_that_takes_a_while(room: Room) -> None:
    source_id = await room.add("a.txt", TEXT)
    parse, may = room.jail.parse, asyncio.Event()

    async def slow(*args: Any, **keywords: Any) -> Any:
        await may.wait()
        return await parse(*args, **keywords)

    room.jail.parse = slow  # type: ignore[method-assign]
    working = asyncio.create_task(room.work())
    async with asyncio.timeout(30):
        while (await room.source(source_id)).state != "parsing":
            await asyncio.sleep(0.01)
    assert (await room.source(source_id)).progress == {"stage": "parsing"}
    may.set()
    await working
    await assert_exact(room, source_id)


@pytest.mark.slow
@in_a_room(**SMALL)
async def test_a_crash_at_any_write_ends_ready_with_nothing_lost_and_nothing_twice(room: Room) -> None:
    assert await crashed_at_every_write(room, 4) > 16


@pytest.mark.slow
@in_a_room(**SMALL)
async def test_a_crash_at_any_write_of_a_short_document_does_no_harm_either(room: Room) -> None:
    """It is stored at once, and indexed without a checkpoint."""
    assert await crashed_at_every_write(room, 2) > 8


async def crashed_at_every_write(room: Room, paragraphs: int) -> int:
    """Fail the n-th write, for n = 1, 2, ... until there is no n-th, which is returned."""
    at = 0
    crashed = True
    while crashed:
        at += 1
        name = f"{at}.txt"
        source_id = await room.add(name, "\n\n".join(f"Number {n} of {at}." for n in range(paragraphs)))
        crashed = await restarted(room, at, room.step)
        await assert_exact(room, source_id, paragraphs)
        await room.book.sources.delete(room.me, source_id)
        await room.work()
        assert room.index.points == {}
        async with room.book.database.write() as c:
            await c.execute(jobs.delete())
    return at


@in_a_room(**SMALL)
async def test_a_job_goes_on_after_its_checkpoint(room: Room) -> None:
    await room.add("a.txt", TEXT)
    room.index.tick = _raise_at(3, "upsert")
    with pytest.raises(Crash):
        await room.step()
    room.index.tick = lambda _: None
    await room.change(jobs, lease_until=now() - timedelta(seconds=1))
    before = dict(room.index.upserts)
    await room.work()
    assert room.jail.parsed == ["a.txt"]  # not read again
    again = [i for i, n in room.index.upserts.items() if n > before.get(i, 0)]
    assert len(again) == 4  # what came behind the last batch that was saved
    assert set(room.index.upserts.values()) == {1}


def _raise_at(n: int, what: str) -> Callable[[str], None]:
    seen = []

    def tick(said: str) -> None:
        seen.append(said)
        if seen.count(what) == n:
            raise Crash(said)

    return tick


@in_a_room(**SMALL)
async def test_what_was_embedded_before_a_crash_is_not_embedded_again(room: Room) -> None:
    await room.add("a.txt", TEXT)
    room.index.tick = _raise_at(2, "upsert")
    with pytest.raises(Crash):
        await room.step()
    room.index.tick = lambda _: None
    await room.change(jobs, lease_until=now() - timedelta(seconds=1))
    await room.work()
    assert set(room.embedder.texts.values()) == {1}
    assert len(room.embedder.texts) == 10


@in_a_room(**SMALL)
async def test_an_index_that_lost_points_is_filled_again(room: Room) -> None:
    source_id = await room.add("a.txt", TEXT)
    flush = room.index.flush

    async def losing() -> None:
        room.index.flush = flush  # type: ignore[method-assign]
        room.index.points.popitem()

    room.index.flush = losing  # type: ignore[method-assign]
    await room.step()
    assert ((await room.source(source_id)).problem or {})["code"] == "index_incomplete"
    await room.change(jobs, run_at=now())
    await room.work()
    await assert_exact(room, source_id)


@in_a_room(**SMALL)
async def test_a_transient_failure_is_tried_again_and_leaves_no_problem_behind(room: Room) -> None:
    source_id = await room.add("a.txt", TEXT)
    room.jail.error = IndexUnavailable("It does not answer.")
    await room.step()
    source = await room.source(source_id)
    assert (source.state, (source.problem or {})["code"]) == ("queued", "index_unavailable")
    room.jail.error = None
    await room.change(jobs, run_at=now())
    await room.work()
    await assert_exact(room, source_id)


@in_a_room(**SMALL)
async def test_a_document_that_cannot_be_read_fails_with_its_problem(room: Room) -> None:
    source_id = await room.add("a.txt", TEXT)
    room.jail.error = Encrypted("A password is needed.", remedy="Send it.")
    await room.work()
    source = await room.source(source_id)
    assert source.state == "failed"
    assert source.problem == {
        "code": "encrypted",
        "title": "The file is encrypted",
        "detail": "A password is needed.",
        "remedy": "Send it.",
    }
    assert room.index.points == {}


@in_a_room()
async def test_a_type_that_nobody_reads_says_what_is_read(room: Room) -> None:
    source_id = await room.add("a.xyz", "?")
    await room.work()
    problem = (await room.source(source_id)).problem or {}
    assert problem["code"] == UnsupportedType.code
    assert ".xyz" in problem["detail"]
    assert ".lines, .txt" in problem["remedy"]


@in_a_room(pipeline={"embedder": ""})
async def test_without_an_embedder_only_words_are_indexed(room: Room) -> None:
    await room.ready("a.txt", TEXT)
    assert [vector for _, vector in room.index.points.values()] == [None] * 10


@in_a_room(pipeline={"retrievers": ["memory", "second"]})
async def test_every_index_of_the_pipeline_gets_every_passage(room: Room) -> None:
    await room.ready("a.txt", TEXT)
    first, second = room.book.pipelines.indexes
    assert await first.count(_scope(room)) == await second.count(_scope(room)) == 10


def _scope(room: Room) -> Any:
    from sourcebook.interfaces import Scope, ScopedNotebook

    n = room.notebook
    return Scope((ScopedNotebook(n.id, n.owner_id, n.index_spec_id),))


@in_a_room(**SMALL)
async def test_context_and_parent_are_kept_and_the_language_is_told(room: Room) -> None:
    def cut(document: Document) -> Sequence[Chunk]:
        return [Chunk(b.start, b.end, "Heading", (0, len(document.text))) for b in document.blocks]

    room.jail.chunks = cut
    room.jail.metadata = {"language": "de"}
    await room.ready("a.txt", "Rosen.\n\nTulpen.")
    point, _ = next(iter(room.index.points.values()))
    assert (point.text, point.language) == ("Heading\nRosen.", "de")
    found = (await room.book.search(room.me, "tulpen", [room.notebook.id])).passages[0]
    assert (found.text, found.context, found.parent) == ("Tulpen.", "Heading", (0, 15))


@in_a_room()
async def test_a_worker_that_lost_its_lease_writes_nothing_more(room: Room) -> None:
    await room.add("a.txt", TEXT)
    job = await room.book.jobs.claim("first")
    assert job is not None
    await room.change(jobs, lease_until=now() - timedelta(seconds=1))
    await room.work()
    with pytest.raises(Lost):
        await room.book.wirings.current.ingestion.ingest(job)
    assert (await room.rows(generations))[0]["state"] == "ready"
    await room.book.wirings.current.ingestion.failed(job, IndexUnavailable("late"))
    assert (await room.rows(generations))[0]["problem"] is None


@in_a_room()
async def test_a_source_that_is_deleted_on_the_way_stops_its_job(room: Room) -> None:
    source_id = await room.add("a.txt", TEXT)
    delete = room.book.sources.delete

    async def upsert(*_: Any) -> None:
        await delete(room.me, source_id)

    room.index.upsert = upsert  # type: ignore[method-assign, assignment]
    await room.step()
    assert {row["kind"]: row["state"] for row in await room.rows(jobs)} == {"ingest": "cancelled", "delete": "queued"}
    await room.work()
    assert {row["state"] for row in await room.rows(jobs)} == {"cancelled", "done"}


# Files inside of files.


@in_a_room()
async def test_a_member_becomes_a_source_of_its_own_down_to_depth_two(room: Room) -> None:
    room.jail.members = {
        "mail.txt": [Member("inner.txt", b"Inner mail.")],
        "inner.txt": [Member("deep.txt", b"Deep file.")],
        "deep.txt": [Member("abyss.txt", b"Too deep.")],
    }
    mail = await room.ready("mail.txt", "A mail.")
    found = {s.name: s for s in (await room.book.sources.listing(room.me, room.notebook.id)).items}
    assert set(found) == {"mail.txt", "inner.txt", "deep.txt"}
    assert found["inner.txt"].parent_id == mail
    assert found["deep.txt"].parent_id == found["inner.txt"].id
    assert {s.state for s in found.values()} == {"ready"}


@in_a_room()
async def test_a_member_may_have_no_name(room: Room) -> None:
    room.jail.members = {"mail.txt": [Member("", b"One."), Member("..", b"Two."), Member("a/", b"Three.")]}
    await room.ready("mail.txt", "A mail.")
    names = {s.name for s in (await room.book.sources.listing(room.me, room.notebook.id)).items}
    assert names == {"mail.txt", "member 1", "member 2", "a"}


@in_a_room(jobs={"batch": 64}, pipeline={"embedder": "letters"})
async def test_small_documents_share_their_calls(room: Room) -> None:
    """Of ten done at once, the first is embedded alone, and the others some at a time."""
    for n in range(10):
        await room.add(f"{n}.txt", f"Number {n} and {LETTER[n]}.")
    embed = room.embedder.embed

    async def slowly(texts: Sequence[str], kind: str) -> Any:
        await asyncio.sleep(0.1)
        return await embed(texts, kind)

    room.embedder.embed = slowly  # type: ignore[method-assign]
    claimed = [await room.book.jobs.claim("w") for _ in range(10)]
    await asyncio.gather(*(room.book._worker.do(job) for job in claimed if job))
    assert len(room.index.points) == 10
    assert sum(room.embedder.batches) == 10
    assert len(room.embedder.batches) < 10


LETTER = "abcdefghij"
