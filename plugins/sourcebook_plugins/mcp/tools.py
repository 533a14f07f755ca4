"""What the tools do: each takes a caller and its arguments, and gives a model and what it says in words."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from sourcebook import Caller, Passage, Place
from sourcebook.events import CitationEvent, ContentDelta, Done, ErrorEvent, ReasoningDelta, Retrieval, RunStarted
from sourcebook_plugins.mcp import arguments as a
from sourcebook_plugins.mcp.adding import add_source
from sourcebook_plugins.mcp.calling import Call, Tell, Tool, chosen, uri_of

_READ = 20_000  # code points, where no end is given: what a model can take in at once
_EVERY = 0.1  # seconds between two pieces of an answer, so that a fast model does not drown its client


async def list_notebooks(call: Call, asked: a.ListNotebooks) -> tuple[a.Notebooks, str]:
    """The notebooks that can be asked, newest first."""
    page = await call.caller.book.notebooks.listing(call.caller.principal, asked.limit, asked.cursor)
    items = [
        a.NotebookShown(id=n.id, title=n.title, description=n.description, pipeline=n.pipeline, updated_at=n.updated_at)
        for n in page.items
    ]
    lines = [f"- {n.title} ({n.id})" + (f": {n.description}" if n.description else "") for n in items]
    return a.Notebooks(items=items, next_cursor=page.next_cursor), "\n".join(lines) or "There is no notebook yet."


async def search(call: Call, asked: a.Search) -> tuple[a.Passages, str]:
    """The passages that fit a question best, each with the place where it stands."""
    notebooks = await chosen(call.caller, asked.notebooks)
    how: dict[str, Any] = {"sources": asked.sources, "filters": asked.filters, "limit": asked.limit, "mode": asked.mode}
    found = await call.caller.search(asked.question, notebooks, **how)
    items = [_passage(n, p) for n, p in enumerate(found.passages, start=1)]
    said = [f"[{p.n}] {_titled(p.title, p.where)}, source {p.source_id} [{p.start}, {p.end})\n{p.text}" for p in items]
    return a.Passages(items=items, took_ms=round(found.took_ms, 1)), "\n\n".join(said) or "Nothing was found."


async def ask(call: Call, asked: a.Ask) -> tuple[a.Answer, str]:
    """An answer from the sources, every claim with its citation."""
    notebooks = await _asked_of(call.caller, asked)
    how: dict[str, Any] = {"sources": asked.sources, "filters": asked.filters, "limit": asked.limit}
    # Whoever goes away before the end has no way back to this run.
    run = await call.caller.ask(asked.question, notebooks, conversation_id=asked.conversation_id, grace=0.0, **how)
    parts: dict[str, Any] = {"run_id": run.id}
    cited: list[CitationEvent] = []
    pieces = _Pieces(call.tell)
    async with aclosing(run.follow()) as frames:
        async for frame in frames:
            match frame.event:
                case RunStarted(conversation_id=conversation_id):
                    parts["conversation_id"] = conversation_id
                case Retrieval(passages=passages):
                    await call.tell(f"{len(passages)} passages were found.")
                case ReasoningDelta():
                    await pieces.thinking()
                case ContentDelta(delta=delta):
                    await pieces.add(delta)
                case CitationEvent() as event:
                    cited.append(event)
                case ErrorEvent(problem=problem):
                    parts["problem"] = problem
                case Done() as done:
                    names = ("text", "finish", "message_id", "grounded")
                    parts |= {name: getattr(done, name) for name in names}
    if run.error is not None and not parts["text"]:
        raise run.error
    answer = a.Answer(citations=[_citation(c, call.base) for c in cited], **parts)
    return answer, _in_words(answer)


async def read_source(call: Call, asked: a.ReadSource) -> tuple[a.TextShown, str]:
    """A range of the text that was read from a source."""
    end = asked.start + _READ if asked.end is None else asked.end
    found = await call.caller.text(asked.source_id, asked.start, end, document_id=asked.document_id, places=True)
    where = dict.fromkeys(str(x.place) for x in found.places or ())
    shown = a.TextShown(
        source_id=found.source.id,
        document_id=found.document_id,
        title=found.source.name,
        start=found.start,
        end=found.end,
        length=found.length,
        next_start=found.end if found.end < found.length else None,
        text=found.text,
        where=[place for place in where if place],
    )
    more = f"\n\n[{found.end} of {found.length}; go on with start={found.end}]" if shown.next_start else ""
    return shown, found.text + more


TOOLS: Mapping[str, Tool] = {
    "list_notebooks": Tool("List notebooks", list_notebooks, a.ListNotebooks, a.Notebooks),
    "search": Tool("Search passages", search, a.Search, a.Passages),
    "ask": Tool("Ask the sources", ask, a.Ask, a.Answer),
    "read_source": Tool("Read a source", read_source, a.ReadSource, a.TextShown),
    "add_source": Tool("Add a source", add_source, a.AddSource, a.Added, reads=False),
}
"""Every tool by its name."""


class _Pieces:
    """Tells of an answer while it grows: what came since the last time."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._held = ""
        self._told = 0.0
        self._thinking = False

    async def thinking(self) -> None:
        if not self._thinking:
            self._thinking = True
            await self._tell("The model is thinking.")

    async def add(self, piece: str) -> None:
        self._held += piece
        if time.monotonic() - self._told >= _EVERY:
            await self._tell(self._held)
            self._held, self._told = "", time.monotonic()


async def _asked_of(caller: Caller, asked: a.Ask) -> Sequence[str]:
    if asked.conversation_id is not None and not asked.notebooks:
        return list((await caller.book.conversations.get(caller.principal, asked.conversation_id)).notebooks)
    return await chosen(caller, asked.notebooks)


def _passage(n: int, passage: Passage) -> a.PassageShown:
    names = ("source_id", "document_id", "title", "start", "end", "text")
    return a.PassageShown(
        n=n,
        where=_where(passage.places),
        places=[p.to_json() for p in passage.places],
        score=round(passage.score, 6),
        uri=uri_of(passage.source_id, passage.start, passage.end),
        **{name: getattr(passage, name) for name in names},
    )


def _citation(event: CitationEvent, base: str) -> a.CitationShown:
    url = event.url if "://" in event.url else base and base + event.url
    told = {**event.payload(), "url": url}
    places = [Place.from_json(p) for p in event.places]
    known = {name: told[name] for name in a.CitationShown.model_fields if name in told}
    return a.CitationShown(**known, where=_where(places), uri=uri_of(event.source_id, event.start, event.end))


def _where(places: Sequence[Place]) -> str:
    return next((str(place) for place in places if str(place)), "")


def _titled(title: str, where: str) -> str:
    return f"{title}, {where}" if where else title


def _in_words(answer: a.Answer) -> str:
    """The answer, then one line a citation: `[n] title, place: "quote"`."""
    said = [answer.text]
    lines = {c.n: f'[{c.n}] {_titled(c.title, c.where)} (source {c.source_id}): "{c.quote}"' for c in answer.citations}
    said += ["\n".join(lines[n] for n in sorted(lines))] if lines else []
    if answer.problem is not None:
        said.append(f"The answer broke off. {answer.problem['code']}: {answer.problem['detail']}")
    return "\n\n".join(said)
