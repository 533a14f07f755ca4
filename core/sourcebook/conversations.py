"""Conversations: what was asked and answered, with the citations of every answer, and the runs that made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from sourcebook.citations import without_markers
from sourcebook.database.engine import Database, now
from sourcebook.database.pages import Page, page
from sourcebook.database.tables import citations, conversations, messages, runs, sources
from sourcebook.errors import NotFound
from sourcebook.events import CitationEvent
from sourcebook.ids import new_id
from sourcebook.interfaces import Message
from sourcebook.owners import Principal

_TITLE = 80


@dataclass(frozen=True)
class Conversation:
    """A thread of messages over some notebooks."""

    id: str
    owner_id: str
    title: str
    notebooks: Sequence[str]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class StoredMessage:
    """One stored turn. `citations` are rows of the table; empty for a user's."""

    id: str
    role: str
    text: str
    reasoning: str
    state: str
    details: Mapping[str, Any]
    created_at: datetime
    citations: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Answer:
    """What a finished run leaves behind. `state`: complete or incomplete; `outcome`: done, cancelled or failed."""

    text: str
    reasoning: str
    state: str
    outcome: str
    details: Mapping[str, Any]
    citations: Sequence[CitationEvent]
    last_seq: int


class Conversations:
    """Conversations in SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def begin(
        self, principal: Principal, question: str, notebooks: Sequence[str], conversation_id: str | None, run_id: str
    ) -> tuple[str, str]:
        """Store the question and the run that will answer it. The conversation's id, and the answer's message id."""
        at, answer_id = now(), new_id("msg")
        async with self._db.write() as c:
            if conversation_id is None:
                conversation_id = new_id("conv")
                stamps = {"created_at": at, "updated_at": at}
                await c.execute(
                    conversations.insert().values(
                        id=conversation_id,
                        owner_id=principal.owner_id,
                        title=question[:_TITLE],
                        notebooks=list(notebooks),
                        **stamps,
                    )
                )
            else:
                mine = _mine(principal, conversation_id)
                done = await c.execute(conversations.update().where(mine).values(updated_at=at))
                if done.rowcount == 0:
                    raise NotFound(f"There is no conversation {conversation_id}.")
            asked = {"id": new_id("msg"), "role": "user", "text": question, "state": "complete"}
            await c.execute(
                messages.insert().values(conversation_id=conversation_id, created_at=at, details={}, **asked)
            )
            run = {"id": run_id, "owner_id": principal.owner_id, "conversation_id": conversation_id, "state": "running"}
            await c.execute(runs.insert().values(created_at=at, **run))
        return conversation_id, answer_id

    async def finish(self, run_id: str, conversation_id: str, message_id: str, answer: Answer) -> None:
        """Store the answer with its citations, and end the run, in one transaction."""
        async with self._db.write() as c:
            row = {"id": message_id, "role": "assistant", "text": answer.text, "reasoning": answer.reasoning}
            made = {"state": answer.state, "details": dict(answer.details), "created_at": now()}
            await c.execute(messages.insert().values(conversation_id=conversation_id, **row, **made))
            if answer.citations:
                # A source that was deleted while it was cited leaves no quote behind.
                cited = sources.c.id.in_({e.source_id for e in answer.citations})
                alive = sa.select(sources.c.id).where(cited, sources.c.deleted_at.is_(None))
                there = set((await c.execute(alive)).scalars())
                rows = [_citation_row(message_id, e, gone=e.source_id not in there) for e in answer.citations]
                await c.execute(citations.insert(), rows)
            ended = {"state": answer.outcome, "message_id": message_id, "last_seq": answer.last_seq}
            await c.execute(runs.update().where(runs.c.id == run_id).values(finished_at=now(), **ended))

    async def get(self, principal: Principal, conversation_id: str) -> Conversation:
        """Raises `NotFound` also for another owner's."""
        async with self._db.read() as c:
            query = sa.select(conversations).where(_mine(principal, conversation_id))
            row = (await c.execute(query)).mappings().first()
        if row is None:
            raise NotFound(f"There is no conversation {conversation_id}.")
        return _conversation(row)

    async def listing(self, principal: Principal, limit: int = 50, cursor: str | None = None) -> Page[Conversation]:
        """Newest first."""
        query = sa.select(conversations).where(
            conversations.c.owner_id == principal.owner_id, conversations.c.deleted_at.is_(None)
        )
        if cursor:
            query = query.where(conversations.c.id < cursor)
        async with self._db.read() as c:
            rows = (await c.execute(query.order_by(conversations.c.id.desc()).limit(limit + 1))).mappings()
            return page([_conversation(row) for row in rows], limit)

    async def messages(self, conversation_id: str) -> list[StoredMessage]:
        """All turns, oldest first, each answer with its citations."""
        async with self._db.read() as c:
            rows = (
                (
                    await c.execute(
                        # Not by id: question and answer get theirs in the same millisecond.
                        sa.select(messages)
                        .where(messages.c.conversation_id == conversation_id)
                        .order_by(messages.c.created_at, messages.c.id)
                    )
                )
                .mappings()
                .all()
            )
            of = sa.select(citations).join(messages).where(messages.c.conversation_id == conversation_id)
            cited = (await c.execute(of.order_by(citations.c.answer_start, citations.c.n))).mappings().all()
        by_message: dict[str, list[Mapping[str, Any]]] = {}
        for row in cited:
            by_message.setdefault(row["message_id"], []).append(dict(row))
        names = ("id", "role", "text", "reasoning", "state", "details", "created_at")
        return [StoredMessage(**{n: row[n] for n in names}, citations=by_message.get(row["id"], ())) for row in rows]

    async def history(self, conversation_id: str, turns: int = 12) -> list[Message]:
        """The latest turns for a model, without the markers' numbers, which named other passages."""
        rows = [m for m in await self.messages(conversation_id) if m.text]
        return [
            Message("assistant", without_markers(m.text)) if m.role == "assistant" else Message("user", m.text)
            for m in rows[-turns:]
        ]

    async def citation(self, principal: Principal, citation_id: str) -> Mapping[str, Any]:
        """One citation of this owner's. Raises `NotFound`."""
        query = (
            sa.select(citations)
            .join(messages, messages.c.id == citations.c.message_id)
            .join(conversations, conversations.c.id == messages.c.conversation_id)
            .where(citations.c.id == citation_id, conversations.c.owner_id == principal.owner_id)
        )
        async with self._db.read() as c:
            row = (await c.execute(query)).mappings().first()
        if row is None:
            raise NotFound(f"There is no citation {citation_id}.")
        return dict(row)

    async def run_state(self, principal: Principal, run_id: str) -> Mapping[str, Any]:
        """A run's row. Raises `NotFound` also for another owner's."""
        query = sa.select(runs).where(runs.c.id == run_id, runs.c.owner_id == principal.owner_id)
        async with self._db.read() as c:
            row = (await c.execute(query)).mappings().first()
        if row is None:
            raise NotFound(f"There is no run {run_id}.")
        return dict(row)

    async def interrupt_lost(self, before: datetime) -> int:
        """End the runs of a server that died: their answer is gone, and nobody should wait for it."""
        lost = sa.and_(runs.c.state == "running", runs.c.created_at < before)
        async with self._db.write() as c:
            return int((await c.execute(runs.update().where(lost).values(state="failed", finished_at=now()))).rowcount)


def _mine(principal: Principal, conversation_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        conversations.c.id == conversation_id,
        conversations.c.owner_id == principal.owner_id,
        conversations.c.deleted_at.is_(None),
    )


def _conversation(row: Any) -> Conversation:
    return Conversation(**{name: row[name] for name in Conversation.__dataclass_fields__})


def _citation_row(message_id: str, e: CitationEvent, *, gone: bool) -> dict[str, Any]:
    names = ("id", "n", "source_id", "document_id", "passage_id", "start", "end", "quote")
    row = {name: getattr(e, name) for name in (*names, "answer_start", "answer_end", "supported")}
    left = {"document_id": None, "passage_id": None, "quote": "", "removed_at": now()} if gone else {"removed_at": None}
    return {"message_id": message_id, **row, **left}
