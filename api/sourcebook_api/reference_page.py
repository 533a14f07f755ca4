"""An OpenAPI document as a page for people: operations by tag, problems by status, and every schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from markupsafe import Markup, escape
from starlette.responses import Response

from sourcebook.rendering import to_html
from sourcebook_api.curl import curl
from sourcebook_api.html_pages import html_page
from sourcebook_api.schema_words import Row, described, rows_of, words

Described = Mapping[str, Any]
_PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Content:
    """A body of one media type: its schema in words, its fields where it has any of its own, an example."""

    kind: str
    words: Markup
    rows: list[Row]
    examples: list[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """A response; `coded` where a problem of this status has codes to look up."""

    status: str
    meaning: str
    contents: list[Content]
    coded: bool


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    id: str
    method: str
    path: str
    description: Markup
    permission: str
    parameters: list[Row]
    bodies: list[Content]
    answers: list[Answer]
    curl: str


def page_of(document: Described) -> Response:
    """The page of an OpenAPI document."""
    schemas = [
        (name, _prose(schema.get("description", "")), rows_of(schema), words(schema))
        for name, schema in sorted(document["components"]["schemas"].items())
    ]
    return html_page(
        "reference.html",
        200,
        {"Cache-Control": "no-cache"},
        info=document["info"],
        about=_prose(document["info"]["description"]),
        groups=list(_groups(document)),
        problems=_problems(document),
        schemas=schemas,
        prose=_prose,
    )


def _problems(document: Described) -> dict[str, dict[str, str]]:
    """Status -> the codes that come with it, and what each means."""
    shared = document["components"].get("responses", {}).values()
    found: dict[str, dict[str, str]] = {}
    for response in shared:
        for code, one in response["content"].get(_PROBLEM, {}).get("examples", {}).items():
            found.setdefault(str(one["value"]["status"]), {})[code] = str(one["summary"])
    return dict(sorted(found.items()))


def _groups(document: Described) -> Iterator[tuple[str, str, list[Operation]]]:
    """Tag, what it is, and its operations."""
    found: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["other"])[0]
            found.setdefault(tag, []).append(_operation(document, method.upper(), path, operation))
    described = {tag["name"]: tag.get("description", "") for tag in document.get("tags", ())}
    for tag in [*described, *(t for t in found if t not in described)]:
        if tag in found:
            yield tag, described.get(tag, ""), found[tag]


def _operation(document: Described, method: str, path: str, operation: Described) -> Operation:
    parameters = [
        Row(
            one["name"],
            words(one["schema"]),
            one.get("required", False),
            one.get("description", described(one["schema"])),
            one["in"],
        )
        for one in operation.get("parameters", ())
    ]
    return Operation(
        operation["operationId"],
        method,
        path,
        _prose(operation.get("description", "")),
        operation.get("x-permission", ""),
        parameters,
        _contents(document, operation.get("requestBody", {})),
        [_answer(document, status, response) for status, response in sorted(operation["responses"].items())],
        curl(method, path, operation),
    )


def _contents(document: Described, holder: Described) -> list[Content]:
    found = []
    for kind, content in holder.get("content", {}).items():
        schema = content.get("schema", {})
        own = {} if "$ref" in schema else schema
        examples: dict[str, Any] = {name: one.get("value") for name, one in content.get("examples", {}).items()}
        if "example" in content:
            examples["example"] = content["example"]
        found.append(Content(kind, words(schema), rows_of(own), [(n, _shown(e)) for n, e in examples.items()]))
    return found


def _answer(document: Described, status: str, response: Described) -> Answer:
    shared = response.get("$ref", "")
    if shared:
        response = document["components"]["responses"][shared.rpartition("/")[2]]
    meaning = str(response.get("description", ""))
    if meaning == "Successful Response":  # the framework's own word for all of them
        meaning = HTTPStatus(int(status)).phrase
    coded = bool(response.get("content", {}).get(_PROBLEM, {}).get("examples"))
    return Answer(status, meaning, [] if shared else _contents(document, response), coded)


def _shown(example: Any) -> str:
    return example if isinstance(example, str) else orjson.dumps(example, option=orjson.OPT_INDENT_2).decode()


def _prose(text: str) -> Markup:
    """A description, which is Markdown, as HTML that can do nothing."""
    made = to_html(text)
    return escape(text) if made is None else Markup(made)  # noqa: S704 - escaped by the renderer, as a model's words are
