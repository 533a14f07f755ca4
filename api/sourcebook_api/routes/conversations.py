"""Conversations and citations."""

from __future__ import annotations

from fastapi import APIRouter

from sourcebook_api.access import Asking
from sourcebook_api.openapi import problems
from sourcebook_api.schemas.answers import CitationShown, ConversationShown, WholeConversation
from sourcebook_api.schemas.common import Cursor, Limit, Listing

router = APIRouter(tags=["conversations"])


@router.get("/conversations")
async def list_conversations(asking: Asking, limit: Limit = 50, cursor: Cursor = None) -> Listing[ConversationShown]:
    """This owner's conversations, newest first."""
    page = await asking.book.conversations.listing(asking.principal, limit, cursor)
    return Listing[ConversationShown].model_validate(page)


@router.get("/conversations/{conversation_id}", responses=problems(404))
async def get_conversation(asking: Asking, conversation_id: str) -> WholeConversation:
    """One conversation with all its messages, each answer with its citations."""
    found = await asking.book.conversations.get(asking.principal, conversation_id)
    messages = await asking.book.conversations.messages(conversation_id)
    plain = ConversationShown.model_validate(found).model_dump()
    return WholeConversation.model_validate({**plain, "messages": messages}, from_attributes=True)


@router.get("/citations/{citation_id}", responses=problems(404))
async def get_citation(asking: Asking, citation_id: str) -> CitationShown:
    """One citation, with the places in the original that its quote comes from."""
    row = dict(await asking.book.conversations.citation(asking.principal, citation_id))
    if row["document_id"] is not None:
        places = await asking.book.reading.places(row["document_id"], row["start"], row["end"])
        row["places"] = [p.to_json() for p in places]
    return CitationShown.model_validate(row)
