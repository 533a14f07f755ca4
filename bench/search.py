"""Search through Sourcebook against a bare query of the same shape: one notebook that holds every passage.

`Sourcebook` is `Searching.search`: hooks, the query's embedding, the index in its own process, every hit read again
from SQL with its text and places, fusion. `its index` is the call to the index process alone. `bare Edge` is the same
legs, filter and limit asked of a Qdrant Edge shard in this process, without text. `qdrant-client` is its local mode
(`:memory:`), at the smallest size alone: it scans in Python. The embedder hashes words, so no model is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import qdrant_edge as edge
from corpus import DIMENSIONS, Hashed, Plugin, Texts, fill, scope_of
from measuring import Words, machine, median, percentile, table, workspace

from sourcebook import Point, SearchQuery
from sourcebook.app import Sourcebook
from sourcebook.configuration import load

_PER_SOURCE, _LIMIT, _OVERFETCH, _BATCH = 100, 8, 4, 256
Ask = Callable[[str], Awaitable[None]]


@contextmanager
def bare_edge(folder: Path, points: Sequence[Point], embedder: Hashed | None) -> Iterator[Ask]:
    """The same points in a shard of our own; what asks it."""
    dense = {"dense": edge.EdgeVectorParams(size=DIMENSIONS, distance=edge.Distance.Cosine)} if embedder else {}
    sparse = {"bm25": edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)}
    shard = edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors=dense, sparse_vectors=sparse))
    shard.update(edge.UpdateOperation.create_field_index("notebook", edge.KeywordIndexParams(is_tenant=True)))
    terms = edge.Bm25(edge.Bm25Config(tokenizer=edge.TokenizerType.Word, language="english"))
    for batch in _batches(points):
        rows = embedder.rows([p.text for p in batch]) if embedder else None
        stored = []
        for i, point in enumerate(batch):
            vectors: dict[str, Any] = {"bm25": terms.embed_document(point.text)}
            if rows is not None:
                vectors["dense"] = rows[i]
            stored.append(edge.Point(point.id, vectors, {"notebook": point.notebook_id}))
        shard.update(edge.UpdateOperation.upsert_points(stored))
    where = edge.Filter(must=[edge.FieldCondition("notebook", match=edge.MatchValue(points[0].notebook_id))])

    async def ask(question: str) -> None:
        queries = [edge.Query.Nearest(terms.embed_query(question), using="bm25")]
        if embedder:
            queries.append(edge.Query.Nearest(embedder.rows([question])[0], using="dense"))
        requests = [edge.QueryRequest(limit=_LIMIT * _OVERFETCH, query=q, filter=where) for q in queries]
        assert any(shard.query_batch(edge.QueryBatchRequest(requests)))

    yield ask
    shard.close()


def local_client(points: Sequence[Point], embedder: Hashed | None) -> Ask:
    """The same in qdrant-client's local mode, which has no BM25 of its own: the sparse vectors are Edge's."""
    from qdrant_client import QdrantClient, models

    client = QdrantClient(":memory:")
    dense = {"dense": models.VectorParams(size=DIMENSIONS, distance=models.Distance.COSINE)} if embedder else {}
    sparse = {"bm25": models.SparseVectorParams(modifier=models.Modifier.IDF)}
    client.create_collection("bench", dense, sparse_vectors_config=sparse)
    terms = edge.Bm25(edge.Bm25Config(tokenizer=edge.TokenizerType.Word, language="english"))

    def of(vector: edge.SparseVector) -> models.SparseVector:
        return models.SparseVector(indices=list(vector.indices), values=list(vector.values))

    for batch in _batches(points):
        rows = embedder.rows([p.text for p in batch]) if embedder else None
        stored = []
        for i, point in enumerate(batch):
            vectors: dict[str, Any] = {"bm25": of(terms.embed_document(point.text))}
            if rows is not None:
                vectors["dense"] = rows[i].tolist()
            stored.append(models.PointStruct(id=point.id, vector=vectors, payload={"notebook": point.notebook_id}))
        client.upsert("bench", stored)
    value = models.MatchValue(value=points[0].notebook_id)
    where = models.Filter(must=[models.FieldCondition(key="notebook", match=value)])

    async def ask(question: str) -> None:
        queries: list[tuple[Any, str]] = [(of(terms.embed_query(question)), "bm25")]
        if embedder:
            queries.append((embedder.rows([question])[0].tolist(), "dense"))
        for query, using in queries:
            client.query_points("bench", query=query, using=using, query_filter=where, limit=_LIMIT * _OVERFETCH)

    return ask


def _batches(points: Sequence[Point]) -> Iterator[Sequence[Point]]:
    return (points[i : i + _BATCH] for i in range(0, len(points), _BATCH))


async def timed(ask: Ask, questions: Sequence[str]) -> list[float]:
    """Milliseconds of every question, one after the other, after a few to warm up."""
    for question in questions[:5]:
        await ask(question)
    times = []
    for question in questions:
        began = time.perf_counter()
        await ask(question)
        times.append((time.perf_counter() - began) * 1000)
    return times


async def measure(folder: Path, texts: Texts, questions: Sequence[str], *, hybrid: bool, client: bool) -> None:
    """One size and one mode: a row for each way to ask, and the ratios."""
    embedder = Hashed(Hashed.Settings()) if hybrid else None
    overrides: dict[str, Any] = {"storage": {"path": str(folder / "data")}, "retrievers": {"qdrant": {}}}
    overrides["retrievers"]["qdrant"]["idle_seconds"] = 0
    overrides["pipelines"] = {"default": {"embedder": "hashed" if hybrid else ""}}
    book = Sourcebook(load(environ={}, overrides=overrides), workers=0)
    book.plugins.add(Plugin())
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(book)
        notebook = await book.create_notebook(await book.owners.local(), "bench")
        points = await fill(book, notebook, texts, embedder)
        scope, index = scope_of(notebook), book.pipelines["default"].indexes[0]

        async def ours(question: str) -> None:
            assert (await book.searching.search(question, scope, [notebook], limit=_LIMIT)).passages

        async def indexed(question: str) -> None:
            vectors = {"hashed": embedder.rows([question])} if embedder else None
            await index.search(SearchQuery((question,), scope, _LIMIT * _OVERFETCH, vectors))

        ways: dict[str, Ask] = {"Sourcebook": ours, "its index": indexed}
        ways["bare Edge"] = stack.enter_context(bare_edge(folder / "bare", points, embedder))
        if client:
            ways["qdrant-client"] = local_client(points, embedder)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for third in range(3):  # in turns, so that whatever else the machine does hits all alike
            for name, ask in ways.items():
                times[name] += await timed(ask, questions[third::3])
    print(f"\n{len(points):,} passages, {'lexical and dense' if hybrid else 'lexical'}: milliseconds")
    rows = [(n, f"{median(t):.2f}", f"{percentile(t, 0.95):.2f}") for n, t in times.items()]
    table(("", "p50", "p95"), rows)
    mine = median(times["Sourcebook"])
    print("ratio of p50: " + ", ".join(f"{mine / median(t):.2f} of {n}" for n, t in times.items() if n != "Sourcebook"))


def main() -> None:
    """Every size in both modes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--full", action="store_true", help="100,000 passages too: some minutes")
    parser.add_argument("--quick", action="store_true", help="300 passages: to see that it runs")
    given = parser.parse_args()
    sizes = [300] if given.quick else [1000, 10_000, *([100_000] if given.full else [])]
    # Local mode says that payload indexes do nothing there, which is why it is only a yardstick.
    warnings.filterwarnings("ignore", module="qdrant_client")
    words = Words(4)
    questions = [" ".join(words.some(6)) for _ in range(12 if given.quick else given.questions)]
    print("search: 6 words a question, the best 8 of 32 a leg")
    print(machine())
    for size in sizes:
        texts = [
            (f"{n}.txt", [words.paragraph(110) for _ in range(min(_PER_SOURCE, size - n))])
            for n in range(0, size, _PER_SOURCE)
        ]
        for hybrid in (False, True):
            with workspace("search") as folder:
                asyncio.run(measure(folder, texts, questions, hybrid=hybrid, client=size == sizes[0]))


if __name__ == "__main__":
    main()
