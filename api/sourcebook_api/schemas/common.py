"""Bases, and what every part of the API uses."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

import orjson
from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

T = TypeVar("T")

_MAX_METADATA = 64 * 1024


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not hold a NUL character")
    return text


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    """JSON proper: no lone surrogates, no numbers that other programs cannot read."""
    try:
        encoded = orjson.dumps(value)
    except TypeError:
        raise ValueError("must be JSON with Unicode text and 64-bit numbers") from None
    if len(encoded) > _MAX_METADATA:
        raise ValueError(f"must not be larger than {_MAX_METADATA} bytes")
    return dict(orjson.loads(encoded))


Plain = AfterValidator(_without_nul)
Id = Annotated[str, Field(min_length=1, max_length=100), Plain]
Metadata = Annotated[dict[str, Any], AfterValidator(_storable)]

Limit = Annotated[int, Query(ge=1, le=200, description="How many items at most.")]
Cursor = Annotated[
    str | None,
    Query(
        pattern=r"^[a-z]{1,12}_[0-9a-z]{26}$",
        description="`next_cursor` of the page before; without it, the first page.",
    ),
]


Html = Annotated[
    bool,
    Query(description="Also give the text as HTML: Markdown without raw HTML and images."),
]


class Body(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(extra="forbid")


class Shown(BaseModel):
    """What a client gets."""

    model_config = ConfigDict(from_attributes=True)


class Listing(Shown, Generic[T]):
    """One page of a list."""

    items: list[T]
    next_cursor: str | None = None


class Problem(Shown):
    """Any error: RFC 9457, with a stable `code`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None = None
    remedy: str | None = None
    errors: list[dict[str, str]] | None = None

    model_config = ConfigDict(extra="allow")


class StoredProblem(Shown):
    """Why something failed earlier, as it was stored."""

    code: str
    title: str
    detail: str
    remedy: str | None = None

    model_config = ConfigDict(extra="allow")
