"""What a run stores: the question before it begins, and what came of it, also where its worker was lost."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from sourcebook.database.engine import Database, now
from sourcebook.database.prepared import Prepared
from sourcebook.database.tables import citations, conversations, messages, run_segments, run_traces, runs, sources
from sourcebook.database.together import Together
from sourcebook.errors import NotFound
from sourcebook.events import CitationEvent
from sourcebook.ids import new_id
from sourcebook.owners import Principal
from sourcebook.trace import packed, unpacked

log = logging.getLogger(__name__)

_TITLE = 80

# Every answer asks these: to build them takes about as long as to run them.
_END = Prepared(
    runs.update()
    .where(runs.c.id == sa.bindparam("ended_run"), runs.c.state == "running")
    .values(
        state=sa.bindparam("ended_as"),
        last_seq=sa.bindparam("ended_with"),
        finished_at=sa.bindparam("ended_at"),
    )
)
_ANSWERED = Prepared(
    runs.update().where(runs.c.id == sa.bindparam("ended_run")).values(message_id=sa.bindparam("ended_by"))
)
_BEGIN_CONVERSATION = Prepared(
    conversations.insert(), "id", "owner_id", "title", "notebooks", "origin", "created_at", "updated_at"
)
_BEGIN_RUN = Prepared(
    runs.insert(), "id", "owner_id", "conversation_id", "state", "worker", "lease_until", "created_at"
)
_ADD_QUESTION = Prepared(messages.insert(), "id", "conversation_id", "role", "text", "state", "details", "created_at")
_ADD_ANSWER = Prepared(
    messages.insert(), "id", "conversation_id", "role", "text", "reasoning", "state", "details", "created_at"
)
_ADD_CITATIONS = Prepared(citations.insert(), *(column.name for column in citations.c))
_ADD_TRACE = Prepared(run_traces.insert(), "run_id", "trace")
# Held until the commit, so that a deletion at the same time either sees the frames or is seen.
_CITED = Prepared(
    sa.select(citations.c.message_id, citations.c.removed_at)
    .where(citations.c.message_id.in_(sa.select(runs.c.message_id).where(runs.c.id == sa.bindparam("ended"))))
    .with_for_update(read=True)
)
_ALIVE = Prepared(sa.select(sources.c.id).where(sources.c.id == sa.bindparam("cited"), sources.c.deleted_at.is_(None)))


@dataclass(frozen=True)
class Asked:
    """A question as it is stored. `details` says how it was asked, so that it can be asked again.

    `replaces`: a user's message of the conversation; it and all after it give way to this question. `again`: one whose
    answer, with all after it, gives way to another answer; no question is added.
    """

    text: str
    notebooks: Sequence[str]
    details: Mapping[str, Any] = field(default_factory=dict)
    conversation_id: str | None = None
    replaces: str | None = None
    again: str | None = None
    origin: str = ""


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


class Turns:
    """The questions, answers and runs of conversations, in SQL."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._together = Together(database)

    async def begin(self, principal: Principal, asked: Asked, run_id: str, worker: str, lease: datetime) -> str:
        """Store the question and the run that will answer it; the conversation's id. Raises `NotFound`."""
        at = now()

        async def stored(c: AsyncConnection) -> str:
            conversation_id = await _conversation(c, principal, asked, at)
            if asked.replaces or asked.again:
                await _give_way(c, conversation_id, asked, at)
            if not asked.again:
                question = {"id": new_id("msg"), "role": "user", "text": asked.text, "state": "complete"}
                how = {"conversation_id": conversation_id, "created_at": at, "details": dict(asked.details)}
                await _ADD_QUESTION.run(c, {**question, **how})
            run = {"id": run_id, "owner_id": principal.owner_id, "conversation_id": conversation_id, "state": "running"}
            await _BEGIN_RUN.run(c, {"created_at": at, "worker": worker, "lease_until": lease, **run})
            return conversation_id

        if not (asked.replaces or asked.again):
            return await self._together.write(stored)
        async with self._db.write() as c:  # it touches all that came after
            return await stored(c)

    async def finish(
        self,
        run_id: str,
        conversation_id: str,
        message_id: str,
        answer: Answer,
        trace: Mapping[str, Any] | None = None,
    ) -> bool:
        """Store the answer with its citations and its trace, and end the run, in one transaction.

        False where the run has been ended by somebody else: then nothing is stored.
        """
        ended = {"ended_run": run_id, "ended_as": answer.outcome, "ended_with": answer.last_seq, "ended_at": now()}

        async def stored(c: AsyncConnection) -> bool:
            if await _END.run(c, ended) == 0:
                return False
            await _store(c, conversation_id, message_id, answer)
            await _ANSWERED.run(c, {"ended_run": run_id, "ended_by": message_id})
            if trace is not None:
                await self._keep_trace(c, run_id, trace)
            await drop_frames(c, [run_id])
            return True

        return await self._together.write(stored)

    async def _keep_trace(self, c: AsyncConnection, run_id: str, trace: Mapping[str, Any]) -> None:
        """An answer is not lost because its trace cannot be stored, as in a database that waits for its upgrade."""
        # On SQLite a statement that fails leaves its transaction as it was; elsewhere it takes a savepoint.
        apart = nullcontext() if self._db.sqlite else c.begin_nested()
        try:
            async with apart:
                await _ADD_TRACE.run(c, {"run_id": run_id, "trace": packed(trace)})
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            log.warning("the trace of %s was not stored: %s", run_id, getattr(error, "orig", error))

    async def lost(self, at: datetime) -> list[str]:
        """The runs whose worker did not renew its lease in time."""
        query = sa.select(runs.c.id).where(runs.c.state == "running", runs.c.lease_until < at).limit(100)
        async with self._db.read() as c:
            return list((await c.execute(query)).scalars())

    async def take_over(self, run_id: str, answer: Answer, message_id: str, seq: int, frames: bytes) -> bool:
        """End a lost run: what was made is stored, and `frames`, from number `seq`, are its last. False: too late."""
        query = sa.select(runs.c.conversation_id).where(runs.c.id == run_id)
        lost = sa.and_(runs.c.id == run_id, runs.c.state == "running", runs.c.lease_until < now())
        ended = {"state": answer.outcome, "last_seq": answer.last_seq, "finished_at": now()}
        async with self._db.write() as c:
            if (await c.execute(runs.update().where(lost).values(**ended))).rowcount == 0:
                return False
            conversation_id = str((await c.execute(query)).scalar())
            await _store(c, conversation_id, message_id, answer)
            await c.execute(runs.update().where(runs.c.id == run_id).values(message_id=message_id))
            row = {"run_id": run_id, "seq": seq, "last_seq": answer.last_seq, "frames": frames}
            await c.execute(run_segments.insert().values(**row))
            await drop_frames(c, [run_id])
        return True

    async def run(self, principal: Principal, run_id: str) -> Mapping[str, Any]:
        """A run's row. Raises `NotFound` also for another owner's."""
        query = sa.select(runs).where(runs.c.id == run_id, runs.c.owner_id == principal.owner_id)
        async with self._db.read() as c:
            row = (await c.execute(query)).mappings().first()
        if row is None:
            raise NotFound(f"There is no run {run_id}.")
        return dict(row)

    async def trace(self, run_id: str) -> Mapping[str, Any] | None:
        """What was stored of how the run came about; None where nothing was. The caller has asked for the run."""
        async with self._db.read() as c:
            stored = (await c.execute(sa.select(run_traces.c.trace).where(run_traces.c.run_id == run_id))).scalar()
        return None if stored is None else unpacked(stored)


async def drop_frames(c: AsyncConnection, run_ids: Sequence[str]) -> None:
    """Drop the frames of those of these ended runs that cited what has been deleted: they quote it.

    Whoever follows one is told the stored answer.
    """
    found = [row for run_id in run_ids for row in await _CITED.rows(c, {"ended": run_id})]
    if gone := {message_id for message_id, removed_at in found if removed_at is not None}:
        those = sa.select(runs.c.id).where(runs.c.message_id.in_(gone))
        await c.execute(run_segments.delete().where(run_segments.c.run_id.in_(those)))


async def _conversation(c: AsyncConnection, principal: Principal, asked: Asked, at: datetime) -> str:
    """The id of the conversation that is asked in; made where there is none."""
    if asked.conversation_id is None:
        made = {"id": new_id("conv"), "owner_id": principal.owner_id, "notebooks": list(asked.notebooks)}
        stamps = {"created_at": at, "updated_at": at}
        row = {"title": title_of(asked.text), "origin": asked.origin, **made, **stamps}
        await _BEGIN_CONVERSATION.run(c, row)
        return str(made["id"])
    table = conversations.c
    mine = sa.and_(table.id == asked.conversation_id, table.owner_id == principal.owner_id, table.deleted_at.is_(None))
    untitled = sa.case((table.title == "", title_of(asked.text)), else_=table.title)
    done = await c.execute(conversations.update().where(mine).values(updated_at=at, title=untitled))
    if done.rowcount == 0:
        raise NotFound(f"There is no conversation {asked.conversation_id}.")
    return asked.conversation_id


async def _give_way(c: AsyncConnection, conversation_id: str, asked: Asked, at: datetime) -> None:
    message_id = asked.replaces or asked.again
    table = messages.c
    query = sa.select(table.created_at).where(
        table.id == message_id,
        table.conversation_id == conversation_id,
        table.role == "user",
        table.replaced_at.is_(None),
    )
    since = (await c.execute(query)).scalar()
    if since is None:
        raise NotFound(f"There is no question {message_id} in this conversation.")
    after = sa.and_(table.created_at > since, table.id != message_id)
    those = sa.or_(after, table.id == message_id) if asked.replaces else after
    here = sa.and_(table.conversation_id == conversation_id, table.replaced_at.is_(None))
    await c.execute(messages.update().where(here, those).values(replaced_at=at))


async def _store(c: AsyncConnection, conversation_id: str, message_id: str, answer: Answer) -> None:
    row = {"id": message_id, "role": "assistant", "text": answer.text, "reasoning": answer.reasoning}
    made = {"state": answer.state, "details": dict(answer.details), "created_at": now()}
    await _ADD_ANSWER.run(c, {"conversation_id": conversation_id, **row, **made})
    if answer.citations:
        # A source that was deleted while it was cited leaves no quote behind.
        cited = {e.source_id for e in answer.citations}
        there = {source_id for source_id in cited if await _ALIVE.first(c, {"cited": source_id}) is not None}
        rows = [_citation_row(message_id, e, gone=e.source_id not in there) for e in answer.citations]
        await _ADD_CITATIONS.run(c, *rows)


def _citation_row(message_id: str, e: CitationEvent, *, gone: bool) -> dict[str, Any]:
    names = ("id", "n", "source_id", "document_id", "passage_id", "start", "end", "quote")
    row = {name: getattr(e, name) for name in (*names, "answer_start", "answer_end", "supported")}
    left = {"document_id": None, "passage_id": None, "quote": "", "removed_at": now()} if gone else {"removed_at": None}
    return {"message_id": message_id, **row, **left}


def title_of(question: str) -> str:
    """A conversation's first title: the question, cut between words."""
    line = " ".join(question.split())
    if len(line) <= _TITLE:
        return line
    cut = line[:_TITLE].rpartition(" ")[0]
    return f"{cut if len(cut) > _TITLE // 2 else line[: _TITLE - 1]}…"
