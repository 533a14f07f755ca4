"""Jobs and their progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import StreamingResponse

from sourcebook.jobs import ACTIVE, Job
from sourcebook_api.access import Asking, Caller
from sourcebook_api.openapi import problems
from sourcebook_api.routes.runs import STREAM
from sourcebook_api.schemas.system import JobShown
from sourcebook_api.sse import EventStream

router = APIRouter(tags=["jobs"])

_POLL = 0.2  # seconds; the worker may be another process, so SQL is asked


@router.get("/jobs/{job_id}", responses=problems(404))
async def get_job(asking: Asking, job_id: str) -> JobShown:
    """One job."""
    return _shown(await asking.book.jobs.get(job_id, asking.principal.owner_id))


@router.get(
    "/jobs/{job_id}/events",
    responses={**problems(404), 200: {"content": STREAM, "description": "The events."}},
    response_class=StreamingResponse,
)
async def follow_job(asking: Asking, job_id: str, request: Request) -> Response:
    """A job's progress: `progress` with the job whenever it changes, then `done` with how it ended."""
    job = await asking.book.jobs.get(job_id, asking.principal.owner_id)
    stopping: asyncio.Event = request.app.state.stopping
    return EventStream(_progress(asking, job, stopping), asking.book.settings.runs.heartbeat)


async def _progress(asking: Caller, job: Job, stopping: asyncio.Event) -> AsyncGenerator[bytes, None]:
    seq, last = 0, b""
    while True:
        data = _shown(job).model_dump_json().encode()
        ended = job.state not in ACTIVE
        if data != last or ended:
            seq, last = seq + 1, data
            name = b"done" if ended else b"progress"
            yield b"id: %b:%d\nevent: %b\ndata: %b\n\n" % (job.id.encode(), seq, name, data)
        if ended or await _over(stopping):
            return
        job = await asking.book.jobs.get(job.id, asking.principal.owner_id)


async def _over(stopping: asyncio.Event) -> bool:
    """Wait for the next look; True where the server stops meanwhile. The client comes back to the next one."""
    try:
        await asyncio.wait_for(stopping.wait(), _POLL)
    except TimeoutError:
        return False
    return True


def _shown(job: Job) -> JobShown:
    names = ("id", "kind", "state", "notebook_id", "source_id", "attempt", "problem", "created_at", "updated_at")
    values: dict[str, Any] = {name: getattr(job, name) for name in names}
    return JobShown.model_validate({**values, "progress": job.checkpoint.get("progress", {})})
