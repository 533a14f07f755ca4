"""Every error as one shape: RFC 9457 `application/problem+json` with a stable `code` and the request's id."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sourcebook import errors
from sourcebook.errors import SourcebookError

log = logging.getLogger(__name__)

# The nearest class in an error's family decides.
_STATUSES: Mapping[type[SourcebookError], int] = {
    errors.InputError: 422,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.QuotaExceeded: 429,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.AccessError: 403,
    errors.UnsupportedType: 415,
    errors.DocumentError: 422,
    errors.UpstreamError: 502,
    errors.StoreError: 503,
    errors.Lost: 409,
    errors.SourcebookError: 500,
}
# Codes whose meaning in HTTP is more exact than their class's.
_BY_CODE: Mapping[str, int] = {
    "bad_request": 400,
    "edited_meanwhile": 412,
    "page_not_found": 404,
    "precondition_required": 428,
    "fetch_blocked": 422,
    "fetch_too_large": 422,
    "host_not_allowed": 421,
    "key_in_query": 400,
    "no_host": 400,
    "not_multipart": 415,
    "link_expired": 410,
    "range_not_satisfiable": 416,
    "storage_full": 507,
    "storage_quota_exceeded": 413,
    "tools_unsupported": 400,
}
_CODES: Mapping[int, str] = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}


class ProblemResponse(Response):
    """A problem object with its status."""

    media_type = "application/problem+json"

    def __init__(self, problem: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(orjson.dumps(problem, default=str), problem["status"], headers)


def status_of(error: SourcebookError) -> int:
    """The HTTP status of one of our errors."""
    by_code = _BY_CODE.get(error.problem_code)
    return by_code or next(_STATUSES[cls] for cls in type(error).__mro__ if cls in _STATUSES)


def problem_of(error: SourcebookError, request_id: str) -> dict[str, Any]:
    """The whole problem object of one of our errors."""
    described = error.problem()
    if "status" in described:  # another server's, which must not pass for ours
        described["upstream_status"] = described.pop("status")
    described.pop("request_id", None)
    return problem(status_of(error), request_id, **described)


def problem(status: int, request_id: str, *, code: str, title: str, detail: str, **more: Any) -> dict[str, Any]:
    """A problem object; `more` is added (`remedy`, `errors`, ...) and can replace none of the standard members."""
    standard: dict[str, Any] = {
        "type": f"urn:problem:sourcebook:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }
    return standard | {name: value for name, value in more.items() if name not in standard}


def internal(request_id: str) -> dict[str, Any]:
    """What a client is told of a bug: nothing but where to look."""
    detail = "The server made a mistake; its log names it by this request_id."
    return problem(500, request_id, code="internal", title=SourcebookError.title, detail=detail)


def headers_of(error: SourcebookError) -> dict[str, str]:
    """What goes with an error: how to authenticate, when to come back."""
    headers = {}
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="sourcebook"'
    after = error.retry_after if isinstance(error, errors.UpstreamError) else error.details.get("retry_after")
    if isinstance(after, int | float):
        headers["Retry-After"] = str(math.ceil(after))
    return headers


def response_of(error: SourcebookError, request_id: str) -> ProblemResponse:
    """The answer for one of our errors; what is our own fault is logged."""
    answer = ProblemResponse(problem_of(error, request_id), headers_of(error))
    if answer.status_code >= 500 and error.problem_code != "overloaded":  # whoever is busy has no time to tell
        # Another server's words may quote the question.
        said = "" if isinstance(error, errors.UpstreamError) else f": {error.detail}"
        log.warning("request %s: %s%s", request_id, error.problem_code, said)
    return answer


def add_handlers(app: FastAPI) -> None:
    """Answer every error of the routes with a problem."""
    app.add_exception_handler(SourcebookError, _ours)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, SourcebookError)
    return response_of(error, request.state.request_id)


async def _http(request: Request, error: Exception) -> Response:
    """The framework's own: unknown routes, methods and unreadable bodies."""
    assert isinstance(error, HTTPException)
    status = error.status_code
    title = HTTPStatus(status).phrase
    detail = "There is nothing at this address." if status == 404 else f"{error.detail}."
    code = _CODES.get(status, "invalid_request")
    body = problem(status, request.state.request_id, code=code, title=title, detail=detail)
    return ProblemResponse(body, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    """Where the request does not fit its model, without what was sent: that may be a secret."""
    assert isinstance(error, RequestValidationError)
    found = [_place(item, request, error.body) for item in error.errors()]
    body = problem(
        422,
        request.state.request_id,
        code="invalid_request",
        title="The request is not valid",
        detail="; ".join(f"{one['pointer']}: {one['detail']}" for one in found[:3]),
        errors=found,
    )
    return ProblemResponse(body)


def _place(item: Mapping[str, Any], request: Request, body: Any) -> dict[str, str]:
    """One mistake, and where it is: a pointer as a fragment (RFC 6901), where `#` is the whole."""
    where, *path = item["loc"]
    kind, detail = item["type"], item["msg"]
    if kind == "json_invalid":  # its place is an offset, which is no part of a pointer
        detail, path = _unreadable(str(body), path[0], item["ctx"]["error"]), []
    elif where == "body" and not path and not _says_json(request):
        kind, detail = "content_type", _said(request)
    pointer = "#" + "".join(f"/{_step(one)}" for one in path)
    return {"in": str(where), "pointer": pointer, "detail": detail, "type": kind}


def _step(part: int | str) -> str:
    return quote(str(part).replace("~", "~0").replace("/", "~1"), safe="!$&'()*+,;=:@?~")


def _unreadable(text: str, offset: int, reason: str) -> str:
    line, column = text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
    return f"This is not JSON at line {line}, column {column}: {reason}"


def _says_json(request: Request) -> bool:
    """Whether the framework has taken the body for JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _said(request: Request) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    what = f"the request says `Content-Type: {kind[:100]}`" if kind else "the request has no Content-Type"
    return f"A JSON body is needed, and {what}: send it with `Content-Type: application/json`"
