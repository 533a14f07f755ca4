"""What was read from a source: ranges of its text, its passages, and pictures of its pages."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query, Response

from sourcebook.answering import passage_json
from sourcebook.callers import MOST_TEXT, clipped
from sourcebook.documents import Passage
from sourcebook.errors import NotFound
from sourcebook_api.access import Asking, Wired
from sourcebook_api.openapi import api_router, problems
from sourcebook_api.schemas.common import Limit, Listing
from sourcebook_api.schemas.library import PassageShown, PlaceRange, TextRange

router = api_router("sources")

Start = Annotated[int, Query(ge=0, le=2**31, description="First code point.")]
End = Annotated[int | None, Query(ge=0, le=2**31, description=f"Behind the last one; at most {MOST_TEXT:,} at once.")]
DocumentId = Annotated[
    str | None, Query(max_length=100, description="A document of this source; without it, the newest.")
]
_PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}, "description": "The page."}
}


@router.get("/sources/{source_id}/text", responses=problems(404, 409))
async def get_source_text(
    asking: Asking,
    source_id: str,
    start: Start = 0,
    end: End = None,
    document: DocumentId = None,
    context: Annotated[int, Query(ge=0, le=20_000, description="Code points to show before and after as well.")] = 0,
    places: Annotated[bool, Query(description="Also say where in the original the text stands.")] = False,
) -> TextRange:
    """A range of the text that was read from a source, cut to what there is."""
    found = await asking.text(source_id, start, end, document_id=document, context=context, places=places)
    where = [PlaceRange(start=x.start, end=x.end, place=x.place.to_json()) for x in found.places or ()]
    names = ("document_id", "length", "start", "end", "text", "before", "after")
    values: dict[str, Any] = {name: getattr(found, name) for name in names}
    return TextRange(source_id=found.source.id, places=where if places else None, **values)


@router.get("/sources/{source_id}/passages", responses=problems(404))
async def list_passages(
    asking: Asking,
    source_id: str,
    limit: Limit = 50,
    cursor: Annotated[int, Query(ge=-1, le=2**31, description="`next_cursor` of the page before.")] = -1,
) -> Listing[PassageShown]:
    """The passages that a source was cut into, in order."""
    source = await asking.source(source_id)
    found: list[Passage] = []
    if source.generation_id is not None:
        found = await asking.book.reading.passages_of(source.generation_id, limit + 1, cursor)
    items = [PassageShown.model_validate(shown(p)) for p in found[:limit]]
    return Listing[PassageShown](items=items, next_cursor=str(items[-1].ordinal) if len(found) > limit else None)


@router.get("/passages/{passage_id}", responses=problems(404))
async def get_passage(asking: Asking, passage_id: str) -> PassageShown:
    """One passage that is searched now."""
    missing = NotFound(f"There is no passage {passage_id}.")
    notebook_id = await asking.book.reading.notebook_of(passage_id)
    if notebook_id is None:
        raise missing
    try:
        scope, _ = await asking.book.notebooks.scope(asking.principal, [notebook_id])
    except NotFound:
        raise missing from None  # somebody else's looks exactly like none
    await asking.book.plugins.authorize(asking.principal, "read", notebook_id)
    found = await asking.book.reading.passages([passage_id], scope)
    if passage_id not in found:
        raise missing
    return PassageShown.model_validate(shown(found[passage_id]))


@router.get(
    "/sources/{source_id}/pages/{page}.png", responses={**_PNG, **problems(404, 409, 422)}, response_class=Response
)
async def get_page_image(
    asking: Asking,
    wired: Wired,
    source_id: str,
    page: Annotated[int, Path(ge=1, le=1_000_000)],
    start: Start = 0,
    end: End = None,
    document: DocumentId = None,
) -> Response:
    """A picture of one page. Where a range is given, the lines on this page that it covers are marked."""
    source = await asking.source(source_id)
    marked: dict[str, Any] = {}
    if end is not None:
        _, document_id, length = await asking.document(source_id, document)
        first, last = clipped(start, end, length)
        marked = {"document_id": document_id, "start": first, "end": last}
    image = await wired.pages.image(source, page, **marked)
    return Response(image, media_type="image/png", headers={"Cache-Control": "private, max-age=300"})


def shown(passage: Passage) -> dict[str, Any]:
    """A passage as clients see it, with its number in the source."""
    return {**passage_json(passage), "ordinal": passage.ordinal}
