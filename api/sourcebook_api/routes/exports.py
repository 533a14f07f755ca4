"""Notes and conversations as files to take away."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from sourcebook.export_docx import to_docx
from sourcebook.exporting import Export, Exporting, to_markdown
from sourcebook_api.access import Asking, Caller
from sourcebook_api.downloads import attachment, file_name
from sourcebook_api.openapi import problems

router = APIRouter()

Format = Annotated[Literal["md", "docx"], Query(alias="format", description="`md`: Markdown; `docx`: a Word document.")]
_TYPES = {
    "md": "text/markdown; charset=utf-8",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file, as a download.",
        "content": {
            "text/markdown": {"schema": {"type": "string"}, "example": "# Hours\n\nThe harbour closes at ten [1].\n"},
            _TYPES["docx"]: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.get(
    "/notes/{note_id}/export", tags=["notes"], responses={**_FILE, **problems(404, 413)}, response_class=Response
)
async def export_note(asking: Asking, note_id: str, kind: Format = "md") -> Response:
    """A note as a file, with the numbered references of its citations: source, place, words, and a link where there is
    `links.public_url`. No format holds raw HTML, pictures, or links to anything but the web.
    """
    note = await asking.book.notes.get(asking.principal, note_id)
    await asking.book.plugins.authorize(asking.principal, "read", note.notebook_id)
    return await _file(await _exporting(asking).note(note), kind)


@router.get(
    "/conversations/{conversation_id}/export",
    tags=["conversations"],
    responses={**_FILE, **problems(404, 413)},
    response_class=Response,
)
async def export_conversation(asking: Asking, conversation_id: str, kind: Format = "md") -> Response:
    """A conversation as a file: questions as headings, answers below them, every passage numbered once through all."""
    found = await asking.book.conversations.get(asking.principal, conversation_id)
    messages = await asking.book.conversations.messages(conversation_id)
    return await _file(await _exporting(asking).conversation(found, messages), kind)


def _exporting(asking: Caller) -> Exporting:
    return Exporting(asking.book.reading, asking.book.links)


async def _file(export: Export, kind: str) -> Response:
    made = await asyncio.to_thread(to_docx if kind == "docx" else _utf8, export)
    headers = {**attachment(file_name(export.title, kind)), "Cache-Control": "private, no-store"}
    return Response(made, media_type=_TYPES[kind], headers=headers)


def _utf8(export: Export) -> bytes:
    return to_markdown(export).encode()
