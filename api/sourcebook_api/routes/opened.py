"""`/open/{token}`: one citation as a page for people, from a signed link, without a key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse

from sourcebook.app import Sourcebook
from sourcebook.documents import Place
from sourcebook.errors import NotFound
from sourcebook.owners import Principal
from sourcebook.sources import Source
from sourcebook_api.access import Wired, book_of
from sourcebook_api.html_pages import html_page
from sourcebook_api.openapi import problems
from sourcebook_api.problems import status_of

router = APIRouter(tags=["conversations"])

_AROUND = 1200  # code points shown before and after the quote
_PAGE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/html": {"schema": {"type": "string"}}}, "description": "The page."}
}
_PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}, "description": "The picture."}
}
_PRIVATE = {"Cache-Control": "private, no-store"}  # a link is a credential while it lasts


@dataclass(frozen=True)
class _Opened:
    """What a link leads to."""

    citation: Mapping[str, Any]
    source: Source
    places: tuple[Place, ...]

    @property
    def page(self) -> int | None:
        """The first page that the quote stands on."""
        return next((p.page for p in self.places if p.page is not None and p.box is not None), None)


@router.get("/open/{token}", responses={**_PAGE, **problems(404, 410)}, response_class=HTMLResponse)
async def open_citation(request: Request, token: str) -> Response:
    """The cited words, marked, in the text around them, and the page that they stand on. Made for browsers."""
    book = book_of(request)
    try:
        found = await _opened(book, token)
    except NotFound as error:
        if "text/html" not in request.headers.get("accept", ""):
            raise
        title = "This link has expired" if error.problem_code == "link_expired" else "There is nothing here any more"
        return html_page(
            "gone.html", status_of(error), _PRIVATE, title=title, detail=f"{error.detail} {error.remedy}".strip()
        )
    row, source = found.citation, found.source
    document_id, start, end = row["document_id"], row["start"], row["end"]
    length = int((await book.reading.document(document_id))["length"])
    before, after = max(start - _AROUND, 0), min(end + _AROUND, length)
    around = await book.reading.texts([(document_id, before, start), (document_id, end, after)])
    language = str((source.document or {}).get("metadata", {}).get("language") or "en")
    return html_page(
        "citation.html",
        200,
        _PRIVATE,
        title=source.name,
        where=str(found.places[0]) if found.places else "",
        before=around[0],
        quote=row["quote"],
        after=around[1],
        cut_before=before > 0,
        cut_after=after < length,
        supported=row["supported"],
        page=found.page,
        image=f"{token}/page.png",
        language=language if re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", language) else "en",
    )


@router.get("/open/{token}/page.png", responses={**_PNG, **problems(404, 410, 422)}, response_class=Response)
async def open_citation_page(request: Request, wired: Wired, token: str) -> Response:
    """A picture of the page that the cited words stand on, with them marked."""
    book = book_of(request)
    found = await _opened(book, token)
    if found.page is None:
        raise NotFound("This source has no pages to show.", code="no_pages")
    row = found.citation
    marked = {"document_id": row["document_id"], "start": row["start"], "end": row["end"]}
    image = await wired.pages.image(found.source, found.page, **marked)
    return Response(image, media_type="image/png", headers=_PRIVATE)


async def _opened(book: Sourcebook, token: str) -> _Opened:
    """What the link leads to, as long as whoever asked the question may still read it. Raises `NotFound`."""
    row, owner_id = await book.conversations.linked(book.links.read(token))
    if row["document_id"] is None or row["source_id"] is None:
        raise NotFound("The source of this citation was deleted.", code="source_deleted")
    source = await book.sources.get(Principal(owner_id, "a link", frozenset({"read"})), row["source_id"])
    places = await book.reading.places(row["document_id"], row["start"], row["end"])
    return _Opened(row, source, tuple(places))
