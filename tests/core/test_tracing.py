"""Steps as OpenTelemetry spans: one for each run, job, stage, call and hook, below each other, and no words in them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import orjson
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from sourcebook.database.tables import runs
from sourcebook.errors import ConfigError, LLMError, SourcebookError
from sourcebook.events import Finish, Text, Usage
from sourcebook.hookspecs import hookimpl
from sourcebook.settings import Tracing
from sourcebook.steps import Step, current, inside, root, step
from sourcebook.tracing import tracer_of
from sourcebook.tracing_made import OpenTelemetry

from .support import Room, Store, furnished

WORDS = "umbrellas"


class Refining:
    """A hook that is called in every run."""

    @hookimpl
    async def refine_query(self, question: str, queries: tuple[str, ...]) -> tuple[str, ...]:
        return (*queries, WORDS)


class Seen:
    """What a room that is traced has told."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracer = OpenTelemetry(Tracing(**options), self._exporter)

    @property
    def spans(self) -> list[ReadableSpan]:
        self.tracer.flush()
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        return next(s for s in self.spans if s.name == name)

    def children(self, parent: ReadableSpan) -> list[str]:
        """Names of those below, in the order in which they began."""
        assert parent.context is not None
        below = [s for s in self.spans if s.parent and s.parent.span_id == parent.context.span_id]
        return [s.name for s in sorted(below, key=lambda s: s.start_time or 0)]

    def text(self) -> str:
        return "".join(s.to_json() for s in self.spans)


def traced(test: Any, store: Store, seen: Seen, **options: Any) -> None:
    """Run a test in a room whose steps are told to `seen`."""

    async def main() -> None:
        async with furnished(store, **options) as room:
            room.book.runs._tracer = room.book._worker._tracer = seen.tracer
            await test(room)

    asyncio.run(main())


async def asked(room: Room) -> str:
    run = await room.book.ask(room.me, f"What do {WORDS} need?", [room.notebook.id])
    async for _ in run.follow():
        pass
    return run.id


def test_a_run_is_a_span_with_its_stages_calls_and_hooks_below(store: Store) -> None:
    seen = Seen()

    async def test(room: Room) -> None:
        await room.ready("a.txt", f"Umbrellas, {WORDS}, need rain.")
        room.llm.script = [[Text(f"{WORDS} [1]."), Finish("stop"), Usage(20, 5, 0)]]
        run_id = await asked(room)
        row = (await room.rows(runs, runs.c.id == run_id))[0]
        run = seen.named("run default")
        told = dict(run.attributes or {})
        assert told["sourcebook.run.id"] == run_id
        assert told["gen_ai.conversation.id"] == row["conversation_id"]
        assert told["sourcebook.run.outcome"] == "done"
        assert seen.children(run) == ["condense", "retrieve", "prompt", "chat script"]
        below = seen.children(seen.named("retrieve"))
        assert below[0].startswith("hook refine_query ")
        assert below[1:] == ["embeddings letters", "retrieval memory"]
        chat = dict(seen.named("chat script").attributes or {})
        assert chat["gen_ai.operation.name"] == "chat"
        assert (chat["gen_ai.request.model"], chat["gen_ai.provider.name"]) == ("script", "script")
        assert (chat["gen_ai.usage.input_tokens"], chat["gen_ai.usage.output_tokens"]) == (20, 5)
        assert chat["gen_ai.response.finish_reasons"] == ("stop",)
        retrieval = dict(seen.named("retrieval memory").attributes or {})
        assert retrieval["gen_ai.operation.name"] == "retrieval"
        assert retrieval["gen_ai.data_source.id"] == "memory"
        assert {s.context.trace_id for s in seen.spans if s.context and s.name in ("retrieve", "chat script")} == {
            run.context.trace_id  # type: ignore[union-attr]
        }
        assert WORDS not in seen.text(), "nobody's words"

    traced(test, store, seen, plugins=(Refining(),))


def test_prompts_and_answers_are_told_where_that_is_asked_for(store: Store) -> None:
    seen = Seen(content=True)

    async def test(room: Room) -> None:
        await room.ready("a.txt", f"Umbrellas, {WORDS}, need rain.")
        room.llm.script = [[Text(f"Yes, {WORDS} [1]."), Finish("stop")]]
        await asked(room)
        chat = dict(seen.named("chat script").attributes or {})
        assert orjson.loads(str(chat["gen_ai.input.messages"]))[0]["role"] == "system"
        assert chat["gen_ai.output.messages"] == f"Yes, {WORDS} [1]."

    traced(test, store, seen)


def test_a_job_is_a_trace_of_its_own_and_what_failed_is_marked(store: Store) -> None:
    seen = Seen()

    async def test(room: Room) -> None:
        source_id = await room.add("a.txt", WORDS)

        async def broken(*_: Any) -> None:
            raise SourcebookError(f"no: {WORDS}", code="index_down")

        room.index.upsert = broken  # type: ignore[method-assign]
        await room.step()
        job = seen.named("job ingest")
        assert job.parent is None
        told = dict(job.attributes or {})
        assert (told["sourcebook.job.kind"], told["error.type"]) == ("ingest", "index_down")
        assert job.status.status_code is StatusCode.ERROR
        assert source_id not in seen.named("parsing").to_json()
        assert set(seen.children(job)) >= {"parsing", "embedding", "indexing"}
        assert seen.named("indexing").status.status_code is StatusCode.ERROR
        assert seen.named("embedding").status.status_code is StatusCode.UNSET
        assert WORDS not in seen.text(), "nobody's words, not even an error's"

    traced(test, store, seen)


def test_a_model_that_fails_is_an_error_and_the_next_ones_call_is_another_span(store: Store) -> None:
    seen = Seen()

    async def test(room: Room) -> None:
        await room.ready("a.txt", "Rain.")
        room.llm.script = [[LLMError("Down.", code="llm_down")]]
        await asked(room)
        failed = seen.named("chat script")
        assert failed.status.status_code is StatusCode.ERROR
        assert dict(failed.attributes or {})["error.type"] == "LLMError"
        assert seen.named("chat understudy").status.status_code is StatusCode.UNSET
        assert seen.named("run default").status.status_code is StatusCode.UNSET

    traced(test, store, seen, pipeline={"llm": ["script", "understudy"]})


def test_a_run_that_is_cancelled_is_no_error(store: Store) -> None:
    seen = Seen()

    async def test(room: Room) -> None:
        await room.ready("a.txt", "Rain.")
        room.llm.script = [[Text("Yes"), asyncio.Event()]]
        run = await room.book.ask(room.me, "Why?", [room.notebook.id])
        async for frame in run.follow():
            if frame.event.type == "content":
                await run.cancel("asked")
        chat, whole = seen.named("chat script"), seen.named("run default")
        assert dict(whole.attributes or {})["sourcebook.run.outcome"] == "cancelled"
        assert (chat.status.status_code, whole.status.status_code) == (StatusCode.UNSET, StatusCode.UNSET)

    traced(test, store, seen)


def test_half_of_the_traces_are_whole_and_the_others_are_not_there(store: Store) -> None:
    seen = Seen(sample=0.5)

    async def test(room: Room) -> None:
        await room.ready("a.txt", "Rain.")
        for _ in range(24):
            await asked(room)
        whole = [s for s in seen.spans if s.name == "run default"]
        assert 0 < len(whole) < 24
        assert all(len(seen.children(run)) == 4 for run in whole)

    traced(test, store, seen)


def test_a_step_without_a_tracer_tells_whoever_listens_and_nobody_else() -> None:
    heard: list[Step] = []
    whole = root("run", "run", None, heard.append)
    with inside(whole), step("stage", "a") as one, pytest.raises(ValueError), step("stage", "b"):
        assert current() is not one
        raise ValueError
    assert current() is None
    assert [(s.name, s.failed) for s in heard] == [("b", "ValueError"), ("a", "")]
    with step("stage", "alone"):
        pass
    assert len(heard) == 2


def test_nothing_is_traced_and_nothing_imported_unless_configured() -> None:
    assert tracer_of(Tracing()) is None
    code = (
        "import sys; from sourcebook.app import Sourcebook; from sourcebook.configuration import load\n"
        "import sourcebook_api.app, sourcebook_api.server\n"
        "Sourcebook(load(environ={}, overrides={}))\n"
        "print(*[m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.exporter', 'requests'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_missing_extra_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sourcebook.tracing_made", None)
    with pytest.raises(ConfigError) as caught:
        tracer_of(Tracing(endpoint="http://127.0.0.1:4318/v1/traces"))
    assert caught.value.problem_code == "extra_missing"
    assert "sourcebook[otel]" in caught.value.remedy
