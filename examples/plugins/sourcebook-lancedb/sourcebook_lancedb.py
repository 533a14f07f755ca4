"""An index in LanceDB: one table, a column a vector space, BM25 through Lance's own full-text search.

Every call is bound to a `Scope`, which becomes one SQL condition over notebook, owner and index spec. LanceDB is
embedded: it runs on threads of its own, so that nothing here holds the event loop. Filters that a client asks for are
applied to what the scope leaves, in Python: exact, and plain enough for an example.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pydantic import Field

from sourcebook import ComponentSettings, Context, Hit, Index, Point, PointRef, Scope, SearchQuery, Space, hookimpl
from sourcebook.errors import IndexUnavailable, PluginError
from sourcebook.filters import FieldType, matches

API_VERSION = 1
_TEXTS = ("id", "notebook", "owner", "spec", "source", "generation", "fields", "text")


class LanceSettings(ComponentSettings):
    """`page` rows are read at a time; `overfetch` times the limit where a filter is applied afterwards."""

    page: int = Field(default=1000, ge=1)
    overfetch: int = Field(default=10, ge=1)


class Lance(Index[LanceSettings]):
    """The table is made when the first space is known; new spaces are new columns."""

    name = "lancedb"
    Settings = LanceSettings

    async def open(self, context: Context) -> None:
        import lancedb

        self._db = await lancedb.connect_async(str(context.folder / "lance"))
        self._turn = asyncio.Lock()  # writers one by one: Lance would make them try again
        self._spaces: dict[str, int] = {}
        self._table: Any = None

    async def ensure(self, spaces: Sequence[Space], fields: Mapping[str, FieldType] | None = None) -> None:
        import pyarrow as pa
        from lancedb.index import FTS

        self._spaces |= {space.name: space.dimensions for space in spaces}
        async with self._turn, _told():
            if self._table is None:
                schema = pa.schema([pa.field(name, pa.string()) for name in _TEXTS])
                there = "points" in await self._db.table_names()
                made = self._db.open_table("points") if there else self._db.create_table("points", schema=schema)
                self._table = await made
                if not await self._table.list_indices():
                    await self._table.create_index("text", config=FTS(with_position=False))
            columns = (await self._table.schema()).names
            new = [pa.field(_column(n), pa.list_(pa.float32(), d)) for n, d in self._spaces.items()]
            if missing := [field for field in new if field.name not in columns]:
                await self._table.add_columns(missing)

    async def upsert(self, scope: Scope, points: Sequence[Point], vectors: Any) -> None:
        import pyarrow as pa

        inside = {(n.notebook_id, n.owner_id, n.index_spec_id) for n in scope.notebooks}
        if any((p.notebook_id, p.owner_id, p.index_spec_id) not in inside for p in points):
            raise PluginError("A point lies outside the scope.")
        self._check(vectors)
        rows = []
        for i, p in enumerate(points):
            values = (p.id, p.notebook_id, p.owner_id, p.index_spec_id, p.source_id, p.generation_id)
            row = dict(zip(_TEXTS, (*values, json.dumps(dict(p.fields)), p.text), strict=True))
            rows.append(row | {_column(space): matrix[i].tolist() for space, matrix in (vectors or {}).items()})
        if not rows:
            return
        async with self._turn, _told():
            schema = await self._table.schema()
            batch = pa.Table.from_pylist(rows, schema=schema)
            merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            await merge.execute(batch)

    async def set_fields(self, scope: Scope, source_id: str, fields: Mapping[str, Any]) -> None:
        async with self._turn, _told():
            await self._table.update({"fields": json.dumps(dict(fields))}, where=_where(scope, source_id))

    async def delete(self, scope: Scope, source_id: str, generation_id: str | None = None) -> None:
        async with self._turn, _told():
            await self._table.delete(_where(scope, source_id, generation_id))

    async def count(self, scope: Scope, source_id: str | None = None, generation_id: str | None = None) -> int:
        async with _told():
            return int(await self._table.count_rows(_where(scope, source_id, generation_id)))

    async def scroll(self, scope: Scope | None) -> AsyncIterator[Sequence[PointRef]]:
        where, first = "true" if scope is None else _where(scope), 0
        while True:
            async with _told():
                query = self._table.query().where(where).select(["id", "notebook", "source", "generation"])
                rows = await query.limit(self.settings.page).offset(first).to_list()
            if not rows:
                return
            first += len(rows)
            yield [PointRef(r["id"], r["notebook"], r["source"], r["generation"]) for r in rows]

    async def search(self, query: SearchQuery) -> Mapping[str, Sequence[Hit]]:
        self._check(query.vectors)
        where = _where(query.scope)
        if query.sources is not None:
            where += f" AND {_in('source', query.sources)}"
        limit = query.limit * (self.settings.overfetch if query.filters else 1)
        legs: dict[str, Sequence[Hit]] = {}
        async with _told():
            if query.mode != "dense":
                legs["lexical"] = await self._lexical(query, where, limit)
            for space, rows in (query.vectors or {}).items() if query.mode != "lexical" else ():
                legs[f"dense:{space}"] = await self._dense(query, space, rows, where, limit)
        return legs

    async def _lexical(self, query: SearchQuery, where: str, limit: int) -> list[Hit]:
        from lancedb.query import MatchQuery

        best: dict[str, float] = {}
        for text in query.texts:
            if not (words := " ".join(re.findall(r"\w+", text))):
                continue
            found = self._table.query().nearest_to_text(MatchQuery(words, "text")).where(where)
            _keep(best, query, await found.limit(limit).to_list(), "_score", 1.0)
        return _ranked(best, query.limit)

    async def _dense(self, query: SearchQuery, space: str, rows: Any, where: str, limit: int) -> list[Hit]:
        best: dict[str, float] = {}
        for row in rows:
            found = self._table.query().nearest_to(row).column(_column(space)).distance_type("cosine").where(where)
            _keep(best, query, await found.limit(limit).to_list(), "_distance", -1.0)
        return _ranked(best, query.limit)

    async def flush(self) -> None:
        """Every write is a version on disk already; this keeps their number down, and the words' index up to date."""
        async with self._turn, _told():
            await self._table.optimize()

    def _check(self, vectors: Any) -> None:
        for space, matrix in (vectors or {}).items():
            wanted, got = self._spaces.get(space), matrix.shape[-1]
            if got != wanted:
                raise PluginError(f"The space {space} has {wanted} dimensions, and a vector of {got} was given.")


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # as LanceDB raises them
        raise IndexUnavailable(f"LanceDB failed: {error}") from error


def _column(space: str) -> str:
    return "vector_" + re.sub(r"\W", "_", space)


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _in(column: str, values: Sequence[str]) -> str:
    return f"{column} IN ({', '.join(map(_quoted, values))})" if values else "false"


def _where(scope: Scope, source: str | None = None, generation: str | None = None) -> str:
    """The condition that keeps a call inside the scope."""
    triples = [
        f"(notebook = {_quoted(n.notebook_id)} AND owner = {_quoted(n.owner_id)} AND spec = {_quoted(n.index_spec_id)})"
        for n in scope.notebooks
    ]
    parts = [f"({' OR '.join(triples) or 'false'})"]
    parts += [f"{c} = {_quoted(v)}" for c, v in (("source", source), ("generation", generation)) if v is not None]
    return " AND ".join(parts)


def _keep(best: dict[str, float], query: SearchQuery, rows: list[Any], column: str, sign: float) -> None:
    for row in rows:
        score = row[column]
        if score is None:  # a row without this vector
            continue
        if query.filters is not None:
            known = {n: tuple(v) if isinstance(v, list) else v for n, v in json.loads(row["fields"]).items()}
            if not matches(query.filters, row["source"], known):
                continue
        best[row["id"]] = max(sign * score, best.get(row["id"], float("-inf")))


def _ranked(best: Mapping[str, float], limit: int) -> list[Hit]:
    return [Hit(i, s) for i, s in sorted(best.items(), key=lambda item: (-item[1], item[0]))[:limit]]


@hookimpl
def register_retrievers() -> list[type[Lance]]:
    return [Lance]
