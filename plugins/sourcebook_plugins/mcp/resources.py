"""Sources and notebooks as resources, and addresses of ranges in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson

from sourcebook import Caller
from sourcebook.errors import Forbidden, InvalidInput, NotFound
from sourcebook_plugins.mcp.calling import uri_of

TEMPLATES: Mapping[str, tuple[str, str]] = {
    "sourcebook://sources/{source_id}{?start,end}": ("source", "The text of a source, or a range of it."),
    "sourcebook://notebooks/{notebook_id}": ("notebook", "A notebook, and its newest sources with their states."),
}
"""The addresses that there are: each with its name and what it gives."""

_URI = re.compile(r"sourcebook://(sources|notebooks)/([\w-]{1,100})(?:\?([^#]*))?")
_PAGE = 50
_NOTEBOOK = 1000  # sources that are listed of one notebook


@dataclass(frozen=True)
class Listed:
    """One source as it is listed."""

    uri: str
    name: str
    description: str
    size: int


@dataclass(frozen=True)
class Content:
    """What stands at an address."""

    media_type: str
    text: str


async def listing(caller: Caller, cursor: str | None) -> tuple[list[Listed], str | None]:
    """A page of the caller's sources, notebook by notebook, newest first. Raises `InvalidInput` for a made-up cursor.

    A cursor names a notebook and a source in it: what comes next is behind that source, or in the next notebook.
    """
    notebook_id, at = _read_cursor(cursor)
    items: list[Listed] = []
    if notebook_id is not None:
        items, more = await _sources(caller, notebook_id, at)
        if more:
            return items, f"{notebook_id}.{more}"
    while following := (await caller.book.notebooks.listing(caller.principal, 1, notebook_id)).items:
        notebook_id = following[0].id
        if items:
            return items, f"{notebook_id}."
        items, more = await _sources(caller, notebook_id, None)
        if more:
            return items, f"{notebook_id}.{more}"
    return items, None


async def _sources(caller: Caller, notebook_id: str, at: str | None) -> tuple[list[Listed], str | None]:
    """A page of one notebook's sources; none of one that is gone, or that a plugin denies."""
    try:
        notebook = await caller.notebook(notebook_id)
    except (NotFound, Forbidden):
        return [], None
    page = await caller.book.sources.listing(caller.principal, notebook.id, _PAGE, at)
    items = [Listed(uri_of(s.id), s.name, f"In {notebook.title!r}, {s.state}.", s.size) for s in page.items]
    return items, page.next_cursor


async def read(caller: Caller, uri: str) -> Content:
    """What stands at an address. Raises `NotFound`, `InvalidInput`, and `Conflict` for what is not read yet."""
    found = _URI.fullmatch(uri)
    if found is None:
        raise NotFound(f"There is no resource {uri[:200]}.", remedy=f"There are: {', '.join(TEMPLATES)}.")
    kind, of, query = found.groups()
    if kind == "notebooks":
        return await _notebook(caller, of)
    numbers = _numbers(query or "")
    text = await caller.text(of, numbers.get("start", 0), numbers.get("end"))
    return Content("text/plain", text.text)


async def _notebook(caller: Caller, notebook_id: str) -> Content:
    notebook = await caller.notebook(notebook_id)
    page = await caller.book.sources.listing(caller.principal, notebook.id, _NOTEBOOK)
    names = ("id", "name", "media_type", "size", "tags", "state", "problem", "created_at")
    sources = [{"uri": uri_of(s.id), **{name: getattr(s, name) for name in names}} for s in page.items]
    shown: dict[str, Any] = {"id": notebook.id, "title": notebook.title, "description": notebook.description}
    shown |= {"pipeline": notebook.pipeline, "sources": sources, "more": page.next_cursor is not None}
    return Content("application/json", orjson.dumps(shown).decode())


def _numbers(query: str) -> dict[str, int]:
    """`start` and `end` of an address."""
    given = dict(parse_qsl(query, keep_blank_values=True))
    if not given.keys() <= {"start", "end"} or not all(re.fullmatch(r"\d{1,10}", v) for v in given.values()):
        raise InvalidInput("A range is ?start=NUMBER&end=NUMBER, in code points.")
    return {name: int(value) for name, value in given.items()}


def _read_cursor(cursor: str | None) -> tuple[str | None, str | None]:
    if cursor is None:
        return None, None
    notebook, dot, source = cursor.partition(".")
    if not (dot and re.fullmatch(r"[\w-]{1,100}", notebook) and re.fullmatch(r"[\w-]{0,100}", source)):
        raise InvalidInput("This cursor is not one of ours.")
    return notebook, source or None
