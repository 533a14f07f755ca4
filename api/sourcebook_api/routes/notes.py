"""Notes."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import Body, Response

from sourcebook.errors import InvalidInput
from sourcebook.notes import Note
from sourcebook.rendering import to_html
from sourcebook_api.access import Asking, Caller
from sourcebook_api.exports import FILE, Format, Lang, export_file, exporting
from sourcebook_api.openapi import NOT_MODIFIED, api_router, problems
from sourcebook_api.preconditions import IfMatch, IfNoneMatch, versioned
from sourcebook_api.routes.conversations import cited, placed
from sourcebook_api.schemas.answers import Markdown, NewNote, NoteChanges, NoteShown, Rendered, WholeNote
from sourcebook_api.schemas.common import Cursor, Html, Limit, Listing

router = api_router("notes")

_NEW = {
    "written": {"value": {"title": "Opening hours", "text": "Ask Ada about the winter."}},
    "an answer": {"value": {"message_id": "msg_01k8v3q4zt6w9x2y5b7c8d9e0f"}},
    "a selection": {"value": {"message_id": "msg_01k8v3q4zt6w9x2y5b7c8d9e0f", "text": "It closes at ten [1]."}},
}
_CHANGED = {"text": {"value": {"text": "Ask Ada about the summer."}}}


@router.post("/notebooks/{notebook_id}/notes", status_code=201, responses=problems(404))
async def create_note(
    asking: Asking, notebook_id: str, body: Annotated[NewNote, Body(openapi_examples=_NEW)], response: Response
) -> WholeNote:
    """Write a note, or keep an answer or a part of it: its citations stay alive, even without the conversation."""
    notebook = await asking.notebook(notebook_id, "write")
    if body.text is None and body.message_id is None:
        raise InvalidInput("A note needs a `text` or the `message_id` of an answer.")
    if body.message_id is not None:
        _, message = await asking.book.conversations.message(asking.principal, body.message_id)
        made = await asking.book.notes.save_answer(notebook, message, body.title, body.text)
    else:
        made = await asking.book.notes.create(notebook, body.title, body.text or "")
    response.headers["Location"] = f"/api/v1/notes/{made.id}"
    shown: WholeNote = await _shown(asking, made, response)
    return shown


@router.get("/notebooks/{notebook_id}/notes", responses=problems(404))
async def list_notes(asking: Asking, notebook_id: str, limit: Limit = 50, cursor: Cursor = None) -> Listing[NoteShown]:
    """A notebook's notes, newest first."""
    page = await asking.book.notes.listing(await asking.notebook(notebook_id), limit, cursor)
    return Listing[NoteShown].model_validate(page)


@router.get("/notes/{note_id}", response_model=WholeNote, responses={**NOT_MODIFIED, **problems(404)})
async def get_note(
    asking: Asking, note_id: str, response: Response, if_none_match: IfNoneMatch = None, html: Html = False
) -> Any:
    """One note with its citations, each with its source's name and places, or with when that was removed."""
    note = await asking.book.notes.get(asking.principal, note_id)
    await asking.book.plugins.authorize(asking.principal, "read", note.notebook_id)
    shown = await _shown(asking, note, response, if_none_match)
    if html and isinstance(shown, WholeNote):
        shown.html = await asyncio.to_thread(to_html, note.text)
    return shown


@router.patch("/notes/{note_id}", responses=problems(404, 412, 428))
async def edit_note(
    asking: Asking,
    note_id: str,
    body: Annotated[NoteChanges, Body(openapi_examples=_CHANGED)],
    response: Response,
    if_match: IfMatch,
) -> WholeNote:
    """Change title or text. With `If-Match`, only where nobody has edited it meanwhile."""
    note = await asking.book.notes.get(asking.principal, note_id, "write")
    await asking.book.plugins.authorize(asking.principal, "write", note.notebook_id)
    changes, version = body.model_dump(exclude_none=True), if_match.against(note.version)
    if changes:
        note = await asking.book.notes.edit(asking.principal, note_id, changes, version)
    shown: WholeNote = await _shown(asking, note, response)
    return shown


@router.delete("/notes/{note_id}", status_code=204, responses=problems(404))
async def delete_note(asking: Asking, note_id: str) -> None:
    """Delete a note."""
    note = await asking.book.notes.get(asking.principal, note_id, "write")
    await asking.book.plugins.authorize(asking.principal, "write", note.notebook_id)
    await asking.book.notes.delete(asking.principal, note_id)


@router.get("/notes/{note_id}/export", responses={**FILE, **problems(404, 413)}, response_class=Response)
async def export_note(asking: Asking, note_id: str, kind: Format = "md", language: Lang = "en") -> Response:
    """A note as a file, with the numbered references of its citations: source, place, words, and a link where there is
    `links.public_url`. No format holds raw HTML, pictures, or links to anything but the web.
    """
    note = await asking.book.notes.get(asking.principal, note_id)
    await asking.book.plugins.authorize(asking.principal, "read", note.notebook_id)
    return await export_file(await exporting(asking, language).note(note), kind)


@router.post("/markdown")
async def render_markdown(
    asking: Asking, body: Annotated[Markdown, Body(openapi_examples={"text": {"value": {"text": "**Ebb** at six."}}})]
) -> Rendered:
    """A text as HTML, as a preview of what is being written: Markdown without raw HTML and images."""
    return Rendered(html=await asyncio.to_thread(to_html, body.text))


async def _shown(asking: Caller, note: Note, response: Response, if_none_match: str | None = None) -> Any:
    plain = NoteShown.model_validate(note).model_dump()
    citations = [cited(asking, row) for row in await placed(asking, note.citations)]
    shown = WholeNote.model_validate({**plain, "citations": citations})
    return versioned(shown, note.version, response, if_none_match)
