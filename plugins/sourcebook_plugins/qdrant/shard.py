"""The shard of one data folder: the only module that touches Qdrant Edge. Runs in the index process.

A `Shard` has one method a request; they take the request's JSON and raw bytes, and return the result's JSON. Edge holds
the GIL and blocks in every call, so they are plain functions, called one at a time.

Nothing here ever optimises, which would stop the process for minutes: `compacting.py` has another process do it on a
copy. Points that are new are scanned as they are, which is exact; a compacted shard has a quantised copy to scan, and
scores what it finds there by the originals.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator
from heapq import nsmallest
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import qdrant_edge as edge

from sourcebook_plugins.qdrant import moving
from sourcebook_plugins.qdrant.folder import read_layout, sweep, sync, sync_files, write_layout
from sourcebook_plugins.qdrant.layout import KEYWORDS, SPARSE, TENANT, oversampling, vector_name
from sourcebook_plugins.qdrant.terms import Languages, document_terms, query_terms

PAGE = 1000
"""Points in one page of a scroll, at most."""

MAX_ANALYZERS = 64
"""More than there are."""

MAX_OWNERS = 1000
"""Who has points is remembered for so many."""

UNSETTLED = 10_000
"""Points that may lie in the log alone: a start after a power cut replays so many in a second."""

Json = dict[str, Any]


class Refused(Exception):
    """The request breaks the interface's contract: the caller's fault, and no use to try again."""


class Shard:
    """Points of all owners, a sparse vector for BM25 on each, a dense one for every space that was ensured."""

    def __init__(self, folder: Path, name: str = "") -> None:
        """The shard that answers in `folder`, made if there is none; or, by `name`, one that is to replace it."""
        self.folder = folder
        self._languages = Languages(self._count_analyzers)  # nobody else writes here
        self._owners: set[str] | None = None
        self._layout = read_layout(folder)
        self._answers = not name
        self.name = name or self._layout["shard"]
        if self._answers:
            sweep(folder, self.name)
        self._shard = _load_or_create(folder / self.name)
        self._unsettled = UNSETTLED  # what was made or replayed just now
        for vector, space in self.spaces.items():
            # Written down before it is made: a process that died between the two left it to us.
            self._create_vector(vector, space)

    @property
    def spaces(self) -> dict[str, Json]:
        """By the name of their vectors."""
        return {vector_name(s["name"], s["dimensions"]): s for s in self._layout["spaces"]}

    @property
    def points(self) -> int:
        """How many there are."""
        return self._shard.info().points_count

    @property
    def compacted(self) -> int:
        """How many there were when this shard was compacted; 0 if it never was."""
        return int(self._layout.get("compacted", 0))

    def take_over(self) -> None:
        """From now on this is the shard that answers; durable when this returns."""
        self.settle()
        self._answers = True
        self._write_layout({**self._layout, "shard": self.name, "compacted": self.points})

    def ensure(self, body: Json, _raw: memoryview) -> Json:
        """Add the spaces that are new. Points that are there already stay without a vector for them."""
        for space in body["spaces"]:
            vector = vector_name(space["name"], space["dimensions"])
            known = self.spaces.get(vector)
            if known is None:
                self._write_layout({**self._layout, "spaces": [*self._layout["spaces"], space]})
                self._create_vector(vector, space)
            elif known["distance"] != space["distance"]:
                raise Refused(
                    f"The space '{space['name']}' with {space['dimensions']} dimensions is stored with the distance "
                    f"{known['distance']}, and cannot have {space['distance']} too: give it another name."
                )
        return {}

    def upsert(self, body: Json, raw: memoryview) -> Json:
        """Store one batch; when this returns, the write-ahead log has it."""
        rows = {name: list(vectors) for name, vectors in self._rows(body["vectors"], raw)}
        points = []
        for i, (point_id, stored, text) in enumerate(body["points"]):
            vectors: dict[str, Any] = {name: vector[i] for name, vector in rows.items()}
            vectors[SPARSE] = edge.SparseVector(*document_terms(stored["analyzer"], text))
            points.append(edge.Point(point_id, vectors, stored))
        self._write(edge.UpdateOperation.upsert_points(points), len(points))
        self._added(stored for _, stored, _ in body["points"])
        return {}

    def delete(self, body: Json, _raw: memoryview) -> Json:
        """Remove what the filter matches, and look whether it is gone."""
        where = to_filter(body["filter"])
        self._write(edge.UpdateOperation.delete_points_by_filter(where))
        left = self._shard.count(edge.CountRequest(exact=True, filter=where))
        if left:
            raise RuntimeError(f"{left} points are still there after they were deleted")
        return {}

    def set_fields(self, body: Json, _raw: memoryview) -> Json:
        """Replace the filter fields of what the filter matches."""
        self._write(edge.UpdateOperation.set_payload_by_filter(to_filter(body["filter"]), body["payload"]))
        return {}

    def ensure_fields(self, body: Json, _raw: memoryview) -> Json:
        """Index these payload fields by their types; those that are indexed already stay."""
        indexed = self._shard.info().payload_schema
        for key, kind in body["fields"].items():
            if f"f.{key}" not in indexed:
                params = edge.FloatIndexParams() if kind in ("number", "date") else edge.KeywordIndexParams()
                self._write(edge.UpdateOperation.create_field_index(f"f.{key}", params))
        return {}

    def count(self, body: Json, _raw: memoryview) -> Json:
        """Exactly how many points the filter matches."""
        return {"count": self._shard.count(edge.CountRequest(exact=True, filter=to_filter(body["filter"])))}

    def scroll(self, body: Json, _raw: memoryview) -> Json:
        """One page of points in order of id, and the id at which the next begins (None: this was the last)."""
        where = None if body["filter"] is None else to_filter(body["filter"])
        fields = ["notebook", "source", "generation"]
        request = edge.ScrollRequest(offset=body["offset"], limit=PAGE, filter=where, with_payload=fields)
        records, following = self._shard.scroll(request)
        stored = [(str(r.id), r.payload or {}) for r in records]
        points = [[i, *(p.get(name, "") for name in fields)] for i, p in stored]
        return {"points": points, "next": None if following is None else str(following)}

    def search(self, body: Json, raw: memoryview) -> Json:
        """The legs, each [[id, score], ...] best first. Of several texts or vectors the best score counts."""
        where, limit = to_filter(body["filter"]), body["limit"]
        legs = {"lexical": self._lexical(body, where)}
        known = [(name, size) for name, size in body["vectors"] if self._is_known(name, size)]
        for (name, _size), (vector, rows) in zip(known, self._rows(body["vectors"], raw, lenient=True), strict=True):
            requests = [_nearest(row, vector, where, limit, _rescored(limit)) for row in rows]
            # Edge scores the Euclidean distance itself, where less is better.
            sign = -1.0 if self.spaces[vector]["distance"] == "euclid" else 1.0
            legs[f"dense:{name}"] = self._best(requests, limit, sign)
        return {"legs": legs}

    def held(self, _body: Json, _raw: memoryview) -> Json:
        """The spaces."""
        return {"spaces": list(self.spaces.values())}

    def dump(self, body: Json, _raw: memoryview) -> Json:
        """A page of points, or those of some ids, in the form of `moving.py`."""
        with_vectors = bool(body["vectors"])
        if body["ids"] is not None:
            records, following = self._shard.retrieve(body["ids"], True, with_vectors), None
        else:
            request = edge.ScrollRequest(
                offset=body["offset"], limit=moving.PAGE, with_payload=True, with_vector=with_vectors
            )
            records, following = self._shard.scroll(request)
        points = [moving.packed(r, vectors=with_vectors) for r in records]
        return {"points": points, "next": None if following is None else str(following)}

    def restore(self, body: Json, _raw: memoryview) -> Json:
        """Store such points."""
        points = []
        for point_id, payload, dense, sparse in body["points"]:
            vectors: dict[str, Any] = {**dense}
            if sparse:
                vectors[SPARSE] = edge.SparseVector(*sparse)
            points.append(edge.Point(point_id, vectors, payload))
        self._write(edge.UpdateOperation.upsert_points(points), len(points))
        self._added(payload for _, payload, _, _ in body["points"])
        return {}

    def remove(self, body: Json, _raw: memoryview) -> Json:
        """Remove points by id."""
        self._write(edge.UpdateOperation.delete_points(body["ids"]))
        return {}

    def flush(self, _body: Json, _raw: memoryview) -> Json:
        """What was written survives a power cut, since its log is on the disk.

        That takes four syncs. All files take over a hundred, in which nothing is answered: they follow in a pause, or
        now where a start would have much to replay.
        """
        if sys.platform == "linux" and self._unsettled < UNSETTLED:
            sync_files(self.folder / self.name / "wal")  # Edge writes it through a map, which Linux syncs with the file
        else:
            self.settle()
        return {}

    def settle(self) -> None:
        """Sync every file, where one was written."""
        if self._unsettled:
            self._shard.flush()
            self._unsettled = 0

    def close(self) -> None:
        """Settle, and let go of the files."""
        self.settle()
        self._shard.close()

    def _write(self, operation: edge.UpdateOperation, points: int = 1) -> None:
        self._unsettled += points
        self._shard.update(operation)

    def _lexical(self, body: Json, where: edge.Filter) -> list[tuple[str, float]]:
        if not body["texts"]:
            return []
        analyzers = self._languages.of(body["scopes"])
        params = None
        if not self._are_all(body["owners"]):
            params = edge.SearchParams(idf=edge.IdfParams(corpus=to_filter(body["corpus"])))
        queries = [edge.SparseVector(*query_terms(analyzers, text)) for text in body["texts"]]
        requests = [_nearest(terms, SPARSE, where, body["limit"], params) for terms in queries if terms.indices]
        return self._best(requests, body["limit"], 1.0)

    def _are_all(self, owners: list[str]) -> bool:
        """Whether nobody else has points here: then the corpus is everything, and need not be picked out first.

        That takes longer than the search itself. An owner whose points were all deleted is still counted.
        """
        if self._owners is None:
            found = self._shard.facet(edge.FacetRequest(TENANT, limit=MAX_OWNERS))
            self._owners = {str(hit.value) for hit in found.hits}
        return len(self._owners) < MAX_OWNERS and self._owners <= set(owners)

    def _added(self, stored: Iterable[Json]) -> None:
        for payload in stored:
            self._languages.added(payload["scope"], payload["analyzer"])
            if self._owners is not None:
                self._owners.add(payload["owner"])

    def _count_analyzers(self, scope: str) -> dict[str, int]:
        where = edge.Filter(must=[_any("scope", [scope])])
        found = self._shard.facet(edge.FacetRequest("analyzer", limit=MAX_ANALYZERS, filter=where))
        return {str(hit.value): hit.count for hit in found.hits}

    def _best(self, requests: list[edge.QueryRequest], limit: int, sign: float) -> list[tuple[str, float]]:
        best: dict[str, float] = {}
        for hits in self._shard.query_batch(edge.QueryBatchRequest(requests)):
            for hit in hits:
                point_id, score = str(hit.id), sign * hit.score
                best[point_id] = max(score, best.get(point_id, score))
        return nsmallest(limit, best.items(), key=lambda item: (-item[1], item[0]))

    def _is_known(self, name: str, size: int) -> bool:
        """Whether this space can be searched. One that was never ensured holds nothing; of another size is an error."""
        if vector_name(name, size) in self.spaces:
            return True
        sizes = sorted(s["dimensions"] for s in self.spaces.values() if s["name"] == name)
        if sizes:
            held = " or ".join(map(str, sizes))
            raise Refused(f"The space '{name}' holds vectors of {held} dimensions, and these have {size}.")
        return False

    def _rows(
        self, announced: list[tuple[str, int]], raw: memoryview, *, lenient: bool = False
    ) -> Iterator[tuple[str, Iterator[memoryview[float]]]]:
        """For each announced space its vector's name and the rows: all have equally many in `raw`."""
        if not announced:
            return
        each = len(raw) // 4 // sum(size for _, size in announced)
        values, start = cast("memoryview[float]", raw.cast("f") if raw else raw), 0
        for name, size in announced:
            rows = values[start : start + each * size]
            start += each * size
            if self._is_known(name, size):
                yield vector_name(name, size), (rows[a:b] for a, b in pairwise(range(0, len(rows) + 1, size)))
            elif not lenient:
                raise Refused(f"The space '{name}' was never ensured.")

    def _create_vector(self, vector: str, space: Json) -> None:
        distances = {"cosine": edge.Distance.Cosine, "dot": edge.Distance.Dot, "euclid": edge.Distance.Euclid}
        operation = edge.UpdateOperation.create_dense_vector(vector, space["dimensions"], distances[space["distance"]])
        self._write(operation)

    def _write_layout(self, fresh: Json) -> None:
        """Nothing is written for a shard that does not answer yet: the one that does has written it."""
        if self._answers:
            write_layout(self.folder, fresh)
        self._layout = fresh


def to_filter(rest: Json) -> edge.Filter:
    """A filter in Qdrant's REST JSON, of the forms that `layout` writes."""
    clauses: Any = {clause: [_condition(c) for c in conditions] for clause, conditions in rest.items()}
    return edge.Filter(**clauses)


def _condition(rest: Json) -> edge.Filter | edge.FieldCondition:
    if "key" not in rest:
        return to_filter(rest)
    if "range" in rest:
        return edge.FieldCondition(rest["key"], range=edge.RangeFloat(**rest["range"]))
    return _any(rest["key"], rest["match"]["any"])


def _any(key: str, values: list[str]) -> edge.FieldCondition:
    # For a single value Edge is faster with MatchValue.
    return edge.FieldCondition(key, match=edge.MatchAny(values) if len(values) != 1 else edge.MatchValue(values[0]))


def _nearest(
    vector: memoryview[float] | edge.SparseVector, using: str, where: edge.Filter, limit: int, params: Any = None
) -> edge.QueryRequest:
    # Edge reads any sequence of floats; its stubs only know lists.
    query = edge.Query.Nearest(cast("list[float]", vector), using=using)
    return edge.QueryRequest(limit=limit, query=query, filter=where, params=params)


def _rescored(limit: int) -> edge.SearchParams:
    again = edge.QuantizationSearchParams(rescore=True, oversampling=oversampling(limit))
    return edge.SearchParams(hnsw_ef=256, quantization=again)  # a graph is walked widely


def _load_or_create(path: Path) -> edge.EdgeShard:
    if not path.is_dir():
        # Made beside and renamed, so that a process killed meanwhile leaves no half of a shard.
        fresh = path.with_name("shard.new")
        shutil.rmtree(fresh, ignore_errors=True)
        sparse = {SPARSE: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)}
        edge.EdgeShard.create(str(fresh), edge.EdgeConfig(sparse_vectors=sparse, wal_enabled=True)).close()
        fresh.rename(path)
        sync(path.parent)
    shard = edge.EdgeShard.load(str(path))
    indexed = shard.info().payload_schema
    for key in KEYWORDS:
        if key not in indexed:
            # A graph, where one is built, keeps the points of one scope connected: every search names a scope.
            params = edge.KeywordIndexParams(is_tenant=key == TENANT, enable_hnsw=key == "scope")
            shard.update(edge.UpdateOperation.create_field_index(key, params))
    return shard
