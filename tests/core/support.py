"""Fakes of every component, and a Sourcebook furnished with them: no process is started, nothing leaves the memory."""

from __future__ import annotations

import asyncio
import hashlib
import math
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
import sqlalchemy as sa

from sourcebook.app import Sourcebook
from sourcebook.configuration import load
from sourcebook.database.engine import Database
from sourcebook.database.upgrade import upgrade
from sourcebook.documents import Chunk, Document, Passage, Place
from sourcebook.errors import BlobMissing
from sourcebook.events import Delta, Finish, Text
from sourcebook.filters import FieldType, FieldValue, matches
from sourcebook.hookspecs import hookimpl
from sourcebook.interfaces import (
    LLM,
    Blob,
    BlobStore,
    Chunker,
    ComponentSettings,
    Context,
    Embedder,
    Hit,
    Index,
    LLMRequest,
    Parser,
    ParserFile,
    Point,
    PointRef,
    Reranker,
    Scope,
    SearchQuery,
    Space,
)
from sourcebook.jail import ComponentRef, Parsed
from sourcebook.jobs import Job
from sourcebook.notebooks import Notebook
from sourcebook.owners import Principal
from sourcebook.segments import segments_of
from sourcebook.sentences import terms
from sourcebook.sources import Source
from sourcebook.writer import DocumentWriter, Member

C = TypeVar("C")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Crash(BaseException):
    """What a power cut is to the code that it interrupts: nothing catches it."""


class Lines(Parser[ComponentSettings]):
    """Paragraphs of plain text. The fake jail reads in its place; this one is only found by name."""

    name = "lines"
    media_types = ("text/plain",)
    extensions = (".txt", ".lines")

    def parse(self, file: ParserFile, out: DocumentWriter) -> None:
        write_paragraphs(file.read().decode(), out)


class Blocks(Chunker[ComponentSettings]):
    """Every block is a chunk."""

    name = "blocks"

    def chunk(self, document: Document) -> Iterable[Chunk]:
        return [Chunk(b.start, b.end) for b in document.blocks]


def write_paragraphs(text: str, out: DocumentWriter) -> None:
    """Blank lines part the paragraphs."""
    for n, paragraph in enumerate(filter(str.strip, text.split("\n\n")), start=1):
        out.block([(paragraph, Place(paragraph=n))])


class FakeJail:
    """Reads paragraphs in this process. `chunks` cuts; `members` are what is found inside a file of that name."""

    def __init__(self) -> None:
        self.parsed: list[str] = []
        self.passwords: list[str | None] = []
        self.members: dict[str, list[Member]] = {}
        self.metadata: dict[str, Any] = {}
        self.error: BaseException | None = None
        self.chunks: Callable[[Document], Iterable[Chunk]] = Blocks(ComponentSettings()).chunk

    async def parse(
        self,
        path: Path,
        *,
        name: str,
        media_type: str,
        parser: ComponentRef,
        chunker: ComponentRef | None = None,
        password: str | None = None,
        together: str = "",
        reached: Callable[[int], object] | None = None,
    ) -> Parsed:
        """As `Jail.parse`."""
        self.parsed.append(name)
        self.passwords.append(password)
        if self.error is not None:
            raise self.error
        out = DocumentWriter()
        write_paragraphs(path.read_text(encoding="utf-8"), out)
        d = out.document()
        members = tuple(self.members.get(name, ()))
        return Parsed(tuple(segments_of(d)), tuple(self.chunks(d)), dict(self.metadata), (), members, len(d.text))


class Letters(Embedder[ComponentSettings]):
    """How often each letter occurs. `texts` counts what was paid for."""

    name = "letters"
    max_batch = 3

    async def open(self, context: Context) -> None:
        self.spaces = (Space("letters", len(LETTERS)),)
        self.identity = "letters/1"
        self.texts: Counter[str] = Counter()
        self.batches: list[int] = []

    async def embed(self, texts: Sequence[str], kind: str) -> Any:
        import numpy as np

        if kind == "passage":
            self.texts.update(texts)
            self.batches.append(len(texts))
        counts = [[text.casefold().count(letter) for letter in LETTERS] for text in texts]
        return {"letters": np.array(counts, dtype=np.float32).reshape(len(texts), len(LETTERS))}


class Memory(Index[ComponentSettings]):
    """An index in a dict. `tick` is called before each write; `orphans` are hits that no SQL confirms."""

    name = "memory"

    async def open(self, context: Context) -> None:
        self.points: dict[str, tuple[Point, list[float] | None]] = {}
        self.orphans: list[str] = []
        self.upserts: Counter[str] = Counter()
        self.queries: list[SearchQuery] = []
        self.flushes = 0
        self.tick: Callable[[str], None] = lambda what: None

    async def ensure(self, spaces: Sequence[Space], fields: Mapping[str, FieldType] | None = None) -> None:
        self.spaces = tuple(spaces)

    async def upsert(self, scope: Scope, points: Sequence[Point], vectors: Any) -> None:
        self.tick("upsert")
        for i, point in enumerate(points):
            assert (point.notebook_id, point.owner_id, point.index_spec_id) in _keys(scope)
            vector = None if vectors is None else [float(x) for x in vectors["letters"][i]]
            self.points[point.id] = (point, vector)
            self.upserts[point.id] += 1
        self.tick("upserted")

    async def set_fields(self, scope: Scope, source_id: str, fields: Mapping[str, FieldValue]) -> None:
        for point in list(self._in(scope, source_id)):
            self.points[point.id] = (replace(point, fields=fields), self.points[point.id][1])

    async def delete(self, scope: Scope, source_id: str, generation_id: str | None = None) -> None:
        self.tick("delete")
        for point in list(self._in(scope, source_id, generation_id)):
            del self.points[point.id]

    async def count(self, scope: Scope, source_id: str | None = None, generation_id: str | None = None) -> int:
        return len(list(self._in(scope, source_id, generation_id)))

    async def scroll(self, scope: Scope | None) -> AsyncIterator[Sequence[PointRef]]:
        found = [p for p, _ in self.points.values()] if scope is None else list(self._in(scope))
        yield [PointRef(p.id, p.notebook_id, p.source_id, p.generation_id) for p in found]

    async def flush(self) -> None:
        self.flushes += 1

    async def vectors(self, scope: Scope, ids: Sequence[str]) -> Mapping[str, Mapping[str, Sequence[float]]]:
        held = {p.id: self.points[p.id][1] for p in self._in(scope) if p.id in ids}
        return {"letters": {i: row for i, row in held.items() if row is not None}}

    async def search(self, query: SearchQuery) -> Mapping[str, Sequence[Hit]]:
        self.queries.append(query)
        inside = [p for p in self._in(query.scope) if query.sources is None or p.source_id in query.sources]
        inside = [p for p in inside if query.filters is None or matches(query.filters, p.source_id, p.fields)]
        asked = {t for text in query.texts for t in terms(text)}
        lexical = [Hit(p.id, float(len(asked & set(terms(p.text))))) for p in inside]
        legs = {"lexical": [Hit(i, 99.0) for i in self.orphans] + [h for h in lexical if h.score > 0]}
        if query.vectors is not None:
            question = [float(x) for x in query.vectors["letters"][0]]
            legs["dense:letters"] = [Hit(p.id, _cosine(question, self.points[p.id][1] or [])) for p in inside]
        return {leg: sorted(hits, key=lambda h: (-h.score, h.passage_id))[: query.limit] for leg, hits in legs.items()}

    def _in(self, scope: Scope, source: str | None = None, generation: str | None = None) -> Iterable[Point]:
        keys = _keys(scope)
        for p, _ in self.points.values():
            wanted = source in (None, p.source_id) and generation in (None, p.generation_id)
            if wanted and (p.notebook_id, p.owner_id, p.index_spec_id) in keys:
                yield p


def _keys(scope: Scope) -> set[tuple[str, str, str]]:
    return {(n.notebook_id, n.owner_id, n.index_spec_id) for n in scope.notebooks}


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    length = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0


class Second(Memory):
    """Another index of the same kind."""

    name = "second"


class Shortest(Reranker[ComponentSettings]):
    """The shortest passage is the best."""

    name = "shortest"

    async def rerank(self, question: str, passages: Sequence[Passage]) -> Sequence[float]:
        return [1 / len(p.text) for p in passages]


Step = Delta | BaseException | asyncio.Event
"""A delta to yield, an error to raise, or an event to wait for."""


class Script(LLM[ComponentSettings]):
    """Plays `script`, one list of steps a call, the last one again and again. `closed` counts streams that ended."""

    name = "script"

    async def open(self, context: Context) -> None:
        self.script: list[list[Step]] = [[Text("Yes [1]."), Finish("stop")]]
        self.requests: list[LLMRequest] = []
        self.closed = 0

    async def stream(self, request: LLMRequest) -> AsyncIterator[Delta]:
        self.requests.append(request)
        steps = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        try:
            for step in steps:
                if isinstance(step, BaseException):
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    yield step
        finally:
            self.closed += 1


class Understudy(Script):
    """The next in line."""

    name = "understudy"


class MemoryBlobs(BlobStore[ComponentSettings]):
    """Blobs in a dict, and in a file where one is asked for."""

    name = "dict_blobs"

    async def open(self, context: Context) -> None:
        self.folder = context.folder
        self.blobs: dict[str, bytes] = {}
        self.tick: Callable[[str], None] = lambda what: None

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> Blob:
        data = b"".join([chunk async for chunk in chunks])
        self.blobs[key] = data
        return Blob(key, hashlib.sha256(data).hexdigest(), len(data))

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        return pieces(self._have(key)[start:end])

    async def size(self, key: str) -> int:
        return len(self._have(key))

    @asynccontextmanager
    async def local(self, key: str) -> AsyncGenerator[Path, None]:
        path = self.folder / key
        path.write_bytes(self._have(key))
        yield path

    async def delete(self, key: str) -> None:
        self.tick("blob")
        self.blobs.pop(key, None)

    async def list(self) -> AsyncIterator[str]:
        for key in list(self.blobs):
            yield key

    def _have(self, key: str) -> bytes:
        if key not in self.blobs:
            raise BlobMissing(f"{key} is gone")
        return self.blobs[key]


class Fakes:
    """The plugin that has them all."""

    __name__ = "fakes"
    kinds: ClassVar[dict[str, list[type[Any]]]] = {"llms": [Script, Understudy], "retrievers": [Memory, Second]}

    @hookimpl
    def register_parsers(self) -> list[type[Parser[Any]]]:
        return [Lines]

    @hookimpl
    def register_chunkers(self) -> list[type[Chunker[Any]]]:
        return [Blocks]

    @hookimpl
    def register_embedders(self) -> list[type[Embedder[Any]]]:
        return [Letters]

    @hookimpl
    def register_retrievers(self) -> list[type[Any]]:
        return self.kinds["retrievers"]

    @hookimpl
    def register_rerankers(self) -> list[type[Reranker[Any]]]:
        return [Shortest]

    @hookimpl
    def register_llms(self) -> list[type[Any]]:
        return self.kinds["llms"]

    @hookimpl
    def register_blob_stores(self) -> list[type[BlobStore[Any]]]:
        return [MemoryBlobs]


async def pieces(data: bytes, size: int = 7) -> AsyncIterator[bytes]:
    """`data` as an upload brings it."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


@cache
def _empty_database() -> bytes:
    """An up-to-date database: migrating each test's own would take most of its time."""

    async def make(folder: Path) -> None:
        database = Database("", folder)
        await upgrade(database)
        await database.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(make(Path(folder)))
        return (Path(folder) / "sourcebook.db").read_bytes()


def new_database(folder: Path) -> Database:
    """A migrated database in `folder`."""
    path = folder / "sourcebook.db"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_in_thread(_empty_database))
    return Database("", folder)


@dataclass(frozen=True)
class Store:
    """A migrated database without a row: SQLite in `folder`, or PostgreSQL at `url`."""

    folder: Path
    url: str = ""

    def open(self) -> Database:
        """Connect; once more is as another process would."""
        return Database(self.url, self.folder) if self.url else new_database(self.folder)


both_stores = pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)
"""For a module whose every test takes `store`: each runs on SQLite and on a real PostgreSQL."""


def _in_thread(function: Callable[[], bytes]) -> bytes:
    """The first call runs an event loop of its own, which a running one does not allow in its thread."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


@dataclass
class Room:
    """A furnished Sourcebook without workers: `work` does what is due."""

    book: Sourcebook
    me: Principal
    notebook: Notebook
    jail: FakeJail

    @property
    def index(self) -> Memory:
        return self._component("retrievers", "memory", Memory)

    @property
    def llm(self) -> Script:
        return self._component("llms", "script", Script)

    @property
    def embedder(self) -> Letters:
        return self._component("embedders", "letters", Letters)

    @property
    def blobs(self) -> MemoryBlobs:
        return self._component("blob_stores", "dict_blobs", MemoryBlobs)

    def _component(self, kind: str, name: str, cls: type[C]) -> C:
        found = self.book.pipelines._open[(kind, name)].thing
        assert isinstance(found, cls)
        return found

    async def add(self, name: str, text: str, notebook: Notebook | None = None, **more: Any) -> str:
        """Accept a source; `work` makes it ready."""
        return (await self.book.sources.accept(notebook or self.notebook, name, pieces(text.encode()), **more))[0]

    async def ready(self, name: str, text: str, notebook: Notebook | None = None, **more: Any) -> str:
        """A source that is ready."""
        source_id = await self.add(name, text, notebook, **more)
        await self.work()
        assert (await self.source(source_id)).state == "ready"
        return source_id

    async def step(self, worker: str = "worker") -> Job | None:
        """Claim one job and do it, as a worker would."""
        job = await self.book.jobs.claim(worker)
        if job is not None:
            await self.book._worker.do(job)
        return job

    async def work(self) -> None:
        """Until no job is due."""
        while await self.step():
            pass

    async def source(self, source_id: str) -> Source:
        return await self.book.sources.get(self.me, source_id)

    async def rows(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
        async with self.book.database.read() as c:
            return [dict(row) for row in (await c.execute(sa.select(table).where(*where))).mappings()]

    async def change(self, table: sa.Table, *where: sa.ColumnElement[bool], **values: Any) -> None:
        async with self.book.database.write() as c:
            await c.execute(table.update().where(*where).values(**values))

    async def principal(self, name: str, *permissions: str) -> Principal:
        """Another owner."""
        owner_id = await self.book.owners.ensure(name)
        return Principal(owner_id, name, frozenset(permissions or ("read", "write", "admin")))


@asynccontextmanager
async def furnished(
    store: Store, *, plugins: Sequence[object] = (), pipeline: Mapping[str, Any] | None = None, **overrides: Any
) -> AsyncIterator[Room]:
    """Open a Sourcebook on fakes. `pipeline` changes the default one; `overrides` are sections of the settings."""
    wiring = {"chunker": "blocks", "embedder": "letters", "retrievers": ["memory"], "llm": ["script"]}
    layers: dict[str, Any] = {
        "storage": {"path": str(store.folder), "database": store.url, "blobs": "dict_blobs"},
        "pipelines": {"default": {**wiring, **(pipeline or {})}},
    }
    for section, values in overrides.items():
        layers[section] = {**layers.get(section, {}), **values} if isinstance(values, dict) else values
    await store.open().close()
    book = Sourcebook(load(environ={}, overrides=layers), workers=0)
    book.plugins.load([])  # without what is installed: only what a test brings along
    book.plugins.load = lambda points=None: None  # type: ignore[method-assign]
    for plugin in (Fakes(), *plugins):
        book.plugins.add(plugin)
    async with book:
        jail = FakeJail()
        book.wirings.current.ingestion._jail = jail  # type: ignore[assignment]  # the fake has the one method that is called
        me = await book.owners.local()
        notebook = await book.create_notebook(me, "Garden")
        yield Room(book, me, notebook, jail)


def in_a_room(**options: Any) -> Callable[[Callable[[Room], Awaitable[None]]], Callable[[Store], None]]:
    """Make a test of an async function that is given a furnished room."""

    def decorate(test: Callable[[Room], Awaitable[None]]) -> Callable[[Store], None]:
        async def main(store: Store) -> None:
            async with furnished(store, **options) as room:
                await asyncio.wait_for(test(room), 60)

        def run(store: Store) -> None:
            asyncio.run(main(store))

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate
