"""The original bytes of a source: read, in parts too, and replaced."""

from __future__ import annotations

import re
from typing import Any

from fastapi import Request, Response
from starlette.responses import StreamingResponse

from sourcebook.errors import InvalidInput
from sourcebook.sources import Source
from sourcebook_api.access import Asking
from sourcebook_api.downloads import attachment
from sourcebook_api.openapi import NOT_MODIFIED, api_router, problems
from sourcebook_api.preconditions import IfMatch, not_modified
from sourcebook_api.problems import ProblemResponse, problem_of
from sourcebook_api.routes.uploads import RAW, typed_body
from sourcebook_api.schemas.library import ReadAgain, SourceShown

router = api_router("sources")

# The type is the file's own. Generators of clients know what to do with bytes, and not with any type.
_BYTE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_BYTES: dict[str, Any] = {"application/octet-stream": _BYTE, "*/*": _BYTE}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"content": _BYTES, "description": "The whole file."},
    206: {"content": _BYTES, "description": "The range that was asked for."},
    **NOT_MODIFIED,
}
_SAME: dict[int | str, dict[str, Any]] = {200: {"model": ReadAgain, "description": "The bytes are the same."}}
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


@router.put(
    "/sources/{source_id}/content",
    status_code=202,
    responses={**_SAME, **problems(404, 412, 413, 415, 428, 507)},
    openapi_extra=RAW,
)
async def replace_source_content(
    asking: Asking, source_id: str, request: Request, response: Response, if_match: IfMatch
) -> ReadAgain:
    """Give a source new bytes, as the raw body. What was read serves until the new is.

    The same bytes change nothing, unless the source has failed: then they are read again.

    With `If-Match`, only where the content's ETag (its SHA-256) is the one that is named.
    """
    source = await asking.source(source_id, "write")
    if_match.check(_etag(source))
    notebook = await asking.notebook(source.notebook_id, "write")
    media_type, chunks = await typed_body(asking, notebook, source.name, request)
    job_id = await asking.book.sources.replace(asking.principal, source.id, chunks, media_type=media_type)
    response.status_code = 202 if job_id is not None else 200
    shown = SourceShown.model_validate(await asking.source(source_id))
    return ReadAgain(changed=job_id is not None, job_id=job_id, source=shown)


@router.head("/sources/{source_id}/content", include_in_schema=False)
@router.get(
    "/sources/{source_id}/content", responses={**_CONTENT, **problems(404, 416)}, response_class=StreamingResponse
)
async def get_source_content(asking: Asking, source_id: str, request: Request) -> Response:
    """The original file, as a download. `Range` gives a part; the ETag is the SHA-256."""
    source = await asking.source(source_id)
    headers = _content_headers(source)
    if not_modified(request.headers.get("if-none-match"), headers["ETag"]):
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


def _etag(source: Source) -> str:
    return f'"{source.sha256}"'


def _content_headers(source: Source) -> dict[str, str]:
    return {
        **attachment(source.name),
        "ETag": _etag(source),
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
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
