"""Search, indexing, recall and memory of the embedded index, at the sizes that are given.

Of every ten passages nine lie in one notebook of an owner and one in another, and both are searched with their owner
and notebook as the filter: `whole` is the first, `tenth` the second.

`API` is POST /api/v1/search over a socket, `Sourcebook` is `Searching.search`: hooks, the query's embedding, the index
in its own process, every hit read again from SQL with its text and places, fusion. `its index` is the call to the index
process alone. `bare Edge` is the same legs, filter and limit asked of a Qdrant Edge shard in this process, without
text, and `qdrant-client` its local mode (`:memory:`), which scans in Python; both at the smallest size alone. The
embedder hashes words, so no model is measured.

Indexing is `Index.upsert` alone, BM25 included and SQL apart. Recall@10 is of the dense leg, against an exact scan.
Memory is the index process's after the searches: what is its own, and what it maps of its files, which the system may
take back. `--set quantization=none` and the like change the index's settings.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge
from connection import Connection
from corpus import DIMENSIONS, Hashed, Plugin, Texts, fill, scope_of
from measuring import Words, machine, median, percentile, processes_below, table, workspace

from sourcebook import Point, SearchQuery
from sourcebook.app import Sourcebook
from sourcebook.configuration import load
from sourcebook.notebooks import Notebook
from sourcebook_api.server import Server

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


@asynccontextmanager
async def served(
    folder: Path, embedder: Hashed | None, index: Mapping[str, Any]
) -> AsyncIterator[tuple[Sourcebook, str]]:
    """A Sourcebook behind its server, on a free port; and the server's address."""
    overrides: dict[str, Any] = {"storage": {"path": str(folder / "data")}, "server": {"port": 0}}
    overrides["retrievers"] = {"qdrant": {"idle_seconds": 0, "timeout_seconds": 300, **index}}
    overrides["pipelines"] = {"default": {"embedder": "hashed" if embedder else ""}}
    book = Sourcebook(load(environ={}, overrides=overrides), workers=0)
    book.plugins.add(Plugin())
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    server = Server(book, on_ready=ready.set_result)
    running = asyncio.create_task(server.run_to_the_end())
    try:
        both: list[asyncio.Future[Any]] = [running, ready]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        yield book, ready.result()
    finally:
        server.stop()
        await running


async def settled(index: Any) -> tuple[int, float]:
    """Wait until the index process has compacted what it will; how many points that are, and the seconds it took."""
    began, above = time.monotonic(), int(index.settings.compact_above)
    while True:
        state = await index._call("state")
        new, compacted = state["points"] - state["compacted"], int(state["compacted"])
        if not above or new < max(above, compacted // 4) or time.monotonic() - began > 3600:
            return compacted, time.monotonic() - began
        await asyncio.sleep(0.5)


def recall(found: Sequence[Sequence[str]], rows: Any, ids: Sequence[str], asked: Any) -> float:
    """The share of the exact ten nearest that were found."""
    share = 0.0
    for hits, row in zip(found, asked, strict=True):
        exact = np.argpartition(-(rows @ row), 10)[:10] if len(ids) > 10 else np.arange(len(ids))
        share += len({ids[i] for i in exact} & set(hits)) / len(exact)
    return share / len(found)


def memory(pid: int) -> str:
    """Of a process: megabytes of its own, and mapped from files."""
    sizes = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in ("RssAnon", "RssFile"):
            sizes[name] = int(rest.split()[0]) // 1024
    return f"{sizes['RssAnon']} MB of its own, {sizes['RssFile']} MB mapped"


async def measure(
    folder: Path, texts: Texts, questions: Sequence[str], *, hybrid: bool, bare: bool, settings: Mapping[str, Any]
) -> None:
    """One size and one mode: a row for each way to ask, and the ratios."""
    embedder = Hashed(Hashed.Settings()) if hybrid else None
    async with AsyncExitStack() as stack:
        book, url = await stack.enter_async_context(served(folder, embedder, settings))
        me = await book.owners.local()
        shelves = {name: await book.create_notebook(me, name) for name in ("whole", "tenth")}
        index: Any = book.pipelines["default"].indexes[0]
        points: dict[str, list[Point]] = {name: [] for name in shelves}
        spent = 0.0
        for n, text in enumerate(texts):
            name = "tenth" if n % 10 == 9 else "whole"
            fresh, seconds = await fill(book, shelves[name], [text], embedder)
            points[name] += fresh
            spent += seconds
        total = sum(map(len, points.values()))
        compacted, waited = await settled(index)
        http = stack.enter_context(closing(Connection(int(url.rpartition(":")[2]))))
        times: dict[str, list[float]] = {}
        for name, notebook in shelves.items():
            if not points[name]:
                continue
            ways = _ways(book, notebook, index, embedder, http)
            if bare and name == "whole":
                ways["bare Edge"] = stack.enter_context(bare_edge(folder / "bare", points[name], embedder))
                ways["qdrant-client"] = local_client(points[name], embedder)
            for third in range(3):  # in turns, so that whatever else the machine does hits all alike
                for way, ask in ways.items():
                    times.setdefault(f"{way}, {name}", []).extend(await timed(ask, questions[third::3]))
        _print(total, hybrid, times)
        print(f"indexing: {total / spent:,.0f} passages/s; {compacted:,} are compacted, after {waited:.1f} s more")
        if embedder:
            print(await _recall_of(index, shelves["whole"], points["whole"], embedder, questions[:100]))
        child = next(p for p in processes_below(os.getpid()) if "sourcebook_plugins.qdrant.child" in p.command)
        print(f"index process: {memory(child.pid)}")


def _ways(
    book: Sourcebook, notebook: Notebook, index: Any, embedder: Hashed | None, http: Connection
) -> dict[str, Ask]:
    scope = scope_of(notebook)

    async def api(question: str) -> None:
        body = {"question": question, "notebooks": [notebook.id], "limit": _LIMIT}
        status, _, answer = await http.request("POST", "/api/v1/search", body)
        assert status == 200, answer
        assert b'"items":[{' in answer, answer

    async def ours(question: str) -> None:
        question = " ".join(reversed(question.split()))  # the API's answers to the others are remembered
        assert (await book.searching.search(question, scope, [notebook], limit=_LIMIT)).passages

    async def indexed(question: str) -> None:
        vectors = {"hashed": embedder.rows([question])} if embedder else None
        await index.search(SearchQuery((question,), scope, _LIMIT * _OVERFETCH, vectors))

    return {"API": api, "Sourcebook": ours, "its index": indexed}


def _print(total: int, hybrid: bool, times: Mapping[str, list[float]]) -> None:
    print(f"\n{total:,} passages, {'lexical and dense' if hybrid else 'lexical'}: milliseconds")
    rows = []
    for name, taken in times.items():
        middle, high = median(taken), percentile(taken, 0.95)
        rows.append((name, f"{middle:.2f}", f"{high:.2f}", f"{high / middle:.2f}"))
    table(("", "p50", "p95", "p95/p50"), rows)
    mine = median(times["API, whole"])
    others = [(n, t) for n, t in times.items() if n.endswith(", whole") and n != "API, whole"]
    print("ratio of p50: " + ", ".join(f"{mine / median(t):.2f} of {n.partition(',')[0]}" for n, t in others))


async def _recall_of(
    index: Any, notebook: Notebook, points: Sequence[Point], embedder: Hashed, questions: Sequence[str]
) -> str:
    asked, found = embedder.rows(questions), []
    for i, question in enumerate(questions):
        query = SearchQuery((question,), scope_of(notebook), 10, {"hashed": asked[i : i + 1]}, mode="dense")
        found.append([hit.passage_id for hit in (await index.search(query))["dense:hashed"]])
    rows = np.concatenate([embedder.rows([p.text for p in batch]) for batch in _batches(points)])
    return f"recall@10: {recall(found, rows, [p.id for p in points], asked):.4f} against an exact scan"


def main() -> None:
    """Every size in both modes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=int, metavar="PASSAGES", help="default: 1000 10000")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of [retrievers.qdrant]")
    parser.add_argument("--only", choices=("lexical", "hybrid"), help="one mode alone")
    parser.add_argument("--full", action="store_true", help="100,000 passages too: some minutes")
    parser.add_argument("--quick", action="store_true", help="300 passages: to see that it runs")
    given = parser.parse_args()
    sizes = given.sizes or [1000, 10_000, *([100_000] if given.full else [])]
    sizes = [300] if given.quick else sorted(sizes)
    # Local mode says that payload indexes do nothing there, which is why it is only a yardstick.
    warnings.filterwarnings("ignore", module="qdrant_client")
    words = Words(4)
    questions = [" ".join(words.some(6)) for _ in range(12 if given.quick else given.questions)]
    print("search: 6 words a question, the best 8 of 32 a leg" + "".join(f"; {one}" for one in given.set))
    print(machine())
    settings = dict(one.split("=", 1) for one in given.set)
    for size in sizes:
        for hybrid in (False, True):
            if given.only and hybrid != (given.only == "hybrid"):
                continue
            made = Words(4)  # the words of the questions
            texts = [
                (f"{n}.txt", [made.paragraph(110) for _ in range(min(_PER_SOURCE, size - n))])
                for n in range(0, size, _PER_SOURCE)
            ]
            bare = size == sizes[0] and size <= 10_000
            with workspace("search") as folder:
                asyncio.run(measure(folder, texts, questions, hybrid=hybrid, bare=bare, settings=settings))


if __name__ == "__main__":
    main()
