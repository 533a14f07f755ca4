"""Notes: what a person keeps in a notebook, among it answers, whose citations stay alive as long as the note does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from sourcebook.citations import numbers_in
from sourcebook.conversations import StoredMessage, cited, forget
from sourcebook.database.engine import Database, now
from sourcebook.database.pages import Page, page
from sourcebook.database.tables import citations, conversations, messages, note_citations, notebooks, notes
from sourcebook.errors import Conflict, InvalidInput, NotFound
from sourcebook.ids import new_id
from sourcebook.notebooks import Notebook, used, visible
from sourcebook.owners import Principal
from sourcebook.turns import title_of


@dataclass(frozen=True)
class Note:
    """A note. `citations` are rows of the table; a `[n]` in the text is the citation with this `n`."""

    id: str
    notebook_id: str
    title: str
    text: str
    version: int
    created_at: datetime
    updated_at: datetime
    citations: Sequence[Mapping[str, Any]] = field(default=())


class Notes:
    """Notes in SQL. Who may read or write a notebook may read or write its notes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def create(self, notebook: Notebook, title: str, text: str) -> Note:
        """A note that somebody wrote."""
        return await self._add(notebook, title, text, ())

    async def save_answer(
        self, notebook: Notebook, message: StoredMessage, title: str = "", text: str | None = None
    ) -> Note:
        """A note of an answer, with its citations; with `text` of a part of it, with those that a `[n]` there names.

        Raises `InvalidInput` for what is no answer.
        """
        if message.role != "assistant" or not message.text:
            raise InvalidInput("Only an answer can be saved as a note.", code="not_an_answer")
        kept = message.citations
        if text is not None:
            named = numbers_in(text)
            kept = [one for one in kept if one["n"] in named]
        text = message.text if text is None else text
        return await self._add(notebook, title or title_of(text), text, [one["id"] for one in kept])

    async def get(self, principal: Principal, note_id: str, permission: str = "read") -> Note:
        """Raises `NotFound` also for what is somebody else's."""
        query = sa.select(notes).join(notebooks).where(notes.c.id == note_id, visible(principal, permission))
        async with self._db.read() as c:
            row = (await c.execute(query)).mappings().first()
            if row is None:
                raise NotFound(f"There is no note {note_id}.")
            kept = cited().join(note_citations, note_citations.c.citation_id == citations.c.id)
            kept = kept.where(note_citations.c.note_id == note_id)
            rows = (await c.execute(kept.order_by(citations.c.answer_start, citations.c.n))).mappings()
            return _note(row, [dict(one) for one in rows])

    async def listing(self, notebook: Notebook, limit: int = 50, cursor: str | None = None) -> Page[Note]:
        """Newest first, without their citations."""
        query = sa.select(notes).where(notes.c.notebook_id == notebook.id).order_by(notes.c.id.desc()).limit(limit + 1)
        if cursor:
            query = query.where(notes.c.id < cursor)
        async with self._db.read() as c:
            return page([_note(row) for row in (await c.execute(query)).mappings()], limit)

    async def edit(
        self, principal: Principal, note_id: str, changes: Mapping[str, Any], version: int | None = None
    ) -> Note:
        """Change title or text. Raises `Conflict` (code `edited_meanwhile`) on another version."""
        note = await self.get(principal, note_id, "write")
        where = [notes.c.id == note_id] + ([notes.c.version == version] if version is not None else [])
        values = {k: v for k, v in changes.items() if k in ("title", "text")}
        stamps = {"version": notes.c.version + 1, "updated_at": now()}
        async with self._db.write() as c:
            done = await c.execute(notes.update().where(*where).values(**values, **stamps))
            await c.execute(used(note.notebook_id))
        if done.rowcount == 0:
            raise Conflict(
                "Somebody edited this note meanwhile.", code="edited_meanwhile", remedy="Read it again, then retry."
            )
        return await self.get(principal, note_id)

    async def delete(self, principal: Principal, note_id: str) -> None:
        """Remove it. Citations of a conversation that is gone go with it. Raises `NotFound`."""
        note = await self.get(principal, note_id, "write")
        left_behind = (
            sa.select(conversations.c.id)
            .join(messages, messages.c.conversation_id == conversations.c.id)
            .join(citations, citations.c.message_id == messages.c.id)
            .join(note_citations, note_citations.c.citation_id == citations.c.id)
            .where(note_citations.c.note_id == note_id, conversations.c.deleted_at.is_not(None))
        )
        async with self._db.write() as c:
            ids = list((await c.execute(left_behind.distinct())).scalars())
            await c.execute(note_citations.delete().where(note_citations.c.note_id == note_id))
            await c.execute(notes.delete().where(notes.c.id == note_id))
            await c.execute(used(note.notebook_id))
            if ids:
                await forget(c, ids)

    async def _add(self, notebook: Notebook, title: str, text: str, citation_ids: Sequence[str]) -> Note:
        at = now()
        row = {"id": new_id("note"), "notebook_id": notebook.id, "title": title, "text": text}
        stamps = {"version": 1, "created_at": at, "updated_at": at}
        async with self._db.write() as c:
            await c.execute(notes.insert().values(**row, **stamps))
            await c.execute(used(notebook.id))
            if citation_ids:
                links = [{"note_id": row["id"], "citation_id": one} for one in citation_ids]
                await c.execute(note_citations.insert(), links)
            kept = cited().where(citations.c.id.in_(citation_ids))
            rows = (await c.execute(kept.order_by(citations.c.answer_start, citations.c.n))).mappings().all()
        return _note(row | stamps, [dict(one) for one in rows])


def _note(row: Mapping[str, Any] | Any, kept: Sequence[Mapping[str, Any]] = ()) -> Note:
    names = ("id", "notebook_id", "title", "text", "version", "created_at", "updated_at")
    return Note(**{name: row[name] for name in names}, citations=kept)
