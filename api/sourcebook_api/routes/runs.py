"""Runs: how an answer is coming along, its events from any point on, and the end of it."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from starlette.responses import StreamingResponse

from sourcebook.app import Sourcebook
from sourcebook.errors import InvalidInput, NotFound
from sourcebook.runs import Run
from sourcebook_api.access import Asking, Caller
from sourcebook_api.openapi import problems
from sourcebook_api.schemas.answers import RunShown
from sourcebook_api.sse import EventStream

router = APIRouter(tags=["answers"])

STREAM: dict[str, Any] = {"text/event-stream": {"schema": {"type": "string"}}}

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
    responses={**problems(404), 200: {"content": STREAM, "description": "The events."}},
    response_class=StreamingResponse,
)
async def follow_run(asking: Asking, run_id: str, last_event_id: LastEventId = None, after: After = None) -> Response:
    """A run's events from the start, or after the last one that was received, until `done`."""
    run = asking.book.runs.get(asking.principal, run_id)
    return event_stream(asking.book, run, _after(run_id, last_event_id, after))


@router.post("/runs/{run_id}/cancel", responses=problems(404))
async def cancel_run(asking: Asking, run_id: str) -> RunShown:
    """Stop a run at once, and keep what was made. A run that has ended is left as it is."""
    await asking.book.conversations.run_state(asking.principal, run_id)
    run = _held(asking, run_id)
    if run is not None:
        await run.cancel("asked")
    return await _shown(asking, run_id)


def event_stream(book: Sourcebook, run: Run, after: int = 0) -> EventStream:
    """A run's frames as a response."""
    return EventStream(_wires(run, after), book.settings.runs.heartbeat)


async def _wires(run: Run, after: int) -> AsyncGenerator[bytes, None]:
    async with aclosing(run.follow(after)) as frames:
        async for frame in frames:
            yield frame.wire


def _after(run_id: str, last_event_id: str | None, after: int | None) -> int:
    """Where to go on. Raises `InvalidInput` for the id of another run's event."""
    if not last_event_id:
        return after or 0
    match = re.fullmatch(rf"{re.escape(run_id)}:(\d{{1,9}})", last_event_id)
    if match is None:
        raise InvalidInput("The Last-Event-ID is not of this run.")
    return int(match[1])


def _held(asking: Caller, run_id: str) -> Run | None:
    try:
        return asking.book.runs.get(asking.principal, run_id)
    except NotFound:
        return None


async def _shown(asking: Caller, run_id: str) -> RunShown:
    row = dict(await asking.book.conversations.run_state(asking.principal, run_id))
    held = _held(asking, run_id)
    return RunShown.model_validate(row | ({"last_seq": held.last_seq} if held else {}))
