"""Index specs: how a notebook's passages are cut, embedded and stored, and what serves one that its pipeline left.

A notebook pins a spec. When its pipeline changes (another embedder, chunker, index or choice of parsers), the notebook
goes on under the pinned one: it is searched and filled with the components of that spec, as far as they are still
configured, until `reindexing.py` has built the new one beside it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import sqlalchemy as sa

from sourcebook.database.engine import Database
from sourcebook.database.tables import documents, generations, index_specs, notebooks, sources
from sourcebook.errors import ConfigError, SourcebookError
from sourcebook.interfaces import Embedder, Index, Retriever
from sourcebook.jail import ComponentRef
from sourcebook.notebooks import Notebook
from sourcebook.pipelines import Pipeline, Pipelines

log = logging.getLogger(__name__)

COMPARED = ("chunker", "embedder", "indexes", "parsers")
"""The parts of a spec; `spaces` belong to the embedder."""


@dataclass(frozen=True)
class Standing:
    """How a notebook stands to its pipeline. `changed` names the parts that moved on; empty: it is up to date.

    `dense` is False where the pinned spec has vectors and nothing is configured that could embed a question for them:
    the notebook then answers by words alone. `embedder` is the pinned one's identity.
    """

    changed: tuple[str, ...]
    embedder: str
    dense: bool

    @property
    def stale(self) -> bool:
        """Whether a reindex would change anything."""
        return bool(self.changed)


def changes(pinned: Mapping[str, Any], current: Mapping[str, Any]) -> tuple[str, ...]:
    """Which parts differ, in the order of `COMPARED`."""
    return tuple(part for part in COMPARED if _part(pinned, part) != _part(current, part))


def _part(spec: Mapping[str, Any], part: str) -> Any:
    if part == "embedder":
        return [spec.get("embedder", ""), spec.get("spaces", [])]
    return spec.get(part) or None


class Specs:
    """The specs that notebooks have pinned, and the pipelines that serve them."""

    def __init__(self, database: Database, pipelines: Pipelines) -> None:
        self._db = database
        self._pipelines = pipelines
        self._known: dict[str, Mapping[str, Any]] = {}
        self._serving: dict[tuple[str, str], Pipeline] = {}
        self._building = asyncio.Lock()

    async def get(self, spec_id: str) -> Mapping[str, Any]:
        """A stored spec, as `Pipeline.spec` was when it was pinned. Specs never change."""
        if spec_id not in self._known:
            async with self._db.read() as c:
                query = sa.select(index_specs.c.spec).where(index_specs.c.id == spec_id)
                self._known[spec_id] = dict((await c.execute(query)).scalar_one())
        return self._known[spec_id]

    async def serving(self, name: str, spec_id: str) -> Pipeline:
        """The pipeline `name` with the components of this spec: its own, where it has not moved on.

        Raises `ConfigError` (code `index_gone`) where the spec's index is not configured any more. An embedder that is
        gone leaves retrieval by words (`embedder` is None then).
        """
        pipeline, pinned = self._pipelines[name], await self.get(spec_id)
        if not changes(pinned, pipeline.spec):
            return pipeline
        async with self._building:
            if (name, spec_id) not in self._serving:
                self._serving[name, spec_id] = await self._as_pinned(pipeline, pinned)
        return self._serving[name, spec_id]

    async def standing(self, found: Sequence[Notebook]) -> dict[str, Standing]:
        """By notebook's id. Asks SQL once for all of them; opens an embedder only where one is stale."""
        outdated = await self._outdated([n.id for n in found])
        standings: dict[str, Standing] = {}
        for n in found:
            pinned = await self.get(n.index_spec_id)
            try:
                changed = changes(pinned, self._pipelines[n.pipeline].spec)
                dense = not changed or (await self.serving(n.pipeline, n.index_spec_id)).embedder is not None
            except ConfigError as error:  # the pipeline or the index is gone; whoever searches it is told the same
                log.warning("notebook %s: %s", n.id, error.detail)
                changed, dense = ("pipeline",), False
            if n.id in outdated and "parsers" not in changed:
                changed = (*changed, "parsers")
            identity = str(pinned.get("embedder", ""))
            standings[n.id] = Standing(changed, identity, dense or not identity)
        return standings

    async def check(self, *, mending: bool = False) -> None:
        """At start: open the indexes that notebooks still lie in, and refuse vectors that would not fit.

        Raises `ConfigError` (code `dimensions_changed`), but not while `mending`.
        """
        for spec_id, name, count in await self._pinned():
            if name not in {p.name for p in self._pipelines}:
                continue
            pinned, current = await self.get(spec_id), self._pipelines[name].spec
            if pinned.get("embedder") and pinned["embedder"] == current["embedder"] and not mending:
                _check_dimensions(name, pinned["spaces"], current["spaces"], count)
            try:
                await self.serving(name, spec_id)
            except SourcebookError as error:
                log.warning("pipeline %s, index spec %s: %s", name, spec_id, error.detail)

    async def _pinned(self) -> list[tuple[str, str, int]]:
        query = (
            sa.select(notebooks.c.index_spec_id, notebooks.c.pipeline, sa.func.count())
            .where(notebooks.c.deleted_at.is_(None))
            .group_by(notebooks.c.index_spec_id, notebooks.c.pipeline)
        )
        async with self._db.read() as c:
            return [(str(i), str(p), int(n)) for i, p, n in (await c.execute(query)).all()]

    async def _outdated(self, ids: Sequence[str]) -> set[str]:
        """Of these notebooks, those with a document that no parser of today would read as it was read."""
        query = (
            sa.select(sources.c.notebook_id, documents.c.parser)
            .join(generations, generations.c.source_id == sources.c.id)
            .join(notebooks, notebooks.c.id == sources.c.notebook_id)
            .join(documents, documents.c.id == generations.c.document_id)
            .where(
                sources.c.notebook_id.in_(ids),
                sources.c.deleted_at.is_(None),
                generations.c.index_spec_id == notebooks.c.index_spec_id,
                generations.c.state == "ready",
            )
            .distinct()
        )
        async with self._db.read() as c:
            rows = (await c.execute(query)).all()
        today = self._pipelines.parser_identities()
        return {notebook_id for notebook_id, parser in rows if parser not in today}

    async def _as_pinned(self, pipeline: Pipeline, pinned: Mapping[str, Any]) -> Pipeline:
        indexes = [await self._index(pipeline, name, pinned) for name in pinned.get("indexes", ())]
        others = [r for r in pipeline.retrievers if not isinstance(r, Index)]
        return replace(
            pipeline,
            chunker=self._chunker(pinned) or pipeline.chunker,
            embedder=await self._embedder(pipeline, pinned),
            retrievers=(*indexes, *others),
            spec=pinned,
        )

    def _chunker(self, pinned: Mapping[str, Any]) -> ComponentRef | None:
        chunker = pinned.get("chunker") or {}
        try:
            return self._pipelines.reference("chunkers", chunker.get("name", ""), chunker.get("settings", {}))
        except SourcebookError:  # gone, or its settings changed: what comes now is cut by the pipeline's own
            return None

    async def _index(self, pipeline: Pipeline, name: str, pinned: Mapping[str, Any]) -> Retriever[Any]:
        own = next((r for r in pipeline.retrievers if r.instance == name), None)
        try:
            return own or await self._pipelines.component("retrievers", name, cast(type[Retriever[Any]], Index))
        except SourcebookError as error:
            raise ConfigError(
                f"The passages of a notebook lie in the index {name!r}, which is not configured any more.",
                code="index_gone",
                remedy=f"Add [retrievers.{name}] again, or build them anew with `sourcebook reindex`.",
            ) from error

    async def _embedder(self, pipeline: Pipeline, pinned: Mapping[str, Any]) -> Embedder[Any] | None:
        """Of the configured ones, whichever makes the pinned vectors: same identity, same spaces."""
        if not pinned.get("embedder"):
            return None
        if pipeline.embedder and _makes(pipeline.embedder, pinned):
            return pipeline.embedder
        for instance in self._candidates(pinned):
            try:
                found = await self._pipelines.component("embedders", instance, cast(type[Embedder[Any]], Embedder))
            except SourcebookError as error:
                log.info("the embedder %s could not be tried: %s", instance, error.detail)
                continue
            if _makes(found, pinned):
                return found
        log.warning("no configured embedder makes the vectors of %s: searching by words alone", pinned["embedder"])
        return None

    def _candidates(self, pinned: Mapping[str, Any]) -> Iterable[str]:
        """The instance that made them first, where it is still there."""
        hint = str(pinned.get("hints", {}).get("embedder", ""))
        return dict.fromkeys([*([hint] if hint else []), *self._pipelines.instances("embedders")])


def _makes(embedder: Embedder[Any], pinned: Mapping[str, Any]) -> bool:
    spaces = [[s.name, s.kind, s.dimensions, s.distance] for s in embedder.spaces]
    return embedder.identity == pinned["embedder"] and spaces == [list(s) for s in pinned["spaces"]]


def _check_dimensions(pipeline: str, pinned: Sequence[Any], current: Sequence[Any], count: int) -> None:
    held = {space[0]: space[2] for space in pinned}
    for space in current:
        if held.get(space[0], space[2]) != space[2]:
            raise ConfigError(
                f"pipelines.{pipeline}: the space {space[0]!r} has {held[space[0]]} dimensions in {count} notebooks, "
                f"and its embedder, under the same identity, now gives {space[2]}.",
                code="dimensions_changed",
                remedy="Give the embedder the model that it had, or build the notebooks anew: "
                "`sourcebook reindex --all`.",
            )
