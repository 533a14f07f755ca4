"""A principal before an open Sourcebook: all that routes, commands and plugins do for somebody goes through here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sourcebook.accepting import once, text_name, typed
from sourcebook.counting import Counting, Counts
from sourcebook.documents import Locator
from sourcebook.errors import Conflict, Forbidden, InvalidInput, NotFound
from sourcebook.jobs import Job
from sourcebook.notebooks import Notebook, Scoped
from sourcebook.owners import Permission, Principal
from sourcebook.progress import Following
from sourcebook.segments import join_segments
from sourcebook.sources import Source

if TYPE_CHECKING:
    from sourcebook.app import Sourcebook
    from sourcebook.run import Run
    from sourcebook.searching import Found

MOST_TEXT = 200_000
"""Code points of a source's text that are read at once, at most."""


@dataclass(frozen=True)
class SourceText:
    """`text` is `[start, end)` of a document of `length` code points, cut to what there is; `before`, `after` stand
    around it, and `places` say where in the original it stands, where they were asked for.
    """

    source: Source
    document_id: str
    length: int
    start: int
    end: int
    text: str
    before: str | None = None
    after: str | None = None
    places: Sequence[Locator] | None = None


class Caller:
    """What is not theirs raises `NotFound`, as if it did not exist; what their key may not do raises `Forbidden`.

    Plugins that authorize are asked about the notebook of everything that is reached through here.
    """

    def __init__(self, book: Sourcebook, principal: Principal) -> None:
        self.book = book
        self.principal = principal

    async def notebook(self, notebook_id: str, permission: Permission = "read") -> Notebook:
        """One notebook. Raises `NotFound` or `Forbidden`."""
        self._need(permission)
        notebook = await self.book.notebooks.get(self.principal, notebook_id, permission)
        await self.book.plugins.authorize(self.principal, permission, notebook.id)
        return notebook

    async def own_notebook(self, notebook_id: str) -> Notebook:
        """One of this owner's own notebooks; one that is shared with them is not. Raises `NotFound` or `Forbidden`."""
        notebook = await self.book.notebooks.own(self.principal, notebook_id)
        await self.book.plugins.authorize(self.principal, "write", notebook.id)
        return notebook

    async def notebooks(self, notebook_ids: Sequence[str]) -> Scoped:
        """Check several before they are searched; what was found goes on. Raises `NotFound` or `Forbidden`."""
        scoped = await self.book.notebooks.scope(self.principal, notebook_ids)
        for notebook_id in dict.fromkeys(notebook_ids):
            await self.book.plugins.authorize(self.principal, "read", notebook_id)
        return scoped

    async def all_notebooks(self, limit: int = 100) -> list[Notebook]:
        """The newest notebooks that they may read, without those that a plugin denies."""
        readable = []
        for notebook in (await self.book.notebooks.listing(self.principal, limit)).items:
            try:
                await self.book.plugins.authorize(self.principal, "read", notebook.id)
            except Forbidden:
                continue
            readable.append(notebook)
        return readable

    async def counts(self, notebooks: Sequence[Notebook]) -> dict[str, Counts]:
        """How much lies in each of these, which have been found for them already."""
        return await Counting(self.book.database).of(self.principal, [n.id for n in notebooks])

    async def source(self, source_id: str, permission: Permission = "read") -> Source:
        """One source. Raises `NotFound` or `Forbidden`."""
        self._need(permission)
        source = await self.book.sources.get(self.principal, source_id, permission)
        await self.book.plugins.authorize(self.principal, permission, source.notebook_id)
        return source

    async def search(self, question: str, notebook_ids: Sequence[str], **how: Any) -> Found:
        """The best passages of these notebooks; `how` is as in `Sourcebook.search`."""
        scoped = await self.notebooks(notebook_ids)
        found = await self.book.search(self.principal, question, notebook_ids, scoped=scoped, **how)
        await self.book.notebooks.note_use(scoped[1])
        return found

    async def ask(self, text: str, notebook_ids: Sequence[str], **how: Any) -> Run:
        """Begin an answer from these notebooks; `how` is as in `Sourcebook.ask`. Follow the run that is returned."""
        scoped = await self.notebooks(notebook_ids)
        await self.book.notebooks.note_use(scoped[1])  # before: a run that has begun is to be followed at once
        return await self.book.ask(self.principal, text, notebook_ids, scoped=scoped, **how)

    async def document(self, source_id: str, document_id: str | None = None) -> tuple[Source, str, int]:
        """A source, with id and length of a document of it: the newest, where none is named.

        Raises `Conflict` where there is none yet (code `not_read_yet`), and where it could not be read (code
        `source_failed`).
        """
        source = await self.source(source_id)
        wanted = document_id or source.document_id
        if wanted is None:
            raise _textless(source)
        found = await self.book.reading.document(wanted)
        if found["source_id"] != source.id:
            raise NotFound(f"There is no document {wanted}.")
        return source, wanted, int(found["length"])

    async def text(
        self,
        source_id: str,
        start: int = 0,
        end: int | None = None,
        *,
        document_id: str | None = None,
        context: int = 0,
        places: bool = False,
    ) -> SourceText:
        """A range of what was read from a source, in code points, at most `MOST_TEXT` of them.

        `context` adds that many before and after. Raises as `document` does, and `InvalidInput` for a backward range.
        """
        source, document, length = await self.document(source_id, document_id)
        start, end = clipped(start, end, length)
        where: dict[str, Any] = {
            "source": source,
            "document_id": document,
            "length": length,
            "start": start,
            "end": end,
        }
        reading = self.book.reading
        if context:
            around = [(document, max(start - context, 0), start), (document, end, min(end + context, length))]
            where["before"], where["after"] = await reading.texts(around)
        if not places:
            return SourceText(text=await reading.text(document, start, end), **where)
        segments = await reading.segments(document, start, end)
        whole, base = join_segments(segments), segments[0].start if segments else 0
        met = [x for x in whole.locators if x.start < end and x.end > start]
        placed = [Locator(max(x.start, start), min(x.end, end), x.place) for x in met]
        return SourceText(text=whole.text[start - base : end - base], places=placed, **where)

    async def add_text(
        self,
        notebook_id: str,
        name: str,
        text: str,
        *,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> tuple[Source, bool]:
        """Make a source of a text, whatever its name would say of a file. The source, and whether it is to be read."""
        notebook = await self.notebook(notebook_id, "write")
        name, media_type = text_name(name)
        media_type, chunks = await typed(self.book.pipelines, notebook, name, media_type, once(text.encode()))
        source_id, new = await self.book.sources.accept(
            notebook, name, chunks, media_type=media_type, tags=tags, metadata=metadata
        )
        return await self.source(source_id), new

    async def add_url(
        self, notebook_id: str, url: str, *, tags: Sequence[str] = (), metadata: Mapping[str, Any] | None = None
    ) -> tuple[Source, bool]:
        """Fetch an address now, and make a source of what it gives. The source, and whether it is to be read."""
        notebook = await self.notebook(notebook_id, "write")
        source_id, new = await self.book.add_url(notebook, url, tags=tags, metadata=metadata)
        return await self.source(source_id), new

    async def job(self, job_id: str) -> AsyncGenerator[Job]:
        """A job of theirs whenever it has changed, first as it is now; ends with the one that is over."""
        job = await self.book.jobs.get(job_id, self.principal.owner_id)
        async with aclosing(Following(self.book.database, self.book.jobs).job(job)) as changes:
            async for changed in changes:
                yield changed

    def _need(self, permission: Permission) -> None:
        """The gate has asked for what a route needs; one route may lead to more than one thing."""
        if permission != "read" and not self.principal.may(permission):
            raise Forbidden(f"This key lacks the permission `{permission}`.", needed=permission)


def _textless(source: Source) -> Conflict:
    """Why there is no text, and what to do: a job that is over brings none."""
    if source.state != "failed":
        detail = f"This source has no text: it is {source.state}."
        return Conflict(detail, code="not_read_yet", remedy="Follow its job until it is done.")
    why = source.problem or {}
    advice = f"{why.get('remedy', '')} Reparse the source, or upload the file again."
    return Conflict(
        f"This source has no text, since it failed: {why.get('detail') or 'its job tells why'}",
        code="source_failed",
        remedy=advice.strip(),
        problem=dict(why),
    )


def clipped(start: int, end: int | None, length: int) -> tuple[int, int]:
    """A range cut to what there is, and to what is read at once. Raises `InvalidInput` where it ends too early."""
    if end is not None and end < start:
        raise InvalidInput("The range ends before it starts.")
    start = min(start, length)
    return start, min(length if end is None else end, length, start + MOST_TEXT)
