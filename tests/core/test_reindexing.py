"""A notebook whose pipeline moved on answers as before until the new index is whole, and can go back."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from sourcebook.database.engine import now
from sourcebook.database.tables import documents, generations, jobs, notebooks, passages, reindexes
from sourcebook.documents import Chunk, Document
from sourcebook.embeddings import Embeddings
from sourcebook.errors import ConfigError, Conflict, EmbedderError, NotFound
from sourcebook.hookspecs import hookimpl
from sourcebook.interfaces import Chunker, ComponentSettings, Context, Embedder, Space
from sourcebook.notebooks import Notebook

from .support import Crash, Lines, Room, Store, in_a_room

VOWELS = "aeiou"
FAST = {"jobs": {"batch": 3, "backoff": 0.001, "poll": 0.001, "attempts": 1}}


class Vowels(Embedder[ComponentSettings]):
    """Another model: five dimensions, under the name of the space that the first one has."""

    name = "vowels"
    max_batch = 2

    async def open(self, context: Context) -> None:
        self.spaces = (Space("letters", len(VOWELS)),)
        self.identity = "vowels/1"
        self.calls = 0
        self.refuses = ""

    async def embed(self, texts: Sequence[str], kind: str) -> Any:
        import numpy as np

        self.calls += kind == "passage"
        if kind == "passage" and self.refuses and any(self.refuses in text for text in texts):
            raise EmbedderError("It does not like this text.")
        counts = [[text.casefold().count(letter) for letter in VOWELS] for text in texts]
        return {"letters": np.array(counts, dtype=np.float32).reshape(len(texts), len(VOWELS))}


class Pairs(Chunker[ComponentSettings]):
    """Found by name; the fake jail cuts in its place."""

    name = "pairs"

    def chunk(self, document: Document) -> list[Chunk]:
        blocks = document.blocks
        return [Chunk(blocks[i].start, blocks[min(i + 1, len(blocks) - 1)].end) for i in range(0, len(blocks), 2)]


class More:
    """Registers them."""

    @hookimpl
    def register_embedders(self) -> list[type[Embedder[Any]]]:
        return [Vowels]

    @hookimpl
    def register_chunkers(self) -> list[type[Chunker[Any]]]:
        return [Pairs]


def in_a_moving_room(**options: Any) -> Callable[[Callable[[Room], Awaitable[None]]], Callable[[Store], None]]:
    return in_a_room(plugins=[More()], **{**FAST, **options})


async def move(room: Room, **wiring: Any) -> None:
    """As after a restart with another `[pipelines.default]`."""
    pipelines = room.book.pipelines
    changed = pipelines["default"].settings.model_copy(update=wiring)
    pipelines._pipelines["default"] = await pipelines._build("default", changed)
    room.book.specs._serving.clear()


async def vowels(room: Room) -> Vowels:
    found: Vowels = await room.book.pipelines.component("embedders", "vowels", Vowels)
    return found


async def notebook(room: Room) -> Notebook:
    return await room.book.notebooks.get(room.me, room.notebook.id)


async def changed(room: Room) -> tuple[str, ...]:
    own = await notebook(room)
    return (await room.book.specs.standing([own]))[own.id].changed


async def found(room: Room, question: str) -> list[str]:
    return [p.text for p in (await room.book.search(room.me, question, [room.notebook.id])).passages]


async def fill(room: Room, count: int = 3) -> list[str]:
    return [await room.ready(f"{n}.txt", f"Tulips {n}.\n\nBees {n}.\n\nSnow {n}.") for n in range(count)]


async def state(room: Room) -> str:
    last = await room.book.reindexing.latest(room.notebook.id)
    return last.state if last else ""


@in_a_moving_room()
async def test_a_notebook_whose_embedder_changed_is_stale_and_answers_as_before(room: Room) -> None:
    await fill(room)
    assert await changed(room) == ()
    before = await found(room, "Tulips 1")
    await move(room, embedder="vowels")
    assert await changed(room) == ("embedder",)
    # Vectors of 26 and of 5 dimensions would not compare, so this was embedded by the old one.
    assert await found(room, "Tulips 1") == before
    late = await room.ready("late.txt", "Crocuses come late.")
    assert (await room.source(late)).state == "ready"
    assert "Crocuses come late." in await found(room, "Crocuses")
    assert {len(vector or ()) for _, vector in room.index.points.values()} == {26}


@in_a_moving_room()
async def test_where_the_old_embedder_is_gone_words_alone_answer_and_it_says_so(room: Room) -> None:
    await fill(room)
    await move(room, embedder="vowels")
    room.embedder.identity = "letters/2"  # the model behind the name is another now
    own = await notebook(room)
    standing = (await room.book.specs.standing([own]))[own.id]
    assert (standing.stale, standing.dense, standing.embedder) == (True, False, "letters/1")
    assert "Tulips 1." in await found(room, "Tulips")
    assert room.index.queries[-1].vectors is None


@in_a_moving_room()
async def test_a_reindex_builds_beside_serves_the_old_and_switches_when_all_is_ready(room: Room) -> None:
    sources = await fill(room)
    before, old = await found(room, "Tulips 1"), await notebook(room)
    await move(room, embedder="vowels")
    estimate = await room.book.reindexing.estimate(old)
    assert (estimate.sources, estimate.passages, estimate.parsed, estimate.embedded) == (3, 9, 0, 9)
    assert estimate.calls == 6  # of two texts at most
    started = await room.book.reindexing.start(room.me, old)
    assert started.estimate["calls"] == 6
    steps = 0
    while await state(room) == "building":
        own = await notebook(room)
        assert own.index_spec_id == old.index_spec_id
        assert await found(room, "Tulips 1") == before
        assert [(await room.source(i)).state for i in sources] == ["ready"] * 3
        await room.step()
        steps += 1
    assert steps > 3
    assert room.jail.parsed == ["0.txt", "1.txt", "2.txt"]  # nothing was read again
    assert (await vowels(room)).calls <= 6
    assert await changed(room) == ()
    assert (await notebook(room)).index_spec_id == started.to_spec_id
    assert "Tulips 1." in await found(room, "Tulips 1")
    assert len(room.index.queries[-1].vectors["letters"][0]) == 5  # type: ignore[index]
    job = await room.book.jobs.get(started.job_id, room.me.owner_id)
    assert job.state == "done"
    assert job.checkpoint["progress"]["done"] == job.checkpoint["progress"]["total"] == 3


@in_a_moving_room()
async def test_a_rollback_switches_back_at_once_and_only_then_builds_what_came_later(room: Room) -> None:
    await fill(room)
    old, before = await notebook(room), await found(room, "Tulips 1")
    await move(room, embedder="vowels")
    await room.book.reindexing.start(room.me, old)
    await room.work()
    await room.ready("late.txt", "Crocuses come late.")
    await room.book.reindexing.rollback(room.me, old)
    await room.work()
    assert (await notebook(room)).index_spec_id == old.index_spec_id
    assert (await found(room, "Tulips 1"))[0] == before[0]
    assert len(room.index.queries[-1].vectors["letters"][0]) == 26  # type: ignore[index]
    assert "Crocuses come late." in await found(room, "Crocuses")
    assert await changed(room) == ("embedder",)


@in_a_moving_room(jobs={**FAST["jobs"], "keep_replaced": 0})
async def test_the_old_is_dropped_after_its_time_and_then_there_is_no_way_back(room: Room) -> None:
    await fill(room)
    await move(room, embedder="vowels")
    old = await notebook(room)
    await room.book.reindexing.start(room.me, old)
    await room.work()
    assert await state(room) == "dropped"
    assert {len(vector or ()) for _, vector in room.index.points.values()} == {5}
    assert len(room.index.points) == len(await room.rows(passages)) == 9
    assert len(await room.rows(generations)) == 3
    assert len(await room.rows(documents)) == 3  # shared by both, so kept
    with pytest.raises(Conflict) as refused:
        await room.book.reindexing.rollback(room.me, old)
    assert refused.value.problem_code == "no_rollback"


@in_a_moving_room()
async def test_the_old_can_be_dropped_by_hand(room: Room) -> None:
    await fill(room)
    await move(room, embedder="vowels")
    await room.book.reindexing.start(room.me, room.notebook)
    await room.work()
    assert len(room.index.points) == 18
    await room.book.reindexing.drop(room.me, room.notebook)
    await room.work()
    assert len(room.index.points) == 9
    assert await state(room) == "dropped"


@in_a_moving_room()
async def test_another_chunker_cuts_every_document_again(room: Room) -> None:
    await fill(room)
    await move(room, chunker="pairs")
    assert await changed(room) == ("chunker",)
    room.jail.chunks = Pairs(ComponentSettings()).chunk
    assert (await room.book.reindexing.estimate(room.notebook)).parsed == 3
    await room.book.reindexing.start(room.me, room.notebook)
    await room.work()
    assert sorted(await found(room, "Tulips 1"))[0].count("\n\n") <= 1
    assert {len(await room.book.reading.passages_of(g["id"], 9)) for g in await room.rows(generations)} == {2, 3}


@in_a_moving_room()
async def test_a_new_version_of_a_parser_makes_its_documents_stale_and_they_are_read_again(room: Room) -> None:
    await fill(room, 1)
    version = Lines.version
    Lines.version = version + 1
    try:
        assert await changed(room) == ("parsers",)
        await room.book.reindexing.start(room.me, room.notebook)
        await room.work()
        assert room.jail.parsed == ["0.txt", "0.txt"]
        assert await changed(room) == ()
    finally:
        Lines.version = version


@in_a_moving_room()
async def test_a_source_that_cannot_be_built_stops_the_switch_until_it_is_retried_or_skipped(room: Room) -> None:
    await fill(room)
    await move(room, embedder="vowels")
    (await vowels(room)).refuses = "Tulips 1"
    await room.book.reindexing.start(room.me, room.notebook)
    await room.work()
    last = await room.book.reindexing.latest(room.notebook.id)
    assert last is not None
    assert last.problem is not None
    assert (last.state, last.problem["code"]) == ("failed", "reindex_incomplete")
    assert "1.txt" in last.problem["detail"]
    assert "Tulips 1." in await found(room, "Tulips 1")  # the old one answers
    await room.book.reindexing.start(room.me, room.notebook, skip_failed=True)
    await room.work()
    assert await state(room) == "switched"
    assert "Tulips 1." not in await found(room, "Tulips 1")
    await room.book.reindexing.rollback(room.me, room.notebook)
    await room.work()
    (await vowels(room)).refuses = ""
    await room.book.reindexing.start(room.me, room.notebook)
    await room.work()
    assert "Tulips 1." in await found(room, "Tulips 1")


@in_a_moving_room()
async def test_cancelling_removes_what_was_built(room: Room) -> None:
    await fill(room)
    await move(room, embedder="vowels")
    await room.book.reindexing.start(room.me, room.notebook)
    for _ in range(3):
        await room.step()
    with pytest.raises(Conflict):
        other = room.book.settings.pipelines["default"].model_copy(update={"embedder": ""})
        room.book.pipelines._pipelines["words"] = await room.book.pipelines._build("words", other)
        await room.book.reindexing.start(room.me, room.notebook, pipeline="words")
    await room.book.reindexing.cancel(room.me, room.notebook)
    await room.work()
    assert len(room.index.points) == len(await room.rows(passages)) == 9
    assert {len(vector or ()) for _, vector in room.index.points.values()} == {26}


@in_a_moving_room()
async def test_a_source_that_comes_while_it_builds_is_in_both(room: Room) -> None:
    await fill(room)
    await move(room, embedder="vowels")
    await room.book.reindexing.start(room.me, room.notebook)
    await room.step()
    await room.add("late.txt", "Crocuses come late.")
    await room.work()
    assert await state(room) == "switched"
    assert "Crocuses come late." in await found(room, "Crocuses")


@pytest.mark.slow
@in_a_moving_room()
@pytest.mark.slow
async def test_a_crash_at_any_write_of_a_reindex_ends_switched_with_every_passage_once(room: Room) -> None:
    """Fail the n-th write, for n = 1, 2, ... until there is no n-th; every second time back again.

    Every fourth in the ordinary run, every one with SOURCEBOOK_KILLS=50 and more.
    """
    await fill(room, 2)
    step = 1 if int(os.environ.get("SOURCEBOOK_KILLS", "0")) >= 50 else 4
    write, at, crashed = room.book.database.write, 1 - step, True
    towards = "vowels"
    while crashed:
        at, crashed = at + step, False
        await move(room, embedder=towards)
        await room.change(reindexes, state="dropped")
        await room.book.reindexing.start(room.me, room.notebook)
        room.book.database.write = _failing(write, at)  # type: ignore[method-assign]
        try:
            await room.work()
        except Crash:
            crashed = True
        room.book.database.write = write  # type: ignore[method-assign]
        await room.change(jobs, jobs.c.state == "leased", lease_until=now() - timedelta(seconds=1))
        await room.work()
        assert await state(room) == "switched"
        assert len(await found(room, "Tulips Bees Snow")) == 6
        await room.book.reindexing.drop(room.me, room.notebook)
        await room.work()
        assert len(room.index.points) == len(await room.rows(passages)) == 6
        towards = "letters" if towards == "vowels" else "vowels"
        await room.change(jobs, jobs.c.state == "queued", state="cancelled")
    assert at > 20


def _failing(write: Any, at: int) -> Any:
    from contextlib import asynccontextmanager

    left = [at]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Crash("write")

    @asynccontextmanager
    async def wrapped(**how: bool) -> Any:
        async with write(**how) as c:
            yield c
            count()
        count()

    return wrapped


@in_a_moving_room()
async def test_auto_starts_what_is_stale_and_not_what_was_rolled_back(room: Room) -> None:
    await fill(room, 1)
    await move(room, embedder="vowels", reindex="manual")
    assert await room.book.reindexing.automatic() == 0
    await move(room, reindex="auto")
    assert await room.book.reindexing.automatic() == 1
    await room.work()
    assert await state(room) == "switched"
    assert await room.book.reindexing.automatic() == 0
    await room.book.reindexing.rollback(room.me, room.notebook)
    await room.work()
    assert await changed(room) == ("embedder",)
    assert await room.book.reindexing.automatic() == 0


@in_a_moving_room()
async def test_another_size_under_the_same_identity_is_refused_at_start_with_the_command_that_mends_it(
    room: Room,
) -> None:
    await fill(room)
    embedder = room.embedder
    embedder.spaces = (Space("letters", 5),)
    await move(room)
    with pytest.raises(ConfigError) as refused:
        await room.book.specs.check()
    assert refused.value.problem_code == "dimensions_changed"
    assert "sourcebook reindex" in refused.value.remedy
    assert "26" in refused.value.detail
    assert "5" in refused.value.detail
    await room.book.specs.check(mending=True)
    embedder.embed = (await vowels(room)).embed  # type: ignore[method-assign]
    await room.book.reindexing.start(room.me, room.notebook)
    await room.work()
    assert await state(room) == "switched"
    assert {len(v or ()) for p, v in room.index.points.values() if p.index_spec_id != room.notebook.index_spec_id} == {
        5
    }
    assert (await Embeddings(room.book.database).passages(embedder, room.me.owner_id, ["Bees 0."]))["letters"].shape[1]


@in_a_moving_room()
async def test_an_up_to_date_notebook_is_not_reindexed_and_nobody_else_may(room: Room) -> None:
    await fill(room, 1)
    with pytest.raises(Conflict) as refused:
        await room.book.reindexing.start(room.me, room.notebook)
    assert refused.value.problem_code == "not_stale"
    with pytest.raises(NotFound):
        await room.book.reindexing.start(await room.principal("eve"), room.notebook)


@in_a_moving_room()
async def test_a_notebook_that_is_deleted_meanwhile_ends_its_reindex(room: Room) -> None:
    await fill(room, 1)
    await move(room, embedder="vowels")
    await room.book.reindexing.start(room.me, room.notebook)
    await room.book.sources.delete_notebook(room.me, await notebook(room))
    await room.work()
    assert room.index.points == {}
    assert {j["state"] for j in await room.rows(jobs, jobs.c.kind == "reindex")} == {"done"}
    assert len(await room.rows(notebooks)) == 1
