"""Sources: listing, deleting, and their original bytes."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Body, Request, Response
from starlette.responses import StreamingResponse

from sourcebook.errors import InvalidInput
from sourcebook.sources import Source
from sourcebook_api.access import Asking, Caller
from sourcebook_api.openapi import problems
from sourcebook_api.problems import ProblemResponse, problem_of
from sourcebook_api.schemas.common import Cursor, Limit, Listing
from sourcebook_api.schemas.library import Deleting, Password, ReadAgain, SourceShown

router = APIRouter(tags=["sources"])

_BYTES: dict[str, Any] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"content": _BYTES, "description": "The whole file."},
    206: {"content": _BYTES, "description": "The range that was asked for."},
    304: {"description": "The file is the one that the client has."},
}
_SAME: dict[int | str, dict[str, Any]] = {200: {"model": ReadAgain, "description": "The bytes are the same."}}
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


@router.get("/notebooks/{notebook_id}/sources", responses=problems(404))
async def list_sources(
    asking: Asking, notebook_id: str, limit: Limit = 50, cursor: Cursor = None
) -> Listing[SourceShown]:
    """A notebook's sources, newest first."""
    notebook = await asking.notebook(notebook_id)
    page = await asking.book.sources.listing(asking.principal, notebook.id, limit, cursor)
    return Listing[SourceShown].model_validate(page)


@router.get("/sources/{source_id}", responses=problems(404))
async def get_source(asking: Asking, source_id: str) -> SourceShown:
    """One source, with how far its ingestion is."""
    return SourceShown.model_validate(await asking.source(source_id))


@router.delete("/sources/{source_id}", status_code=202, responses=problems(404))
async def delete_source(asking: Asking, source_id: str) -> Deleting:
    """Delete a source and what came out of it. It is invisible at once; the job removes the rest."""
    source = await asking.source(source_id, "write")
    return Deleting(job_id=await asking.book.sources.delete(asking.principal, source.id))


@router.post("/sources/{source_id}/reparse", status_code=202, responses=problems(404))
async def reparse_source(
    asking: Asking,
    source_id: str,
    body: Annotated[Password | None, Body(openapi_examples={"plain": {"value": {}}})] = None,
) -> ReadAgain:
    """Read a source's file again, as after a parser's update, or with the password that it needs.

    What was read before serves until the new reading is ready, and stays where that fails.
    """
    source = await asking.source(source_id, "write")
    given = body.password.get_secret_value() if body is not None and body.password is not None else None
    job_id = await asking.book.sources.reparse(asking.principal, source.id, given)
    return await _read_again(asking, source_id, job_id)


@router.post("/sources/{source_id}/refresh", status_code=202, responses={**problems(404, 409, 422, 502), **_SAME})
async def refresh_source(asking: Asking, source_id: str, response: Response) -> ReadAgain:
    """Fetch the address that a source came from again. Changed bytes are read; unchanged ones change nothing."""
    source = await asking.source(source_id, "write")
    job_id = await asking.book.refresh(asking.principal, source.id)
    response.status_code = 202 if job_id is not None else 200
    return await _read_again(asking, source_id, job_id)


async def _read_again(asking: Caller, source_id: str, job_id: str | None) -> ReadAgain:
    source = SourceShown.model_validate(await asking.source(source_id))
    return ReadAgain(changed=job_id is not None, job_id=job_id, source=source)


@router.head("/sources/{source_id}/content", include_in_schema=False)
@router.get(
    "/sources/{source_id}/content", responses={**_CONTENT, **problems(404, 416)}, response_class=StreamingResponse
)
async def get_source_content(asking: Asking, source_id: str, request: Request) -> Response:
    """The original file, as a download. `Range` gives a part; the ETag is the SHA-256."""
    source = await asking.source(source_id)
    headers = _content_headers(source)
    if source.sha256 in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    wanted = request.headers.get("range", "") if _range_applies(request, headers["ETag"]) else ""
    try:
        start, end, partial = _range(wanted, source.size)
    except InvalidInput as error:
        problem = problem_of(error, request.state.request_id)
        return ProblemResponse(problem, {"Content-Range": f"bytes */{source.size}"})
    if partial:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{source.size}"
    headers["Content-Length"] = str(end - start)
    status = 206 if partial else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=source.media_type)
    body = await asking.book.blobs.read(source.blob_key, start, end)
    return StreamingResponse(body, status, headers, source.media_type)


def _content_headers(source: Source) -> dict[str, str]:
    plain = re.sub(r'[^\w .()-]|["\\]', "_", source.name, flags=re.ASCII)
    return {
        "ETag": f'"{source.sha256}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(source.name, safe='')}",
        # Whatever the file is, a browser that shows it all the same may run nothing in it.
        "Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'",
    }


def _range_applies(request: Request, etag: str) -> bool:
    return request.headers.get("if-range", etag).strip() == etag


def _range(header: str, size: int) -> tuple[int, int, bool]:
    """`[start, end)` of a `Range` header, and whether it asks for a part. What it does not understand means all.

    Raises `InvalidInput` (code `range_not_satisfiable`) where nothing of it lies in the file.
    """
    match = _RANGE.fullmatch(header.strip().lower())
    if match is None or match.groups() == ("", ""):
        return 0, size, False
    first, last = match.groups()
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if first and last and int(last) < start:
        return 0, size, False
    if start >= size:
        raise InvalidInput(f"The file has {size} bytes.", code="range_not_satisfiable")
    return start, end, True
