"""The one vocabulary of an answer: deltas come from an LLM, events go to a client, frames are events on the wire.

An LLM yields `Delta`s. A run turns them into `Event`s, numbers them and keeps them as `Frame`s, encoded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import orjson

# What an LLM yields.


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's thinking; never part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asked for. Sourcebook offers no tools yet, so a run ends with an error on it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the server counted them; the last one of a stream counts."""

    prompt: int = 0
    completion: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Finish:
    """Why the model stopped: `stop`, `length`, `content_filter`, or `other` with the server's word in `raw`."""

    reason: str
    raw: str = ""


Delta = Reasoning | Text | ToolCall | Usage | Finish

# What a run emits.


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a run. `type` is its name on the wire; clients ignore what they do not know."""

    type: ClassVar[str]

    def payload(self) -> dict[str, Any]:
        """The event's own fields, JSON-safe, without those that are None."""
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: value for name, value in values if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """First of every run."""

    type = "run.started"
    conversation_id: str
    message_id: str
    notebooks: list[str]
    pipeline: str
    created_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval(Event):
    """What was found: `passages` are numbered from 1, as in the prompt. An empty list is an answer too.

    Left out of the prompt: `dropped` passages and `dropped_turns` of the conversation for want of room, `irrelevant`
    passages because they do not fit the question.
    """

    type = "retrieval"
    query: str
    passages: list[dict[str, Any]]
    took_ms: float
    dropped: int = 0
    dropped_turns: int = 0
    irrelevant: int = 0
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningDelta(Event):
    """A piece of the model's thinking."""

    type = "reasoning"
    delta: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentDelta(Event):
    """A piece of the answer. The answer is the sum of these."""

    type = "content"
    delta: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CitationEvent(Event):
    """A `[n]` that closed. `answer_start`, `answer_end`: the sentence in the answer, in code points.

    `start`, `end`: the supporting range in the document; `quote` is cut from the stored text there. `url` opens it in
    any browser, without a key, until it expires.
    """

    type = "citation"
    id: str
    n: int
    passage_id: str
    source_id: str
    document_id: str
    title: str
    start: int
    end: int
    quote: str
    places: list[dict[str, Any]]
    answer_start: int
    answer_end: int
    supported: bool
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEvent(Event):
    """Tokens and times of this run, in milliseconds."""

    type = "usage"
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    retrieval_ms: float
    first_token_ms: float | None
    total_ms: float
    llm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorEvent(Event):
    """Something went wrong; `done` follows. `problem` is a problem object with a stable `code`."""

    type = "error"
    problem: dict[str, Any]
    retryable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Event):
    """All so far, for a follower whose `Last-Event-ID` is older than the log reaches."""

    type = "snapshot"
    reasoning: str
    content: str
    citations: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Event):
    """Last of every run, also after an error; enough for a client that ignored all before.

    `finish`: stop, length, content_filter, cancelled, error. `message_state`: complete or incomplete. `grounded`:
    whether at least one sentence is supported by what it cites. `dropped_citations`: numbers that named no passage.
    """

    type = "done"
    finish: str
    message_id: str
    message_state: str
    text: str
    citations: list[dict[str, Any]]
    grounded: bool = False
    dropped_citations: int = 0


EVENTS: tuple[type[Event], ...] = (
    RunStarted, Retrieval, ReasoningDelta, ContentDelta, CitationEvent, UsageEvent, ErrorEvent, Snapshot, Done,
)  # fmt: skip
"""Every event of a run."""


@dataclass(frozen=True, slots=True)
class Frame:
    """An event with its number, encoded once for everyone who follows."""

    seq: int
    event: Event
    wire: bytes


def encode(run_id: str, seq: int, event: Event) -> Frame:
    """The SSE frame of one event. orjson escapes line ends, so model text can never forge a field or an event."""
    # Nine in ten: put together by hand, which is five times faster.
    if type(event) is ContentDelta or type(event) is ReasoningDelta:
        kind, run = event.type, run_id
        head = f'id: {run}:{seq}\nevent: {kind}\ndata: {{"type":"{kind}","run_id":"{run}","seq":{seq},"delta":'
        return Frame(seq, event, b"%b%b}\n\n" % (head.encode(), orjson.dumps(event.delta)))
    data: Mapping[str, Any] = {"type": event.type, "run_id": run_id, "seq": seq, **event.payload()}
    wire = b"id: %b:%d\nevent: %b\ndata: %b\n\n" % (run_id.encode(), seq, event.type.encode(), orjson.dumps(data))
    return Frame(seq, event, wire)
