"""A question -> the events of its answer: condense, search, prompt, stream, cite."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from sourcebook.citations import Marker, MarkerReader, support
from sourcebook.component_calls import called
from sourcebook.documents import Passage
from sourcebook.errors import LLMError
from sourcebook.events import (
    CitationEvent,
    ContentDelta,
    Delta,
    Event,
    Finish,
    Reasoning,
    ReasoningDelta,
    Retrieval,
    Text,
    ToolCall,
    Usage,
    UsageEvent,
)
from sourcebook.ids import new_id
from sourcebook.interfaces import LLMRequest, Message, Scope
from sourcebook.links import Links
from sourcebook.metrics import Metrics
from sourcebook.notebooks import Notebook
from sourcebook.pipelines import Pipeline, Pipelines
from sourcebook.plugins import Plugins
from sourcebook.prompts import Fitted, Prompts, fit
from sourcebook.reading import Reading
from sourcebook.relevance import relevant
from sourcebook.searching import Found, Mode, Searching
from sourcebook.steps import step
from sourcebook.trace import Trace

log = logging.getLogger(__name__)

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_SHORT = 6  # words; a shorter follow-up leans on the question before it
_ANSWER_TOKENS = 1024  # kept free for the answer where the caller sets no max_tokens


@dataclass(frozen=True)
class Question:
    """What is asked, by whom it may be answered, and what was said before.

    `instructions` go below the system prompt, as the client's own wishes.
    """

    text: str
    scope: Scope
    notebooks: Sequence[Notebook]
    history: Sequence[Message] = ()
    sources: Sequence[str] | None = None
    filters: Mapping[str, Any] | None = None
    limit: int | None = None
    mode: Mode | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    instructions: str = ""

    @property
    def pipeline(self) -> str:
        """The first notebook's pipeline answers."""
        return self.notebooks[0].pipeline


@dataclass
class Progress:
    """How far an answer is; kept by the run, so that a cancelled one still has what was made."""

    citations: list[CitationEvent] = field(default_factory=list)
    finish: str = ""
    llm: str = ""
    usage: Usage = field(default_factory=Usage)
    reader: MarkerReader = field(default_factory=lambda: MarkerReader(0))
    thoughts: list[str] = field(default_factory=list)
    trace: Trace = field(default_factory=Trace)

    @property
    def text(self) -> str:
        """The answer so far."""
        return self.reader.text

    @property
    def reasoning(self) -> str:
        """The model's thoughts so far."""
        return "".join(self.thoughts)

    @property
    def dropped(self) -> int:
        """Numbers in the answer that name no passage."""
        return self.reader.dropped

    @property
    def grounded(self) -> bool:
        """Whether any sentence is supported by what it cites."""
        return any(citation.supported for citation in self.citations)


class Answering:
    """Answers questions from notebooks."""

    def __init__(
        self,
        pipelines: Pipelines,
        plugins: Plugins,
        searching: Searching,
        reading: Reading,
        links: Links,
        metrics: Metrics | None = None,
    ) -> None:
        self.links = links
        self._metrics = metrics or Metrics()
        self._pipelines = pipelines
        self._plugins = plugins
        self._searching = searching
        self._reading = reading
        self._prompts = {p.name: Prompts(p.settings.prompts) for p in pipelines}

    def prompts(self, pipeline: str) -> Prompts:
        """A pipeline's templates."""
        return self._prompts[pipeline]

    async def answer(self, question: Question, progress: Progress) -> AsyncGenerator[Event, None]:
        """The events between `run.started` and `done`. Raises what went wrong; `progress` has what came before."""
        began = time.perf_counter()
        pipeline = self._pipelines[question.pipeline]
        request, told, retrieval_ms = await self._prepared(question, pipeline, progress.trace)
        # Only now are the numbers those of the prompt.
        yield told
        first_token: float | None = None
        async with (
            aclosing(self._stream(pipeline, request, progress)) as deltas,
            aclosing(self._cited(deltas, request.passages, progress)) as events,
        ):
            async for event in events:
                if first_token is None and isinstance(event, ContentDelta | ReasoningDelta):
                    progress.trace.token()
                    first_token = (time.perf_counter() - began) * 1000
                yield event
        yield _usage(progress, retrieval_ms, first_token, (time.perf_counter() - began) * 1000)

    async def _prepared(
        self, question: Question, pipeline: Pipeline, trace: Trace
    ) -> tuple[LLMRequest, Retrieval, float]:
        """All that comes before the model: its request, what is told of the passages, and how long these took."""
        prompts = self.prompts(pipeline.name)
        with step("stage", "condense"):
            asked, how = await self._condensed(question, pipeline, prompts)
        trace.asked(asked, how)
        with step("stage", "retrieve"):
            found = await self._searching.search(
                asked,
                question.scope,
                question.notebooks,
                limit=question.limit,
                sources=question.sources,
                filters=question.filters,
                mode=question.mode,
                weights=question.weights,
                expand=True,
                explanation=trace.explanation,
            )
        trace.searched(found.queries, found.passages)
        with step("stage", "prompt"):
            room, llm = int(question.options.get("max_tokens") or _ANSWER_TOKENS), pipeline.llms[0]
            fitting = relevant(asked, found.passages, pipeline.settings.search.relevance)
            fitted = fit(llm, prompts, question.text, fitting, question.history, room, question.instructions)
            trace.fitted(fitting, fitted, llm.context_window, room)
            request = LLMRequest(fitted.messages, asked, fitted.passages, question.options)
            request = await self._plugins.refine_prompt(asked, request)
        trace.prompted(request)
        told = _retrieval(found, request.passages, fitted, len(found.passages) - len(fitting))
        return request, told, found.took_ms

    async def _condensed(self, question: Question, pipeline: Pipeline, prompts: Prompts) -> tuple[str, str]:
        """The question on its own, and how it came about, as `Trace.asked` takes it.

        Where no model generates, a short follow-up is joined to the question before it.
        """
        earlier = [m for m in question.history if m.role == "user"]
        if not earlier:
            return question.text, "as_asked"
        llm = pipeline.llms[0]
        if not llm.generates:
            short = len(question.text.split()) <= _SHORT
            return (f"{earlier[-1].content} {question.text}", "joined") if short else (question.text, "as_asked")
        request = LLMRequest(prompts.condense(question.text, question.history), question.text)
        try:
            async with aclosing(called(llm, request, self._metrics)) as deltas:
                text = "".join([d.text async for d in deltas if isinstance(d, Text)])
        except LLMError as error:
            log.warning("the follow-up was not condensed: %s", error)
            return question.text, "not_condensed"
        condensed = " ".join(text.split())[:2000]
        return (condensed, "condensed") if condensed else (question.text, "not_condensed")

    async def _stream(self, pipeline: Pipeline, request: LLMRequest, progress: Progress) -> AsyncGenerator[Delta, None]:
        """The deltas of the first model that answers; the next one is tried only while nothing was received."""
        for last, llm in enumerate(pipeline.llms, start=1):
            progress.llm = llm.instance
            received = False
            try:
                async with aclosing(called(llm, request, self._metrics)) as deltas:
                    async for delta in deltas:
                        received = True
                        yield delta
                return
            except LLMError as error:
                if received or last == len(pipeline.llms):
                    raise
                log.warning("%s failed before its first token, so the next one is asked: %s", llm.instance, error)

    async def _cited(
        self, deltas: AsyncIterator[Delta], passages: Sequence[Passage], progress: Progress
    ) -> AsyncGenerator[Event, None]:
        reader = progress.reader = MarkerReader(len(passages))
        async for delta in deltas:
            if isinstance(delta, Text):
                text = _storable(delta.text)
                markers = reader.feed(text)
                yield ContentDelta(delta=text)
                for marker in markers:
                    citation = await self._citation(marker, reader.text, passages[marker.n - 1])
                    progress.citations.append(citation)
                    yield citation
            elif isinstance(delta, Reasoning):
                text = _storable(delta.text)
                progress.thoughts.append(text)
                yield ReasoningDelta(delta=text)
            elif isinstance(delta, Finish):
                progress.finish = delta.reason
            elif isinstance(delta, Usage):
                progress.usage = delta
            elif isinstance(delta, ToolCall):
                raise LLMError(
                    f"The model asked for the tool {delta.name!r}, and none was offered.",
                    code="llm_unasked_tool",
                    remedy="Use a model or a chat template that does not call tools on its own.",
                )
        if not progress.finish:
            raise LLMError("The model's stream ended without a finish: the answer is cut.", code="llm_truncated")

    async def _citation(self, marker: Marker, text: str, passage: Passage) -> CitationEvent:
        found = support(text[marker.answer_start : marker.answer_end], passage)
        places = await self._reading.places(passage.document_id, found.start, found.end)
        citation_id = new_id("cite")
        return CitationEvent(
            id=citation_id,
            n=marker.n,
            passage_id=passage.id,
            source_id=passage.source_id,
            document_id=passage.document_id,
            title=passage.title,
            start=found.start,
            end=found.end,
            quote=found.quote,
            places=[p.to_json() for p in places],
            answer_start=marker.answer_start,
            answer_end=marker.answer_end,
            supported=found.supported,
            url=self.links.url(citation_id),
        )


def _storable(text: str) -> str:
    """Without what neither JSON nor a database takes: lone surrogates and NUL."""
    return text if text.isascii() and "\0" not in text else _UNSTORABLE.sub("\ufffd", text)


def passage_json(passage: Passage, n: int | None = None) -> dict[str, Any]:
    """A passage as clients see it."""
    shown = {
        "passage_id": passage.id,
        "source_id": passage.source_id,
        "notebook_id": passage.notebook_id,
        "document_id": passage.document_id,
        "title": passage.title,
        "start": passage.start,
        "end": passage.end,
        "text": passage.text,
        "context": passage.context,
        "places": [p.to_json() for p in passage.places],
        "score": round(passage.score, 6),
        "scores": {leg: round(score, 6) for leg, score in passage.scores.items()},
    }
    return shown if n is None else {"n": n, **shown}


def _retrieval(found: Found, passages: Sequence[Passage], fitted: Fitted, irrelevant: int) -> Retrieval:
    listed = [passage_json(p, n) for n, p in enumerate(passages, start=1)]
    warnings = []
    if fitted.dropped:
        warnings.append(f"{fitted.dropped} passages did not fit the model's window.")
    if fitted.dropped_turns:
        warnings.append(f"{fitted.dropped_turns} turns of the conversation did not fit the model's window.")
    return Retrieval(
        query=found.queries[0],
        passages=listed,
        took_ms=round(found.took_ms, 1),
        dropped=fitted.dropped,
        dropped_turns=fitted.dropped_turns,
        irrelevant=irrelevant,
        warnings=warnings,
    )


def _usage(progress: Progress, retrieval_ms: float, first_token: float | None, total: float) -> UsageEvent:
    return UsageEvent(
        prompt_tokens=progress.usage.prompt,
        completion_tokens=progress.usage.completion,
        reasoning_tokens=progress.usage.reasoning,
        retrieval_ms=round(retrieval_ms, 1),
        first_token_ms=None if first_token is None else round(first_token, 1),
        total_ms=round(total, 1),
        llm=progress.llm,
    )
