"""The API's description: security, and the one shape of every error. `python -m sourcebook_api.openapi` prints it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from sourcebook.events import EVENTS
from sourcebook_api.codes import CODES
from sourcebook_api.examples import Examples
from sourcebook_api.permissions import Permissions

TAGS = [
    {"name": "notebooks", "description": "Collections of sources that are searched together."},
    {"name": "sources", "description": "Files, pages and texts, and what was read from them."},
    {"name": "answers", "description": "Search and chat; an answer is a run that can be followed, left and resumed."},
    {"name": "conversations", "description": "What was asked and answered, with every citation."},
    {"name": "notes", "description": "What is kept in a notebook, among it answers with their citations."},
    {"name": "openai", "description": "The same answers on OpenAI's wire: a notebook is a model."},
    {"name": "jobs", "description": "Work in the background, and its progress."},
    {"name": "keys", "description": "Who may use this server. Needs the permission `admin`."},
    {"name": "server", "description": "Plugins, configuration and health."},
]
DESCRIPTION = (
    "Answers from your own sources, cited to the character.\n\n"
    "Success is the bare resource; a list is `{items, next_cursor}`; every error is an RFC 9457 problem with a stable "
    "`code` and a `request_id`. All ranges of text are code points."
)
_MEANINGS = {
    400: "The request could not be understood.",
    401: "A valid key is needed.",
    403: "The key lacks the permission, or the page's origin is not allowed.",
    404: "There is no such thing, or it is not yours.",
    409: "The state of this thing does not allow it.",
    410: "This link has expired, or what it opened was deleted.",
    412: "Somebody edited it meanwhile.",
    413: "The body is too large.",
    415: "Nothing here reads this type.",
    416: "Nothing of the range lies in the file.",
    428: "This server takes such an edit only with an If-Match header.",
    429: "A limit of this key, address or owner is reached; Retry-After says when to come back.",
    421: "This server does not answer to that Host.",
    422: "The request does not fit its model, or a value in it has no meaning.",
    500: "The server made a mistake.",
    502: "A server that this one depends on failed.",
    503: "A part of this server does not answer, or it is busy. Retry-After says when to come back.",
    507: "The disk is full. Nothing of this was kept.",
}
# What the gate can answer to any request, and what can happen to any.
_ANYWHERE, _WITH_KEY = (400, 421, 500, 503), (401, 403, 429)
_PROBLEM = "application/problem+json"
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "It is the one that the client has."}}
"""The `responses` of a GET that takes `If-None-Match`."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can fail in these ways."""
    return {s: {"description": _MEANINGS[s], "content": {_PROBLEM: _problem(s)}} for s in statuses}


def _problem(status: int) -> dict[str, Any]:
    """The one shape of errors, with an example for every code that comes with this status."""
    examples = {
        code: {"summary": what, "value": _example(status, code, what)} for code, what in CODES.get(status, {}).items()
    }
    return {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}


def _example(status: int, code: str, what: str) -> dict[str, Any]:
    return {
        "type": f"urn:problem:sourcebook:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": what,
        "code": code,
        "request_id": "req_5f0c1e7d2b8a4936c0de1f22",
    }


def operation_id(route: APIRoute) -> str:
    """The function's name, so that generated clients keep theirs."""
    return route.name


def api_router(tag: str, prefix: str = "") -> APIRouter:
    """A router of whole paths below `/api/v1`, whose routes an application can take as they are."""
    return APIRouter(tags=[tag], prefix=f"/api/v1{prefix}", generate_unique_id_function=operation_id)


class Described(FastAPI):
    """A FastAPI whose description tells of the gate too."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        document = super().openapi()
        if "securitySchemes" in document["components"]:
            return document
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "description": "A key, as `sourcebook keys create` gives."},
            "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        }
        document["components"]["schemas"] |= _events()
        examples = Examples(document)
        permissions: Permissions = self.state.permissions
        for path, method, operation in _operations(document):
            permission = permissions.needed(method.upper(), path)
            # The last, empty alternative: on a loopback address no key is needed as long as there is none.
            operation["security"] = [{"bearer": []}, {"key": []}, {}] if permission else []
            if permission:
                operation["x-permission"] = permission
            takes = (413, 422) if "requestBody" in operation else (422,) if operation.get("parameters") else ()
            responses = operation["responses"]
            responses.pop("422", None)  # as the framework would have said it
            for status in (*_ANYWHERE, *(_WITH_KEY if permission else ()), *takes):
                responses.setdefault(str(status), problems(status)[status])
            examples.add_to(operation)
            _share(responses, document["components"].setdefault("responses", {}), openai=path.startswith("/v1/"))
        for unused in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(unused, None)
        return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _share(responses: dict[str, Any], shared: dict[str, Any], *, openai: bool) -> None:
    """Every status has one problem response, which operations refer to; one of OpenAI's shape below `/v1`."""
    for status, response in responses.items():
        if _PROBLEM in response.get("content", ()):
            name, described = f"Problem{status}", problems(int(status))[int(status)]
            if openai:
                name = f"OpenAI{name}"
                error = {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}}
                described = {"description": described["description"], "content": error}
            shared[name] = described
            responses[status] = {"$ref": f"#/components/responses/{name}"}


def _events() -> dict[str, Any]:
    """The schemas of every event of a run, and their union."""
    schemas: dict[str, Any] = {}
    for event in EVENTS:
        schema = TypeAdapter(event).json_schema()
        common = {
            "type": {"const": event.type, "type": "string"},
            "run_id": {"type": "string"},
            "seq": {"type": "integer"},
        }
        name = event.__name__ if event.__name__.endswith("Event") else f"{event.__name__}Event"
        schemas[name] = {
            "title": name,
            "type": "object",
            "description": " ".join((event.__doc__ or "").split()),
            "properties": common | schema["properties"],
            "required": [*common, *schema.get("required", [])],
        }
    union = [{"$ref": f"#/components/schemas/{name}"} for name in schemas]
    mapping = {s["properties"]["type"]["const"]: f"#/components/schemas/{name}" for name, s in schemas.items()}
    discriminator = {"propertyName": "type", "mapping": mapping}
    return {**schemas, "RunEvent": {"title": "RunEvent", "oneOf": union, "discriminator": discriminator}}


def render(app: FastAPI) -> bytes:
    """The document as it is kept in `docs/openapi.json`."""
    return orjson.dumps(app.openapi(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def main() -> None:
    """Print the document of a server without any configuration."""
    from sourcebook.configuration import load
    from sourcebook_api.app import create_app

    sys.stdout.buffer.write(render(create_app(load(environ={}, overrides={}))))


if __name__ == "__main__":
    main()
