"""Outside of `/api/v1`: whether the server lives, whether it can serve, and what it is."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from sourcebook import __version__
from sourcebook.metrics import CONTENT_TYPE
from sourcebook.readiness import gauges
from sourcebook_api.access import book_of
from sourcebook_api.openapi import problems
from sourcebook_api.problems import ProblemResponse, problem
from sourcebook_api.schemas.system import About, Health

router = APIRouter(tags=["server"])
front = APIRouter(tags=["server"])
"""What stands at `/` where no plugin has put anything for those who ask."""

_NEEDED = ("database", "index", "server")  # a plugin that could not load is off, and the rest goes on


@router.head("/livez", include_in_schema=False)
@router.get("/livez")
async def livez() -> Health:
    """The process answers. No store is asked."""
    return Health(status="ok")


@router.head("/readyz", response_model=Health, include_in_schema=False)
@router.get("/readyz", response_model=Health, responses=problems(503))
async def readyz(request: Request) -> Response | Health:
    """Every part that is needed works. What is wrong with one is told to callers with a key alone."""
    parts = await book_of(request).ready()
    if request.app.state.stopping.is_set():
        parts["server"] = "stopping"
    failed = [part for part in _NEEDED if parts.get(part, "ok") != "ok"]
    if request.state.principal is None:
        parts = {part: state if state in ("ok", "stopping") else "failed" for part, state in parts.items()}
    if not failed:
        return Health(status="ok", parts=parts)
    body = problem(
        503,
        request.state.request_id,
        code="not_ready",
        title="Not ready",
        detail=f"Not ready: {', '.join(failed)}.",
        parts=parts,
    )
    return ProblemResponse(body, {"Retry-After": "1"})


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """What Prometheus scrapes, with an admin's key where keys are on; docs/operations.md says what each means."""
    book = book_of(request)
    return Response(book.metrics.exposition(await gauges(book)), media_type=CONTENT_TYPE)


@front.get("/")
async def about(request: Request) -> About:
    """What this is, where to look, and whether the request is anybody's."""
    return About(
        name="Sourcebook",
        version=__version__,
        api="/api/v1",
        documentation="/docs",
        openapi="/openapi.json",
        authenticated=request.state.principal is not None,
    )
