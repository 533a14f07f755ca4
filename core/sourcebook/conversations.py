"""Conversations: what was asked and answered, with the citations of every answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.citations import without_markers
from sourcebook.counting import each_of
from sourcebook.database.engine import Database, now
from sourcebook.database.pages import Page, page
from sourcebook.database.tables import UTCDateTime, citations, conversations, messages, note_citations, runs, sources
from sourcebook.errors import Conflict, NotFound
from sourcebook.ids import new_id
from sourcebook.interfaces import Message
from sourcebook.owners import Principal

_AGAIN = ("sources", "filters", "limit", "mode", "weights", "options")
"""What a question was asked with, and is asked with again."""


@dataclass(frozen=True)
class Conversation:
    """A thread of messages over some notebooks. `origin` is `openai` where it came over `/v1`, else empty."""

    id: str
    owner_id: str
    title: str
    notebooks: Sequence[str]
    origin: str
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class StoredMessage:
    """One stored turn. `citations` are rows of the table; empty for a user's. `replaced_at`: another took its place."""

    id: str
    role: str
    text: str
    reasoning: str
    state: str
    details: Mapping[str, Any]
    created_at: datetime
    replaced_at: datetime | None
    citations: Sequence[Mapping[str, Any]]


class Conversations:
    """Conversations in SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def create(self, principal: Principal, title: str, notebooks: Sequence[str]) -> Conversation:
        """An empty one; its first question gives it a title where it has none."""
        at = now()
        row = {"id": new_id("conv"), "owner_id": principal.owner_id, "title": title, "notebooks": list(notebooks)}
        made = {"origin": "", "version": 1, "created_at": at, "updated_at": at}
        async with self._db.write() as c:
            await c.execute(conversations.insert().values(**row, **made))
        return _conversation(row | made)

    async def get(self, principal: Principal, conversation_id: str) -> Conversation:
        """Raises `NotFound` also for another owner's."""
        async with self._db.read() as c:
            query = sa.select(conversations).where(_mine(principal, conversation_id))
            row = (await c.execute(query)).mappings().first()
        if row is None:
            raise NotFound(f"There is no conversation {conversation_id}.")
        return _conversation(row)

    async def listing(
        self,
        principal: Principal,
        limit: int = 50,
        cursor: str | None = None,
        origin: str = "",
        notebook_id: str | None = None,
    ) -> Page[Conversation]:
        """Newest first, of one origin; with `notebook_id` those over this notebook, alone or with others."""
        query = sa.select(conversations).where(
            conversations.c.owner_id == principal.owner_id,
            conversations.c.deleted_at.is_(None),
            conversations.c.origin == origin,
        )
        if cursor:
            query = query.where(conversations.c.id < cursor)
        if notebook_id is not None:
            each, among = each_of(conversations.c.notebooks, self._db.sqlite)
            query = query.where(sa.exists(sa.select(sa.true()).select_from(each).where(among == notebook_id)))
        async with self._db.read() as c:
            rows = (await c.execute(query.order_by(conversations.c.id.desc()).limit(limit + 1))).mappings()
            return page([_conversation(row) for row in rows], limit)

    async def edit(
        self, principal: Principal, conversation_id: str, changes: Mapping[str, Any], version: int | None = None
    ) -> Conversation:
        """Change title or notebooks. Raises `Conflict` (code `edited_meanwhile`) on another version."""
        await self.get(principal, conversation_id)
        where = [_mine(principal, conversation_id)]
        if version is not None:
            where.append(conversations.c.version == version)
        values = {k: v for k, v in changes.items() if k in ("title", "notebooks")}
        stamps = {"version": conversations.c.version + 1, "updated_at": now()}
        async with self._db.write() as c:
            done = await c.execute(conversations.update().where(*where).values(**values, **stamps))
        if done.rowcount == 0:
            raise Conflict(
                "Somebody edited this conversation meanwhile.",
                code="edited_meanwhile",
                remedy="Read it again, then retry.",
            )
        return await self.get(principal, conversation_id)

    async def delete(self, principal: Principal, conversation_id: str) -> None:
        """Remove it with its messages; what a note keeps of them stays, without another word. Raises `NotFound`."""
        await self.get(principal, conversation_id)
        async with self._db.write() as c:
            await c.execute(
                conversations.update().where(conversations.c.id == conversation_id).values(deleted_at=now())
            )
            await forget(c, [conversation_id])

    async def expire(self, origin: str, before: datetime) -> int:
        """Remove the conversations of an origin that nobody has used since."""
        table = conversations.c
        old = sa.select(table.id).where(table.origin == origin, table.updated_at < before, table.deleted_at.is_(None))
        async with self._db.read() as c:
            ids = list((await c.execute(old.limit(100))).scalars())
        if ids:
            async with self._db.write() as c:
                await c.execute(conversations.update().where(table.id.in_(ids)).values(deleted_at=now()))
                await forget(c, ids)
        return len(ids)

    async def asked_before(self, principal: Principal, message_id: str) -> dict[str, Any]:
        """What `ask` needs to answer a question of a conversation again.

        `message_id` is the question's, or its answer's. Raises `NotFound`, or `Conflict` where it has given way.
        """
        conversation, message = await self.message(principal, message_id)
        turns = await self.messages(conversation.id)
        place = next((i for i, turn in enumerate(turns) if turn.id == message.id), None)
        if place is None:
            raise Conflict("This message has given way to another.", code="message_replaced")
        while place > 0 and turns[place].role != "user":
            place -= 1
        question = turns[place]
        how = {k: v for k, v in question.details.items() if k in _AGAIN}
        notebooks = list(question.details.get("notebooks") or conversation.notebooks)
        where = {"conversation_id": conversation.id, "again": question.id}
        return {"text": question.text, "notebook_ids": notebooks, **where, **how}

    async def messages(self, conversation_id: str, *, replaced: bool = False) -> list[StoredMessage]:
        """All turns, oldest first, each answer with its citations; those that gave way to others only if asked for."""
        # Not by id: question and answer get theirs in the same millisecond.
        query = sa.select(messages).where(messages.c.conversation_id == conversation_id)
        if not replaced:
            query = query.where(messages.c.replaced_at.is_(None))
        of = cited().join(messages, messages.c.id == citations.c.message_id)
        of = of.where(messages.c.conversation_id == conversation_id)
        async with self._db.read() as c:
            rows = (await c.execute(query.order_by(messages.c.created_at, messages.c.id))).mappings().all()
            found = (await c.execute(of.order_by(citations.c.answer_start, citations.c.n))).mappings().all()
        by_message: dict[str, list[Mapping[str, Any]]] = {}
        for row in found:
            by_message.setdefault(row["message_id"], []).append(dict(row))
        return [_message(row, by_message.get(row["id"], ())) for row in rows]

    async def message(self, principal: Principal, message_id: str) -> tuple[Conversation, StoredMessage]:
        """One turn, with the conversation that it belongs to. Raises `NotFound`."""
        query = sa.select(messages).where(messages.c.id == message_id)
        async with self._db.read() as c:
            row = (await c.execute(query)).mappings().first()
            of = await c.execute(cited().where(citations.c.message_id == message_id))
            found = [dict(one) for one in of.mappings()]
        missing = NotFound(f"There is no message {message_id}.")
        if row is None:
            raise missing
        try:
            conversation = await self.get(principal, row["conversation_id"])
        except NotFound:
            raise missing from None
        return conversation, _message(row, found)

    async def history(self, conversation_id: str, turns: int = 12, before: str | None = None) -> list[Message]:
        """The latest turns for a model, without the markers' numbers, which named other passages.

        `before`: only what was said before this message.
        """
        rows = await self.messages(conversation_id)
        if before is not None:
            ids = [m.id for m in rows]
            rows = rows[: ids.index(before)] if before in ids else rows
        return [
            Message("assistant", without_markers(m.text)) if m.role == "assistant" else Message("user", m.text)
            for m in [m for m in rows if m.text][-turns:]
        ]

    async def citation(self, principal: Principal, citation_id: str) -> Mapping[str, Any]:
        """One citation of this owner's. Raises `NotFound`."""
        row, owner_id = await self.linked(citation_id)
        if owner_id != principal.owner_id:
            raise NotFound(f"There is no citation {citation_id}.")
        return row

    async def linked(self, citation_id: str) -> tuple[Mapping[str, Any], str]:
        """One citation, and the owner of the answer that it belongs to. Raises `NotFound`."""
        query = (
            cited()
            .add_columns(conversations.c.owner_id)
            .join(messages, messages.c.id == citations.c.message_id)
            .join(conversations, conversations.c.id == messages.c.conversation_id)
            .where(citations.c.id == citation_id)
        )
        async with self._db.read() as c:
            row = (await c.execute(query)).mappings().first()
        if row is None:
            raise NotFound(f"There is no citation {citation_id}.")
        found = dict(row)
        return found, str(found.pop("owner_id"))


def cited() -> sa.Select[Any]:
    """Citations as they are shown: with `source_name`, and without a word of a source that has been deleted."""
    gone = sources.c.deleted_at.is_not(None)
    shown = {
        "document_id": sa.case((gone, None), else_=citations.c.document_id),
        "passage_id": sa.case((gone, None), else_=citations.c.passage_id),
        "quote": sa.case((gone, ""), else_=citations.c.quote),
        "removed_at": sa.func.coalesce(citations.c.removed_at, sources.c.deleted_at, type_=UTCDateTime()),
        "source_name": sa.case((gone, None), else_=sources.c.name),
    }
    plain = [column for column in citations.c if column.name not in shown]
    return (
        sa.select(*plain, *(value.label(name) for name, value in shown.items()))
        .select_from(citations)
        .outerjoin(sources, sources.c.id == citations.c.source_id)
    )


async def forget(c: AsyncConnection, conversation_ids: Sequence[str]) -> None:
    """Remove what deleted conversations hold. Citations that a note keeps stay, with an empty message around them."""
    mine = sa.select(messages.c.id).where(messages.c.conversation_id.in_(conversation_ids))
    kept = sa.select(note_citations.c.citation_id)
    await c.execute(citations.delete().where(citations.c.message_id.in_(mine), citations.c.id.not_in(kept)))
    left = sa.select(citations.c.message_id)
    await c.execute(messages.delete().where(messages.c.id.in_(mine), messages.c.id.not_in(left)))
    blank = {"text": "", "reasoning": "", "details": {}}
    await c.execute(messages.update().where(messages.c.conversation_id.in_(conversation_ids)).values(**blank))
    await c.execute(runs.delete().where(runs.c.conversation_id.in_(conversation_ids), runs.c.state != "running"))
    empty = sa.select(messages.c.conversation_id).union(sa.select(runs.c.conversation_id))
    those = conversations.c.id.in_(conversation_ids)
    await c.execute(conversations.update().where(those).values(title=""))
    await c.execute(conversations.delete().where(those, conversations.c.id.not_in(empty)))


def _mine(principal: Principal, conversation_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        conversations.c.id == conversation_id,
        conversations.c.owner_id == principal.owner_id,
        conversations.c.deleted_at.is_(None),
    )


def _conversation(row: Any) -> Conversation:
    return Conversation(**{name: row[name] for name in Conversation.__dataclass_fields__})


def _message(row: Any, cited: Sequence[Mapping[str, Any]]) -> StoredMessage:
    names = ("id", "role", "text", "reasoning", "state", "details", "created_at", "replaced_at")
    return StoredMessage(**{name: row[name] for name in names}, citations=cited)
