"""The built-in chunkers: `recursive` packs blocks up to a size, `markdown` keeps sections together.

Both cut by position and never by searching for text, so their ranges are exact by construction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Self

from pydantic import Field, model_validator

from sourcebook import Chunk, Chunker, ComponentSettings, Document, hookimpl
from sourcebook_plugins.chunking.cutting import overlapped, pack, units_of
from sourcebook_plugins.chunking.sections import chunks_of


class RecursiveSettings(ComponentSettings):
    """`size` and `overlap` are characters. A chunk is at most `size` long, its overlap included."""

    size: int = Field(default=1200, ge=50, le=100_000)
    overlap: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _overlap_is_the_smaller_part(self) -> Self:
        if self.overlap > self.size // 2:
            raise ValueError("overlap must be at most half of size")
        return self


class RecursiveChunker(Chunker[RecursiveSettings]):
    """Packs whole blocks up to `size`; cuts longer ones between paragraphs, sentences, lines or words.

    With `overlap`, a chunk begins with the last whole sentences (or words) of the one before.
    """

    name = "recursive"
    Settings = RecursiveSettings

    def chunk(self, document: Document) -> Iterator[Chunk]:
        """Chunks without context or parent, but for a cut table's header row as context."""
        size, overlap = self.settings.size, self.settings.overlap
        pieces = pack(document.text, units_of(document), size - overlap)
        for start, end, header in overlapped(document.text, pieces, overlap):
            yield Chunk(start, end, header)


class MarkdownSettings(ComponentSettings):
    """In characters, at most: `size` of a chunk, `parent_size` of the section around it that may be shown instead."""

    size: int = Field(default=1200, ge=50, le=100_000)
    parent_size: int = Field(default=4000, ge=0)


class MarkdownChunker(Chunker[MarkdownSettings]):
    """Cuts along the document's own sections, for every format whose parser writes headings.

    A section that fits is one chunk; small neighbours below one heading share one. `context` is the path of the
    headings above ("Guide > Care") and, below it, a cut table's header row. `parent` is the section around the chunk.
    """

    name = "markdown"
    Settings = MarkdownSettings

    def chunk(self, document: Document) -> Iterator[Chunk]:
        """Chunks with context and parent."""
        return chunks_of(document, self.settings.size, self.settings.parent_size)


@hookimpl
def register_chunkers() -> Iterable[type[Chunker[Any]]]:
    """`recursive` and `markdown`."""
    return [RecursiveChunker, MarkdownChunker]
