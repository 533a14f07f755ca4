"""Conversations, their messages and citations."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import Body, Query, Response

from sourcebook.conversations import Conversation
from sourcebook.rendering import to_html
from sourcebook_api.access import Asking, Caller
from sourcebook_api.exports import FILE, Format, Lang, export_file, exporting
from sourcebook_api.openapi import api_router, problems
from sourcebook_api.preconditions import IfMatch, etag
from sourcebook_api.schemas.answers import (
    CitationShown,
    ConversationChanges,
    ConversationShown,
    NewConversation,
    WholeConversation,
)
from sourcebook_api.schemas.common import Cursor, Html, Id, Limit, Listing

router = api_router("conversations")

_NEW = {"harbour": {"value": {"title": "The harbour", "notebooks": ["nb_01k8v3q4zt6w9x2y5b7c8d9e0f"]}}}
_CHANGED = {"rename": {"value": {"title": "Lights and tides"}}}
Origin = Annotated[Literal["", "openai"], Query(description="`openai`: those that came over `/v1`.")]
Over = Annotated[Id | None, Query(description="Only those over this notebook, alone or with others.")]
WithPlaces = Annotated[bool, Query(description="Also say where in the original each citation stands.")]
Replaced = Annotated[bool, Query(description="Also show what gave way to an edit or to another answer.")]


@router.post("/conversations", status_code=201, responses=problems(404))
async def create_conversation(
    asking: Asking, body: Annotated[NewConversation, Body(openapi_examples=_NEW)], response: Response
) -> ConversationShown:
    """Make an empty conversation. (`chat` makes one itself where it is given none.)"""
    await asking.notebooks(body.notebooks)
    made = await asking.book.conversations.create(asking.principal, body.title, body.notebooks)
    response.headers["Location"] = f"/api/v1/conversations/{made.id}"
    return _shown(made, response)


@router.get("/conversations")
async def list_conversations(
    asking: Asking, limit: Limit = 50, cursor: Cursor = None, origin: Origin = "", notebook: Over = None
) -> Listing[ConversationShown]:
    """This owner's conversations, newest first."""
    page = await asking.book.conversations.listing(asking.principal, limit, cursor, origin, notebook)
    return Listing[ConversationShown].model_validate(page)


@router.get("/conversations/{conversation_id}", responses=problems(404))
async def get_conversation(
    asking: Asking,
    conversation_id: str,
    response: Response,
    replaced: Replaced = False,
    html: Html = False,
    places: WithPlaces = False,
) -> WholeConversation:
    """One conversation with all its messages, each answer with its citations."""
    found = await asking.book.conversations.get(asking.principal, conversation_id)
    messages = await asking.book.conversations.messages(conversation_id, replaced=replaced)
    rows = [row for m in messages for row in m.citations]
    shown = {row["id"]: cited(asking, row) for row in (await placed(asking, rows) if places else rows)}
    turns = [
        {**{n: getattr(m, n) for n in m.__dataclass_fields__}, "citations": [shown[c["id"]] for c in m.citations]}
        for m in messages
    ]
    if html:
        rendered = await asyncio.to_thread(lambda: [to_html(m.text) for m in messages])
        turns = [{**turn, "html": text} for turn, text in zip(turns, rendered, strict=True)]
    return WholeConversation.model_validate({**_shown(found, response).model_dump(), "messages": turns})


@router.patch("/conversations/{conversation_id}", responses=problems(404, 412, 428))
async def edit_conversation(
    asking: Asking,
    conversation_id: str,
    body: Annotated[ConversationChanges, Body(openapi_examples=_CHANGED)],
    response: Response,
    if_match: IfMatch,
) -> ConversationShown:
    """Change title or notebooks. With `If-Match`, only where nobody has edited it meanwhile."""
    found = await asking.book.conversations.get(asking.principal, conversation_id)
    changes = body.model_dump(exclude_none=True)
    if body.notebooks is not None:
        await asking.notebooks(body.notebooks)
    version = if_match.against(found.version)
    if changes:
        found = await asking.book.conversations.edit(asking.principal, conversation_id, changes, version)
    return _shown(found, response)


@router.delete("/conversations/{conversation_id}", status_code=204, responses=problems(404))
async def delete_conversation(asking: Asking, conversation_id: str) -> None:
    """Delete a conversation with all its messages. What a note keeps of its answers stays in the note."""
    await asking.book.conversations.delete(asking.principal, conversation_id)


@router.get(
    "/conversations/{conversation_id}/export", responses={**FILE, **problems(404, 413)}, response_class=Response
)
async def export_conversation(
    asking: Asking, conversation_id: str, kind: Format = "md", language: Lang = "en"
) -> Response:
    """A conversation as a file: questions as headings, answers below them, every passage numbered once through all."""
    found = await asking.book.conversations.get(asking.principal, conversation_id)
    messages = await asking.book.conversations.messages(conversation_id)
    return await export_file(await exporting(asking, language).conversation(found, messages), kind)


@router.get("/citations/{citation_id}", responses=problems(404))
async def get_citation(asking: Asking, citation_id: str) -> CitationShown:
    """One citation, with the places in the original that its quote comes from."""
    (row,) = await placed(asking, [await asking.book.conversations.citation(asking.principal, citation_id)])
    return CitationShown.model_validate(cited(asking, row))


def cited(asking: Caller, row: Mapping[str, Any]) -> dict[str, Any]:
    """A stored citation with a fresh link."""
    return {**row, "url": asking.book.links.url(row["id"])}


async def placed(asking: Caller, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stored citations with their places, but for those whose source is gone."""
    found = [dict(row) for row in rows]
    there = [row for row in found if row["document_id"] is not None]
    ranges = [(row["document_id"], row["start"], row["end"]) for row in there]
    for row, places in zip(there, await asking.book.reading.places_of(ranges), strict=True):
        row["places"] = [place.to_json() for place in places]
    return found


def _shown(conversation: Conversation, response: Response) -> ConversationShown:
    response.headers["ETag"] = etag(conversation.version)
    return ConversationShown.model_validate(conversation)
