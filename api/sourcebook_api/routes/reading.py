"""What was read from a source: ranges of its text, its passages, and pictures of its pages."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response

from sourcebook.answering import passage_json
from sourcebook.documents import Passage, join_segments
from sourcebook.errors import Conflict, InvalidInput, NotFound
from sourcebook.sources import Source
from sourcebook_api.access import Asking, Caller
from sourcebook_api.openapi import problems
from sourcebook_api.schemas.common import Limit, Listing
from sourcebook_api.schemas.library import PassageShown, PlaceRange, TextRange

router = APIRouter(tags=["sources"])

_MOST = 200_000

Start = Annotated[int, Query(ge=0, le=2**31, description="First code point.")]
End = Annotated[int | None, Query(ge=0, le=2**31, description=f"Behind the last one; at most {_MOST:,} at once.")]
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
    source = await asking.source(source_id)
    document_id, length = await _document(asking, source, document)
    start, end = _clipped(start, end, length)
    where: dict[str, Any] = {
        "source_id": source.id,
        "document_id": document_id,
        "length": length,
        "start": start,
        "end": end,
    }
    if context:
        around = [(document_id, max(start - context, 0), start), (document_id, end, min(end + context, length))]
        where["before"], where["after"] = await asking.book.reading.texts(around)
    if not places:
        return TextRange(text=await asking.book.reading.text(document_id, start, end), **where)
    segments = await asking.book.reading.segments(document_id, start, end)
    whole = join_segments(segments)
    base = segments[0].start if segments else 0
    located = [
        PlaceRange(start=max(x.start, start), end=min(x.end, end), place=x.place.to_json())
        for x in whole.locators
        if x.start < end and x.end > start
    ]
    return TextRange(text=whole.text[start - base : end - base], places=located, **where)


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
        document_id, length = await _document(asking, source, document)
        first, last = _clipped(start, end, length)
        marked = {"document_id": document_id, "start": first, "end": last}
    image = await asking.book.pages.image(source, page, **marked)
    return Response(image, media_type="image/png", headers={"Cache-Control": "private, max-age=300"})


def shown(passage: Passage) -> dict[str, Any]:
    """A passage as clients see it, with its number in the source."""
    return {**passage_json(passage), "ordinal": passage.ordinal}


async def _document(asking: Caller, source: Source, wanted: str | None) -> tuple[str, int]:
    """The id and length of a source's document. Raises `Conflict` (code `not_read_yet`) where there is none yet."""
    document_id = wanted or source.document_id
    if document_id is None:
        raise Conflict(
            f"This source has no text: it is {source.state}.",
            code="not_read_yet",
            remedy="Follow its job until it is done.",
        )
    found = await asking.book.reading.document(document_id)
    if found["source_id"] != source.id:
        raise NotFound(f"There is no document {document_id}.")
    return document_id, int(found["length"])


def _clipped(start: int, end: int | None, length: int) -> tuple[int, int]:
    if end is not None and end < start:
        raise InvalidInput("The range ends before it starts.")
    start = min(start, length)
    return start, min(length if end is None else end, length, start + _MOST)
