"""Runs: their log in memory and in SQL, followed, cancelled and taken over by other processes."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from sourcebook import settings
from sourcebook.database.engine import now
from sourcebook.database.tables import citations, messages, run_segments, runs
from sourcebook.errors import InvalidInput, LLMError, NotFound, StoreError
from sourcebook.events import ContentDelta, Done, Finish, Reasoning, ReasoningDelta, Text, encode
from sourcebook.run import Run
from sourcebook.run_log import Segment

from .support import Room, Store, furnished, in_a_room

Two = Callable[[Room, Room], Awaitable[None]]
TEXT = "Roses need water.\n\nTulips need sun."


def events_of(wire: bytes) -> list[Any]:
    """The data of every frame, after a look at its id."""
    found = []
    for frame in wire.split(b"\n\n")[:-1]:
        data = orjson.loads(frame.partition(b"\ndata: ")[2])
        assert frame.startswith(f"id: {data['run_id']}:{data['seq']}\nevent: {data['type']}\n".encode())
        found.append(data)
    return found


async def followed(room: Room, run_id: str, after: int = 0) -> list[Any]:
    """Every event from `after` on, to the end."""
    wires = [wire async for wire in await room.book.runs.events(room.me, run_id, after)]
    return [event for wire in wires for event in events_of(wire)]


def whole(seen: list[Any], after: int = 0) -> bool:
    """Whether nothing is missing or twice, and the one `done` is last."""
    numbers = [event["seq"] for event in seen]
    types = [event["type"] for event in seen]
    return numbers == list(range(after + 1, after + 1 + len(seen))) and types.count("done") == 1 and types[-1] == "done"


@asynccontextmanager
async def two(folder: Path, **options: Any) -> AsyncIterator[tuple[Room, Room]]:
    """Two processes' worth of Sourcebook on one database."""
    log = {"log": "sql", "flush": 0.02, "lease": 1.0, "grace": 0.3, **options.pop("runs", {})}
    async with furnished(Store(folder), runs=log, **options) as a, furnished(Store(folder), runs=log, **options) as b:
        yield a, b


def run_in_two(test: Two, folder: Path, **options: Any) -> None:
    async def main() -> None:
        async with two(folder, **options) as (a, b):
            await a.ready("a.txt", TEXT)
            await asyncio.wait_for(test(a, b), 60)

    asyncio.run(main())


def on_both_databases(test: Two) -> Callable[..., None]:
    """The same on SQLite and on PostgreSQL."""

    @pytest.mark.parametrize("database", ["sqlite", "postgresql"])
    def run(tmp_path: Path, database: str, request: pytest.FixtureRequest) -> None:
        options: dict[str, Any] = {}
        if database == "postgresql":
            server = request.getfixturevalue("postgres")
            options["storage"] = {"database": server.migrated()}
        run_in_two(test, tmp_path, **options)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


# In memory.


def a_run(**options: Any) -> Run:
    return Run("run_1", "own_1", 0.0, settings.Runs(**options))


def words(run: Run, count: int, size: int = 1) -> None:
    for n in range(count):
        run.progress.reader.feed(f"w{n} ")
        run.emit(ContentDelta(delta="x" * size))


def finish(run: Run) -> None:
    run.emit(Done(finish="stop", message_id="m", message_state="complete", text="", citations=[]))
    run.end()


def test_a_follower_gets_every_frame_once_from_where_it_asks() -> None:
    async def main() -> None:
        run = a_run()
        words(run, 3)
        early = asyncio.create_task(_numbers(run, 0))
        late = asyncio.create_task(_numbers(run, 2))
        beyond = asyncio.create_task(_numbers(run, 99))
        await asyncio.sleep(0)
        words(run, 2)
        finish(run)
        assert await early == [1, 2, 3, 4, 5, 6]
        assert await late == [3, 4, 5, 6]
        assert await beyond == [4, 5, 6]

    asyncio.run(main())


async def _numbers(run: Run, after: int) -> list[int]:
    return [frame.seq async for frame in run.follow(after)]


def test_what_is_there_comes_at_once() -> None:
    async def main() -> None:
        run = a_run()
        words(run, 100)
        batches = run.batches()
        assert len(await anext(batches)) == 100
        await batches.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("options", [{"max_frames": 100}, {"max_bytes": 65_536}])
def test_a_slow_reader_costs_no_memory_and_gets_a_snapshot(options: dict[str, int]) -> None:
    async def main() -> None:
        run = a_run(**options)
        slow = run.batches()
        words(run, 1)
        await anext(slow)
        words(run, 3000, size=200)
        assert len(run._frames) <= 2 * options.get("max_frames", 10**6)
        assert sum(len(f.wire) for f in run._frames) <= 2 * options.get("max_bytes", 10**9)
        (snapshot,) = await anext(slow)
        data = events_of(snapshot.wire)[0]
        assert (data["type"], data["content"]) == ("snapshot", run.progress.text)
        finish(run)
        rest = [frame.seq async for batch in slow for frame in batch]
        assert rest[-1] == run.last_seq
        assert rest == list(range(data["seq"] + 1, run.last_seq + 1))

    asyncio.run(main())


def test_words_are_encoded_by_hand_as_the_encoder_would() -> None:
    for text in ("plain", 'a "quote"\n\nevent: done\ndata: {}', "größe \u2028 🌹", "\\", ""):
        for cls in (ContentDelta, ReasoningDelta):
            wire = encode("run_1", 7, cls(delta=text)).wire
            assert events_of(wire) == [{"type": cls.type, "run_id": "run_1", "seq": 7, "delta": text}]


def test_a_segment_is_cut_between_its_frames() -> None:
    frames = [encode("run_1", n, ContentDelta(delta=f"w{n}")).wire for n in range(4, 9)]
    segment = Segment(4, 8, b"".join(frames))
    for after in range(10):
        assert segment.after(after) == b"".join(frames[max(after - 3, 0) :])


@in_a_room(runs={"grace": 0.05})
async def test_a_run_that_nobody_follows_is_cancelled_after_its_grace(room: Room) -> None:
    await room.ready("a.txt", TEXT)
    room.llm.script = [[Text("Water"), asyncio.Event()]]
    run = await room.book.ask(room.me, "What do roses need?", [room.notebook.id])
    async for frame in run.follow():
        if frame.event.type == "content":
            break
    await asyncio.wait_for(run.wait(), 10)
    (row,) = await room.rows(messages, messages.c.role == "assistant")
    assert (row["text"], row["state"], row["details"]["cancelled"]) == ("Water", "incomplete", "abandoned")
    assert room.llm.closed == 1


@in_a_room()
async def test_whatever_goes_wrong_is_an_error_and_then_one_done(room: Room) -> None:
    await room.ready("a.txt", TEXT)
    for failure, code in (
        (LLMError("It refused.", code="llm_refused"), "llm_refused"),
        (RuntimeError("secret"), "internal"),
    ):
        room.llm.script = [[Text("Wat"), failure]]
        run = await room.book.ask(room.me, "What do roses need?", [room.notebook.id])
        seen = [frame.event async for frame in run.follow()]
        assert [e.type for e in seen[-2:]] == ["error", "done"]
        assert seen[-2].payload()["problem"]["code"] == code
        assert "secret" not in str(seen)
        assert seen[-1].payload()["text"] == "Wat"


@in_a_room()
async def test_a_question_that_cannot_be_stored_is_not_answered(room: Room) -> None:
    await room.ready("a.txt", TEXT)

    async def full(*args: Any) -> str:
        raise StoreError("The disk is full.", code="storage_full")

    room.book.runs.turns.begin = full  # type: ignore[method-assign, assignment]
    with pytest.raises(StoreError):
        await room.book.ask(room.me, "What do roses need?", [room.notebook.id])
    assert room.llm.requests == []
    assert room.book.runs._runs == {}
    assert await room.rows(messages) == []
    assert room.book.wirings.current.users == 0


@in_a_room(runs={"keep": 0.0})
async def test_a_run_that_is_no_longer_held_is_told_from_its_message(room: Room) -> None:
    await room.ready("a.txt", TEXT)
    room.llm.script = [[Reasoning("Hm."), Text("Roses need water [1]."), Finish("stop")]]
    run = await room.book.ask(room.me, "What do roses need?", [room.notebook.id])
    await run.wait()
    room.book.runs._runs.clear()
    snapshot, done = await followed(room, run.id)
    assert (snapshot["type"], snapshot["content"], snapshot["reasoning"]) == ("snapshot", done["text"], "Hm.")
    assert (done["type"], done["finish"], done["grounded"]) == ("done", "stop", True)
    assert [c["quote"] for c in done["citations"]] == ["Roses need water"]
    with pytest.raises(NotFound):
        await room.book.runs.events(await room.principal("bob"), run.id)


@in_a_room()
async def test_runs_that_ended_are_held_up_to_so_many_bytes_and_then_told_from_their_messages(room: Room) -> None:
    await room.ready("a.txt", TEXT)
    made = []
    for most in (10**9, 10**9, 1, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sourcebook.runs._MOST_ENDED", most)
            run = await room.book.ask(room.me, "What do roses need?", [room.notebook.id])
            assert (await followed(room, run.id))[-1]["type"] == "done"
            await run.wait()
            made.append(run.id)
    held = room.book.runs._runs
    assert [run_id in held for run_id in made] == [False, False, False, True]
    assert room.book.runs._over_bytes == held[made[-1]].bytes
    assert [event["type"] for event in await followed(room, made[0])] == ["snapshot", "done"]


@in_a_room()
async def test_a_run_that_has_ended_holds_its_frames_and_not_how_they_came_about(room: Room) -> None:
    await room.ready("a.txt", TEXT)
    room.llm.script = [[Text("Roses need water [1]."), Finish("stop")], [LLMError("It is down.")]]
    runs = [await room.book.ask(room.me, "What do roses need?", [room.notebook.id]) for _ in range(2)]
    for run in runs:
        await run.wait()
        assert run.step.listener is None
        assert run.progress.trace.explanation.stages == []
        assert (await room.book.runs.turns.trace(run.id) or {})["retrieval"]["stages"]
        assert [e["type"] for e in await followed(room, run.id)][-1] == "done"
    assert runs[1].error is not None
    assert runs[1].error.__traceback__ is None


# In SQL, from another process.


@on_both_databases
async def test_another_process_follows_a_run_from_any_point(a: Room, b: Room) -> None:
    go = asyncio.Event()
    a.llm.script = [[Reasoning("Hm."), Text("Roses need "), go, Text("water [1]."), Finish("stop")]]
    run = await a.book.ask(a.me, "What do roses need?", [a.notebook.id])
    here = asyncio.create_task(followed(a, run.id))
    there = asyncio.create_task(followed(b, run.id))
    await _until(lambda: _has(b, run.id))
    later = asyncio.create_task(followed(b, run.id, 3))
    go.set()
    mine = await here
    assert whole(mine)
    assert await there == mine
    assert await later == mine[3:]
    assert await followed(b, run.id, 4) == mine[4:]  # and after its end
    assert whole(await followed(b, run.id))


@on_both_databases
async def test_another_process_cancels_a_run(a: Room, b: Room) -> None:
    a.llm.script = [[Text("Water"), asyncio.Event()]]
    run = await a.book.ask(a.me, "What do roses need?", [a.notebook.id])
    here = asyncio.create_task(followed(a, run.id))
    await _until(lambda: _has(b, run.id))
    await b.book.runs.cancel(b.me, run.id)
    assert a.llm.closed == 1
    seen = await here
    assert whole(seen)
    assert (seen[-1]["finish"], seen[-1]["text"]) == ("cancelled", "Water")
    assert (await b.book.runs.turns.run(b.me, run.id))["state"] == "cancelled"
    with pytest.raises(NotFound):
        await b.book.runs.cancel(await b.principal("bob"), run.id)


@pytest.mark.slow
@on_both_databases
async def test_a_follower_in_another_process_keeps_a_run_alive_and_its_leaving_ends_it(a: Room, b: Room) -> None:
    a.llm.script = [[Text("Water"), asyncio.Event()]]
    run = await a.book.ask(a.me, "What do roses need?", [a.notebook.id])
    there = asyncio.create_task(followed(b, run.id))

    async def known() -> bool:
        return run.followed_elsewhere > 0

    await _until(known)
    run._watch(0.0)  # nobody follows here
    await asyncio.sleep(0.5)
    assert run.finished_at is None
    there.cancel()
    await asyncio.wait_for(run.wait(), 20)
    assert run.why_cancelled == "abandoned"


@on_both_databases
async def test_a_lost_workers_run_is_ended_by_whoever_sees_it_and_what_it_made_is_kept(a: Room, b: Room) -> None:
    a.llm.script = [[Reasoning("Hm."), Text("Roses need water [1]. And"), asyncio.Event()]]
    run = await a.book.ask(a.me, "What do roses need?", [a.notebook.id])
    here = asyncio.create_task(followed(a, run.id))
    await _until(lambda: _has(b, run.id, "citation"))
    assert a.book.runs._log._task is not None
    a.book.runs._log._task.cancel()  # as dead as a process can be that shares ours
    there = asyncio.create_task(followed(b, run.id))
    seen = await asyncio.wait_for(there, 20)
    assert whole(seen)
    assert [e["type"] for e in seen[-2:]] == ["error", "done"]
    assert seen[-2]["problem"]["code"] == "interrupted"
    assert (seen[-1]["text"], seen[-1]["finish"], seen[-1]["grounded"]) == ("Roses need water [1]. And", "error", True)
    (row,) = await b.rows(messages, messages.c.role == "assistant")
    assert (row["id"], row["state"], row["reasoning"]) == (seen[-1]["message_id"], "incomplete", "Hm.")
    assert [c["quote"] for c in await b.rows(citations)] == ["Roses need water"]
    # The worker was not dead after all: it writes nothing more.
    await run.cancel("test")
    mine = await here
    assert "lease_lost" in [e["problem"]["code"] for e in mine if e["type"] == "error"]
    assert len(await b.rows(messages, messages.c.role == "assistant")) == 1


@on_both_databases
async def test_frames_are_dropped_when_a_run_ended_long_ago_and_the_answer_is_still_told(a: Room, b: Room) -> None:
    a.llm.script = [[Text("Roses need water [1]."), Finish("stop")]]
    run = await a.book.ask(a.me, "What do roses need?", [a.notebook.id])
    await run.wait()
    await _until(lambda: _has(b, run.id, "done"))
    await a.change(runs, runs.c.id == run.id, finished_at=now() - timedelta(days=1))
    await b.book.runs._log.prune()
    assert await b.rows(run_segments) == []
    assert [e["type"] for e in await followed(b, run.id)] == ["snapshot", "done"]


def test_in_the_memory_form_another_process_still_hears_the_end_and_can_cancel(tmp_path: Path) -> None:
    async def test(a: Room, b: Room) -> None:
        a.llm.script = [[Text("Water"), asyncio.Event()]]
        run = await a.book.ask(a.me, "What do roses need?", [a.notebook.id])
        there = asyncio.create_task(followed(b, run.id))
        await asyncio.sleep(0.1)
        await b.book.runs.cancel(b.me, run.id)
        assert [e["type"] for e in await there] == ["snapshot", "done"]
        assert await a.rows(run_segments) == []

    run_in_two(test, tmp_path, runs={"log": "memory"})


def test_the_run_of_a_process_that_died_is_ended_at_the_next_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with furnished(Store(tmp_path)) as room:
            await room.ready("a.txt", TEXT)
            run = await room.book.ask(room.me, "What do roses need?", [room.notebook.id])
            await run.wait()
            old = now() - timedelta(minutes=1)
            values = {"state": "running", "lease_until": old, "message_id": None, "finished_at": None}
            await room.change(runs, runs.c.id == run.id, **values)
        async with furnished(Store(tmp_path)) as room:
            await _until(lambda: _ended(room, run.id))
            (row,) = await room.rows(runs)
            assert row["state"] == "failed"
            last = (await room.rows(messages, messages.c.id == row["message_id"]))[0]
            assert (last["state"], last["details"]["problem"]["code"]) == ("incomplete", "interrupted")

    asyncio.run(main())


async def _has(room: Room, run_id: str, kind: str = "content") -> bool:
    rows = await room.rows(run_segments, run_segments.c.run_id == run_id)
    return any(re.search(rb"\nevent: %b\n" % kind.encode(), row["frames"]) for row in rows)


async def _ended(room: Room, run_id: str) -> bool:
    return bool(await room.rows(runs, runs.c.id == run_id, runs.c.state != "running"))


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 20
    while not await holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


# Asked again.


@in_a_room()
async def test_a_question_that_replaces_another_hides_what_came_after(room: Room) -> None:
    await room.ready("a.txt", TEXT)
    room.llm.script = [[Text("One."), Finish("stop")]]
    ask, talk = room.book.ask, room.book.conversations
    for question in ("What do roses need?", "What do tulips need?"):
        first = (await room.rows(runs))[0]["conversation_id"] if await room.rows(runs) else None
        await (await ask(room.me, question, [room.notebook.id], conversation_id=first)).wait()
    conversation = (await room.rows(runs))[0]["conversation_id"]
    turns = await talk.messages(conversation)
    assert [t.role for t in turns] == ["user", "assistant"] * 2
    again = await ask(
        room.me, "What do weeds need?", [room.notebook.id], conversation_id=conversation, replaces=turns[0].id
    )
    await again.wait()
    shown = await talk.messages(conversation)
    assert [t.text for t in shown] == ["What do weeds need?", "One."]
    assert len(await talk.messages(conversation, replaced=True)) == 6
    assert room.llm.requests[-1].messages[1:-1] == ()  # what gave way is no history
    with pytest.raises(NotFound):
        await ask(room.me, "x", [room.notebook.id], conversation_id=conversation, replaces=turns[0].id)
    with pytest.raises(InvalidInput):
        await ask(room.me, "x", [])


@in_a_room()
async def test_an_answer_that_is_made_again_is_made_as_the_first_was(room: Room) -> None:
    await room.ready("a.txt", TEXT)
    room.llm.script = [[Text("One."), Finish("stop")]]
    options = {"max_tokens": 7}
    run = await room.book.ask(room.me, "What do roses need?", [room.notebook.id], limit=1, options=options)
    await run.wait()
    conversation = (await room.rows(runs))[0]["conversation_id"]
    answer = (await room.book.conversations.messages(conversation))[-1]
    how = await room.book.conversations.asked_before(room.me, answer.id)
    assert how["notebook_ids"] == [room.notebook.id]
    await (await room.book.ask(room.me, **how)).wait()
    shown = await room.book.conversations.messages(conversation)
    assert [t.role for t in shown] == ["user", "assistant"]
    assert shown[1].id != answer.id
    first, second = room.llm.requests[-2:]
    assert (second.options, len(second.passages), second.messages) == (options, 1, first.messages)
