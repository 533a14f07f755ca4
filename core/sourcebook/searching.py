"""A question -> ranked passages: refine, embed, search every leg, ask SQL again, fuse, rerank, expand, refine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sourcebook.documents import Passage
from sourcebook.embeddings import embed
from sourcebook.errors import PluginError
from sourcebook.filters import FieldType, Filter, parse
from sourcebook.fusion import fuse
from sourcebook.interfaces import Hit, Retriever, Scope, SearchQuery
from sourcebook.notebooks import Notebook
from sourcebook.pipelines import Pipeline, Pipelines
from sourcebook.plugins import Plugins
from sourcebook.reading import Reading
from sourcebook.specs import Specs


@dataclass(frozen=True)
class Found:
    """What a search gave. `queries` are what was searched with, the first being the main one; times in milliseconds."""

    passages: tuple[Passage, ...]
    queries: tuple[str, ...]
    took_ms: float


class Searching:
    """Searches the notebooks of a scope, each with its own pipeline."""

    def __init__(
        self,
        pipelines: Pipelines,
        plugins: Plugins,
        reading: Reading,
        specs: Specs,
        keys: Mapping[str, FieldType] | None = None,
    ) -> None:
        self._pipelines = pipelines
        self._specs = specs
        self._plugins = plugins
        self._reading = reading
        self._keys = keys or {}

    async def search(
        self,
        question: str,
        scope: Scope,
        notebooks: Sequence[Notebook],
        *,
        limit: int | None = None,
        sources: Sequence[str] | None = None,
        filters: Mapping[str, Any] | None = None,
        expand: bool = False,
    ) -> Found:
        """The best passages that the scope may see. `expand` fills in what a model reads (parent or neighbours)."""
        began = time.perf_counter()
        queries = await self._plugins.refine_query(question, (question,))
        # A notebook that its pipeline left is searched with the components of the spec that it has pinned.
        wired: dict[tuple[str, str], list[str]] = {}
        for notebook in notebooks:
            wired.setdefault((notebook.pipeline, notebook.index_spec_id), []).append(notebook.id)
        narrowed = tuple(sources) if sources is not None else None
        where = parse(filters, self._keys) if filters else None
        parts = [
            await self._one(await self._specs.serving(name, spec), queries, _narrow(scope, ids), limit, narrowed, where)
            for (name, spec), ids in wired.items()
        ]
        passages = sorted((p for part in parts for p in part), key=lambda p: -p.score)
        wanted = limit or max((self._pipelines[name].settings.search.limit for name, _ in wired), default=8)
        passages = passages[:wanted]
        if expand:
            passages = await self._expand(passages, {n.id: n.pipeline for n in notebooks})
        refined = await self._plugins.refine_passages(question, tuple(passages))
        return Found(refined, queries, (time.perf_counter() - began) * 1000)

    async def _one(
        self,
        pipeline: Pipeline,
        queries: tuple[str, ...],
        scope: Scope,
        limit: int | None,
        sources: tuple[str, ...] | None,
        where: Filter | None,
    ) -> list[Passage]:
        options = pipeline.settings.search
        wanted = limit or options.limit
        vectors = await embed(pipeline.embedder, queries, "query") if pipeline.embedder else None
        query = SearchQuery(queries, scope, wanted * options.overfetch, vectors, sources, where)
        legs = await self._legs(pipeline.retrievers, query)
        # An index is derived and may be behind: only what SQL confirms is ranked at all.
        known = await self._reading.confirmed((h.passage_id for hits in legs.values() for h in hits), scope)
        if sources is not None:
            known = {i: one for i, one in known.items() if one.source_id in sources}
        if where is not None:
            known = await self._reading.matching(known, where, self._keys)
        confirmed = {leg: [h for h in hits if h.passage_id in known] for leg, hits in legs.items()}
        fused = [f for f in fuse(confirmed, options.weights, options.fusion_k) if f.score >= options.threshold]
        # Text and places cost more than all else here: the rest of what was over-fetched goes without.
        fused = fused[: wanted * options.overfetch if pipeline.reranker else wanted]
        read = await self._reading.filled(known[f.passage_id] for f in fused)
        ranked = [replace(read[f.passage_id], score=f.score, scores=f.scores) for f in fused if f.passage_id in read]
        if pipeline.reranker and ranked:
            ranked = await _rerank(pipeline, queries[0], ranked)
        return ranked[:wanted]

    async def _legs(self, retrievers: Sequence[Retriever[Any]], query: SearchQuery) -> dict[str, Sequence[Hit]]:
        found: list[Mapping[str, Sequence[Hit]]] = await asyncio.gather(*(r.search(query) for r in retrievers))
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


def _narrow(scope: Scope, notebook_ids: Sequence[str]) -> Scope:
    return Scope(tuple(n for n in scope.notebooks if n.notebook_id in notebook_ids))


async def _rerank(pipeline: Pipeline, question: str, passages: list[Passage]) -> list[Passage]:
    assert pipeline.reranker is not None
    scores = await pipeline.reranker.rerank(question, passages)
    if len(scores) != len(passages):
        raise PluginError(f"The reranker {pipeline.reranker.instance} gave {len(scores)} scores for {len(passages)}.")
    scored = [
        replace(p, score=float(s), scores={**p.scores, "rerank": float(s)})
        for p, s in zip(passages, scores, strict=True)
    ]
    return sorted(scored, key=lambda p: -p.score)
