"""What one run did and why: gathered in memory while it runs, made into JSON once, when it ends, and stored with it.

It tells the question as it was searched with, and of the sources nothing but ids and ranges: no passage, no prompt, no
answer, and of an error its code alone. So it can be kept as long as the run, and shown to whoever asks the question.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import orjson

from sourcebook.documents import Passage
from sourcebook.events import CitationEvent, Usage
from sourcebook.explaining import Explanation
from sourcebook.interfaces import LLMRequest
from sourcebook.prompts import Fitted
from sourcebook.steps import Step

VERSION = 1
MAX_BYTES = 64 * 1024
"""Of a trace as JSON; of a longer one the passages that were ranked last are left out, then its calls."""

_WORDS = 2000  # characters of a question or query
_QUERIES = 16
_CALLS = 200
_RANKED = 100
_IDS = 100


class Trace:
    """One run's. Every part is there or not, as far as the run came."""

    def __init__(self) -> None:
        self.explanation = Explanation()
        self._began = time.perf_counter()
        self._asked: dict[str, Any] = {"question": "", "how": "", "queries": []}
        self._passages: Sequence[Passage] = ()
        self._prompt: dict[str, Any] = {
            "irrelevant": [],
            "cut": [],
            "cut_turns": 0,
            "messages": [],
            "passages": [],
        }
        self._steps: list[Step] = []
        self.first_token: float | None = None  # seconds

    def ended(self, step: Step) -> None:
        """A step of the run is over."""
        if len(self._steps) < _CALLS:
            self._steps.append(step)

    def asked(self, question: str, how: str) -> None:
        """The question on its own. `how` it came about: `as_asked`, `condensed`, `joined` or `not_condensed`."""
        self._asked |= {"question": question[:_WORDS], "how": how}

    def searched(self, queries: Sequence[str], passages: Sequence[Passage]) -> None:
        """What was searched with, and what was found."""
        self._asked["queries"] = [query[:_WORDS] for query in queries[:_QUERIES]]
        self._passages = passages

    def fitted(self, fitting: Sequence[Passage], fitted: Fitted, window: int, answer: int) -> None:
        """Which of what was found had to do with the question, and which of that had room beside the answer."""
        fits, kept = {p.id for p in fitting}, {p.id for p in fitted.passages}
        self._prompt |= {
            "window": window,
            "room": fitted.room,
            "kept_for_answer": answer,
            "tokens": fitted.tokens,
            "irrelevant": [p.id for p in self._passages if p.id not in fits][:_IDS],
            "cut": [p.id for p in fitting if p.id not in kept][:_IDS],
            "cut_turns": fitted.dropped_turns,
        }

    def prompted(self, request: LLMRequest) -> None:
        """The prompt as the model gets it, after every plugin."""
        self._prompt["messages"] = [{"role": m.role, "characters": len(m.content)} for m in request.messages]
        self._prompt["passages"] = [_place(p, n) for n, p in enumerate(request.passages, 1)]

    def token(self) -> None:
        """The first word or thought of the answer has come."""
        self.first_token = time.perf_counter() - self._began

    def shown(self, citations: Mapping[str, Any], **end: Any) -> dict[str, Any]:
        """All of it as JSON, at most `MAX_BYTES`; `end` is what else is known of the run's end."""
        ranks = self.explanation.ranks()
        of = {step.kind: [s for s in self._steps if s.kind == step.kind] for step in self._steps}
        made: dict[str, Any] = {
            "version": VERSION,
            "asked": self._asked,
            "stages": [self._times(s) | {"stage": s.name} for s in of.get("stage", ())],
            "retrieval": {
                "stages": self.explanation.stages,
                "ranked": [{"passage_id": i, **ranks[i]} for i in islice(ranks, _RANKED)],
                "found": [_place(p) for p in self._passages],
            },
            "prompt": self._prompt,
            "calls": [self._times(s) | s.attributes for s in of.get("call", ())],
            "hooks": [self._times(s) | s.attributes for s in of.get("hook", ())],
            "first_token_ms": None if self.first_token is None else round(self.first_token * 1000, 1),
            "total_ms": round((time.perf_counter() - self._began) * 1000, 1),
            "citations": dict(citations),
            "truncated": False,
            **end,
        }
        return _bounded(made)

    def _times(self, step: Step) -> dict[str, Any]:
        times: dict[str, Any] = {
            "at_ms": round((step.began - self._began) * 1000, 2),
            "took_ms": round(step.seconds * 1000, 2),
        }
        return times | ({"failed": step.failed} if step.failed else {})


def packed(trace: Mapping[str, Any]) -> bytes:
    """As it is stored: a tenth of its length, since it says much the same of every passage."""
    # A window of 8 KiB and little room for codes: otherwise most of the time goes to clearing a quarter of a MiB.
    made = zlib.compressobj(1, zlib.DEFLATED, 13, 5)
    return made.compress(orjson.dumps(trace)) + made.flush()


def unpacked(stored: bytes) -> dict[str, Any]:
    """What was packed."""
    found: dict[str, Any] = orjson.loads(zlib.decompress(stored))
    return found


def cited(citations: Sequence[CitationEvent], dropped: int) -> dict[str, Any]:
    """The citations of an answer, by ids and ranges. `dropped` are numbers in it that name no passage."""
    made = [
        {"n": c.n, "passage_id": c.passage_id, "start": c.start, "end": c.end, "supported": c.supported}
        for c in citations[:_CALLS]
    ]
    unsupported = sum(not c.supported for c in citations)
    return {"made": len(citations), "unsupported": unsupported, "dropped": dropped, "each": made}


def used(usage: Usage) -> dict[str, int]:
    """Tokens as the model counted them."""
    return {"prompt": usage.prompt, "completion": usage.completion, "reasoning": usage.reasoning}


def _place(passage: Passage, n: int | None = None) -> dict[str, Any]:
    """A passage by its ids and ranges: its own and, where it was expanded, what a model reads in its place."""
    names = ("source_id", "document_id", "start", "end")
    found = {"passage_id": passage.id, **{name: getattr(passage, name) for name in names}}
    if passage.shown:
        found["read"] = [passage.prompt_start, passage.prompt_start + len(passage.prompt_text)]
    return found if n is None else {"n": n, **found}


def _bounded(made: dict[str, Any]) -> dict[str, Any]:
    """What tells the least goes first: what was ranked low, then what was called last."""
    if len(orjson.dumps(made)) <= MAX_BYTES:
        return made
    parts = (
        (made["retrieval"], "ranked"),
        (made, "calls"),
        (made, "hooks"),
        (made["retrieval"], "found"),
        (made["asked"], "queries"),
        (made["citations"], "each"),
        (made["prompt"], "messages"),
    )
    for table, name in parts:
        while len(orjson.dumps(made)) > MAX_BYTES and (items := table.get(name)):
            made["truncated"] = True
            del items[len(items) // 2 :]
    return made
