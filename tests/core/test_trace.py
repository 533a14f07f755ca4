"""What a run tells of how it came about: every step, of the sources nothing but ids and ranges, and not too much."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from sourcebook.database.tables import run_traces, runs
from sourcebook.errors import LLMError, SourcebookError
from sourcebook.events import Finish, Text, Usage
from sourcebook.explaining import Explanation, unconfirmed
from sourcebook.fusion import Fused
from sourcebook.hookspecs import hookimpl
from sourcebook.interfaces import Hit
from sourcebook.trace import MAX_BYTES, Trace, cited

from .support import Room, Store, furnished, in_a_room

SECRET = "umbrellas"
TEXT = f"Roses need water and {SECRET}.\n\nTulips need sun and water.\n\nNothing of cows here."


async def asked(room: Room, question: str = "What do roses need?", **how: Any) -> str:
    """A question, followed to its end; the run's id."""
    run = await room.book.ask(room.me, question, [room.notebook.id], **how)
    async for _ in run.follow():
        pass
    return run.id


async def trace_of(room: Room, run_id: str) -> dict[str, Any]:
    found = await room.book.runs.turns.trace(run_id)
    assert found is not None
    return dict(found)


class Refining:
    """One hook that works and one that does not."""

    @hookimpl
    async def refine_query(self, question: str, queries: tuple[str, ...]) -> tuple[str, ...]:
        return (*queries, "tulips")

    @hookimpl
    async def refine_prompt(self, question: str, request: Any) -> None:
        raise RuntimeError(SECRET)


@in_a_room(plugins=(Refining(),), pipeline={"reranker": "shortest", "search": {"neighbours": 1}})
async def test_every_step_of_an_answer_is_told(room: Room) -> None:
    source = await room.ready("a.txt", TEXT)
    room.llm.script = [[Text("Water [1]. Cows [2]. Milk [9]."), Finish("stop"), Usage(20, 5, 0)]]
    told = await trace_of(room, await asked(room))
    assert told["asked"] == {
        "question": "What do roses need?",
        "how": "as_asked",
        "queries": ["What do roses need?", "tulips"],
    }
    assert [s["stage"] for s in told["stages"]] == ["condense", "retrieve", "prompt"]
    of_search = [s["stage"] for s in told["retrieval"]["stages"]]
    assert of_search == ["queries", "search", "fusion", "rerank", "expand", "result"]
    ranked = told["retrieval"]["ranked"]
    assert ranked[0]["legs"]
    assert {"rank", "score"} == set(ranked[0]["fused"]) == set(ranked[0]["rerank"])
    assert {p["source_id"] for p in told["retrieval"]["found"]} == {source}
    assert any(p["read"] for p in told["retrieval"]["found"] if "read" in p)
    prompt = told["prompt"]
    assert [m["role"] for m in prompt["messages"]] == ["system", "user"]
    assert 0 < prompt["tokens"] <= prompt["room"] < prompt["window"]
    assert [p["n"] for p in prompt["passages"]] == list(range(1, len(prompt["passages"]) + 1))
    calls = [(c["kind"], c["call"]) for c in told["calls"]]
    assert calls == [("embedders", "embed"), ("retrievers", "search"), ("rerankers", "rerank"), ("llms", "stream")]
    assert all(c["took_ms"] >= 0 and c["at_ms"] >= 0 for c in told["calls"])
    assert told["calls"][-1]["finish"] == "stop"
    hooks = {h["hook"]: h for h in told["hooks"]}
    assert "failed" not in hooks["refine_query"]
    assert hooks["refine_prompt"]["failed"] == "RuntimeError"
    assert told["usage"] == {"prompt": 20, "completion": 5, "reasoning": 0}
    assert (told["citations"]["made"], told["citations"]["dropped"]) == (2, 1)
    assert told["citations"]["unsupported"] >= 1
    assert (told["outcome"], told["finish"], told["problem"], told["llm"]) == ("done", "stop", "", "script")
    assert 0 < told["first_token_ms"] <= told["total_ms"]
    assert SECRET not in orjson.dumps(told).decode(), "a passage's text"


@in_a_room()
async def test_a_run_that_failed_tells_where(room: Room) -> None:
    await room.ready("a.txt", TEXT)

    async def broken(*_: Any) -> Any:
        raise SourcebookError(f"The embedder is down: {SECRET}", code="embedder_down")

    room.embedder.embed = broken  # type: ignore[method-assign, assignment]
    told = await trace_of(room, await asked(room))
    assert (told["outcome"], told["finish"], told["problem"]) == ("failed", "error", "embedder_down")
    assert told["asked"]["queries"] == []
    assert [s["stage"] for s in told["retrieval"]["stages"]] == ["queries"]
    assert [(s["stage"], s.get("failed")) for s in told["stages"]] == [
        ("condense", None),
        ("retrieve", "SourcebookError"),
    ]
    assert SECRET not in orjson.dumps(told).decode()


@in_a_room(pipeline={"llm": ["script", "understudy"]})
async def test_every_model_that_was_tried_is_told(room: Room) -> None:
    await room.ready("a.txt", TEXT)
    room.llm.script = [[LLMError("Down.", code="llm_down")]]
    told = await trace_of(room, await asked(room))
    tried = [(c["instance"], c.get("failed")) for c in told["calls"] if c["kind"] == "llms"]
    assert tried == [("script", "LLMError"), ("understudy", None)]
    assert told["llm"] == "understudy"


@in_a_room()
async def test_what_was_left_out_for_want_of_room_is_told(room: Room) -> None:
    text = "\n\n".join(f"Roses need water, part {n}. " + "And so on. " * 60 for n in range(30))
    await room.ready("a.txt", text)
    room.llm.context_window = 1800
    told = (await trace_of(room, await asked(room, limit=20)))["prompt"]
    kept = {p["passage_id"] for p in told["passages"]}
    assert told["cut"]
    assert not kept & set(told["cut"])


@in_a_room()
async def test_how_a_follow_up_was_made_into_a_question_is_told(room: Room) -> None:
    await room.ready("a.txt", TEXT)
    first = await room.book.ask(room.me, "What do roses need?", [room.notebook.id])
    async for _ in first.follow():
        pass
    row = (await room.rows(runs, runs.c.id == first.id))[0]
    told = await trace_of(room, await asked(room, "And tulips?", conversation_id=row["conversation_id"]))
    assert told["asked"]["how"] == "condensed"
    assert [c["kind"] for c in told["calls"]].count("llms") == 2


@in_a_room(runs={"trace": False})
async def test_nothing_is_stored_where_traces_are_off(room: Room) -> None:
    await room.ready("a.txt", TEXT)
    run_id = await asked(room)
    assert await room.book.runs.turns.trace(run_id) is None
    assert await room.rows(run_traces) == []


@in_a_room()
async def test_a_trace_goes_with_its_conversation(room: Room) -> None:
    await room.ready("a.txt", TEXT)
    run_id = await asked(room)
    row = (await room.rows(runs, runs.c.id == run_id))[0]
    await room.book.conversations.delete(room.me, row["conversation_id"])
    assert await room.rows(run_traces) == []


@in_a_room()
async def test_an_answer_is_stored_although_its_trace_cannot_be(room: Room) -> None:
    await room.ready("a.txt", TEXT)
    async with room.book.database.write() as c:
        await c.exec_driver_sql("DROP TABLE run_traces")  # as in a database that waits for its upgrade
    run_id = await asked(room)
    row = (await room.rows(runs, runs.c.id == run_id))[0]
    assert (row["state"], row["message_id"] is not None) == ("done", True)


def test_answers_that_are_made_at_once_do_not_tell_of_each_other(store: Store) -> None:
    async def main() -> None:
        async with furnished(store) as room:
            await room.ready("a.txt", TEXT)
            questions = [f"What do roses need, {n}?" for n in range(8)]
            made = await asyncio.gather(*(asked(room, q) for q in questions))
            for question, run_id in zip(questions, made, strict=True):
                told = await trace_of(room, run_id)
                assert told["asked"]["question"] == question
                assert [c["kind"] for c in told["calls"]] == ["embedders", "retrievers", "llms"]

    asyncio.run(main())


def test_a_trace_is_never_long() -> None:
    trace = Trace()
    trace.asked("\x01" * 20_000, "as_asked")
    trace.searched(["\x01" * 20_000] * 50, ())
    names = [f"passage-{n}-{'x' * 100}" for n in range(2000)]
    leg = {"lexical": {name: (n, 1.0) for n, name in enumerate(names, 1)}}
    fused = [Fused(name, 1 / n, leg) for n, name in enumerate(names, 1)]
    trace.explanation.fused(fused, {})
    made = trace.shown(cited([], 0))
    assert len(orjson.dumps(made)) <= MAX_BYTES
    assert made["truncated"]
    best = Trace()
    best.explanation.fused(fused, {})
    kept = best.shown(cited([], 0))["retrieval"]["ranked"]
    assert 10 < len(kept) < len(fused)
    assert [one["passage_id"] for one in kept] == [f.passage_id for f in fused[: len(kept)]], "the best are kept"


def test_what_the_database_did_not_confirm_is_told_by_rank_and_never_by_id() -> None:
    legs = {"dense:a": [Hit("mine", 0.9), Hit("theirs", 0.8)], "lexical": [Hit("mine", 3.0)]}
    told = unconfirmed(legs, {"mine": object()})
    assert told == {"dense:a": {"hits": 1, "ranks": [2]}}
    explanation = Explanation()
    explanation.stage("fusion", dropped=told)
    assert "theirs" not in orjson.dumps(explanation.shown(())).decode()
