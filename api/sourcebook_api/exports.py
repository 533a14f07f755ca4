"""What the routes that export have in common: the formats, and an export as a file to take away."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import Query, Response

from sourcebook.export_docx import to_docx
from sourcebook.export_words import Language
from sourcebook.exporting import Export, Exporting, to_markdown
from sourcebook_api.access import Caller
from sourcebook_api.downloads import attachment, file_name

Format = Annotated[Literal["md", "docx"], Query(alias="format", description="`md`: Markdown; `docx`: a Word document.")]
Lang = Annotated[Language, Query(alias="lang", description="Of headings and remarks, not of texts and quotes.")]
_TYPES = {
    "md": "text/markdown; charset=utf-8",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}
FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file, as a download.",
        "content": {
            "text/markdown": {"schema": {"type": "string"}, "example": "# Hours\n\nThe harbour closes at ten [1].\n"},
            _TYPES["docx"]: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
"""The `responses` of a route that exports."""


def exporting(asking: Caller, language: Language) -> Exporting:
    """What makes exports of things that were found for this caller."""
    return Exporting(asking.book.reading, asking.book.links, language)


async def export_file(export: Export, kind: str) -> Response:
    """The file. Raises `TooLarge` where a Word document would hold too much."""
    made = await asyncio.to_thread(to_docx if kind == "docx" else _utf8, export)
    headers = {**attachment(file_name(export.title, kind)), "Cache-Control": "private, no-store"}
    return Response(made, media_type=_TYPES[kind], headers=headers)


def _utf8(export: Export) -> bytes:
    return to_markdown(export).encode()
