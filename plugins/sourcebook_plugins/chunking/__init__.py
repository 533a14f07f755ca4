"""The built-in chunkers.

    recursive   packs blocks up to a size
    markdown    keeps sections together, below the path of their headings
    sentence    windows of sentences, with their paragraph around them
    tokens      windows of equal length in tokens

All cut by position and never by searching for text, so their ranges are exact by construction. Sizes are characters or,
with a `tokenizer`, its tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from sourcebook import Chunk, Chunker, ComponentSettings, Document, hookimpl
from sourcebook_plugins.chunking.cutting import Overlaps, pack, units_of
from sourcebook_plugins.chunking.measures import measure
from sourcebook_plugins.chunking.sections import chunks_of
from sourcebook_plugins.chunking.windows import sentence_windows, token_windows


class Sized(ComponentSettings):
    """`tokenizer` is a `tokenizer.json`: with it sizes are its tokens, without it they are characters."""

    tokenizer: Path | None = None

    @field_validator("tokenizer")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path.expanduser().absolute() if path is not None else None  # the jail works elsewhere

    def files(self) -> tuple[Path, ...]:
        """What the jail lets the chunker read."""
        return (self.tokenizer,) if self.tokenizer is not None else ()


class Overlapping(Sized):
    """A chunk is at most `size` long, its overlap included: a quarter, where none is set (see docs/chunking.md)."""

    size: int = Field(default=800, ge=50, le=100_000)
    overlap: int | None = Field(default=None, ge=0)

    @property
    def lap(self) -> int:
        """The overlap that is meant."""
        return self.size // 4 if self.overlap is None else self.overlap

    @model_validator(mode="after")
    def _overlap_is_the_smaller_part(self) -> Self:
        if self.lap > self.size // 2:
            raise ValueError("overlap must be at most half of size")
        return self


class RecursiveSettings(Overlapping):
    """`size` and `overlap` are characters, or tokens."""


class RecursiveChunker(Chunker[RecursiveSettings]):
    """Packs whole blocks up to `size`; cuts longer ones between paragraphs, sentences, lines or words.

    With `overlap`, a chunk begins with the last whole sentences (or words) of the one before.
    """

    name = "recursive"
    Settings = RecursiveSettings
    memory_safe = True

    def chunk(self, document: Document) -> Iterator[Chunk]:
        """Chunks without context or parent, but for a cut table's header row as context."""
        size, overlap = self.settings.size, self.settings.lap
        by = measure(document.text, self.settings.tokenizer)
        units = units_of(document)
        overlaps = Overlaps(document.text, units, overlap, by)
        for piece in pack(document.text, units, size - overlap, by):
            yield Chunk(overlaps.start(piece), piece.end, piece.header)


class MarkdownSettings(Overlapping):
    """At most: `size` of a chunk, `parent_size` of the section around it that may be shown instead."""

    parent_size: int = Field(default=4000, ge=0)


class MarkdownChunker(Chunker[MarkdownSettings]):
    """Cuts along the document's own sections, for every format whose parser writes headings.

    A section that fits is one chunk; small neighbours below one heading share one; a later chunk of a section begins
    with the last sentences of the one before, up to `overlap`. `context` is the path of the
    headings above ("Guide > Care") and, below it, a cut table's header row. `parent` is the section around the chunk.
    """

    name = "markdown"
    Settings = MarkdownSettings
    memory_safe = True

    def chunk(self, document: Document) -> Iterator[Chunk]:
        """Chunks with context and parent."""
        by = measure(document.text, self.settings.tokenizer)
        return chunks_of(document, self.settings.size, self.settings.lap, self.settings.parent_size, by)


class SentenceSettings(Sized):
    """`sentences` in a window, `overlap` of them shared with the one before; a window is at most `size` long."""

    sentences: int = Field(default=3, ge=1, le=100)
    overlap: int = Field(default=0, ge=0)
    size: int = Field(default=1200, ge=50, le=100_000)
    parent_size: int = Field(default=4000, ge=0)

    @model_validator(mode="after")
    def _a_window_goes_on(self) -> Self:
        if self.overlap >= self.sentences:
            raise ValueError("overlap must be smaller than sentences")
        return self


class SentenceChunker(Chunker[SentenceSettings]):
    """Windows of whole sentences, none over a paragraph's end; the paragraph is the parent.

    A heading goes with the first window below it. Tables, lists and code are cut as `recursive` cuts them. `context`
    is the path of the headings above.
    """

    name = "sentence"
    Settings = SentenceSettings
    memory_safe = True

    def chunk(self, document: Document) -> Iterator[Chunk]:
        """Chunks with context and, where the paragraph holds more, with a parent."""
        s = self.settings
        by = measure(document.text, s.tokenizer)
        return sentence_windows(document, s.sentences, s.overlap, s.size, s.parent_size, by)


class TokenSettings(Overlapping):
    """`size` and `overlap` are tokens of `tokenizer`, which is required."""

    tokenizer: Path = Field()
    size: int = Field(default=256, ge=16, le=100_000)


class TokenChunker(Chunker[TokenSettings]):
    """Windows of equal length whatever stands in them, moved to the nearest word's end."""

    name = "tokens"
    Settings = TokenSettings
    memory_safe = True

    def chunk(self, document: Document) -> Iterator[Chunk]:
        """Chunks without context or parent."""
        by = measure(document.text, self.settings.tokenizer)
        return token_windows(document.text, self.settings.size, self.settings.lap, by)


@hookimpl
def register_chunkers() -> Iterable[type[Chunker[Any]]]:
    """`recursive`, `markdown`, `sentence` and `tokens`."""
    return [RecursiveChunker, MarkdownChunker, SentenceChunker, TokenChunker]
