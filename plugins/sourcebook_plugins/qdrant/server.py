"""A Qdrant server or cluster, behind the same requests that the index process answers.

`index.py` writes every request once, with filters and payloads in Qdrant's REST JSON (`layout.py`). `Shard` answers it
with Qdrant Edge, `Server` by asking a server through `qdrant-client`; they differ in nothing that a caller sees.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

from sourcebook.errors import PluginError, StoreError
from sourcebook_plugins.qdrant import moving
from sourcebook_plugins.qdrant.failures import translated
from sourcebook_plugins.qdrant.layout import KEYWORDS, SPARSE, TENANT, oversampling, vector_name
from sourcebook_plugins.qdrant.terms import document_terms, most_frequent, query_terms

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient

    from sourcebook_plugins.qdrant.settings import QdrantSettings

Json = dict[str, Any]

PAGE = 1000
MAX_ANALYZERS = 64
LANGUAGES_SECONDS = 60.0
"""How long a count of a notebook's languages holds: others write too, and asking costs a round trip."""


def connect(settings: QdrantSettings) -> AsyncQdrantClient:
    """A client for the server that `url` names; nothing is asked yet. Raises `PluginError` without the extra."""
    try:
        from qdrant_client import AsyncQdrantClient
    except ImportError as error:
        raise PluginError(
            "The index 'qdrant' has a `url`, and the package qdrant-client is not installed.",
            remedy="pip install 'sourcebook[qdrant-server]'",
            code="extra_missing",
        ) from error
    # Not told to ask the server for its version: that would be a blocking request of its own.
    return AsyncQdrantClient(
        url=settings.url,
        api_key=settings.api_key.get_secret_value() if settings.api_key else None,
        prefer_grpc=settings.grpc,
        grpc_port=settings.grpc_port,
        timeout=max(1, round(settings.timeout_seconds)),
        check_compatibility=False,
    )


class Server:
    """Answers requests from one collection of all owners."""

    def __init__(self, client: AsyncQdrantClient, settings: QdrantSettings, log: logging.Logger) -> None:
        self._client = client
        self._settings = settings
        self._name = settings.collection
        self._log = log
        self._spaces: dict[str, str] | None = None  # vector -> distance, as the collection has them
        self._languages: dict[str, tuple[float, Counter[str]]] = {}  # by scope: when they were counted
        self._operations: Mapping[str, Callable[[Json, bytes], Awaitable[Json]]] = {
            "ensure": self._ensure,
            "ensure_fields": self._ensure_fields,
            "set_fields": self._set_fields,
            "upsert": self._upsert,
            "delete": self._delete,
            "count": self._count,
            "scroll": self._scroll,
            "search": self._search,
            "flush": self._flush,
            "held": self._held,
            "dump": self._dump,
            "restore": self._restore,
            "remove": self._remove,
        }

    pid = 0
    """There is no process of ours."""

    async def call(self, op: str, body: Mapping[str, Any] | None = None, raw: bytes = b"") -> Json:
        """The result of one request. Raises `IndexUnavailable`, `PluginError` and `StoreError`, as the client does."""
        try:
            if self._spaces is None:
                await self._open_collection(body["spaces"] if body and op == "ensure" else ())
            return await self._operations[op](dict(body or {}), raw)
        except (PluginError, StoreError):
            raise
        except Exception as error:
            raise translated(error, self._settings.url) from error

    async def ping(self) -> None:
        """Ask whether there is a collection of ours. Raises as `call` does."""
        try:
            await self._client.collection_exists(self._name)
        except Exception as error:
            raise translated(error, self._settings.url) from error

    async def close(self) -> None:
        """Hang up."""
        await self._client.close()

    # The collection.

    async def _open_collection(self, spaces: Any) -> None:
        if not await self._client.collection_exists(self._name):
            await self._create(spaces)
        await self._look()
        indexed = (await self._client.get_collection(self._name)).payload_schema or {}
        for key in KEYWORDS:
            if key not in indexed:
                await self._index(key, keyword=True)

    async def _create(self, spaces: Any) -> None:
        from qdrant_client import models
        from qdrant_client.http.exceptions import UnexpectedResponse

        s = self._settings
        sparse = {SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)}
        try:
            await self._client.create_collection(
                self._name,
                {vector_name(x["name"], x["dimensions"]): self._params(x) for x in spaces},
                sparse_vectors_config=sparse,
                shard_number=s.shards,
                replication_factor=s.replicas,
                write_consistency_factor=s.write_consistency,
                quantization_config=self._quantization(),
                on_disk_payload=True,
            )
            self._log.info("made the collection %s", self._name)
        except (UnexpectedResponse, ValueError):
            if not await self._client.collection_exists(self._name):
                raise  # else another process was faster

    async def _look(self) -> None:
        params = (await self._client.get_collection(self._name)).config.params
        vectors = params.vectors if isinstance(params.vectors, dict) else {}
        if SPARSE not in (params.sparse_vectors or {}):
            raise PluginError(
                f"The collection {self._name!r} on the Qdrant server was not made by Sourcebook: it has no vector "
                f"{SPARSE!r}.",
                remedy="Give the index another `collection`.",
            )
        self._spaces = {name: str(getattr(v.distance, "value", v.distance)).lower() for name, v in vectors.items()}

    async def _ensure(self, body: Json, _raw: bytes) -> Json:
        """Add the spaces that are new. Asks the server also where there are none: this is how readiness is seen."""
        await self._look()
        assert self._spaces is not None
        for space in body["spaces"]:
            vector = vector_name(space["name"], space["dimensions"])
            known = self._spaces.get(vector)
            if known is None:
                await self._add_vector(vector, space)
            elif known != space["distance"]:
                raise PluginError(
                    f"The space '{space['name']}' with {space['dimensions']} dimensions is stored with the distance "
                    f"{known}, and cannot have {space['distance']} too: give it another name."
                )
        return {}

    async def _add_vector(self, vector: str, space: Json) -> None:
        from qdrant_client import models

        params = self._params(space)
        config = models.DenseVectorConfig(size=params.size, distance=params.distance)
        try:
            await self._client.create_vector_name(self._name, vector, models.DenseVectorNameConfig(dense=config))
        except Exception:
            await self._look()  # another process may have been faster
            if vector not in (self._spaces or {}):
                raise
        await self._look()

    def _params(self, space: Json) -> Any:
        from qdrant_client import models

        distances = {"cosine": models.Distance.COSINE, "dot": models.Distance.DOT, "euclid": models.Distance.EUCLID}
        on_disk = self._settings.on_disk or None
        return models.VectorParams(size=space["dimensions"], distance=distances[space["distance"]], on_disk=on_disk)

    def _quantization(self) -> Any:
        from qdrant_client import models

        if self._settings.quantization == "none":
            return None
        if self._settings.quantization == "turbo4":
            bits, pinned = models.TurboQuantBitSize.BITS4, models.Memory.PINNED
            return models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig(bits=bits, memory=pinned))
        scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
        return models.ScalarQuantization(scalar=scalar)

    async def _ensure_fields(self, body: Json, _raw: bytes) -> Json:
        indexed = (await self._client.get_collection(self._name)).payload_schema or {}
        for key, kind in body["fields"].items():
            if f"f.{key}" not in indexed:
                await self._index(f"f.{key}", keyword=kind not in ("number", "date"))
        return {}

    async def _index(self, field: str, *, keyword: bool) -> None:
        from qdrant_client import models

        schema: Any = models.PayloadSchemaType.FLOAT
        if keyword:
            tenant = True if field == TENANT else None
            schema = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=tenant)
        await self._client.create_payload_index(self._name, field, schema, wait=True)

    # Points.

    async def _upsert(self, body: Json, raw: bytes) -> Json:
        from qdrant_client import models

        rows = await self._rows(body["vectors"], raw)
        points = []
        for i, (point_id, stored, text) in enumerate(body["points"]):
            vectors: Json = {name: vectors[i].tolist() for name, vectors in rows.items()}
            indices, values = document_terms(stored["analyzer"], text)
            vectors[SPARSE] = models.SparseVector(indices=indices, values=values)
            points.append(models.PointStruct(id=point_id, vector=vectors, payload=stored))
        await self._client.upsert(self._name, points, wait=True)
        for _, stored, _ in body["points"]:
            if stored["scope"] in self._languages:
                self._languages[stored["scope"]][1][stored["analyzer"]] += 1
        return {}

    async def _delete(self, body: Json, _raw: bytes) -> Json:
        from qdrant_client import models

        where = models.Filter.model_validate(body["filter"])
        await self._client.delete(self._name, models.FilterSelector(filter=where), wait=True)
        if left := (await self._client.count(self._name, where, exact=True)).count:
            raise StoreError(f"{left} points are still there after they were deleted.")
        return {}

    async def _set_fields(self, body: Json, _raw: bytes) -> Json:
        from qdrant_client import models

        where = models.Filter.model_validate(body["filter"])
        await self._client.set_payload(self._name, body["payload"], models.FilterSelector(filter=where), wait=True)
        return {}

    async def _count(self, body: Json, _raw: bytes) -> Json:
        from qdrant_client import models

        where = models.Filter.model_validate(body["filter"])
        return {"count": (await self._client.count(self._name, where, exact=True)).count}

    async def _scroll(self, body: Json, _raw: bytes) -> Json:
        from qdrant_client import models

        where = None if body["filter"] is None else models.Filter.model_validate(body["filter"])
        fields = ["notebook", "source", "generation"]
        records, following = await self._client.scroll(
            self._name, where, limit=PAGE, offset=body["offset"], with_payload=fields
        )
        points = [[str(r.id), *((r.payload or {}).get(name, "") for name in fields)] for r in records]
        return {"points": points, "next": None if following is None else str(following)}

    async def _flush(self, _body: Json, _raw: bytes) -> Json:
        """The server's own write-ahead log has what it acknowledged."""
        return {}

    # Moving.

    async def _held(self, _body: Json, _raw: bytes) -> Json:
        await self._look()
        return {"spaces": [moving.space_of(vector, distance) for vector, distance in self._spaces_now().items()]}

    async def _dump(self, body: Json, _raw: bytes) -> Json:
        following: Any = None
        if body["ids"] is not None:
            records = await self._client.retrieve(self._name, body["ids"], True, body["vectors"])
        else:
            records, following = await self._client.scroll(
                self._name, limit=moving.PAGE, offset=body["offset"], with_payload=True, with_vectors=body["vectors"]
            )
        points = [moving.packed(r, vectors=body["vectors"]) for r in records]
        return {"points": points, "next": None if following is None else str(following)}

    async def _restore(self, body: Json, _raw: bytes) -> Json:
        from qdrant_client import models

        points = []
        for point_id, payload, dense, sparse in body["points"]:
            vectors: Json = {**dense}
            if sparse:
                vectors[SPARSE] = models.SparseVector(indices=sparse[0], values=sparse[1])
            points.append(models.PointStruct(id=point_id, vector=vectors, payload=payload))
        await self._client.upsert(self._name, points, wait=True)
        return {}

    async def _remove(self, body: Json, _raw: bytes) -> Json:
        from qdrant_client import models

        await self._client.delete(self._name, models.PointIdsList(points=body["ids"]), wait=True)
        return {}

    # Search.

    async def _search(self, body: Json, raw: bytes) -> Json:
        """All legs in one request. The owner is named beside the scope: the server keeps a tenant's points together."""
        from qdrant_client import models

        where = {"must": [body["corpus"], body["filter"]]}
        queries: list[tuple[str, float, Any]] = []
        analyzers = await self._analyzers_of(body["scopes"]) if body["texts"] else []
        for text in body["texts"]:
            indices, values = query_terms(analyzers, text)
            if indices:
                vector = models.SparseVector(indices=indices, values=values)
                params = {"idf": {"corpus": body["corpus"]}}
                queries.append(("lexical", 1.0, self._request(vector, SPARSE, where, body["limit"], params)))
        found = await self._rows(body["vectors"], raw, lenient=True)
        for name, size in body["vectors"]:
            # Euclidean distance is scored itself, where less is better.
            vector_ = vector_name(name, size)
            sign = -1.0 if self._spaces_now().get(vector_) == "euclid" else 1.0
            requests = [self._request(row.tolist(), vector_, where, body["limit"]) for row in found.get(vector_, ())]
            queries += [(f"dense:{name}", sign, request) for request in requests]
        answers = await self._client.query_batch_points(self._name, [q for _, _, q in queries]) if queries else []
        best: dict[str, dict[str, float]] = {"lexical": {}}
        best |= {f"dense:{name}": {} for name, size in body["vectors"] if vector_name(name, size) in found}
        for (leg, sign, _), answer in zip(queries, answers, strict=True):
            for hit in answer.points:
                scores, score = best[leg], sign * hit.score
                scores[str(hit.id)] = max(score, scores.get(str(hit.id), score))
        order = {leg: nsmallest(body["limit"], hits.items(), key=lambda h: (-h[1], h[0])) for leg, hits in best.items()}
        return {"legs": order}

    def _request(self, vector: Any, using: str, where: Json, limit: int, params: Json | None = None) -> Any:
        from qdrant_client import models

        params = params or {"hnsw_ef": 256, "quantization": {"rescore": True, "oversampling": oversampling(limit)}}
        # Built whole: its filter is checked by the model.
        return models.QueryRequest.model_validate(
            {"query": vector, "using": using, "filter": where, "limit": limit, "params": params, "with_payload": False}
        )

    async def _analyzers_of(self, scopes: list[str]) -> list[str]:
        """Those of most points of these notebooks, as the server counted them and our own writes since."""
        total: Counter[str] = Counter()
        for scope in scopes:
            counted, known = self._languages.get(scope, (0.0, Counter()))
            if not counted or time.monotonic() - counted > LANGUAGES_SECONDS:
                known = await self._counted(scope)
                self._languages[scope] = (time.monotonic(), known)
            total += known
        return most_frequent(total)

    async def _counted(self, scope: str) -> Counter[str]:
        from qdrant_client import models

        where = models.Filter.model_validate({"must": [{"key": "scope", "match": {"any": [scope]}}]})
        found = await self._client.facet(self._name, "analyzer", facet_filter=where, limit=MAX_ANALYZERS)
        return Counter({str(hit.value): hit.count for hit in found.hits})

    def _spaces_now(self) -> dict[str, str]:
        return self._spaces or {}

    async def _rows(self, announced: list[Any], raw: bytes, *, lenient: bool = False) -> dict[str, Any]:
        """float32[n, dimensions] by vector's name, of the spaces that there are. Raises `PluginError` for others."""
        if not announced:
            return {}
        import numpy as np

        values, start = np.frombuffer(raw, dtype=np.float32), 0
        each = len(values) // sum(size for _, size in announced)
        found = {}
        for name, size in announced:
            rows = values[start : start + each * size].reshape(each, size)
            start += each * size
            if await self._is_known(name, size):
                found[vector_name(name, size)] = rows
            elif not lenient:
                raise PluginError(f"The space '{name}' was never ensured.")
        return found

    async def _is_known(self, name: str, size: int) -> bool:
        if vector_name(name, size) in self._spaces_now():
            return True
        await self._look()
        if vector_name(name, size) in self._spaces_now():
            return True
        alike = vector_name(name, 0)[:-1]
        sizes = sorted(int(v.removeprefix(alike)) for v in self._spaces_now() if v.startswith(alike))
        if sizes:
            held = " or ".join(map(str, sizes))
            raise PluginError(f"The space '{name}' holds vectors of {held} dimensions, and these have {size}.")
        return False
