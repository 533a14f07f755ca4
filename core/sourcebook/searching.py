"""A question -> ranked passages: refine, embed, search every leg, ask SQL again, fuse, rerank, expand, refine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from sourcebook.caches import Recent
from sourcebook.diversity import diverse
from sourcebook.documents import Passage
from sourcebook.embeddings import embed
from sourcebook.errors import InvalidInput, PluginError
from sourcebook.explaining import Explanation, unconfirmed
from sourcebook.feedback import SPARE, moved
from sourcebook.filters import FieldType, Filter, parse
from sourcebook.fusion import fuse, kind_of
from sourcebook.interfaces import Hit, Index, Retriever, Scope, SearchQuery
from sourcebook.metrics import Metrics
from sourcebook.notebooks import Notebook
from sourcebook.passages import Confirmed, View
from sourcebook.pipelines import Pipeline, Pipelines
from sourcebook.plugins import Plugins
from sourcebook.reading import Reading
from sourcebook.specs import Specs

if TYPE_CHECKING:
    from sourcebook.interfaces import Vectors


_FEW = 256  # hits that SQL looks up within a millisecond or two

Mode = Literal["hybrid", "lexical", "dense"]
Legs = Mapping[str, Sequence[Hit]]


@dataclass(frozen=True)
class Found:
    """What a search gave. `queries` are what was searched with, the first being the main one; times in milliseconds.

    `explained` is what was collected of each stage, where that was asked for.
    """

    passages: tuple[Passage, ...]
    queries: tuple[str, ...]
    took_ms: float
    explained: Explanation | None = None

    @property
    def explanation(self) -> Mapping[str, Any] | None:
        """Each stage's doing, where it was asked for: see `Explanation.shown`."""
        return self.explained.shown(self.passages) if self.explained else None


@dataclass(frozen=True)
class Asked:
    """What one search wants of every pipeline. `epochs`: notebook -> how often what is found in it has changed."""

    queries: tuple[str, ...]
    limit: int | None
    sources: tuple[str, ...] | None
    where: Filter | None
    mode: Mode | None
    weights: Mapping[str, float]
    epochs: Mapping[str, int]


class Searching:
    """Searches the notebooks of a scope, each with its own pipeline."""

    def __init__(
        self,
        pipelines: Pipelines,
        plugins: Plugins,
        reading: Reading,
        specs: Specs,
        keys: Mapping[str, FieldType] | None = None,
        cached: int = 0,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._pipelines = pipelines
        self._specs = specs
        self._plugins = plugins
        self._reading = reading
        self._keys = keys or {}
        self._vectors: Recent[Any, Vectors] = Recent(cached)
        self._hits: Recent[Any, Legs] = Recent(cached)

    async def search(
        self,
        question: str,
        scope: Scope,
        notebooks: Sequence[Notebook],
        *,
        limit: int | None = None,
        sources: Sequence[str] | None = None,
        filters: Mapping[str, Any] | None = None,
        mode: Mode | None = None,
        weights: Mapping[str, float] | None = None,
        expand: bool = False,
        explanation: Explanation | None = None,
    ) -> Found:
        """The best passages that the scope may see. `expand` fills in what a model reads (parent or neighbours).

        `mode` and `limit` win over each pipeline's own; `weights` are the notebooks' (1 where none is given, 0 leaves
        it out). `explanation` is filled in where it is given, also by a search that fails. Raises `InvalidInput` (codes
        `filter_invalid`, `no_embedder`).
        """
        began = time.perf_counter()
        if explanation:
            explanation.begin()
        queries = await self._plugins.refine_query(question, (question,))
        # A notebook that its pipeline left is searched with the components of the spec that it has pinned.
        wired: dict[tuple[str, str], list[str]] = {}
        for notebook in notebooks:
            if (weights or {}).get(notebook.id, 1.0) > 0:
                wired.setdefault((notebook.pipeline, notebook.index_spec_id), []).append(notebook.id)
        asked = Asked(
            queries,
            limit,
            tuple(sources) if sources is not None else None,
            parse(filters, self._keys) if filters else None,
            mode,
            weights or {},
            {n.id: n.epoch for n in notebooks},
        )
        if explanation:
            explanation.stage("queries", queries=list(queries))
        parts = [
            await self._one(await self._specs.serving(name, spec), asked, _narrow(scope, ids), explanation)
            for (name, spec), ids in wired.items()
        ]
        # One pipeline's order may be other than by score: diverse.
        passages = parts[0] if len(parts) == 1 else sorted((p for x in parts for p in x), key=lambda p: -p.score)
        wanted = limit or max((self._pipelines[name].settings.search.limit for name, _ in wired), default=8)
        passages = passages[:wanted]
        if expand:
            ranked = len(passages)
            passages = await self._expand(passages, {n.id: n.pipeline for n in notebooks})
            if explanation:
                explanation.stage("expand", passages=len(passages), covered=ranked - len(passages))
        refined = await self._plugins.refine_passages(question, tuple(passages))
        if explanation:
            explanation.stage("result", passages=len(refined))
        took = time.perf_counter() - began
        self._metrics.searched(took, len(refined))
        return Found(refined, queries, took * 1000, explanation)

    async def _one(
        self, pipeline: Pipeline, asked: Asked, scope: Scope, explanation: Explanation | None
    ) -> list[Passage]:
        options = pipeline.settings.search
        wanted = asked.limit or options.limit
        depth = max(wanted * options.overfetch, options.candidates)
        legs, cached = await self._found(pipeline, asked, scope, depth)
        if explanation:
            counts = {leg: len(hits) for leg, hits in legs.items()}
            explanation.stage("search", pipeline=pipeline.name, legs=counts, cached=cached)
        hits = {h.passage_id for found in legs.values() for h in found}
        async with self._reading.view(few=len(hits) <= _FEW) as view:
            known = await self._confirmed(view, hits, asked, scope)
            confirmed = {leg: [h for h in found if h.passage_id in known] for leg, found in legs.items()}
            fused = fuse(confirmed, options.weights, options.fusion_k, options.fusion)
            fused = [f for f in fused if f.score >= options.threshold]
            weight_of = {i: asked.weights.get(one.notebook_id, 1.0) for i, one in known.items()}
            if asked.weights:
                fused.sort(key=lambda f: -f.score * weight_of[f.passage_id])
            if explanation:
                method, dropped = options.fusion, len(hits) - len(known)
                told = {"dropped": unconfirmed(legs, known)} if dropped else {}
                explanation.stage("fusion", pipeline=pipeline.name, method=method, unconfirmed=dropped, **told)
                explanation.fused(fused, weight_of)
            # Text and places cost more than all else here: the rest of what was over-fetched goes without.
            fused = fused[: wanted * options.overfetch if pipeline.reranker or options.diversity else wanted]
            read = await view.filled([f.passage_id for f in fused])
        ranked = [
            replace(read[f.passage_id], score=f.score * weight_of[f.passage_id], scores=f.scores)
            for f in fused
            if f.passage_id in read
        ]
        return (await _refined(pipeline, asked.queries[0], ranked, wanted, weight_of, explanation))[:wanted]

    async def _found(self, pipeline: Pipeline, asked: Asked, scope: Scope, depth: int) -> tuple[Legs, bool]:
        """The legs of every retriever; True: from memory, since nothing in these notebooks has changed."""
        mode = asked.mode or pipeline.settings.search.mode
        if mode == "dense" and pipeline.embedder is None:
            raise InvalidInput(
                f"The pipeline {pipeline.name} has no embedder, so it has no dense search.",
                code="no_embedder",
                remedy="Search with mode lexical or hybrid, or give the pipeline an embedder and reindex.",
            )
        epochs = tuple((n.notebook_id, asked.epochs.get(n.notebook_id)) for n in scope.notebooks)
        key = (pipeline.name, asked.queries, scope, epochs, depth, asked.sources, asked.where, mode)
        if (legs := self._hits.get(key)) is not None:
            return legs, True
        vectors = await self._embedded(pipeline, asked.queries) if mode != "lexical" else None
        query = SearchQuery(asked.queries, scope, depth, vectors, asked.sources, asked.where, mode)
        legs = await self._legs(pipeline.retrievers, lambda r: r.search(query))
        if vectors and (best := await self._best(pipeline, asked, scope, legs)):
            legs |= await self._legs(pipeline.retrievers, lambda r: _again(r, query, best))
        if mode != "hybrid":  # a retriever may give more than was asked for
            legs = {leg: hits for leg, hits in legs.items() if kind_of(leg) == mode}
        self._hits.put(key, legs)
        return legs, False

    async def _embedded(self, pipeline: Pipeline, queries: tuple[str, ...]) -> Vectors | None:
        if pipeline.embedder is None:
            return None
        key = (pipeline.embedder.instance, pipeline.embedder.identity, queries)
        if (vectors := self._vectors.get(key)) is None:
            vectors = await embed(pipeline.embedder, queries, "query")
            self._vectors.put(key, vectors)
        return vectors

    async def _confirmed(self, view: View, hits: Iterable[str], asked: Asked, scope: Scope) -> dict[str, Confirmed]:
        """An index is derived and may be behind: only what SQL confirms is ranked at all."""
        known = await view.confirmed(hits, scope)
        if asked.sources is not None:
            known = {i: one for i, one in known.items() if one.source_id in asked.sources}
        if asked.where is not None:
            known = await view.matching(known, asked.where, self._keys)
        return known

    async def _best(self, pipeline: Pipeline, asked: Asked, scope: Scope, legs: Legs) -> list[str]:
        """What feeds back: the best passages so far, of those that SQL confirms."""
        options = pipeline.settings.search
        if not options.feedback:
            return []
        fused = fuse(legs, options.weights, options.fusion_k, options.fusion)[: options.feedback + SPARE]
        async with self._reading.view(few=True) as view:
            known = await self._confirmed(view, [f.passage_id for f in fused], asked, scope)
        return [f.passage_id for f in fused if f.passage_id in known][: options.feedback]

    async def _legs(
        self, retrievers: Sequence[Retriever[Any]], ask: Callable[[Retriever[Any]], Awaitable[Legs]]
    ) -> dict[str, Sequence[Hit]]:
        found = await asyncio.gather(*(ask(r) for r in retrievers))
        if len(retrievers) == 1:
            return dict(found[0])
        # Legs of several retrievers keep apart by the instance's name.
        return {
            f"{leg}@{r.instance}": hits for r, legs in zip(retrievers, found, strict=True) for leg, hits in legs.items()
        }

    async def _expand(self, passages: Sequence[Passage], pipeline_of: Mapping[str, str]) -> list[Passage]:
        """Give each passage what the model reads; one whose range another already shows is left out."""
        kept: list[Passage] = []
        shown: list[tuple[str, int, int]] = []
        for passage in passages:
            options = self._pipelines[pipeline_of[passage.notebook_id]].settings.search
            start, end = passage.start, passage.end
            if options.prefer_parent and passage.parent:
                start, end = passage.parent
            elif options.neighbours:
                around = await self._around(passage, options.neighbours)
                start, end = min(p.start for p in around), max(p.end for p in around)
            if any(d == passage.document_id and s <= passage.start and passage.end <= e for d, s, e in shown):
                continue
            kept.append(passage)
            shown.append((passage.document_id, start, end))
        larger = [r for p, r in zip(kept, shown, strict=True) if r[1:] != (p.start, p.end)]
        texts = dict(zip(larger, await self._reading.texts(larger), strict=True))
        return [
            replace(p, shown_start=r[1], shown=texts[r]) if r in texts else p for p, r in zip(kept, shown, strict=True)
        ]

    async def _around(self, passage: Passage, n: int) -> list[Passage]:
        """The passage with `n` before and `n` behind it, or fewer at the document's ends."""
        first = max(passage.ordinal - n, 0)
        found = await self._reading.passages_of(passage.generation_id, passage.ordinal + n + 1 - first, after=first - 1)
        return found or [passage]


async def _again(retriever: Retriever[Any], query: SearchQuery, best: Sequence[str]) -> Legs:
    """The dense legs by vectors that went towards those of the best passages."""
    if not isinstance(retriever, Index) or not query.vectors:
        return {}
    vectors = moved(query.vectors, await retriever.vectors(query.scope, best))
    if not vectors:
        return {}
    legs: Legs = await retriever.search(replace(query, vectors=vectors, mode="dense"))
    return {leg: hits for leg, hits in legs.items() if kind_of(leg) == "dense"}


def _narrow(scope: Scope, notebook_ids: Sequence[str]) -> Scope:
    return Scope(tuple(n for n in scope.notebooks if n.notebook_id in notebook_ids))


async def _refined(
    pipeline: Pipeline,
    question: str,
    ranked: list[Passage],
    wanted: int,
    weight_of: Mapping[str, float],
    explanation: Explanation | None,
) -> list[Passage]:
    """Reranked and made diverse, where the pipeline says so."""
    if pipeline.reranker and ranked:
        ranked = await _rerank(pipeline, question, ranked, weight_of)
        if explanation:
            explanation.stage("rerank", reranker=pipeline.reranker.instance, passages=len(ranked))
            explanation.order("rerank", ranked)
    if share := pipeline.settings.search.diversity:
        ranked = diverse(ranked, wanted, share)
        if explanation:
            explanation.stage("diversity", passages=len(ranked))
            explanation.order("diversity", ranked)
    return ranked


async def _rerank(
    pipeline: Pipeline, question: str, passages: list[Passage], weight_of: Mapping[str, float]
) -> list[Passage]:
    assert pipeline.reranker is not None
    scores = await pipeline.reranker.rerank(question, passages)
    if len(scores) != len(passages):
        raise PluginError(f"The reranker {pipeline.reranker.instance} gave {len(scores)} scores for {len(passages)}.")
    # A model's scores may be below 0, where a weight would turn the order round: then it is the distance that counts.
    low = min(0.0, *map(float, scores)) if len(set(weight_of.values())) > 1 else 0.0
    scored = [
        replace(p, score=(float(s) - low) * weight_of[p.id], scores={**p.scores, "rerank": float(s)})
        for p, s in zip(passages, scores, strict=True)
    ]
    return sorted(scored, key=lambda p: -p.score)
