"""Parsers and chunkers: built in the jailed child from their settings; they have no `open`, and see no secret."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Generic, Literal, Protocol

from sourcebook.documents import Box, Chunk, Document
from sourcebook.interfaces.components import ComponentSettings, S

if TYPE_CHECKING:
    from sourcebook.writer import DocumentWriter


class ParserFile(Protocol):
    """The file that a parser reads. `open` may be called once; `read` reads all of it."""

    name: str
    media_type: str
    password: str | None

    def read(self) -> bytes:
        """All bytes."""

    def open(self) -> BinaryIO:
        """A seekable binary stream."""


class Parser(ABC, Generic[S]):
    """Reads one file into a `DocumentWriter`. Plain synchronous code, run in a jailed process, one file at a time.

    `media_types` and `extensions` (lower case, with the dot) say what it reads; `version` goes up with every change of
    what it writes, so that documents are read again. `preload` names modules to import before the first file.
    `isolation`: `jail` (a fresh process a file) or `worker` (a process that outlives the file, for parsers with big
    models: built once, asked for one file at a time, replaced now and then; `[jail.grants]` of the configuration may
    give it the network, folders to read, time and memory).
    `memory_safe`: no byte of a file reaches native code but Python's own and what is written in a memory-safe language.
    No file can then take over the process that reads it, so that one may read several short files of one notebook.
    Raise a `DocumentError` for what a person should know; anything else is reported as `parser_died`.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[ComponentSettings]] = ComponentSettings
    media_types: ClassVar[tuple[str, ...]]
    extensions: ClassVar[tuple[str, ...]]
    version: ClassVar[int] = 1
    preload: ClassVar[tuple[str, ...]] = ()
    isolation: ClassVar[Literal["jail", "worker"]] = "jail"
    memory_safe: ClassVar[bool] = False

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        """Write the file's text in reading order; the writer counts offsets and normalises."""

    def render(self, file: ParserFile, page: int, boxes: Sequence[Box]) -> bytes:
        """Page `page` (1-based) as a PNG with `boxes` marked. Optional: `UnsupportedType` where there are no pages."""
        from sourcebook.errors import UnsupportedType

        raise UnsupportedType(f"The parser {self.name} does not draw pages.")


class Chunker(ABC, Generic[S]):
    """Cuts a document into ranges. Plain synchronous code, run in the jail; deterministic.

    Chunks come in order of `start`, none is empty or only white space, and together they cover every character that is
    not white space. They may overlap. `version` goes up when the cuts change. `memory_safe` is as for a parser; it
    counts only where the settings name no `files`, which a native library may read.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[ComponentSettings]] = ComponentSettings
    version: ClassVar[int] = 1
    preload: ClassVar[tuple[str, ...]] = ()
    memory_safe: ClassVar[bool] = False

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def chunk(self, document: Document) -> Iterable[Chunk]:
        """The ranges of `document.text`."""
