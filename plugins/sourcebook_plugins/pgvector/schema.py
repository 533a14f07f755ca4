"""The tables of the index: one of points, one of the spaces that have a column in it, one of text configurations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.types import UserDefinedType

from sourcebook_plugins.pgvector.words import configuration, cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sourcebook.filters import FieldValue
    from sourcebook.interfaces import Point, Space

OPERATORS = {"cosine": "<=>", "dot": "<#>", "euclid": "<->"}
CLASSES = {"cosine": "vector_cosine_ops", "dot": "vector_ip_ops", "euclid": "vector_l2_ops"}
GRAPH_DIMENSIONS = 2000
"""The most that pgvector builds a graph for."""


class Vector(UserDefinedType[Any]):
    """pgvector's type, written as text: `[1,2,3]`."""

    cache_ok = True

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions

    def get_col_spec(self, **_: Any) -> str:
        """The type's name in SQL."""
        return f"vector({self.dimensions})"

    def bind_expression(self, bindvalue: sa.BindParameter[Any]) -> Any:
        """PostgreSQL must be told what the text is."""
        return sa.cast(bindvalue, self)

    def bind_processor(self, dialect: Any) -> Any:
        """Text as it comes."""
        return None


class TsVector(UserDefinedType[Any]):
    """Full text."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """The type's name in SQL."""
        return "tsvector"


@dataclass(frozen=True)
class Held:
    """A space that has a column."""

    name: str
    dimensions: int
    distance: str
    column: str


class Tables:
    """The tables called after `prefix`."""

    def __init__(self, prefix: str) -> None:
        # Costs 25 ms and 2 MB, also where nobody uses PostgreSQL.
        from sqlalchemy.dialects.postgresql import JSONB, UUID

        self.metadata = sa.MetaData()
        ids = [sa.Column(name, sa.Text, nullable=False) for name in ("scope", "owner", "notebook", "source")]
        self.points = sa.Table(
            prefix,
            self.metadata,
            sa.Column("id", UUID(as_uuid=False), primary_key=True),
            *ids,
            sa.Column("generation", sa.Text, nullable=False),
            sa.Column("configuration", sa.Text, nullable=False),
            sa.Column("terms", TsVector, nullable=False),
            sa.Column("fields", JSONB, nullable=False),
            sa.Index(f"{prefix}_scope", "scope", "source", "generation"),
            sa.Index(f"{prefix}_terms", "terms", postgresql_using="gin"),
        )
        self.spaces = sa.Table(
            f"{prefix}_spaces",
            self.metadata,
            sa.Column("name", sa.Text, primary_key=True),
            sa.Column("dimensions", sa.Integer, primary_key=True),
            sa.Column("distance", sa.Text, nullable=False),
            sa.Column("column", sa.Text, nullable=False, unique=True),
        )
        self.configurations = sa.Table(
            f"{prefix}_configurations", self.metadata, sa.Column("name", sa.Text, primary_key=True)
        )

    @staticmethod
    def adding(table: sa.Table, **values: Any) -> sa.Insert:
        """An INSERT that leaves rows alone which are there already."""
        from sqlalchemy.dialects.postgresql import insert

        return insert(table).values(**values).on_conflict_do_nothing()

    def vector(self, held: Held) -> sa.ColumnClause[Any]:
        """The column of a space."""
        return sa.column(held.column, Vector(held.dimensions), _selectable=self.points)


def column_of(space: Space) -> str:
    """A name that is safe in SQL, whatever the space is called."""
    return f"v_{hashlib.sha256(space.name.encode()).hexdigest()[:16]}_{space.dimensions}"


def scope_key(owner: str, notebook: str, spec: str) -> str:
    """The three ids as one text; as JSON, so that no two triples look alike."""
    return json.dumps([owner, notebook, spec], ensure_ascii=False, separators=(",", ":"))


def stored_fields(fields: Mapping[str, FieldValue]) -> dict[str, list[Any]]:
    """Every value as a list, so that one form of condition finds both."""
    return {key: list(value) if isinstance(value, tuple) else [value] for key, value in fields.items()}


def row_of(point: Point, default: str) -> dict[str, Any]:
    """A point as the statement `insert` takes it, without vectors."""
    return {
        "id": point.id,
        "scope": scope_key(point.owner_id, point.notebook_id, point.index_spec_id),
        "owner": point.owner_id,
        "notebook": point.notebook_id,
        "source": point.source_id,
        "generation": point.generation_id,
        "configuration": configuration(point.language, default),
        "text": cut(point.text),
        "fields": stored_fields(point.fields),
    }


def literal(row: NDArray[Any]) -> str:
    """A vector as pgvector reads it."""
    return "[" + ",".join(map(repr, row.tolist())) + "]"
