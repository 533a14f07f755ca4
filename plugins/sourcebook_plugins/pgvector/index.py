"""The component `pgvector`: an `Index` in PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from heapq import nsmallest
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa
from pydantic import Field, SecretStr
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sourcebook.errors import IndexUnavailable, PluginError, StoreError
from sourcebook.interfaces import (
    ComponentSettings,
    Context,
    Hit,
    Index,
    Point,
    PointRef,
    Scope,
    SearchQuery,
    Space,
)
from sourcebook_plugins.pgvector import queries
from sourcebook_plugins.pgvector.schema import (
    CLASSES,
    GRAPH_DIMENSIONS,
    Held,
    Tables,
    column_of,
    literal,
    row_of,
    stored_fields,
)
from sourcebook_plugins.pgvector.words import question
from sourcebook_plugins.points import check_points, check_vectors

if TYPE_CHECKING:
    from sourcebook.filters import FieldType, FieldValue
    from sourcebook.interfaces import Vectors

BATCH = 256
PAGE = 1000

Language = Literal[
    "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "simple", "spanish", "swedish", "turkish",
]  # fmt: skip


class PgVectorSettings(ComponentSettings):
    """The section of an instance with `use = "pgvector"`."""

    url: SecretStr = Field(description="Of the database: postgresql://user:password@host/name. It needs pgvector 0.5.")
    table: str = Field("sourcebook_passages", pattern=r"^[a-z_][a-z0-9_]{0,40}$", description="The table of points.")
    language: Language = Field("english", description="Text configuration for texts whose language is not known.")
    graph: bool = Field(False, description="Keep an HNSW graph for each space; else vectors are scanned, exactly.")
    pool: int = Field(5, ge=1, le=100, description="Connections that are kept open.")
    timeout_seconds: float = Field(30, gt=0, description="The longest that one call may take.")


class PgVector(Index[PgVectorSettings]):
    """Legs `lexical` (PostgreSQL's full text) and `dense:<space>` (pgvector), over one table of all owners.

    Every space is a column of its own. What is acknowledged is committed, so it survives whatever the database does.
    """

    name = "pgvector"
    Settings = PgVectorSettings

    _engine: AsyncEngine | None = None

    async def open(self, context: Context) -> None:
        """Connects at the first call."""
        self._log = context.log
        self._tables = Tables(self.settings.table)
        self._held: dict[tuple[str, int], Held] = {}
        self._ready = asyncio.Lock()
        self._is_ready = False
        try:
            url = sa.make_url(self.settings.url.get_secret_value()).set(drivername="postgresql+psycopg")
            self._engine = create_async_engine(url, pool_size=self.settings.pool, pool_pre_ping=True)
        except ImportError as error:
            raise PluginError(
                "The index 'pgvector' needs the package psycopg, which is not installed.",
                remedy="pip install 'sourcebook[postgres]'",
                code="extra_missing",
            ) from error
        except SQLAlchemyError as error:
            raise PluginError("`url` of the index 'pgvector' is no address of a database.") from error

    async def close(self) -> None:
        if self._engine:
            await self._engine.dispose()

    async def ping(self) -> None:
        """Whether the database answers us, and has pgvector to offer. Makes no table."""
        offered = sa.text("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'")
        if self._engine is None:
            raise IndexUnavailable(f"The index '{self.instance}' is not open.")
        try:
            async with self._engine.connect() as c:
                there = (await c.execute(offered)).scalar_one()
        except (OSError, SQLAlchemyError) as error:
            raise _translated(error) from error
        if not there:
            raise PluginError(
                "The database has no extension pgvector.", remedy="Install pgvector 0.5 or later on its server."
            )

    async def ensure(self, spaces: Sequence[Space], fields: Mapping[str, FieldType] | None = None) -> None:
        """Fields are one JSON column, and need nothing."""
        for space in spaces:
            if space.kind != "dense":
                raise PluginError(
                    f"The space '{space.name}' has one vector a token, and the index 'pgvector' stores one a passage.",
                    code="not_supported",
                )
        async with self._connected() as c:
            await self._look(c)
            for space in spaces:
                await self._add_space(c, space)
        if self.settings.graph:
            await self._add_graphs()

    async def upsert(self, scope: Scope, points: Sequence[Point], vectors: Vectors | None) -> None:
        announced, rows = check_vectors(vectors, len(points))
        check_points(points, set(scope.notebooks))
        for start in range(0, len(points), BATCH):
            batch = points[start : start + BATCH]
            values = [row_of(p, self.settings.language) for p in batch]
            async with self._connected() as c:
                columns = [await self._space(c, name, size) for name, size in announced]
                for held, array in zip(columns, rows, strict=True):
                    for i, value in enumerate(values):
                        value[held.column] = literal(array[start + i])
                # Replaced whole: a space that is not given this time keeps no vector of an earlier text.
                p = self._tables.points
                await c.execute(p.delete().where(p.c.id.in_([v["id"] for v in values])))
                known = [{"name": name} for name in sorted({v["configuration"] for v in values})]
                await c.execute(self._tables.adding(self._tables.configurations), known)
                await c.execute(self._insert(columns), values)

    async def set_fields(self, scope: Scope, source_id: str, fields: Mapping[str, FieldValue]) -> None:
        p = self._tables.points
        async with self._connected() as c:
            where = queries.within(self._tables, scope, [source_id])
            await c.execute(p.update().where(*where).values(fields=stored_fields(fields)))

    async def delete(self, scope: Scope, source_id: str, generation_id: str | None = None) -> None:
        p = self._tables.points
        async with self._connected() as c:
            await c.execute(p.delete().where(*self._of(scope, source_id, generation_id)))

    async def count(self, scope: Scope, source_id: str | None = None, generation_id: str | None = None) -> int:
        query = sa.select(sa.func.count()).select_from(self._tables.points)
        async with self._connected() as c:
            return int((await c.execute(query.where(*self._of(scope, source_id, generation_id)))).scalar_one())

    async def scroll(self, scope: Scope | None) -> AsyncIterator[Sequence[PointRef]]:
        p = self._tables.points.c
        query = sa.select(p.id, p.notebook, p.source, p.generation).order_by(p.id).limit(PAGE)
        if scope is not None:
            query = query.where(*queries.within(self._tables, scope))
        after: str | None = None
        while True:
            async with self._connected() as c:
                page = (await c.execute(query if after is None else query.where(p.id > after))).all()
            if page:
                yield [PointRef(*row) for row in page]
            if len(page) < PAGE:
                return
            after = page[-1][0]

    async def search(self, query: SearchQuery) -> Mapping[str, Sequence[Hit]]:
        announced, rows = check_vectors(query.vectors if query.mode != "lexical" else None, None)
        legs: dict[str, list[Any]] = {"lexical": [], **{f"dense:{name}": [] for name, _ in announced}}
        if not query.scope.notebooks or query.sources == () or query.limit < 1:
            return legs
        where = queries.within(self._tables, query.scope, query.sources)
        if query.filters is not None:
            where.append(queries.matching(self._tables, query.filters))
        async with self._connected() as c:
            await self._look(c)
            if query.mode != "dense":
                legs["lexical"] = await self._lexical(c, query, where)
            for (name, size), array in zip(announced, rows, strict=True):
                if self._is_known(name, size):
                    held = self._held[name, size]
                    asked = [queries.nearest(self._tables, held, literal(row), where, query.limit) for row in array]
                    legs[f"dense:{name}"] = await self._best(c, asked, query.limit)
        return {leg: [Hit(i, score) for i, score in hits] for leg, hits in legs.items()}

    async def vectors(self, scope: Scope, ids: Sequence[str]) -> Mapping[str, Mapping[str, Sequence[float]]]:
        found: dict[str, dict[str, Sequence[float]]] = {}
        where = [*queries.within(self._tables, scope), self._tables.points.c.id.in_(ids)]
        async with self._connected() as c:
            await self._look(c)
            for held in self._held.values():
                column = sa.cast(self._tables.vector(held), sa.Text)
                rows = await c.execute(sa.select(self._tables.points.c.id, column).where(column.is_not(None), *where))
                found.setdefault(held.name, {}).update({i: json.loads(row) for i, row in rows})
        return {space: rows for space, rows in found.items() if rows}

    async def _lexical(
        self, c: AsyncConnection, query: SearchQuery, where: list[sa.ColumnElement[bool]]
    ) -> list[tuple[str, float]]:
        known = (await c.execute(sa.select(self._tables.configurations.c.name))).scalars().all()
        asked = [question(text) for text in query.texts]
        statements = [
            queries.lexical(self._tables, [(config, text) for config in known], where, query.limit)
            for text in asked
            if text and known
        ]
        return await self._best(c, statements, query.limit)

    async def _best(
        self, c: AsyncConnection, statements: Sequence[sa.Select[Any]], limit: int
    ) -> list[tuple[str, float]]:
        """Of several questions the best score counts."""
        best: dict[str, float] = {}
        for statement in statements:
            for point_id, score in (await c.execute(statement)).all():
                best[point_id] = max(float(score), best.get(point_id, float(score)))
        return nsmallest(limit, best.items(), key=lambda hit: (-hit[1], hit[0]))

    def _insert(self, columns: Sequence[Held]) -> sa.TextClause:
        names = ["id", "scope", "owner", "notebook", "source", "generation", "configuration", "fields"]
        spaces = "".join(f', "{held.column}"' for held in columns)
        values = "".join(f", CAST(:{held.column} AS vector)" for held in columns)
        # The names are ours: column_of makes them, and the settings allow no other character in the table's.
        statement = sa.text(
            f'INSERT INTO "{self.settings.table}" ({", ".join(names)}, terms{spaces}) '  # noqa: S608
            f"VALUES ({', '.join(f':{n}' for n in names)}, "
            f"to_tsvector(CAST(CAST(:configuration AS text) AS regconfig), :text){values})"
        )
        return statement.bindparams(sa.bindparam("fields", type_=self._tables.points.c.fields.type))

    def _of(self, scope: Scope, source_id: str | None, generation_id: str | None) -> list[sa.ColumnElement[bool]]:
        where = queries.within(self._tables, scope, None if source_id is None else [source_id])
        return where if generation_id is None else [*where, self._tables.points.c.generation == generation_id]

    # The tables.

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """A transaction on tables that are there, within the deadline. What fails is a `StoreError`, without values."""
        if self._engine is None:
            raise IndexUnavailable(f"The index '{self.instance}' is not open.")
        try:
            async with asyncio.timeout(self.settings.timeout_seconds):
                if not self._is_ready:
                    await self._prepare(self._engine)
                async with self._engine.begin() as c:
                    yield c
        except TimeoutError as error:
            raise IndexUnavailable(f"PostgreSQL did not answer within {self.settings.timeout_seconds:g} s.") from error
        except (OSError, SQLAlchemyError) as error:
            raise _translated(error) from error

    async def _prepare(self, engine: AsyncEngine) -> None:
        async with self._ready:
            if self._is_ready:
                return
            async with engine.begin() as c:
                # Two processes that start at once must not both make them.
                await c.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:t))"), {"t": self.settings.table})
                if (await c.execute(sa.text("SELECT to_regtype('vector')"))).scalar() is None:
                    await c.execute(sa.text("CREATE EXTENSION IF NOT EXISTS vector"))
                await c.run_sync(self._tables.metadata.create_all)
                await self._look(c)
            self._is_ready = True

    async def _look(self, c: AsyncConnection) -> None:
        s = self._tables.spaces.c
        for row in (await c.execute(sa.select(s.name, s.dimensions, s.distance, s.column))).all():
            self._held[row[0], row[1]] = Held(*row)

    async def _add_space(self, c: AsyncConnection, space: Space) -> None:
        known = self._held.get((space.name, space.dimensions))
        if known is not None:
            if known.distance != space.distance:
                raise PluginError(
                    f"The space '{space.name}' with {space.dimensions} dimensions is stored with the distance "
                    f"{known.distance}, and cannot have {space.distance} too: give it another name."
                )
            return
        held = Held(space.name, space.dimensions, space.distance, column_of(space))
        column = f'"{held.column}" vector({held.dimensions})'
        await c.execute(sa.text(f'ALTER TABLE "{self.settings.table}" ADD COLUMN IF NOT EXISTS {column}'))
        await c.execute(self._tables.adding(self._tables.spaces, **vars(held)))
        self._held[space.name, space.dimensions] = held

    async def _add_graphs(self) -> None:
        """Beside what goes on: `CONCURRENTLY` blocks no writer, and must not be in a transaction."""
        assert self._engine is not None
        for held in self._held.values():
            if held.dimensions > GRAPH_DIMENSIONS:
                self._log.warning(
                    "no graph for %s: pgvector builds none over %d dimensions", held.name, GRAPH_DIMENSIONS
                )
                continue
            async with self._engine.connect() as c:
                outside = await c.execution_options(isolation_level="AUTOCOMMIT")
                await outside.execute(
                    sa.text(
                        f'CREATE INDEX CONCURRENTLY IF NOT EXISTS "{self.settings.table}_{held.column}" '
                        f'ON "{self.settings.table}" USING hnsw ("{held.column}" {CLASSES[held.distance]})'
                    )
                )

    async def _space(self, c: AsyncConnection, name: str, size: int) -> Held:
        if not self._is_known(name, size):
            await self._look(c)
        if not self._is_known(name, size):
            raise PluginError(f"The space '{name}' was never ensured.")
        return self._held[name, size]

    def _is_known(self, name: str, size: int) -> bool:
        if (name, size) in self._held:
            return True
        sizes = sorted(dimensions for known, dimensions in self._held if known == name)
        if sizes:
            held = " or ".join(map(str, sizes))
            raise PluginError(f"The space '{name}' holds vectors of {held} dimensions, and these have {size}.")
        return False


def _translated(error: Exception) -> StoreError:
    """Without SQL or values: those may hold a user's text."""
    reason = " ".join(str(getattr(error, "orig", None) or type(error).__name__).split())[:200]
    if isinstance(error, OSError) or (isinstance(error, DBAPIError) and error.connection_invalidated):
        return IndexUnavailable(f"PostgreSQL cannot be reached: {reason}")
    if type(error).__name__ == "OperationalError":
        return IndexUnavailable(f"PostgreSQL cannot be used: {reason}")
    return StoreError(f"PostgreSQL did not take this: {reason}")
