"""What is left of a run whose worker is gone: its frames, read back into an incomplete answer and a proper end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import orjson

from sourcebook.errors import SourcebookError
from sourcebook.events import CitationEvent, Done, ErrorEvent, encode
from sourcebook.ids import new_id
from sourcebook.run_log import Segment
from sourcebook.turns import Answer


class Interrupted(SourcebookError):
    """The process that made an answer ended before the answer did."""

    code = "interrupted"
    title = "The answer was interrupted"
    advice = "Ask again."
    transient = True


ENDED = "The process that made this answer has ended. What it had written is kept."
PROBLEM: dict[str, Any] = Interrupted(ENDED).problem()
_CITED = {f.name for f in fields(CitationEvent)}


def recovered(run_id: str, segments: Sequence[Segment]) -> tuple[Answer, str, int, bytes]:
    """The answer so far, its message's id, and the frames that end the run with the number of the first."""
    text, reasoning, message_id = [], [], ""
    cited: list[CitationEvent] = []
    for event in _events(segments):
        kind = event["type"]
        if kind == "content":
            text.append(event["delta"])
        elif kind == "reasoning":
            reasoning.append(event["delta"])
        elif kind == "citation":
            cited.append(CitationEvent(**{k: v for k, v in event.items() if k in _CITED}))
        elif kind == "run.started":
            message_id = event["message_id"]
    message_id = message_id or new_id("msg")
    seq = (segments[-1].last_seq if segments else 0) + 1
    details = {"finish": "error", "problem": PROBLEM}
    answer = Answer("".join(text), "".join(reasoning), "incomplete", "failed", details, cited, seq + 1)
    done = Done(
        finish="error",
        message_id=message_id,
        message_state="incomplete",
        text=answer.text,
        citations=[c.payload() for c in cited],
        grounded=any(c.supported for c in cited),
    )
    error = ErrorEvent(problem=PROBLEM, retryable=True)
    return answer, message_id, seq, encode(run_id, seq, error).wire + encode(run_id, seq + 1, done).wire


def _events(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    frames = (frame for segment in segments for frame in segment.frames.split(b"\n\n") if frame)
    return [orjson.loads(frame.partition(b"\ndata: ")[2]) for frame in frames]
