"""How Sourcebook's points look in Qdrant. Payloads and filters are built here and nowhere else, in Qdrant's REST JSON.

Payload: `owner`, `notebook`, `index_spec`, the three together as `scope`, `source`, `generation`, `language`,
`analyzer`, and the filter fields below `f` (`f.year`). Never text. The point's id is the passage's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from sourcebook.filters import FieldValue, Filter
    from sourcebook.interfaces import Point, Scope

SPARSE = "bm25"
"""The name of the sparse vector that every point has."""

TENANT = "owner"
KEYWORDS = (TENANT, "scope", "source", "generation", "analyzer")
"""The payload fields with a keyword index."""


def vector_name(space: str, dimensions: int) -> str:
    """A space's vector on the point. Two models may call their spaces alike: their sizes keep them apart.

    Qdrant keeps each in a folder of that name, so the characters that it forbids there are escaped.
    """
    return f"{quote(space, safe='')}@{dimensions}"


def oversampling(limit: int) -> float:
    """How many times as many as are wanted a quantised copy gives, to be scored by their originals.

    Of four bits a dimension the tenth of ten was among the first twenty for 98.7 % of random vectors, among the first
    forty for 99.9 %, and among the first 32 of a wide search always.
    """
    return 2.0 if limit >= 32 else 4.0


def payload(point: Point, how: str) -> dict[str, Any]:
    """What is stored with a point; `how` is its analyzer."""
    stored: dict[str, Any] = {
        "owner": point.owner_id,
        "notebook": point.notebook_id,
        "index_spec": point.index_spec_id,
        "scope": _scope(point.owner_id, point.notebook_id, point.index_spec_id),
        "source": point.source_id,
        "generation": point.generation_id,
        "language": point.language,
        "analyzer": how,
    }
    return stored | fields_payload(point.fields)


def fields_payload(fields: Mapping[str, FieldValue]) -> dict[str, Any]:
    """What a filter compares, as one object: it is replaced as a whole when a source is edited.

    A boolean is stored as a word: Edge 0.9 reads the `True` of a condition as the number 1, and then finds nothing.
    """
    return {"f": {key: list(v) if isinstance(v, tuple) else _word(v) for key, v in fields.items()}}


def scope_filter(
    scope: Scope, sources: Sequence[str] | None = None, generation: str | None = None, where: Filter | None = None
) -> dict[str, Any]:
    """Points of any notebook of `scope` under the index spec that it pinned, and of what it is narrowed to.

    Raises `ValueError` for an empty scope: to Qdrant, no condition at all means every point.
    """
    if not scope.notebooks:
        raise ValueError("An empty scope has no filter: it finds nothing.")
    # One condition on the three ids together: a search over everything that an owner has is half as long as with three.
    must = [_any("scope", scopes(scope))]
    if sources is not None:
        must.append(_any("source", sources))
    if generation is not None:
        must.append(_any("generation", [generation]))
    if where is not None:
        must.append(condition(where))
    return {"must": must}


def condition(where: Filter) -> dict[str, Any]:
    """A `sourcebook.filters.Filter` as one of Qdrant's conditions; a filter is a condition there too."""
    from sourcebook.filters import And, AnyOf, Between, Not, Or  # not at the top: the index process never needs it

    match where:
        case And(parts):
            return {"must": [condition(part) for part in parts]}
        case Or(parts):
            return {"should": [condition(part) for part in parts]}
        case Not(part):
            return {"must_not": [condition(part)]}
        case AnyOf(key, values):
            return _any("source" if key == "source" else f"f.{key}", [_word(v) for v in values])
        case Between(key):
            bounds = {b: v for b in ("gte", "gt", "lte", "lt") if (v := getattr(where, b)) is not None}
            return {"key": f"f.{key}", "range": bounds}


def _word(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def scopes(scope: Scope) -> list[str]:
    """The payload field `scope` of the points of each notebook."""
    return [_scope(n.owner_id, n.notebook_id, n.index_spec_id) for n in scope.notebooks]


def corpus_filter(scope: Scope) -> dict[str, Any]:
    """The points over which a term's rarity is counted: all of the scope's owners, and nobody else's.

    So nobody's ranking depends on, or tells about, what others have stored. (The scope itself would be narrower, and
    costs several times as much to count.)
    """
    return {"must": [_any("owner", owners(scope))]}


def owners(scope: Scope) -> list[str]:
    """Whose notebooks a scope holds."""
    return sorted({n.owner_id for n in scope.notebooks})


def _scope(*ids: str) -> str:
    # As JSON, so that no two triples of ids look alike, whatever characters an owner's id has.
    return json.dumps(ids, ensure_ascii=False, separators=(",", ":"))


def _any(key: str, values: Sequence[str]) -> dict[str, Any]:
    return {"key": key, "match": {"any": list(values)}}
