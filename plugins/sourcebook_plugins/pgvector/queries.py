"""The SQL of a search. Scope and filter are conditions on the table of points; nothing is asked without a scope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from sourcebook.filters import And, AnyOf, Between, Filter, Not, Or
from sourcebook_plugins.pgvector.schema import OPERATORS, Held, Tables, scope_key

if TYPE_CHECKING:
    from sourcebook.interfaces import Scope

_SIGNS = {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<"}


def within(tables: Tables, scope: Scope, sources: Sequence[str] | None = None) -> list[sa.ColumnElement[bool]]:
    """What belongs to the scope, narrowed to sources. An empty scope matches nothing."""
    p = tables.points.c
    keys = [scope_key(n.owner_id, n.notebook_id, n.index_spec_id) for n in scope.notebooks]
    conditions: list[sa.ColumnElement[bool]] = [p.scope.in_(keys)]
    if sources is not None:
        conditions.append(p.source.in_(sources))
    return conditions


def matching(tables: Tables, where: Filter) -> sa.ColumnElement[bool]:
    """A filter as a condition that is never NULL, so that `Not` means what it says."""
    p = tables.points.c
    match where:
        case And(parts):
            return sa.and_(*(matching(tables, part) for part in parts))
        case Or(parts):
            return sa.or_(*(matching(tables, part) for part in parts))
        case Not(part):
            return sa.not_(matching(tables, part))
        case AnyOf("source", values):
            return p.source.in_(values)
        case AnyOf(key, values):
            return sa.or_(*(p.fields.contains({key: [value]}) for value in values))
        case Between(key):
            bounds = {b: v for b in _SIGNS if (v := getattr(where, b)) is not None}
            path = " && ".join(f"@ {_SIGNS[b]} ${b}" for b in bounds)
            json = p.fields.type
            named = sa.cast(sa.literal(bounds, json), json)
            found = sa.func.jsonb_path_exists(p.fields[key], sa.text(f"'$[*] ? ({path})'::jsonpath"), named)
            return sa.func.coalesce(found, sa.false())


def lexical(
    tables: Tables, asked: Sequence[tuple[str, str]], conditions: Sequence[sa.ColumnElement[bool]], limit: int
) -> sa.Select[Any]:
    """The best by full text. `asked`: (text configuration, question), each for the points of that configuration.

    `ts_rank` with the length's logarithm (1) and scaled to 0 to 1 (32).
    """
    p = tables.points.c
    questions = [
        sa.select(
            sa.literal(config, sa.Text).label("configuration"),
            sa.func.to_tsquery(sa.cast(sa.literal(config, sa.Text), _Regconfig()), sa.literal(text)).label("question"),
        )
        for config, text in asked
    ]
    q = sa.union_all(*questions).subquery()
    score = sa.func.max(sa.func.ts_rank(p.terms, q.c.question, 33)).label("score")
    return (
        sa.select(p.id, score)
        .join(q, q.c.configuration == p.configuration)
        .where(p.terms.op("@@")(q.c.question), *conditions)
        .group_by(p.id)
        .order_by(score.desc(), p.id)
        .limit(limit)
    )


def nearest(
    tables: Tables, held: Held, vector: str, conditions: Sequence[sa.ColumnElement[bool]], limit: int
) -> sa.Select[Any]:
    """The nearest by one space, each with a score of which more is better."""
    column = tables.vector(held)
    distance = column.op(OPERATORS[held.distance], return_type=sa.Float)(sa.bindparam(None, vector, column.type))
    score = {"cosine": 1 - distance, "dot": -distance, "euclid": -distance}[held.distance]
    return (
        sa.select(tables.points.c.id, score.label("score"))
        .where(column.is_not(None), *conditions)
        .order_by(distance)
        .limit(limit)
    )


class _Regconfig(sa.types.UserDefinedType[Any]):
    """The name of a text search configuration."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "regconfig"
