"""Jobs, what can be asked of them, and progress as it happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request, Response
from starlette.responses import StreamingResponse

from sourcebook.jobs import ACTIVE, Job
from sourcebook.progress import Following, NotebookProgress
from sourcebook_api.access import Asking
from sourcebook_api.openapi import api_router, problems
from sourcebook_api.routes.runs import STREAM
from sourcebook_api.schemas.system import JobShown, ProgressShown
from sourcebook_api.sse import EventStream

router = api_router("jobs")

T = TypeVar("T")


@router.get("/jobs/{job_id}", responses=problems(404))
async def get_job(asking: Asking, job_id: str) -> JobShown:
    """One job."""
    return _shown(await asking.book.jobs.get(job_id, asking.principal.owner_id))


@router.post("/jobs/{job_id}/cancel", responses=problems(404, 409))
async def cancel_job(asking: Asking, job_id: str) -> JobShown:
    """Stop an ingestion: at once where it waits, at its next write where it runs. A deletion cannot be stopped."""
    return _shown(await asking.book.jobs.cancel(job_id, asking.principal.owner_id))


@router.post("/jobs/{job_id}/retry", status_code=202, responses=problems(404, 409))
async def retry_job(asking: Asking, job_id: str) -> JobShown:
    """Queue a failed or cancelled ingestion again. It goes on at the stage that it had reached."""
    return _shown(await asking.book.jobs.retry(job_id, asking.principal.owner_id))


@router.get(
    "/jobs/{job_id}/events",
    responses={**problems(404), 200: {"content": STREAM, "description": "The events."}},
    response_class=StreamingResponse,
)
async def follow_job(asking: Asking, job_id: str, request: Request) -> Response:
    """A job's progress: `progress` with the job whenever it changes, then `done` with how it ended."""
    job = await asking.book.jobs.get(job_id, asking.principal.owner_id)
    following = Following(asking.book.database, asking.book.jobs)
    return _stream(asking, request, _of_job(following.job(job)))


@router.get(
    "/notebooks/{notebook_id}/events",
    responses={**problems(404), 200: {"content": STREAM, "description": "The events."}},
    response_class=StreamingResponse,
)
async def follow_notebook(asking: Asking, notebook_id: str, request: Request) -> Response:
    """A notebook's progress: `progress` whenever something in it changes, `idle` when nothing is left to do.

    The stream stays open: what is added later is told too.
    """
    notebook = await asking.notebook(notebook_id)
    following = Following(asking.book.database, asking.book.jobs)
    return _stream(asking, request, _of_notebook(notebook.id, following.notebook(notebook.id)))


def _stream(asking: Asking, request: Request, frames: AsyncGenerator[bytes]) -> Response:
    stopping: asyncio.Event = request.app.state.stopping
    return EventStream(_until(stopping, frames), asking.book.settings.runs.heartbeat)


async def _of_job(jobs: AsyncGenerator[Job]) -> AsyncGenerator[bytes]:
    seq = 0
    async with aclosing(jobs):
        async for job in jobs:
            seq += 1
            name = b"progress" if job.state in ACTIVE else b"done"
            yield _frame(job.id, seq, name, _shown(job).model_dump_json().encode())


async def _of_notebook(notebook_id: str, found: AsyncGenerator[NotebookProgress]) -> AsyncGenerator[bytes]:
    seq = 0
    async with aclosing(found):
        async for progress in found:
            seq += 1
            data = ProgressShown.model_validate(progress).model_dump_json().encode()
            yield _frame(notebook_id, seq, b"progress" if progress.left else b"idle", data)


async def _until(stopping: asyncio.Event, frames: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The frames, until the server stops: the client comes back to the next one."""
    over = asyncio.create_task(stopping.wait())
    async with aclosing(frames):
        following: asyncio.Future[bytes | None] | None = None
        try:
            while True:
                following = asyncio.ensure_future(_next(frames))
                await asyncio.wait([over, following], return_when=asyncio.FIRST_COMPLETED)
                if not following.done() or (frame := following.result()) is None:
                    return
                yield frame
        finally:  # also where the client has left: what is being read cannot be closed before it has ended
            waiting = [task for task in (over, following) if task is not None]
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


async def _next(frames: AsyncIterator[T]) -> T | None:
    return await anext(frames, None)


def _frame(subject: str, seq: int, name: bytes, data: bytes) -> bytes:
    return b"id: %b:%d\nevent: %b\ndata: %b\n\n" % (subject.encode(), seq, name, data)


def _shown(job: Job) -> JobShown:
    names = ("id", "kind", "state", "notebook_id", "source_id", "attempt", "problem", "created_at", "updated_at")
    values: dict[str, Any] = {name: getattr(job, name) for name in names}
    return JobShown.model_validate({**values, "progress": job.checkpoint.get("progress", {})})
