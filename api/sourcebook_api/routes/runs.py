"""Runs: how an answer is coming along, its events from any point on, and the end of it."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Header, Query, Response
from starlette.responses import StreamingResponse

from sourcebook.app import Sourcebook
from sourcebook.errors import Conflict, InvalidInput, NotFound
from sourcebook.run import Run
from sourcebook.runs import wires
from sourcebook_api.access import Asking, Caller
from sourcebook_api.openapi import api_router, problems
from sourcebook_api.schemas.answers import RunShown
from sourcebook_api.schemas.traces import RunTrace
from sourcebook_api.sse import EventStream

router = api_router("answers")

STREAM: dict[str, Any] = {"text/event-stream": {"schema": {"type": "string"}}}
RUN_STREAM: dict[str, Any] = {"text/event-stream": {"schema": {"$ref": "#/components/schemas/RunEvent"}}}
"""The data of each event is one of the union; the event's name is in `type` too."""

LastEventId = Annotated[
    str | None, Header(max_length=100, description="The id of the last event that was received: `<run>:<seq>`.")
]
After = Annotated[int | None, Query(ge=0, le=2**31, description="The `seq` of the last event that was received.")]


@router.get("/runs/{run_id}", responses=problems(404))
async def get_run(asking: Asking, run_id: str) -> RunShown:
    """One run."""
    return await _shown(asking, run_id)


@router.get(
    "/runs/{run_id}/events",
    responses={**problems(404), 200: {"content": RUN_STREAM, "description": "The events."}},
    response_class=StreamingResponse,
)
async def follow_run(asking: Asking, run_id: str, last_event_id: LastEventId = None, after: After = None) -> Response:
    """A run's events from the start, or after the last one that was received, until `done`.

    It does not matter which process makes the run. Where its events are not kept any more, one `snapshot` and `done`
    tell of the answer.
    """
    frames = await asking.book.runs.events(asking.principal, run_id, _after(run_id, last_event_id, after))
    return EventStream(frames, asking.book.settings.runs.heartbeat)


@router.get("/runs/{run_id}/trace", responses=problems(404, 409))
async def get_run_trace(asking: Asking, run_id: str) -> RunTrace:
    """How an answer came about, or failed to: what was searched with, how every passage was ranked, what was left out.

    It is stored when the run ends, unless `[runs] trace` is off. Nothing of the sources is in it but ids and ranges.
    """
    runs = asking.book.runs
    row = await runs.turns.run(asking.principal, run_id)
    trace = await runs.turns.trace(run_id)
    if trace is not None:
        return RunTrace.model_validate({"run_id": run_id, **trace})
    if row["finished_at"] is None:
        raise Conflict("This run has not ended yet.", code="run_running", remedy="Ask again when it has ended.")
    raise NotFound(
        "Nothing is stored of how this answer came about: traces were off, or its process was lost.",
        code="no_trace",
        remedy="Set `trace = true` under [runs], and ask again.",
    )


@router.post("/runs/{run_id}/cancel", responses=problems(404))
async def cancel_run(asking: Asking, run_id: str) -> RunShown:
    """Stop a run at once, whichever process makes it, and keep what was made. One that has ended is left as it is."""
    await asking.book.runs.cancel(asking.principal, run_id)
    return await _shown(asking, run_id)


def event_stream(book: Sourcebook, run: Run) -> EventStream:
    """A new run's frames as a response, which says where they can be read again."""
    return EventStream(wires(run), book.settings.runs.heartbeat, location=f"/api/v1/runs/{run.id}/events")


def _after(run_id: str, last_event_id: str | None, after: int | None) -> int:
    """Where to go on. Raises `InvalidInput` for the id of another run's event."""
    if not last_event_id:
        return after or 0
    match = re.fullmatch(rf"{re.escape(run_id)}:(\d{{1,9}})", last_event_id)
    if match is None:
        raise InvalidInput("The Last-Event-ID is not of this run.")
    return int(match[1])


async def _shown(asking: Caller, run_id: str) -> RunShown:
    row = dict(await asking.book.runs.turns.run(asking.principal, run_id))
    held = asking.book.runs.held(asking.principal, run_id)
    return RunShown.model_validate(row | ({"last_seq": held.last_seq} if held else {}))
