"""Problems in OpenAI's shape, for everything below `/v1`: whoever made one, it is turned here, on its way out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import orjson
from starlette.types import Message, Send

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def openai_error(problem: Mapping[str, Any]) -> dict[str, Any]:
    """`{"error": {message, type, param, code}}`, as OpenAI's clients read it, with our request's id."""
    status = int(problem.get("status") or 500)
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    said = " ".join(filter(None, (problem.get("detail"), problem.get("remedy"))))
    error = {"message": said, "type": kind, "param": problem.get("param") or _param(problem), "code": problem["code"]}
    return {"error": error | ({"request_id": problem["request_id"]} if problem.get("request_id") else {})}


def _param(problem: Mapping[str, Any]) -> str | None:
    """The field of the body that a validation complains about first."""
    found = problem.get("errors") or [{}]
    return unquote(str(found[0].get("pointer", ""))).removeprefix("#").removeprefix("/").replace("/", ".") or None


class OpenAIErrors:
    """A `send` that lets everything pass but problems, which it rewrites."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        """Pass a message on. A problem is held until it is whole."""
        if message["type"] == "http.response.start":
            kinds = [v for k, v in message.get("headers", ()) if k.lower() == b"content-type"]
            if kinds and kinds[0].startswith(b"application/problem+json"):
                self._start = message
                return
        elif self._start is not None:
            self._body += message.get("body", b"")
            if message.get("more_body", False) and not _whole(self._body):
                return
            start, self._start = self._start, None
            body = orjson.dumps(openai_error(orjson.loads(self._body)))
            headers = [h for h in start["headers"] if h[0].lower() not in (b"content-type", b"content-length")]
            headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await self._send({**start, "headers": headers})
            message = {**message, "body": body}
        await self._send(message)


def _whole(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True
