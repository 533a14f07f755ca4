"""A run's events as `chat.completion.chunk`s: pure functions and one small class, no state of the server."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import orjson

from sourcebook.events import (
    CitationEvent,
    ContentDelta,
    Done,
    ErrorEvent,
    Event,
    ReasoningDelta,
    UsageEvent,
)
from sourcebook.run import Run
from sourcebook_api.openai_errors import openai_error

DONE = b"data: [DONE]\n\n"
_FINISH = {"length": "length", "content_filter": "content_filter"}

LinkOf = Callable[[str], str]
"""A citation's id -> an address that opens it, with scheme and host."""


class Chunks:
    """Makes the chunks of one answer. `usage` is sent, in a chunk of its own, only where it was asked for."""

    def __init__(self, run_id: str, model: str, link_of: LinkOf, *, include_usage: bool) -> None:
        self._link_of = link_of
        self._include_usage = include_usage
        self._usage = usage_of(None)
        self._error = False
        self._base: dict[str, Any] = {
            "id": completion_id(run_id),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        # The words are most of a stream, so all around them is made once.
        head = orjson.dumps(self._base)[:-1] + b',"choices":[{"index":0,"delta":{"%b":'
        tail = b'},"finish_reason":null}]' + (b',"usage":null' if include_usage else b"") + b"}\n\n"
        self._words = {kind: (b"data: " + head % kind, tail) for kind in (b"content", b"reasoning_content")}

    def first(self) -> bytes:
        """The chunk that only names the role."""
        return self._chunk({"role": "assistant", "content": ""})

    def of(self, event: Event) -> bytes:
        """What goes over the wire for one event; often nothing."""
        if isinstance(event, ContentDelta):
            return self._said(b"content", event.delta)
        if isinstance(event, ReasoningDelta):
            return self._said(b"reasoning_content", event.delta)
        if isinstance(event, CitationEvent):
            return self._chunk({"annotations": [annotation(event, self._link_of)]})
        if isinstance(event, UsageEvent):
            self._usage = usage_of(event)
        elif isinstance(event, ErrorEvent):
            self._error = True
            return b"data: " + orjson.dumps(openai_error({"status": 502, **event.problem})) + b"\n\n"
        elif isinstance(event, Done):
            return self._last(event)
        return b""

    def _said(self, kind: bytes, words: str) -> bytes:
        head, tail = self._words[kind]
        return head + orjson.dumps(words) + tail

    def _last(self, done: Done) -> bytes:
        last = b"" if self._error else self._chunk({}, _FINISH.get(done.finish, "stop"), sourcebook=ours(done))
        if self._include_usage and not self._error:
            last += b"data: " + orjson.dumps({**self._base, "choices": [], "usage": self._usage}) + b"\n\n"
        return last + DONE

    def _chunk(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        usage = {"usage": None} if self._include_usage else {}
        return b"data: " + orjson.dumps({**self._base, "choices": [choice], **usage, **more}) + b"\n\n"


async def chunks_of(run: Run, chunks: Chunks) -> AsyncGenerator[bytes, None]:
    """The whole stream of a run, up to `[DONE]`."""
    yield chunks.first()
    async with aclosing(run.batches()) as batches:
        async for batch in batches:
            if wire := b"".join([chunks.of(frame.event) for frame in batch]):
                yield wire


def completion(run: Run, model: str, events: Sequence[Event], link_of: LinkOf) -> dict[str, Any]:
    """The whole answer of a run that has ended."""
    done = next(e for e in events if isinstance(e, Done))
    usage = next((e for e in events if isinstance(e, UsageEvent)), None)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": done.text,
        "refusal": None,
        "annotations": [annotation(e, link_of) for e in events if isinstance(e, CitationEvent)],
    }
    if run.progress.reasoning:
        message["reasoning_content"] = run.progress.reasoning
    choice = {"index": 0, "message": message, "finish_reason": _FINISH.get(done.finish, "stop"), "logprobs": None}
    return {
        "id": completion_id(run.id),
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
        "usage": usage_of(usage),
        "sourcebook": ours(done),
    }


def completion_id(run_id: str) -> str:
    """A run's name in that API."""
    return f"chatcmpl-{run_id}"


def annotation(citation: CitationEvent, link_of: LinkOf) -> dict[str, Any]:
    """A citation as `url_citation`: the range is the sentence's in the answer, in code points."""
    found = {
        "url": link_of(citation.id),
        "title": citation.title,
        "start_index": citation.answer_start,
        "end_index": citation.answer_end,
    }
    return {"type": "url_citation", "url_citation": found}


def usage_of(usage: UsageEvent | None) -> dict[str, Any]:
    """Tokens, as that API counts them."""
    prompt, completion_tokens, reasoning = (
        (usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens) if usage else (0, 0, 0)
    )
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt + completion_tokens,
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def ours(done: Done) -> dict[str, Any]:
    """What that API has no place for: whether the answer rests on the sources, and each citation in full."""
    return {
        "message_id": done.message_id,
        "grounded": done.grounded,
        "citations": done.citations,
        "dropped_citations": done.dropped_citations,
    }
