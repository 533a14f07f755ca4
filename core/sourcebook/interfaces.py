"""What a component is: one small abstract class per kind, with its whole contract in the docstring.

A component has a `name` and a `Settings` model, which is filled from the config section that names it. Its module
costs under 20 ms to import: what is heavy is imported in `open`.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from sourcebook.documents import Box, Chunk, Document, Passage
from sourcebook.events import Delta
from sourcebook.filters import FieldType, FieldValue, Filter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sourcebook.http import Http
    from sourcebook.writer import DocumentWriter

    Vectors = Mapping[str, NDArray[np.float32]]
    """Space name -> float32[n, dimensions]."""


class ComponentSettings(BaseModel):
    """Base of every component's settings: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=ComponentSettings)


@dataclass(frozen=True)
class Context:
    """What a component gets at `open`: never the settings of others, never a secret that is not its own.

    `folder` is its own below the data folder and exists; `http` is our client: `request`, `stream`, our errors.
    """

    log: logging.Logger
    folder: Path
    http: Http


class Component(ABC, Generic[S]):
    """Base of what lives in the serving process. `settings` is validated before `__init__`."""

    name: ClassVar[str]
    Settings: ClassVar[type[ComponentSettings]] = ComponentSettings

    def __init__(self, settings: S, instance: str = "") -> None:
        self.settings = settings
        self.instance = instance or type(self).name

    async def open(self, context: Context) -> None:
        """Connect, load, warm up. Called once, before any other call."""

    async def close(self) -> None:
        """Give back what `open` took. Called once, also when `open` failed."""


# Built in the jailed child from their settings; they have no `open`, and see no secret.


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
    `isolation`: `jail` (a fresh process a file) or `worker` (a long-lived process, for parsers with big models; this
    version has no such process yet, and refuses a parser that asks for it).
    Raise a `DocumentError` for what a person should know; anything else is reported as `parser_died`.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[ComponentSettings]] = ComponentSettings
    media_types: ClassVar[tuple[str, ...]]
    extensions: ClassVar[tuple[str, ...]]
    version: ClassVar[int] = 1
    preload: ClassVar[tuple[str, ...]] = ()
    isolation: ClassVar[Literal["jail", "worker"]] = "jail"

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
    not white space. They may overlap. `version` goes up when the cuts change.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[ComponentSettings]] = ComponentSettings
    version: ClassVar[int] = 1
    preload: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @abstractmethod
    def chunk(self, document: Document) -> Iterable[Chunk]:
        """The ranges of `document.text`."""


# Live in the serving process.


@dataclass(frozen=True)
class Space:
    """One vector space that an embedder writes. `kind="multi"` is one vector a token (late interaction)."""

    name: str
    dimensions: int
    kind: Literal["dense", "multi"] = "dense"
    distance: Literal["cosine", "dot", "euclid"] = "cosine"


class Embedder(Component[S]):
    """Turns texts into vectors.

    `spaces` and `identity` are known after `open`. `identity` changes whenever the vectors would: it keys the cache and
    the index spec. `max_batch` is the most texts of one call.
    """

    spaces: tuple[Space, ...]
    identity: str
    max_batch: int = 64

    @abstractmethod
    async def embed(self, texts: Sequence[str], kind: Literal["passage", "query"]) -> Vectors:
        """float32[len(texts), dimensions] for every space, rows in the order of `texts`. Raises `EmbedderError`."""


@dataclass(frozen=True)
class ScopedNotebook:
    """One notebook that may be searched, and the index spec that it has pinned."""

    notebook_id: str
    owner_id: str
    index_spec_id: str


@dataclass(frozen=True)
class Scope:
    """The notebooks that a principal may use now, resolved once per request in SQL. Empty means: nothing is found."""

    notebooks: tuple[ScopedNotebook, ...] = ()

    @property
    def ids(self) -> list[str]:
        """The notebooks' ids."""
        return [n.notebook_id for n in self.notebooks]


@dataclass(frozen=True)
class SearchQuery:
    """One retrieval call. `texts` holds the question and its rewritings; `vectors[space]` has one row a text.

    `limit` is per leg. `sources` narrows to these source ids, `filters` to what matches (None: all of the scope).
    `mode` leaves out the legs of the other kind: a retriever need not compute them.
    """

    texts: tuple[str, ...]
    scope: Scope
    limit: int
    vectors: Vectors | None = None
    sources: tuple[str, ...] | None = None
    filters: Filter | None = None
    mode: Literal["hybrid", "lexical", "dense"] = "hybrid"


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage id with the score of its leg: higher is better, comparable only within the leg."""

    passage_id: str
    score: float


class Retriever(Component[S]):
    """Finds passages. It returns ranked legs and fuses nothing: core fuses, weighs and explains."""

    @abstractmethod
    async def search(self, query: SearchQuery) -> Mapping[str, Sequence[Hit]]:
        """Leg name (`lexical`, `dense:<space>`) -> hits, best first, at most `query.limit`, all within the scope.

        Raises `IndexUnavailable`.
        """


@dataclass(frozen=True)
class Point:
    """One passage as an index stores it. `id` is the passage's (a UUIDv5 of generation and ordinal).

    `fields` are what a filter compares (`sourcebook.filters`): a list is a tuple, and holds one type.
    """

    id: str
    owner_id: str
    notebook_id: str
    index_spec_id: str
    source_id: str
    generation_id: str
    text: str  # context and text: indexed, never stored in the index's payload
    language: str = ""
    fields: Mapping[str, FieldValue] = field(default_factory=dict)


@dataclass(frozen=True)
class PointRef:
    """A stored point without vectors, as `scroll` gives it."""

    id: str
    notebook_id: str
    source_id: str
    generation_id: str


class Index(Retriever[S]):
    """A retriever that stores. Every call but `ensure` and `flush` is bound to a Scope: what is outside does not exist.

    An acknowledged call survives the death of any process; what survives power loss is promised after `flush`.
    """

    @abstractmethod
    async def ensure(self, spaces: Sequence[Space], fields: Mapping[str, FieldType] | None = None) -> None:
        """Be ready to store these spaces, and to filter by these fields. Idempotent, and never touches other data."""

    @abstractmethod
    async def upsert(self, scope: Scope, points: Sequence[Point], vectors: Vectors | None) -> None:
        """Store points; the same id again replaces. `vectors[space]` has one row a point. Idempotent."""

    @abstractmethod
    async def set_fields(self, scope: Scope, source_id: str, fields: Mapping[str, FieldValue]) -> None:
        """Replace the fields of all points of a source, whose metadata or tags were edited. No point is success."""

    @abstractmethod
    async def delete(self, scope: Scope, source_id: str, generation_id: str | None = None) -> None:
        """Remove a source's points (of one generation, or all). Nothing to remove is success."""

    @abstractmethod
    async def count(self, scope: Scope, source_id: str | None = None, generation_id: str | None = None) -> int:
        """The exact number of points."""

    @abstractmethod
    def scroll(self, scope: Scope | None) -> AsyncIterator[Sequence[PointRef]]:
        """Every point, in pages. `None` is for `doctor` alone: all owners."""

    async def flush(self) -> None:
        """Make what was acknowledged survive power loss."""


class Reranker(Component[S]):
    """Scores passages against a question."""

    @abstractmethod
    async def rerank(self, question: str, passages: Sequence[Passage]) -> Sequence[float]:
        """One score a passage, in their order; higher is better. Raises `RerankerError`."""


@dataclass(frozen=True)
class Message:
    """One turn: `role` is system, user or assistant."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class LLMRequest:
    """What is asked of a model. `passages` are numbered from 1, as `messages` quotes them.

    `options` are the caller's own (temperature, max_tokens, ...), passed through where the server knows them.
    """

    messages: tuple[Message, ...]
    question: str
    passages: tuple[Passage, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


class LLM(Component[S]):
    """Streams an answer. `generates` is False for one that only quotes.

    `stream` yields `Reasoning` and `Text` as they come, at most one `Finish` and then maybe `Usage`. It ends after the
    server did; a stream without `Finish` was cut. Failures are raised as `LLMError`, never yielded. Closing the
    iterator (`aclose`) ends the upstream within 100 ms. Nothing is opened before the first `anext`.
    """

    generates: ClassVar[bool] = True
    context_window: int = 8192

    @abstractmethod
    def stream(self, request: LLMRequest) -> AsyncIterator[Delta]:
        """The answer, piece by piece."""

    def count(self, text: str) -> int:
        """How many tokens `text` has; an estimate on the high side where no tokenizer is at hand."""
        return len(text.encode()) // 3 + 1


@dataclass(frozen=True)
class Fetched:
    """What a fetcher learned beside the bytes it wrote. `url` is the last one, after redirects."""

    url: str
    media_type: str
    name: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Fetcher(Component[S]):
    """Gets a source from an address. `schemes` are lower case, without the colon."""

    schemes: ClassVar[tuple[str, ...]]

    @abstractmethod
    async def fetch(self, url: str, file: BinaryIO) -> Fetched:
        """Write the bytes to `file`. Raises `FetchError`; code `fetch_blocked` where the address is not allowed."""


@dataclass(frozen=True)
class Blob:
    """A stored file: lower-case hex SHA-256 and size in bytes of what was written."""

    key: str
    sha256: str
    size: int


class BlobStore(Component[S]):
    """Keeps the sources' bytes. A key is ours (never a user's file name) and matches `[a-z0-9_]+`."""

    @abstractmethod
    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> Blob:
        """Store all chunks, hashed on the way, durable when this returns; a broken upload leaves nothing."""

    @abstractmethod
    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Await it, then iterate: the bytes `[start, end)`. Raises `BlobMissing` before the first chunk."""

    @abstractmethod
    async def size(self, key: str) -> int:
        """In bytes. Raises `BlobMissing`."""

    @abstractmethod
    async def local(self, key: str) -> Path:
        """A path on this machine that holds the bytes (a store that is elsewhere copies them). Raises `BlobMissing`."""

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Remove it; nothing to remove is success."""

    @abstractmethod
    def list(self) -> AsyncIterator[str]:
        """Every key."""
