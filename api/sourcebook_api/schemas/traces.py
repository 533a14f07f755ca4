"""How a run came about, as it was stored with it."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

from sourcebook_api.schemas.common import Shown


class TracePart(Shown):
    """A part of a trace. A later version may tell more."""

    model_config = ConfigDict(extra="allow")


class TracedQuestion(TracePart):
    """What was searched with. Empty where the run ended before it was settled.

    `how` the question came about: `as_asked`; `condensed` by the model, or `joined` to the one before it;
    `not_condensed` where the model failed to. `queries` are those after every plugin.
    """

    question: str
    how: str
    queries: list[str]


class TracedPlace(TracePart):
    """A passage by ids and ranges. `read`: what a model reads in its place; `n`: its number in the prompt."""

    passage_id: str
    source_id: str
    document_id: str
    start: int
    end: int
    read: list[int] | None = None
    n: int | None = None


class TracedRank(TracePart):
    """A passage that was ranked: its rank and score in each leg, after fusing, and where a later stage put it."""

    passage_id: str
    legs: dict[str, dict[str, float]] | None = None
    fused: dict[str, float] | None = None
    rerank: dict[str, float] | None = None
    diversity: dict[str, float] | None = None
    notebook_weight: float | None = None


class TracedRetrieval(TracePart):
    """A search: its `stages`, all that was `ranked`, and what was `found` in the end, best first.

    The stage `fusion` tells how many hits the database did not confirm (`unconfirmed`), and which ranks they had in
    each leg (`dropped`).
    """

    stages: list[dict[str, Any]]
    ranked: list[TracedRank]
    found: list[TracedPlace]


class TracedPrompt(TracePart):
    """How what was found was fitted into the model's `window`, in tokens as the model estimates them.

    `irrelevant` passages had too little to do with the question, those in `cut` no `room`. `messages` are told by role
    and length, `passages` as the model gets them.
    """

    window: int | None = None
    room: int | None = None
    kept_for_answer: int | None = None
    tokens: int | None = None
    irrelevant: list[str]
    cut: list[str]
    cut_turns: int
    messages: list[dict[str, Any]]
    passages: list[TracedPlace]


class TracedStep(TracePart):
    """Something that was done: when it began and how long it took. `failed` names the error that ended it."""

    at_ms: float
    took_ms: float
    failed: str | None = None


class TracedStage(TracedStep):
    """A stage of the answer: condense, retrieve, prompt."""

    stage: str


class TracedCall(TracedStep):
    """A call of a component, by its kind and instance; for a model also what it counted, and why it stopped."""

    kind: str
    instance: str
    call: str
    model: str | None = None


class TracedHook(TracedStep):
    """A call of a plugin's hook. `resting`: it was passed over, having failed before."""

    plugin: str
    hook: str
    resting: bool = False


class TracedCitations(TracePart):
    """The answer's citations. `unsupported` do not support their sentence; `dropped` numbers named no passage."""

    made: int
    unsupported: int
    dropped: int
    each: list[dict[str, Any]]


class RunTrace(TracePart):
    """How a run came about: of the sources, nothing but ids and ranges. Times in milliseconds from its beginning.

    `usage` is in tokens, as the model counted them. `outcome`: done, cancelled or failed; `problem` is the code of what
    failed. `truncated`: it was longer than 64 KiB, and what tells the least was left out.
    """

    run_id: str
    version: int
    pipeline: str
    asked: TracedQuestion
    stages: list[TracedStage]
    retrieval: TracedRetrieval
    prompt: TracedPrompt
    calls: list[TracedCall]
    hooks: list[TracedHook]
    llm: str
    usage: dict[str, int]
    citations: TracedCitations
    first_token_ms: float | None
    total_ms: float
    outcome: str
    finish: str
    cancelled: str
    problem: str
    truncated: bool
