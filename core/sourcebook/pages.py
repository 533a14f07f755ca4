"""Pictures of a source's pages, with the lines of a range marked."""

from __future__ import annotations

from typing import Any

from sourcebook.choosing import head_of
from sourcebook.documents import Box
from sourcebook.errors import Encrypted, NotFound, UnsupportedType
from sourcebook.interfaces import BlobStore
from sourcebook.jail import Jail
from sourcebook.pipelines import Pipelines
from sourcebook.reading import Reading
from sourcebook.sources import Source, Sources

_MOST_BOXES = 500
_ASK = "Ask for the page by POST, with its password in the body: it is used for this picture and never stored."


class Pages:
    """Draws pages in the jail, each anew: nothing is kept."""

    def __init__(
        self, reading: Reading, sources: Sources, pipelines: Pipelines, blobs: BlobStore[Any], jail: Jail
    ) -> None:
        self._reading = reading
        self._sources = sources
        self._pipelines = pipelines
        self._blobs = blobs
        self._jail = jail

    async def image(
        self,
        source: Source,
        page: int,
        *,
        document_id: str = "",
        start: int = 0,
        end: int = 0,
        password: str | None = None,
    ) -> bytes:
        """Page `page` (1-based) as a PNG; the lines of it that `[start, end)` of the document covers are marked.

        Raises `NotFound` with code `no_pages` where the format has none, and with code `page_changed` where the
        document was read from bytes that the source no longer has; `DocumentError` with code `page_not_found`,
        `Encrypted` without the `password` that the file needs (it is not kept from when the file was read), and
        whatever else `Jail.render` raises.
        """
        boxes: list[Box] = []
        if document_id:
            if (await self._reading.document(document_id))["sha256"] != source.sha256:
                raise NotFound(
                    "The file was replaced since this was read from it, so its page cannot be shown.",
                    code="page_changed",
                    remedy="Read the text that was cited: it is kept.",
                )
            places = await self._reading.places(document_id, start, end) if end > start else []
            boxes = [p.box for p in places if p.page == page and p.box is not None][:_MOST_BOXES]
        pipeline = await self._sources.pipeline_of(source.id)
        choice = self._pipelines[pipeline].settings.parsers
        served = str((source.document or {}).get("parser", ""))
        async with self._blobs.local(source.blob_key) as path:
            parser = self._pipelines.parser_for(source.name, source.media_type, choice, await head_of(path), served).ref
            try:
                return await self._jail.render(
                    path,
                    name=source.name,
                    media_type=source.media_type,
                    parser=parser,
                    page=page,
                    boxes=boxes,
                    password=password,
                )
            except UnsupportedType:
                raise NotFound("This source has no pages to show.", code="no_pages") from None
            except Encrypted as error:
                raise Encrypted(error.detail, remedy=_ASK) from None
